//! The edge guard: what may leave a container's port, and what may enter the UDP port of the fast path, as an nft
//! script.
//!
//! ```text
//!   bridge weave-rs   prerouting   iifname ─┬─ an overlay port ───► ARP for the resolver ─► drop
//!                                           ├─ an attached port ──► its own chain ─► own MAC ─► own IPv4 address ─► accept
//!                                           │                                                └► common ─► other addresses
//!                                           ├─ vethwepl…, unknown ─► drop
//!                                           └─ any other ──────────► accept
//!                     forward      a query that nobody here can answer, on its way to an overlay port ─► rate limit
//!                     output       what the host says to multicast switches and routers, on its way to one ─► drop
//!   inet weave-rs     input        UDP to the fast path's port ─► accept from known members, drop the rest
//!                                  from a container to the mesh's own port, or to the resolver's address ─► drop
//!                     forward      from Docker's own network to an exposed one ─► drop
//!                     postrouting  between an exposed network and the outside ─► masquerade
//! ```
//!
//! Invariants:
//! - what most frames are is decided first: every frame pays for each rule that it passes;
//! - one script replaces everything in one transaction, so that no frame meets half of it;
//! - a port of ours that the plan does not name is closed;
//! - nothing depends on the daemon: the tables stay when it dies.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weave_mesh::name::MacAddr;

use crate::plan::Plan;

mod bridge;
mod inet;

/// The name of our tables, one of the bridge and one of the inet family.
pub const TABLE: &str = "weave-rs";
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
    /// EtherTypes that containers may send beside IPv4, ARP and IPv6.
    pub allow_ethertypes: BTreeSet<u16>,
}

/// The script that makes our tables what `plan` wants, in one transaction.
pub fn render(plan: &Plan) -> String {
    let mut script = removal();
    // Writing to a string does not fail.
    let _ = bridge::write_table(&mut script, plan);
    let _ = inet::write_table(&mut script, plan);
    script
}

/// The script that removes our tables, whether or not they exist.
pub fn removal() -> String {
    ["bridge", "inet"].map(|family| format!("table {family} {TABLE} {{}}\ndelete table {family} {TABLE}\n")).concat()
}

/// The IPv6 link-local address that the kernel gives an interface with this MAC.
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

fn set(elements: impl IntoIterator<Item = String>) -> String {
    let elements: Vec<String> = elements.into_iter().collect();
    format!("{{ {} }}", elements.join(", "))
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(address) = address { Some(address) } else { None }
}

fn ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    if let IpAddr::V6(address) = address { Some(address) } else { None }
}

#[cfg(test)]
mod tests;
