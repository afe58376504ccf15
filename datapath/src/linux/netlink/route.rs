//! The routes of a container, beside those that come with its addresses: out of its port, without a gateway.

use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{Netlink, NetlinkError, unless};
use crate::plan::RESOLVER;

/// All IPv4 multicast, 224.0.0.0/4.
const MULTICAST: (Ipv4Addr, u8) = (Ipv4Addr::new(224, 0, 0, 0), 4);

impl Netlink {
    /// All IPv4 multicast leaves by `link`: containers find each other on the overlay.
    pub(in crate::linux) fn add_multicast_route(&mut self, link: u32) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(by_link(link, MULTICAST));
        self.request("add the route to", "224.0.0.0/4", message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Takes it away; that it is not there is no error.
    pub(in crate::linux) fn remove_multicast_route(&mut self, link: u32) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRoute(by_link(link, MULTICAST));
        unless(Errno::SRCH, self.request("remove the route to", "224.0.0.0/4", message, 0))
    }

    /// The one route that a container needs to ask.
    pub(in crate::linux) fn add_resolver_route(&mut self, link: u32) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(by_link(link, (RESOLVER, 32)));
        self.request("add the route to", RESOLVER, message, NLM_F_CREATE | NLM_F_REPLACE)
    }
}

fn by_link(link: u32, (destination, prefix_len): (Ipv4Addr, u8)) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: prefix_len,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(destination)), RouteAttribute::Oif(link)];
    message
}
