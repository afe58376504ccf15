//! The edge guard: what may leave a container's port, and what may enter the UDP port of the fast path, as an nft
//! script.
//!
//! ```text
//!   netdev weave-rs-BRIDGE   ingress of a container's port ─► own MAC, own IPv4 address ─► accept
//!                                                          └► common ─► other addresses ─► accept, or drop
//!                            egress of an overlay port ─► IPv4 ─► accept
//!                                                      ├► ARP for the resolver ─► drop
//!                                                      ├► what the host says to switches and routers ─► drop
//!                                                      └► a query that nobody here can answer ─► rate limit
//!   inet weave-rs-BRIDGE     input        UDP to the fast path's port ─► accept from known members, drop the rest
//!                                         from the bridge ─► accept names and what is exposed, drop the rest
//!                            output       clear VXLAN from an address that its addressee does not trust ─► drop
//!                            forward      to a port of the mesh, from a container of any kind ─► drop
//!                                         into the overlay or out of it ─► accept what is exposed, drop the rest
//!                            postrouting  between an exposed network and the outside ─► masquerade
//! ```
//!
//! Invariants:
//! - frames that come from other hosts meet no rule (the guards over there saw to them), nor do those of other bridges;
//! - what most frames are is decided first: every frame pays for each rule that it passes;
//! - a script is one transaction, so that no frame meets half of it: one replaces everything, and one for each device
//!   replaces that device's chains and touches no other's;
//! - a chain needs its device: a port is plugged after its guard, and closed when no plan names it. A chain goes with its device
//!   before Linux 6.16; from then on it waits for another device of that name;
//! - nothing depends on the daemon: the tables stay when it dies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use crate::plan::{LinkName, Plan};

mod family;
mod inet;
mod listing;
mod netdev;
mod outward;
mod subnets;

pub use self::listing::Listing;

/// What the names of our tables begin with; the name of the bridge follows.
pub(crate) const TABLE_PREFIX: &str = "weave-rs-";
/// The families that have one.
pub const FAMILIES: [&str; 2] = ["netdev", "inet"];
/// The set whose content the kernel changes by itself: who asked how often.
pub const ASKERS: &str = "askers";

/// What the guard lets through beyond the MAC and addresses of each attached port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Control (TCP) and sleeve (UDP): for other hosts, not for containers.
    pub mesh_port: u16,
    /// UDP port of the fast path, guarded whether or not there is a VXLAN device.
    pub vxlan_port: u16,
    /// Underlay addresses from which VXLAN is accepted. With a password: of peers in trusted pairs of subnets only;
    /// without: of all members, held ones included. Empty: everything to the port is dropped.
    pub vxlan_sources: BTreeSet<IpAddr>,
    /// With a password: where VXLAN goes, or went by the last plan, and of which subnets its source has to be: it is
    /// dropped otherwise. Destinations that are not named are not looked at.
    pub clear_pairs: BTreeMap<SocketAddr, BTreeSet<Subnet>>,
    /// Where members listen, control and sleeve; their fast path is at the next port. What this host forwards for
    /// containers does not get there.
    pub members: BTreeSet<SocketAddr>,
    /// EtherTypes that containers may send beside IPv4, ARP and IPv6.
    pub allow_ethertypes: BTreeSet<u16>,
}

/// What our tables consist of, as nft text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// What all devices have in common, beginning with the removal of all that was there.
    pub common: String,
    /// The chains of each device that is guarded, which must exist when they are added.
    pub chains: BTreeMap<LinkName, String>,
}

impl Guard {
    /// What `plan` wants, with chains for `devices`.
    pub fn of(plan: &Plan, devices: &BTreeSet<LinkName>) -> Self {
        let mut common = removal(&plan.names.bridge);
        // Writing to a string does not fail.
        let _ = netdev::write_table(&mut common, plan);
        let _ = inet::write_table(&mut common, plan);
        let chains = devices.iter().map(|device| (device.clone(), netdev::chains(device, plan))).collect();
        Self { common, chains }
    }

    /// The script that replaces everything by this.
    pub fn script(&self) -> String {
        [&self.common].into_iter().chain(self.chains.values()).map(String::as_str).collect()
    }
}

/// The script that gives `device` these chains in the place of those that it has, if it has any.
pub fn replacement(bridge: &LinkName, device: &LinkName, chains: &str) -> String {
    withdrawal(bridge, device) + chains
}

/// The script that removes the chains of `device`, whether or not they, or it, exist.
pub fn withdrawal(bridge: &LinkName, device: &LinkName) -> String {
    let table = table(bridge);
    let of_each = |write: &dyn Fn(&str) -> String| chain_names(device).map(|chain| write(&chain)).concat();
    // What is there already stays as it is when it is added without its hook.
    let added = of_each(&|chain| format!("add chain netdev {table} {chain}\n"));
    added + &of_each(&|chain| format!("delete chain netdev {table} {chain}\n"))
}

/// What the chains of `device` are called: for what comes in by it, or leaves by an overlay port; and for what a
/// container hears.
pub fn chain_names(device: &LinkName) -> [String; 2] {
    [device.to_string(), format!("{device}-out")]
}

/// The name of the tables of the daemon with this bridge, one in each of [`FAMILIES`]: two daemons on one host have
/// nothing in common.
pub fn table(bridge: &LinkName) -> String {
    format!("{TABLE_PREFIX}{bridge}")
}

/// The script that removes the tables of the daemon with this bridge, whether or not they exist.
pub fn removal(bridge: &LinkName) -> String {
    let table = table(bridge);
    FAMILIES.map(|family| format!("table {family} {table} {{}}\ndelete table {family} {table}\n")).concat()
}

/// The IPv6 link-local address that the kernel gives an interface with this MAC.
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

/// A set of one is written as its element: the kernel compares faster than it looks up.
fn one_of(elements: impl IntoIterator<Item = String>) -> String {
    let elements: Vec<String> = elements.into_iter().collect();
    if let [only] = elements.as_slice() { only.clone() } else { format!("{{ {} }}", elements.join(", ")) }
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(address) = address { Some(address) } else { None }
}

fn ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    if let IpAddr::V6(address) = address { Some(address) } else { None }
}

#[cfg(test)]
mod tests;
