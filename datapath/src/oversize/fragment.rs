//! Cutting a packet into fragments that fit, as RFC 791 and RFC 8200 (4.5) describe it.
//!
//! ```text
//!   IPv4   │ eth │ header, options │ data …             │      first: all options; the others: those to be copied
//!          │ eth │ header │ data │  │ eth │ header │ data │
//!
//!   IPv6   │ eth │ header, per-hop extensions │ rest …   │      a fragment header goes in between, or is already there
//!          │ eth │ headers │ fragment │ rest │  │ eth │ headers │ fragment │ rest │
//! ```
//!
//! A fragment can be cut again. All pieces but the last hold a multiple of 8 octets, and the whole of them is the packet.

use super::{
    DESTINATION_OPTIONS, EXTENSIONS_MAX, FRAGMENT, HOP_BY_HOP, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, ROUTING, get, put,
};
use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};
use crate::offload::checksum;

/// A frame that cannot be cut: not IP, malformed, or its headers alone are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet cannot be fragmented")]
pub struct Unsplittable;

/// Hands `frame` in pieces of at most `limit` octets to `emit`, in order. Its transport checksum must be finished. `id`
/// tells the pieces of one IPv6 packet from those of another; one that is a fragment already, or IPv4, has its own.
///
/// # Errors
/// Before anything was emitted.
pub fn fragment(frame: &[u8], limit: usize, id: u32, emit: impl FnMut(&[u8])) -> Result<(), Unsplittable> {
    let ethernet = Ethernet::parse(frame).ok_or(Unsplittable)?;
    let network_at = frame.len() - ethernet.payload.len();
    let plan = match ethernet.ethertype {
        ETHERTYPE_IPV4 => Plan::of_v4(frame, network_at),
        ETHERTYPE_IPV6 => Plan::of_v6(frame, network_at, id),
        _ => None,
    };
    plan.ok_or(Unsplittable)?.carry_out(limit, emit)
}

/// How to cut one packet.
struct Plan<'a> {
    version: Version,
    network_at: usize,
    /// Everything in front of the data, for the first piece and for the others.
    first: Vec<u8>,
    others: Vec<u8>,
    data: &'a [u8],
    /// Of the data, in the packet that it is a fragment of.
    offset: usize,
    /// More fragments follow the last of these.
    more: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

impl<'a> Plan<'a> {
    fn of_v4(frame: &'a [u8], network_at: usize) -> Option<Self> {
        let packet = frame.get(network_at..)?;
        packet.first_chunk::<IPV4_HEADER_BYTES>()?;
        let (header_bytes, total_bytes) = (usize::from(packet[0] & 0x0f) * 4, usize::from(get(packet, 2)));
        if packet[0] >> 4 != 4 || header_bytes < IPV4_HEADER_BYTES || get(packet, 6) & V4_DONT_FRAGMENT != 0 {
            return None;
        }
        let data = packet.get(header_bytes..total_bytes)?;
        let first = frame[..network_at + header_bytes].to_vec();
        let mut others = first[..network_at + IPV4_HEADER_BYTES].to_vec();
        others.extend(copied_options(&first[others.len()..]));
        others[network_at] = 0x40 | ((others.len() - network_at) / 4) as u8;
        let (offset, more) = (usize::from(get(packet, 6) & V4_OFFSET) * 8, get(packet, 6) & V4_MORE != 0);
        Self { version: Version::V4, network_at, first, others, data, offset, more }.checked()
    }

    fn of_v6(frame: &'a [u8], network_at: usize, id: u32) -> Option<Self> {
        let packet = frame.get(network_at..)?;
        packet.first_chunk::<IPV6_HEADER_BYTES>().filter(|header| header[0] >> 4 == 6)?;
        let packet = packet.get(..IPV6_HEADER_BYTES + usize::from(get(packet, 4)))?;
        let (split_at, next_at) = end_of_per_hop_headers(packet)?;
        let mut head = frame[..network_at + split_at].to_vec();
        let next = packet[next_at];
        let (fragment, data) = if next == FRAGMENT {
            packet[split_at..].split_first_chunk::<FRAGMENT_HEADER_BYTES>()?
        } else {
            let [a, b, c, d] = id.to_be_bytes();
            (&[next, 0, 0, 0, a, b, c, d], &packet[split_at..])
        };
        head[network_at + next_at] = FRAGMENT;
        head.extend_from_slice(fragment);
        let (offset, more) = (usize::from(get(fragment, 2) & V6_OFFSET), get(fragment, 2) & V6_MORE != 0);
        Self { version: Version::V6, network_at, first: head.clone(), others: head, data, offset, more }.checked()
    }

    /// A fragment that could not be put together again is not cut.
    fn checked(self) -> Option<Self> {
        let ends_evenly = !self.more || self.data.len().is_multiple_of(8);
        (ends_evenly && self.offset + self.data.len() <= PACKET_BYTES_MAX).then_some(self)
    }

    fn carry_out(mut self, limit: usize, mut emit: impl FnMut(&[u8])) -> Result<(), Unsplittable> {
        let longest = limit.saturating_sub(self.first.len().max(self.others.len())) / 8 * 8;
        if longest == 0 {
            return Err(Unsplittable);
        }
        let count = self.data.len().div_ceil(longest);
        for (number, piece) in self.data.chunks(longest).enumerate() {
            let head = if number == 0 { &self.first } else { &self.others };
            let mut frame = [head, piece].concat();
            let more = self.more || number + 1 < count;
            self.version.finish(&mut frame, self.network_at, head.len(), self.offset, more);
            emit(&frame);
            self.offset += piece.len();
        }
        Ok(())
    }
}

impl Version {
    /// Writes what differs from piece to piece.
    fn finish(self, frame: &mut [u8], network_at: usize, data_at: usize, offset: usize, more: bool) {
        let bytes = (frame.len() - network_at) as u16;
        let packet = &mut frame[network_at..];
        match self {
            Self::V4 => {
                put(packet, 2, bytes);
                put(packet, 6, (offset / 8) as u16 | if more { V4_MORE } else { 0 });
                put(packet, 10, 0);
                let sum = checksum::finish(&packet[..data_at - network_at]);
                put(packet, 10, sum);
            }
            Self::V6 => {
                put(packet, 4, bytes - IPV6_HEADER_BYTES as u16);
                let fragment_at = data_at - network_at - FRAGMENT_HEADER_BYTES;
                put(packet, fragment_at + 2, offset as u16 | if more { V6_MORE } else { 0 });
            }
        }
    }
}

/// The options that every fragment carries, padded to a whole number of words.
fn copied_options(mut options: &[u8]) -> Vec<u8> {
    let mut copied = Vec::new();
    while let Some(&kind) = options.first().filter(|kind| **kind != OPTION_END) {
        let bytes = if kind == OPTION_NOTHING { 1 } else { options.get(1).map_or(0, |bytes| usize::from(*bytes)) };
        // One without a length, or that ends behind the header, ends them.
        let Some((option, rest)) = options.split_at_checked(bytes).filter(|(option, _)| !option.is_empty()) else {
            break;
        };
        if kind & OPTION_COPIED != 0 {
            copied.extend_from_slice(option);
        }
        options = rest;
    }
    copied.resize(copied.len().next_multiple_of(4), OPTION_END);
    copied
}

/// Where the part ends that routers on the way look at, and where in it the kind of what follows is.
fn end_of_per_hop_headers(packet: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut next_at) = (IPV6_HEADER_BYTES, 6);
    let mut end = (at, next_at);
    for _ in 0..EXTENSIONS_MAX {
        let kind = packet[next_at];
        if !matches!(kind, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            break;
        }
        let bytes = (usize::from(*packet.get(at + 1)?) + 1) * 8;
        (next_at, at) = (at, at + bytes);
        // Options for the destination count only if they stand before a route.
        if kind != DESTINATION_OPTIONS {
            end = (at, next_at);
        }
    }
    (end.0 <= packet.len()).then_some(end)
}

const PACKET_BYTES_MAX: usize = 65_535;
const FRAGMENT_HEADER_BYTES: usize = 8;
/// Bits of the IPv4 word with flags and offset.
const V4_DONT_FRAGMENT: u16 = 0x4000;
const V4_MORE: u16 = 0x2000;
const V4_OFFSET: u16 = 0x1fff;
/// The same in the IPv6 fragment header.
const V6_OFFSET: u16 = 0xfff8;
const V6_MORE: u16 = 0x0001;
/// IPv4 options.
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_COPIED: u8 = 0x80;
