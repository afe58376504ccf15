//! The edge guard: what may leave a container's port and what may enter UDP 6784, as an nft script.
use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::plan::Plan;

/// What the guard lets through beyond the MAC and addresses of each attached port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// UDP port of the fast path, guarded whether or not there is a VXLAN device.
    pub vxlan_port: u16,
    /// Underlay addresses from which VXLAN is accepted. With a password: of peers in trusted pairs of subnets only;
    /// without: of all members, held ones included. Empty: everything to the port is dropped.
    pub vxlan_sources: BTreeSet<IpAddr>,
    /// EtherTypes that containers may send beside IPv4, ARP and IPv6.
    pub allow_ethertypes: BTreeSet<u16>,
}

/// The script that makes our tables what `plan` wants, in one transaction.
pub fn render(_plan: &Plan) -> String {
    String::new()
}
