//! The addresses under which other hosts may reach this one, best first.
//!
//! Those of the devices with a default route come first; then those of other devices, except bridges: their addresses
//! are mostly the same on every host (`docker0`) and lead nowhere from outside.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::mtu::of_routes;
use super::netlink::address::subnet_of;
use super::netlink::{Netlink, NetlinkError};

/// Why this host's addresses cannot be listed.
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
    let routed: BTreeSet<u32> = of_routes(&netlink.default_routes()?).into_iter().map(|(index, _)| index).collect();
    let usable: BTreeSet<u32> =
        netlink.links()?.iter().filter(|link| is_usable(link, &routed)).map(|link| link.header.index).collect();
    let messages = netlink.addresses()?;
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
    Ok(ranked.into_iter().map(|(_, _, _, address)| address).collect())
}

fn is_usable(link: &LinkMessage, routed: &BTreeSet<u32>) -> bool {
    let is_bridge = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    });
    let flags = link.header.flags;
    let is_up = flags.contains(LinkFlags::Up) && !flags.contains(LinkFlags::Loopback);
    is_up && (!is_bridge || routed.contains(&link.header.index))
}
