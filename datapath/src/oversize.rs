//! Packets longer than their path takes: who cuts them, and who is told.
//!
//! ```text
//!   IPv4, DF clear ──────────────► fragment.rs    as any router does (RFC 791)
//!   IPv4, DF set ────────────────► too_big.rs     ICMP "fragmentation needed" with the MTU (RFC 1191)
//!   IPv6 of at most 1280 octets ─► fragment.rs    every link carries it, this one in pieces (RFC 8200, 5)
//!   longer IPv6 ─────────────────► too_big.rs     ICMPv6 "packet too big" (RFC 4443)
//!   anything else ───────────────► nobody can be told
//! ```
//!
//! TCP whose checksum is left to us never comes here: it is cut into shorter segments, which nobody notices.

use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4};

mod fragment;
mod too_big;

pub use fragment::{Unsplittable, fragment};
pub use too_big::{Untold, too_big};

/// What every IPv6 link carries (RFC 8200, 5).
const IPV6_MTU_MIN: usize = 1_280;
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;
/// IPv6 headers that may stand between the first one and the transport's.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
/// Of those, how many are looked at: senders use two or three.
const EXTENSIONS_MAX: usize = 8;

/// What can be done about a frame that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// See [`fragment()`].
    Fragment,
    /// See [`too_big()`].
    Tell,
    Nothing,
}

/// The remedy for `frame`, whatever its length.
pub fn remedy(frame: &[u8]) -> Remedy {
    let Some(ethernet) = Ethernet::parse(frame) else { return Remedy::Nothing };
    match ethernet.ethertype {
        ETHERTYPE_IPV4 => match Ipv4::parse(ethernet.payload) {
            Some(packet) if packet.dont_fragment => Remedy::Tell,
            Some(_) => Remedy::Fragment,
            None => Remedy::Nothing,
        },
        ETHERTYPE_IPV6 if ethernet.payload.len() <= IPV6_MTU_MIN => Remedy::Fragment,
        ETHERTYPE_IPV6 => Remedy::Tell,
        _ => Remedy::Nothing,
    }
}

fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
