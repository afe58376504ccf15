//! The addresses of this host, with the devices that have them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use weave_mesh::card::Subnet;

use super::netlink::Netlink;
use super::observe::link_name;

/// One address of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub is_bridge: bool,
    /// The address, and the length of the network that is reached there.
    pub subnet: Subnet,
}

/// Every address of every device.
///
/// # Errors
/// When the kernel refuses to list them.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut netlink = Netlink::open()?;
    let refused = |error| io::Error::other(format!("{error}"));
    let links: BTreeMap<u32, (String, bool)> = netlink
        .links()
        .map_err(refused)?
        .iter()
        .filter_map(|link| {
            let is_bridge = link.attributes.iter().any(|attribute| match attribute {
                LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
                _ => false,
            });
            Some((link.header.index, (link_name(link)?.to_string(), is_bridge)))
        })
        .collect();
    let interfaces = netlink.addresses().map_err(refused)?.into_iter().filter_map(|message| {
        let index = message.header.index;
        let (name, is_bridge) = links.get(&index)?.clone();
        let address = address(&message.attributes)?;
        Some(Interface { name, index, is_bridge, subnet: Subnet { address, prefix_len: message.header.prefix_len } })
    });
    Ok(interfaces.collect())
}

/// IPv4 has the own address in `Local`, IPv6 in `Address` only.
fn address(attributes: &[AddressAttribute]) -> Option<IpAddr> {
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_one_of_this_host() {
        let found = interfaces().unwrap();

        assert!(found.iter().any(|interface| interface.name == "lo" && interface.subnet.address.is_loopback()));
    }
}
