//! Whether this process and this kernel can do what the daemon needs, before it changes anything.
//!
//! The kernel's features are tried out in a network namespace of their own, which goes when it is done: a
//! device or a table that can be made there can be made here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use weave_mesh::name::MacAddr;

use super::firewall::{self, FirewallError};
use super::netlink::{Netlink, NetlinkError, VethPeer};
use super::netns::Netns;
use crate::guard;
use crate::plan::{BridgeNames, BridgePlan, InvalidLinkName, Plan, PortFlags, PortPlan, VxlanPlan};

/// The capabilities without which nothing works, by their bit in the kernel's sets.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("the process lacks {0}: run it as root, or grant the capability")]
    Capability(&'static str),
    #[error("cannot read /proc/self/status: {0}; is /proc mounted?")]
    Status(io::Error),
    #[error("cannot open /dev/net/tun: {0}; load the kernel module `tun`")]
    Tun(io::Error),
    #[error("cannot make a network namespace to try the kernel in: {0}; the kernel needs CONFIG_NET_NS")]
    Namespace(io::Error),
    #[error("{feature} does not work here: {cause}")]
    Device { feature: &'static str, cause: NetlinkError },
    #[error("the edge guard does not work here: {0}")]
    Guard(FirewallError),
    #[error(transparent)]
    Name(#[from] InvalidLinkName),
}

/// Checks everything that the daemon needs.
///
/// # Errors
/// The first thing that is missing, and what to do about it.
pub fn check() -> Result<(), Missing> {
    let status = fs::read_to_string("/proc/thread-self/status").map_err(Missing::Status)?;
    if let Some(missing) = missing_capability(&status) {
        return Err(Missing::Capability(missing));
    }
    OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(Missing::Tun)?;
    Netns::fresh().and_then(|netns| netns.run(try_kernel)).map_err(Missing::Namespace)?
}

/// The first needed capability that is not in the effective set.
fn missing_capability(status: &str) -> Option<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    NEEDED.iter().find(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name)
}

/// Makes one of everything in the calling thread's namespace.
fn try_kernel() -> Result<(), Missing> {
    let mut netlink = Netlink::open().map_err(Missing::Namespace)?;
    let plan = trial_plan()?;
    let device = |feature| move |cause| Missing::Device { feature, cause };

    let names = &plan.names;
    netlink.create_bridge(&names.bridge, plan.bridge.mac).map_err(device("a bridge"))?;
    let vxlan = VxlanPlan { vni: 1, port: plan.guard.vxlan_port, local: Ipv4Addr::UNSPECIFIED.into() };
    netlink.create_vxlan(&names.vxlan, &vxlan, plan.bridge.mtu).map_err(device("VXLAN"))?;
    let netns = Netns::current().map_err(Missing::Namespace)?;
    let peer = VethPeer { netns: &netns, name: "trial-peer", mac: None };
    netlink.create_veth(&names.tap, plan.bridge.mtu, &peer).map_err(device("a veth pair"))?;
    let bridge = netlink.link_index(names.bridge.as_str()).map_err(device("a bridge"))?.unwrap_or_default();
    netlink.plug(names.tap.as_str(), bridge).map_err(device("a bridge port"))?;
    netlink.set_port_flags(names.tap.as_str(), PortFlags::ATTACHED).map_err(device("a locked bridge port"))?;
    netlink.set_port_flags(names.tap.as_str(), PortFlags::OVERLAY).map_err(device("an isolated bridge port"))?;
    firewall::run_nft(&guard::render(&plan)).map_err(Missing::Guard)
}

/// A plan with one of everything that the guard's script can have.
fn trial_plan() -> Result<Plan, InvalidLinkName> {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let port = PortPlan { mac, addresses: BTreeSet::from([address]) };
    Ok(Plan {
        names: BridgeNames::of("trial")?,
        bridge: BridgePlan { mac, mtu: 1376 },
        vxlan: None,
        ports: BTreeMap::from([("trial".parse()?, port)]),
        bridge_fdb: BTreeMap::new(),
        vxlan_fdb: BTreeMap::new(),
        flood: BTreeSet::new(),
        neighbours: BTreeMap::new(),
        guard: guard::Rules {
            vxlan_port: 6784,
            vxlan_sources: BTreeSet::from([address]),
            allow_ethertypes: BTreeSet::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        assert_eq!(missing_capability("Name:\tx\nCapEff:\t000001ffffffffff\n"), None);
        assert_eq!(missing_capability("CapEff:\t0000000000003000\n"), Some("CAP_SYS_ADMIN"));
        assert_eq!(missing_capability("CapEff:\t0000000000000000\n"), Some("CAP_NET_ADMIN"));
    }
}
