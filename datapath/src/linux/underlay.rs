//! The addresses under which other hosts may reach this one, best first; and where it sends packets.
//!
//! Those of the devices with a default route come first; then those of other devices, except bridges: their addresses
//! are mostly the same on every host (`docker0`) and lead nowhere from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_route::address::{AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use weave_mesh::card::Subnet;

use super::mtu::of_routes;
use super::netlink::address::subnet_of;
use super::netlink::{Netlink, NetlinkError};
use crate::plan::{LinkName, Route};

/// Why this host's addresses or routes cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum UnderlayError {
    #[error("cannot open netlink: {0}")]
    Open(io::Error),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// This host's global addresses, IPv4 before IPv6 where a device has both.
///
/// # Errors
/// When the kernel refuses to list devices.
pub fn addresses() -> Result<Vec<IpAddr>, UnderlayError> {
    let mut netlink = Netlink::open().map_err(UnderlayError::Open)?;
    Ok(View::of_now(&mut netlink)?.addresses)
}

/// The underlay at one moment.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) addresses: Vec<IpAddr>,
    /// Every device, and whether it is up.
    pub(super) links: BTreeMap<u32, bool>,
}

impl View {
    pub(super) fn of_now(netlink: &mut Netlink) -> Result<Self, NetlinkError> {
        let routed: BTreeSet<u32> = of_routes(&netlink.default_routes()?).into_iter().map(|(index, _)| index).collect();
        let links = netlink.links()?;
        let addresses = ranked(&netlink.addresses()?, &links, &routed);
        Ok(Self { addresses, links: links.iter().map(|link| (link.header.index, is_up(link))).collect() })
    }
}

pub(super) fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

fn ranked(messages: &[AddressMessage], links: &[LinkMessage], routed: &BTreeSet<u32>) -> Vec<IpAddr> {
    let usable: BTreeSet<u32> =
        links.iter().filter(|link| is_usable(link, routed)).map(|link| link.header.index).collect();
    let mut ranked: Vec<_> = messages
        .iter()
        .filter(|message| usable.contains(&message.header.index) && message.header.scope == AddressScope::Universe)
        .filter_map(|message| {
            let address = subnet_of(message)?.address;
            let index = message.header.index;
            Some((!routed.contains(&index), address.is_ipv6(), index, address))
        })
        .collect();
    ranked.sort();
    ranked.into_iter().map(|(_, _, _, address)| address).collect()
}

/// Where this host sends packets already: the destinations of its IPv4 routes but the default ones and those by
/// `bridge`.
///
/// # Errors
/// When the kernel refuses to list routes.
pub fn destinations(bridge: &LinkName) -> Result<Vec<Subnet>, UnderlayError> {
    let mut netlink = Netlink::open().map_err(UnderlayError::Open)?;
    Ok(routes(&mut netlink, bridge)?.into_iter().map(|route| route.to).collect())
}

/// The same routes, with the devices that they lead out by.
pub(super) fn routes(netlink: &mut Netlink, bridge: &LinkName) -> Result<Vec<Route>, NetlinkError> {
    let links = netlink.links()?;
    let names: BTreeMap<u32, String> =
        links.iter().filter_map(|link| Some((link.header.index, name_of(link)?))).collect();
    let messages = netlink.main_routes()?;
    let routes = messages.iter().filter_map(|route| {
        let device = output_device(route).and_then(|index| names.get(&index).cloned()).unwrap_or_default();
        Some(Route { to: destination(route)?, device })
    });
    Ok(routes.filter(|route| route.device != bridge.as_str()).collect())
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn output_device(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn destination(route: &RouteMessage) -> Option<Subnet> {
    let prefix_len = route.header.destination_prefix_length;
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) if prefix_len > 0 => {
            Some(Subnet { address: (*address).into(), prefix_len })
        }
        _ => None,
    })
}

fn is_usable(link: &LinkMessage, routed: &BTreeSet<u32>) -> bool {
    let is_bridge = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    });
    let is_loopback = link.header.flags.contains(LinkFlags::Loopback);
    is_up(link) && !is_loopback && (!is_bridge || routed.contains(&link.header.index))
}
