//! Exposed networks: those of the overlay that this host is a part of, and forwards for.
//!
//! ```text
//!   outside ◄──── masqueraded, or as it is ────► host ◄── bridge ──► containers, here and on other hosts
//! ```

use std::collections::BTreeSet;

use weave_mesh::card::Subnet;

use super::{LinkName, Plan};

/// How packets look that cross between an exposed network and the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// As from this host: neither side needs a route to the other.
    Masqueraded,
    /// With their own source: both sides need routes.
    AsIs,
}

/// Whether containers reach the services at which a cloud tells an instance who it is and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    Closed,
    Open,
}

/// How a network is exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    pub crossing: Crossing,
    pub metadata: Metadata,
}

impl Opening {
    /// With the metadata services closed.
    pub const fn of(crossing: Crossing) -> Self {
        Self { crossing, metadata: Metadata::Closed }
    }
}

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpVersion {
    V4,
    V6,
}

/// Forwarded packets that a Docker host would drop, and must not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accept {
    pub version: IpVersion,
    /// Which packets, in the words in which `iptables -S` lists a rule.
    pub matching: String,
}

impl Plan {
    /// What stays inside the bridge, and what crosses between it and the outside.
    pub fn accepts(&self) -> BTreeSet<Accept> {
        let bridge = &self.names.bridge;
        let inside = |version| Accept { version, matching: format!("-i {bridge} -o {bridge}") };
        let crossing = self.exposed.keys().flat_map(|network| crossing(bridge, *network));
        [IpVersion::V4, IpVersion::V6].map(inside).into_iter().chain(crossing).collect()
    }
}

fn crossing(bridge: &LinkName, network: Subnet) -> [Accept; 2] {
    let Subnet { address, prefix_len } = network;
    let version = if address.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
    [
        format!("-s {address}/{prefix_len} -i {bridge} ! -o {bridge}"),
        format!("-d {address}/{prefix_len} ! -i {bridge} -o {bridge}"),
    ]
    .map(|matching| Accept { version, matching })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::fixture::bare_plan;

    fn accepts(exposed: &[&str], version: IpVersion) -> Vec<String> {
        let networks = exposed.iter().map(|text| {
            let (address, prefix_len) = text.split_once('/').expect("a length");
            Subnet { address: address.parse().expect("address"), prefix_len: prefix_len.parse().expect("length") }
        });
        let exposed: BTreeMap<_, _> = networks.map(|network| (network, Opening::of(Crossing::AsIs))).collect();
        let accepts = Plan { exposed, ..bare_plan() }.accepts();
        accepts.into_iter().filter(|accept| accept.version == version).map(|accept| accept.matching).collect()
    }

    #[test]
    fn a_hidden_host_passes_only_what_stays_inside_the_bridge() {
        assert_eq!(accepts(&[], IpVersion::V4), ["-i weave -o weave"]);
        assert_eq!(accepts(&[], IpVersion::V6), ["-i weave -o weave"]);
    }

    #[test]
    fn an_exposed_host_passes_its_networks_both_ways_and_no_others() {
        let (inside, out, back) =
            ("-i weave -o weave", "-s 10.32.0.0/12 -i weave ! -o weave", "-d 10.32.0.0/12 ! -i weave -o weave");

        assert_eq!(accepts(&["10.32.0.0/12", "fd00::/64"], IpVersion::V4), [back, inside, out]);
        assert_eq!(accepts(&["10.32.0.0/12", "fd00::/64"], IpVersion::V6).len(), 3);
    }
}
