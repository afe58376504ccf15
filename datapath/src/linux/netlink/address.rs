//! Addresses of devices, and routes to them.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use weave_mesh::card::Subnet;

use super::{Netlink, NetlinkError, unless};

impl Netlink {
    /// The addresses of all devices of the namespace.
    pub(in crate::linux) fn addresses(&mut self) -> Result<Vec<AddressMessage>, NetlinkError> {
        let replies = self.dump("list addresses", &RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| match reply {
                RouteNetlinkMessage::NewAddress(address) => Some(address),
                _ => None,
            })
            .collect())
    }

    /// The main table's routes of both families.
    pub(in crate::linux) fn main_routes(&mut self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let replies = self.dump("list routes", &RouteNetlinkMessage::GetRoute(RouteMessage::default()))?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| match reply {
                RouteNetlinkMessage::NewRoute(route)
                    if route.header.table == RouteHeader::RT_TABLE_MAIN && route.header.kind == RouteType::Unicast =>
                {
                    Some(route)
                }
                _ => None,
            })
            .collect())
    }

    /// Those of them that lead everywhere.
    pub(in crate::linux) fn default_routes(&mut self) -> Result<Vec<RouteMessage>, NetlinkError> {
        Ok(self.main_routes()?.into_iter().filter(|route| route.header.destination_prefix_length == 0).collect())
    }

    pub(in crate::linux) fn add_address(&mut self, link: u32, subnet: Subnet) -> Result<(), NetlinkError> {
        let mut message = on_link(link, subnet);
        if let IpAddr::V4(address) = subnet.address
            && let Some(broadcast) = broadcast(address, subnet.prefix_len)
        {
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        // An address of the overlay is given once; detection of duplicates would only delay its first use.
        if subnet.address.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        let message = RouteNetlinkMessage::NewAddress(message);
        self.request("add address", subnet.address, message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    pub(in crate::linux) fn remove_address(&mut self, link: u32, subnet: Subnet) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(on_link(link, subnet));
        unless(Errno::ADDRNOTAVAIL, self.request("remove address", subnet.address, message, 0))
    }
}

/// The address with its length that a device has, unless it is valid on the link only.
pub(in crate::linux) fn subnet_of(message: &AddressMessage) -> Option<Subnet> {
    if message.header.scope == AddressScope::Link {
        return None;
    }
    // IPv6 has `Address` only; IPv4 has the own address in `Local`.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = || {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    };
    Some(Subnet { address: local.or_else(any)?, prefix_len: message.header.prefix_len })
}

fn on_link(link: u32, subnet: Subnet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if subnet.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = subnet.prefix_len;
    message.header.index = link;
    message.attributes = vec![AddressAttribute::Local(subnet.address), AddressAttribute::Address(subnet.address)];
    message
}

/// The broadcast address of a subnet that has room for one.
fn broadcast(address: Ipv4Addr, prefix_len: u8) -> Option<Ipv4Addr> {
    (prefix_len < 31).then(|| Ipv4Addr::from_bits(address.to_bits() | (u32::MAX >> prefix_len)))
}
