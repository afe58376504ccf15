//! The address at which containers find the resolver of their host: on the bridge, without a route to anybody. Whoever
//! answers there answers by a socket bound to the bridge, for which the kernel takes every address to be on the link.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{Netlink, NetlinkError, unless};
use crate::plan::RESOLVER;

impl Netlink {
    pub(in crate::linux) fn add_resolver(&mut self, bridge: u32) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewAddress(on_bridge(bridge));
        self.request("add the resolver's address", RESOLVER, message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Takes it away; that it is not there is no error.
    pub(in crate::linux) fn remove_resolver(&mut self, bridge: u32) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(on_bridge(bridge));
        unless(Errno::ADDRNOTAVAIL, self.request("remove the resolver's address", RESOLVER, message, 0))
    }
}

/// Whether this is the resolver's address on the bridge.
pub(in crate::linux) fn is_resolver(message: &AddressMessage, bridge: u32) -> bool {
    message.header.index == bridge && message.attributes.contains(&AddressAttribute::Local(RESOLVER.into()))
}

fn on_bridge(bridge: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = bridge;
    // Never the source of anything else that this host says.
    message.header.scope = AddressScope::Link;
    message.attributes = vec![AddressAttribute::Local(RESOLVER.into()), AddressAttribute::Address(RESOLVER.into())];
    message
}
