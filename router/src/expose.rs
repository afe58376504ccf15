//! This host on the overlay: the addresses under which it can be reached there, and for which it forwards.
//!
//! ```text
//!   expose ─► Exposure ─┬─► plan: addresses of the bridge, forwarding, masquerading
//!                       └─► endpoints with the bridge's MAC: every other host, and DNS, know where they are
//! ```
//!
//! Invariant: no address is in it twice, and none that a container of this host holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weave_datapath::linux::veth::check_addresses;
use weave_datapath::plan::{Crossing, Metadata, Opening};
use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;
use weave_mesh::store::{ENDPOINT_NAMES_MAX, Endpoint};

use crate::attach::{AttachError, Ledger};

/// What stands in the place of a container's id where addresses are listed.
pub const HOST_LABEL: &str = "weave:expose";
/// How many addresses one host exposes.
const EXPOSED_MAX: usize = 16;

/// Whether the other side of the host sees the source of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nat {
    Masquerade,
    None,
}

/// What may be done over this host, and how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub nat: Nat,
    /// Containers reach the metadata services of the cloud that the host is in.
    pub allows_metadata: bool,
}

/// One address of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    pub subnet: Subnet,
    pub terms: Terms,
    pub names: Vec<String>,
    /// Lamport time at which it was exposed; of two claims to an address the higher one wins.
    pub attached: u64,
}

/// All of them, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure(Vec<Exposed>);

impl Exposure {
    /// Whether this host may have `addresses`; `underlay` are those that it has already.
    ///
    /// # Errors
    /// Names the address that it may not have, and why.
    pub fn admit(&self, addresses: &[Subnet], ledger: &Ledger, underlay: &[IpAddr]) -> Result<(), AttachError> {
        check_addresses(addresses)?;
        for subnet in addresses {
            if let Some(holder) = ledger.holder(subnet.address) {
                return Err(AttachError::AddressTaken { address: subnet.address, holder });
            }
            let network = subnet.network();
            let is_inside =
                |own: &&IpAddr| Subnet { address: **own, prefix_len: subnet.prefix_len }.network() == network;
            if let Some(own) = underlay.iter().filter(|own| own.is_ipv4() == subnet.address.is_ipv4()).find(is_inside) {
                return Err(AttachError::UnderlayTaken { subnet: *subnet, own: *own });
            }
        }
        let new = addresses.iter().filter(|subnet| !self.holds(subnet.address)).count();
        if self.0.len() + new > EXPOSED_MAX { Err(AttachError::TooManyExposed(EXPOSED_MAX)) } else { Ok(()) }
    }

    /// Whether a container may have `addresses`.
    ///
    /// # Errors
    /// Names one of them that this host has.
    pub fn admit_container(&self, addresses: &[Subnet]) -> Result<(), AttachError> {
        match addresses.iter().find(|subnet| self.holds(subnet.address)) {
            Some(taken) => Err(AttachError::AddressTaken { address: taken.address, holder: HOST_LABEL.to_owned() }),
            None => Ok(()),
        }
    }

    /// Adds an address, or changes how it is exposed. A name given before stays.
    pub fn insert(&mut self, subnet: Subnet, terms: Terms, name: Option<&str>, clock: u64) {
        let at = self.0.iter().position(|known| known.subnet.address == subnet.address);
        let before = at.map(|at| self.0.remove(at));
        let (mut names, attached) = match before {
            Some(known) => (known.names, known.attached),
            None => (Vec::new(), self.0.iter().map(|known| known.attached).max().unwrap_or(0).max(clock) + 1),
        };
        names.extend(name.filter(|name| !names.iter().any(|known| known == name)).map(str::to_owned));
        // The newest names are the ones that count.
        names.drain(..names.len().saturating_sub(ENDPOINT_NAMES_MAX));
        self.0.push(Exposed { subnet, terms, names, attached });
    }

    /// Takes back these addresses and all of these networks, or everything when neither is given; the answer is what was
    /// taken.
    pub fn remove(&mut self, addresses: &[Subnet], networks: &[Subnet]) -> Vec<Subnet> {
        let is_everything = addresses.is_empty() && networks.is_empty();
        let is_meant =
            |subnet: Subnet| is_everything || addresses.contains(&subnet) || networks.contains(&subnet.network());
        self.0.extract_if(.., |exposed| is_meant(exposed.subnet)).map(|exposed| exposed.subnet).collect()
    }

    pub fn holds(&self, address: IpAddr) -> bool {
        self.0.iter().any(|exposed| exposed.subnet.address == address)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Exposed> {
        self.0.iter()
    }

    pub fn addresses(&self) -> BTreeSet<Subnet> {
        self.0.iter().map(|exposed| exposed.subnet).collect()
    }

    /// Its networks; one that has several addresses is masqueraded if any of them is, and so with metadata.
    pub fn networks(&self) -> BTreeMap<Subnet, Opening> {
        let mut networks = BTreeMap::new();
        for Exposed { subnet, terms, .. } in &self.0 {
            let opening = networks.entry(subnet.network()).or_insert(Opening::of(Crossing::AsIs));
            if terms.nat == Nat::Masquerade {
                opening.crossing = Crossing::Masqueraded;
            }
            if terms.allows_metadata {
                opening.metadata = Metadata::Open;
            }
        }
        networks
    }
}

/// Whether this host forwards at all. It is the operator's switch, or Docker's: it concerns every network of the host.
pub fn host_forwards() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|value| value.trim() == "1")
}

impl Exposed {
    /// As others hear of it.
    pub fn endpoint(&self, bridge_mac: MacAddr) -> Endpoint {
        Endpoint {
            mac: bridge_mac,
            addresses: vec![self.subnet],
            container: HOST_LABEL.to_owned(),
            names: self.names.clone(),
            attached: self.attached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse_subnet;

    fn subnet(text: &str) -> Subnet {
        parse_subnet(text).unwrap()
    }

    fn terms(nat: Nat) -> Terms {
        Terms { nat, allows_metadata: false }
    }

    fn exposure(addresses: &[(&str, Nat)]) -> Exposure {
        let mut exposure = Exposure::default();
        for (text, nat) in addresses {
            exposure.insert(subnet(text), terms(*nat), None, 0);
        }
        exposure
    }

    #[test]
    fn exposing_twice_is_exposing_once_under_the_last_rule_and_every_name() {
        let mut exposure = exposure(&[("10.32.0.9/12", Nat::Masquerade)]);
        exposure.insert(subnet("10.32.0.9/12"), terms(Nat::None), Some("gate.weave.local"), 50);
        exposure.insert(subnet("10.32.0.9/12"), terms(Nat::None), Some("gate.weave.local"), 60);

        let all: Vec<_> = exposure.iter().collect();

        assert_eq!(all.len(), 1);
        assert_eq!((all[0].terms, all[0].attached), (terms(Nat::None), 1));
        assert_eq!(all[0].names, ["gate.weave.local"]);
    }

    #[test]
    fn a_network_is_masqueraded_if_any_of_its_addresses_is() {
        let exposure =
            exposure(&[("10.32.0.9/12", Nat::None), ("10.33.0.9/12", Nat::Masquerade), ("10.2.1.1/24", Nat::None)]);

        let networks = exposure.networks();

        assert_eq!(networks[&subnet("10.32.0.0/12")], Opening::of(Crossing::Masqueraded));
        assert_eq!(networks[&subnet("10.2.1.0/24")], Opening::of(Crossing::AsIs));
    }

    #[test]
    fn metadata_is_closed_unless_it_was_allowed_last() {
        let mut exposure = exposure(&[("10.32.0.9/12", Nat::None)]);
        let network = subnet("10.32.0.0/12");
        assert_eq!(exposure.networks()[&network].metadata, Metadata::Closed);

        exposure.insert(subnet("10.32.0.9/12"), Terms { allows_metadata: true, ..terms(Nat::None) }, None, 0);
        assert_eq!(exposure.networks()[&network].metadata, Metadata::Open);

        exposure.insert(subnet("10.32.0.9/12"), terms(Nat::None), None, 0);
        assert_eq!(exposure.networks()[&network].metadata, Metadata::Closed);
    }

    #[test]
    fn the_hosts_own_network_is_not_taken_over() {
        let exposure = Exposure::default();
        let underlay = ["192.168.48.1".parse().unwrap(), "fd00::1".parse().unwrap()];

        let admitted = |text| exposure.admit(&[subnet(text)], &Ledger::default(), &underlay);

        assert!(admitted("10.32.0.9/12").is_ok());
        assert!(matches!(admitted("192.168.48.9/24"), Err(AttachError::UnderlayTaken { .. })));
        assert!(matches!(admitted("10.32.0.0/12"), Err(AttachError::Port(_))), "a network is no address");
    }

    #[test]
    fn hiding_tells_what_was_exposed() {
        let none = Nat::None;
        let mut exposure =
            exposure(&[("10.32.0.9/12", none), ("10.2.1.1/24", none), ("10.2.1.2/24", none), ("10.2.2.1/24", none)]);

        assert_eq!(exposure.remove(&[subnet("10.7.0.1/16")], &[]), []);
        assert_eq!(exposure.remove(&[], &[subnet("10.2.0.0/16")]), [], "a network is its own length");
        assert_eq!(
            exposure.remove(&[subnet("10.2.2.1/24")], &[subnet("10.2.1.0/24")]),
            [subnet("10.2.1.1/24"), subnet("10.2.1.2/24"), subnet("10.2.2.1/24")]
        );
        assert_eq!(exposure.remove(&[], &[]), [subnet("10.32.0.9/12")]);
    }
}
