//! How large frames on the overlay may be, from the devices that carry it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};

use super::netlink::{Netlink, NetlinkError};

/// What the largest encapsulation costs, a relayed sleeve packet over IPv4, rounded up to what the original reserves.
const OVERHEAD_BYTES: u32 = 124;
/// Over IPv6 its header is 20 bytes longer.
const OVERHEAD_IPV6_BYTES: u32 = 144;
/// The least that the overlay offers: what every IPv4 host accepts. Below 1280 it has no IPv6.
const OVERLAY_MTU_MIN: u32 = 576;
/// Of an Ethernet, assumed when nothing is known.
const UNDERLAY_MTU_DEFAULT: u32 = 1500;

/// Why the overlay's MTU cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum MtuError {
    #[error("an underlay MTU of {underlay} leaves the overlay less than {OVERLAY_MTU_MIN}: raise it, or give --mtu")]
    TooSmall { underlay: u32 },
    #[error("cannot open netlink: {0}")]
    Open(io::Error),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// A device of the underlay, as used with one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Underlay {
    mtu: u32,
    family: AddressFamily,
}

/// The overlay's MTU: the least that any of this host's underlay `addresses` leaves. If no device has one of them (the
/// host is behind a NAT), the devices of the default routes count.
///
/// # Errors
/// When a device is too small, or the kernel refuses to list devices.
pub fn overlay_mtu(addresses: &[IpAddr]) -> Result<u32, MtuError> {
    let mut netlink = Netlink::open().map_err(MtuError::Open)?;
    let mtus: BTreeMap<u32, u32> =
        netlink.links()?.iter().filter_map(|link| Some((link.header.index, mtu_of(link)?))).collect();
    let mut used = of_addresses(&netlink.addresses()?, addresses);
    if used.is_empty() {
        used = of_routes(&netlink.default_routes()?);
    }
    least(used.iter().filter_map(|(index, family)| Some(Underlay { mtu: *mtus.get(index)?, family: *family })))
}

fn least(underlays: impl Iterator<Item = Underlay>) -> Result<u32, MtuError> {
    let fallback = Underlay { mtu: UNDERLAY_MTU_DEFAULT, family: AddressFamily::Inet };
    let room = |underlay: Underlay| {
        let overhead = if underlay.family == AddressFamily::Inet6 { OVERHEAD_IPV6_BYTES } else { OVERHEAD_BYTES };
        (underlay.mtu.saturating_sub(overhead), underlay.mtu)
    };
    let (overlay, underlay) = underlays.map(room).min().unwrap_or_else(|| room(fallback));
    if overlay < OVERLAY_MTU_MIN { Err(MtuError::TooSmall { underlay }) } else { Ok(overlay) }
}

fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

/// The devices that have one of `wanted`.
fn of_addresses(messages: &[AddressMessage], wanted: &[IpAddr]) -> Vec<(u32, AddressFamily)> {
    let has_wanted = |message: &&AddressMessage| {
        message.attributes.iter().any(|attribute| match attribute {
            AddressAttribute::Local(address) | AddressAttribute::Address(address) => wanted.contains(address),
            _ => false,
        })
    };
    messages.iter().filter(has_wanted).map(|message| (message.header.index, message.header.family)).collect()
}

pub(super) fn of_routes(messages: &[RouteMessage]) -> Vec<(u32, AddressFamily)> {
    let device = |message: &RouteMessage| {
        message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some((*index, message.header.address_family)),
            _ => None,
        })
    };
    messages.iter().filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(underlays: &[(u32, AddressFamily)]) -> Option<u32> {
        least(underlays.iter().map(|&(mtu, family)| Underlay { mtu, family })).ok()
    }

    #[test]
    fn the_smallest_underlay_decides() {
        use AddressFamily::{Inet, Inet6};

        assert_eq!(overlay(&[]), Some(1376));
        assert_eq!(overlay(&[(1500, Inet)]), Some(1376));
        assert_eq!(overlay(&[(9001, Inet)]), Some(8877));
        assert_eq!(overlay(&[(1500, Inet6)]), Some(1356));
        assert_eq!(overlay(&[(9001, Inet), (1500, Inet6), (1500, Inet)]), Some(1356));
        assert_eq!(overlay(&[(600, Inet)]), None);
    }
}
