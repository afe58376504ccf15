//! The ICMP message that tells a sender how long its packets may be.
//!
//! ```text
//!   IPv4   │ eth │ header │ 3, 4, checksum, 0, MTU │ the packet's header and the first octets behind it │   RFC 792, 1191
//!   IPv6   │ eth │ header │ 2, 0, checksum, MTU    │ as much of the packet as fits into 1280            │   RFC 4443
//! ```
//!
//! It comes from the address that the packet was for, by the way that the packet came: to the sender it is as if the
//! destination's own host had answered. Nobody is told about an ICMP error, about a fragment but the first, or about
//! anything that came from, or went to, more than one station (RFC 1122, 3.2.2; RFC 4443, 2.4).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    AUTHENTICATION, DESTINATION_OPTIONS, EXTENSIONS_MAX, FRAGMENT, HOP_BY_HOP, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES,
    IPV6_MTU_MIN, ROUTING, get, put,
};
use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use crate::offload::checksum;

/// A packet whose sender must not be told, or cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody may be told about this packet")]
pub struct Untold;

/// The frame that tells the sender of `frame` that frames of at most `limit` octets arrive.
///
/// # Errors
/// When the standards forbid to answer.
pub fn too_big(frame: &[u8], limit: usize) -> Result<Vec<u8>, Untold> {
    let ethernet = Ethernet::parse(frame).ok_or(Untold)?;
    if ethernet.destination.is_group() || ethernet.source.is_group() {
        return Err(Untold);
    }
    let network_at = frame.len() - ethernet.payload.len();
    let mtu = limit.saturating_sub(network_at);
    let packet = match ethernet.ethertype {
        ETHERTYPE_IPV4 => fragmentation_needed(ethernet.payload, mtu),
        ETHERTYPE_IPV6 => packet_too_big(ethernet.payload, mtu.max(IPV6_MTU_MIN)),
        _ => None,
    };
    // Back by the way it came, VLAN tags included.
    let mut answer = [&ethernet.source.0[..], &ethernet.destination.0, &frame[12..network_at]].concat();
    answer.extend(packet.ok_or(Untold)?);
    Ok(answer)
}

fn fragmentation_needed(packet: &[u8], mtu: usize) -> Option<Vec<u8>> {
    let header = packet.first_chunk::<IPV4_HEADER_BYTES>().filter(|header| header[0] >> 4 == 4)?;
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let (source, destination) = (address(12), address(16));
    let is_one = |it: Ipv4Addr| !(it.is_unspecified() || it.is_multicast() || it.is_broadcast() || it.is_loopback());
    let is_first = get(header, 6) & 0x1fff == 0;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let kind = packet.get(header_bytes).copied();
    let is_error = header[9] == ICMP && kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12));
    if !is_one(source) || !is_one(destination) || !is_first || is_error || header_bytes < IPV4_HEADER_BYTES {
        return None;
    }
    let quote = &packet[..packet.len().min(IPV4_ANSWER_BYTES_MAX - IPV4_HEADER_BYTES - ICMP_HEADER_BYTES)];
    let mut icmp = [&[3, 4, 0, 0, 0, 0, 0, 0], quote].concat();
    put(&mut icmp, 6, u16::try_from(mtu).unwrap_or(u16::MAX));
    let sum = checksum::finish(&icmp);
    put(&mut icmp, 2, sum);

    let mut answer = vec![0x45, (header[1] & TOS_WITHOUT_PRECEDENCE) | TOS_CONTROL];
    answer.extend(((IPV4_HEADER_BYTES + icmp.len()) as u16).to_be_bytes());
    answer.extend([0, 0, 0x40, 0, HOP_LIMIT, ICMP, 0, 0]);
    answer.extend([destination.octets(), source.octets()].concat());
    let sum = checksum::finish(&answer);
    put(&mut answer, 10, sum);
    answer.extend(icmp);
    Some(answer)
}

fn packet_too_big(packet: &[u8], mtu: usize) -> Option<Vec<u8>> {
    let header = packet.first_chunk::<IPV6_HEADER_BYTES>().filter(|header| header[0] >> 4 == 6)?;
    let address = |at: usize| header[at..].first_chunk().copied().map(Ipv6Addr::from);
    let (source, destination) = (address(8)?, address(24)?);
    let is_one = |it: Ipv6Addr| !(it.is_unspecified() || it.is_multicast() || it.is_loopback());
    if !is_one(source) || !is_one(destination) || !may_be_told(packet)? {
        return None;
    }
    let quote = &packet[..packet.len().min(IPV6_MTU_MIN - IPV6_HEADER_BYTES - ICMP_HEADER_BYTES)];
    let mut icmp = [&[2, 0, 0, 0][..], &u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes(), quote].concat();
    let addresses = [destination.octets(), source.octets()].concat();
    let pseudo = [&addresses[..], &(icmp.len() as u32).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let sum = !checksum::fold(checksum::add(checksum::add(0, &pseudo), &icmp));
    put(&mut icmp, 2, sum);

    let mut answer = vec![0x60, 0, 0, 0];
    answer.extend((icmp.len() as u16).to_be_bytes());
    answer.extend([ICMPV6, HOP_LIMIT]);
    answer.extend(addresses);
    answer.extend(icmp);
    Some(answer)
}

/// Whether the packet is neither an ICMPv6 error nor a fragment but the first; nothing if that cannot be seen.
fn may_be_told(packet: &[u8]) -> Option<bool> {
    let (mut next, mut at) = (packet[6], IPV6_HEADER_BYTES);
    for _ in 0..EXTENSIONS_MAX {
        let bytes = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (usize::from(*packet.get(at + 1)?) + 1) * 8,
            AUTHENTICATION => (usize::from(*packet.get(at + 1)?) + 2) * 4,
            FRAGMENT if get(packet.get(at..at + 8)?, 2) & 0xfff8 != 0 => return Some(false),
            FRAGMENT => 8,
            ICMPV6 => return packet.get(at).map(|kind| *kind >= INFORMATIONAL && *kind != REDIRECT),
            _ => return Some(true),
        };
        next = *packet.get(at)?;
        at += bytes;
    }
    None
}

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ICMP_HEADER_BYTES: usize = 8;
/// What every IPv4 host accepts (RFC 1812, 4.3.2.3).
const IPV4_ANSWER_BYTES_MAX: usize = 576;
const HOP_LIMIT: u8 = 64;
/// RFC 1812, 4.3.2.5: the packet's type of service at the precedence of control messages.
const TOS_WITHOUT_PRECEDENCE: u8 = 0x1e;
const TOS_CONTROL: u8 = 0xc0;
/// ICMPv6 types below are errors.
const INFORMATIONAL: u8 = 128;
const REDIRECT: u8 = 137;
