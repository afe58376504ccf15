//! The address at which containers find the resolver of their host: on the bridge, with answers by a table of its own, so
//! that the host has no route into the overlay.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{Netlink, NetlinkError, unless};
use crate::plan::{RESOLVER, Serving};

/// The table of answers, and the place of the rule that leads there among the rules. Nothing else of ours routes.
const TABLE: u32 = 6_753;

impl Netlink {
    /// How much of what [`Self::serve_resolver`] makes there is.
    pub(in crate::linux) fn serving(&mut self, bridge: u32) -> Result<Serving, NetlinkError> {
        let local = AddressAttribute::Local(RESOLVER.into());
        let has_address = self
            .addresses()?
            .iter()
            .any(|message| message.header.index == bridge && message.attributes.contains(&local));
        let has_route = self
            .dump("list routes", &RouteNetlinkMessage::GetRoute(RouteMessage::default()))?
            .iter()
            .any(|message| matches!(message, RouteNetlinkMessage::NewRoute(route) if is_ours(route, bridge)));
        let mut rules = RuleMessage::default();
        rules.header.family = AddressFamily::Inet;
        let source = RuleAttribute::Source(RESOLVER.into());
        let has_rule = self.dump("list rules", &RouteNetlinkMessage::GetRule(rules))?.iter().any(|message| {
            let RouteNetlinkMessage::NewRule(rule) = message else { return false };
            rule.attributes.contains(&source) && rule.attributes.contains(&RuleAttribute::Table(TABLE))
        });
        Ok(match [has_address, has_route, has_rule] {
            [true, true, true] => Serving::Whole,
            [false, false, false] => Serving::Absent,
            _ => Serving::Partly,
        })
    }

    /// Gives the bridge the resolver's address, and sends what leaves from it back over the bridge.
    pub(in crate::linux) fn serve_resolver(&mut self, bridge: u32) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewAddress(on_bridge(bridge));
        self.request("add the resolver's address", RESOLVER, message, NLM_F_CREATE | NLM_F_REPLACE)?;
        let message = RouteNetlinkMessage::NewRoute(answers(bridge));
        self.request("add the route of the resolver", RESOLVER, message, NLM_F_CREATE | NLM_F_REPLACE)?;
        let message = RouteNetlinkMessage::NewRule(rule());
        unless(Errno::EXIST, self.request("add the rule of the resolver", RESOLVER, message, NLM_F_CREATE | NLM_F_EXCL))
    }

    /// Takes all of it away; what is not there is no error.
    pub(in crate::linux) fn remove_resolver(&mut self, bridge: u32) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelRule(rule());
        unless(Errno::NOENT, self.request("remove the rule of the resolver", RESOLVER, message, 0))?;
        let message = RouteNetlinkMessage::DelRoute(answers(bridge));
        unless(Errno::SRCH, self.request("remove the route of the resolver", RESOLVER, message, 0))?;
        let message = RouteNetlinkMessage::DelAddress(on_bridge(bridge));
        unless(Errno::ADDRNOTAVAIL, self.request("remove the resolver's address", RESOLVER, message, 0))
    }

    /// The one route that a container needs to ask.
    pub(in crate::linux) fn add_resolver_route(&mut self, link: u32) -> Result<(), NetlinkError> {
        let mut message = by_link(link);
        message.header.destination_prefix_length = 32;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(RESOLVER)));
        let message = RouteNetlinkMessage::NewRoute(message);
        self.request("add the route to", RESOLVER, message, NLM_F_CREATE | NLM_F_REPLACE)
    }
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

/// Everything, by the bridge.
fn answers(bridge: u32) -> RouteMessage {
    let mut message = by_link(bridge);
    message.attributes.push(RouteAttribute::Table(TABLE));
    message
}

fn by_link(link: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Oif(link)];
    message
}

fn is_ours(route: &RouteMessage, bridge: u32) -> bool {
    route.header.destination_prefix_length == 0
        && route.attributes.contains(&RouteAttribute::Table(TABLE))
        && route.attributes.contains(&RouteAttribute::Oif(bridge))
}

fn rule() -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.src_len = 32;
    message.header.action = RuleAction::ToTable;
    message.attributes =
        vec![RuleAttribute::Source(RESOLVER.into()), RuleAttribute::Priority(TABLE), RuleAttribute::Table(TABLE)];
    message
}
