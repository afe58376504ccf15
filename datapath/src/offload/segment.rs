//! Frames of the TAP as they are to be sealed: whole, or cut into segments as the kernel would have done (its GSO).
//!
//! ```text
//!   super-frame   │ headers │ payload …                             │   header of the TAP: segment size
//!   segments      │ headers'│ size │   │ headers'│ size │   │ headers'│ rest │
//! ```
//!
//! Invariants:
//! - a header of the TAP and the frame behind it may be forged by a container: what contradicts itself is refused;
//! - a segment is written once, straight to where it is sealed; nothing is allocated.

use crate::offload::checksum;
use crate::offload::layout::{IPV6_HEADER_BYTES, Ip, Layout, Transport};
use crate::offload::vnet::{Checksum, Gso, Header, Segmentation};

/// Segments of one super-frame: 64 KiB in the smallest that Linux makes, 48 octets.
const SEGMENTS_MAX: usize = 1_366;
/// Headers of a super-frame, extensions included.
const HEADERS_BYTES_MAX: usize = 256;

/// A frame on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// As read from the TAP.
    pub bytes: &'a [u8],
    pub shape: Shape,
}

/// What is to be done to a frame when it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Whole(Sum),
    Super(Cut),
}

/// The state of a frame's transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// There is none, or whoever cares may verify it.
    Finished,
    /// Holds the pseudo-header's sum at the place that the headers imply: the receiver's kernel finishes it.
    Left,
    /// To be computed from the first place on and stored at the second: the receiver could not tell where.
    Unfinished { start: usize, at: usize },
}

/// How a super-frame is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    layout: Layout,
    /// Octets of payload in each segment but the last.
    size: usize,
}

/// A header of the TAP that does not fit its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offload header does not fit its frame")]
pub struct Malformed;

impl<'a> Outgoing<'a> {
    /// # Errors
    /// When the header asks for what cannot be done to the frame.
    pub fn parse(header: Header, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let shape = match (header.segmentation, header.checksum) {
            (Some(segmentation), Checksum::Needed { .. }) => Shape::Super(Cut::of(segmentation, bytes)?),
            (Some(_), _) => return Err(Malformed),
            (None, Checksum::Needed { start, offset }) => {
                Shape::Whole(Sum::of(bytes, usize::from(start), usize::from(offset))?)
            }
            (None, Checksum::Present | Checksum::Verified) => Shape::Whole(Sum::Finished),
        };
        Ok(Self { bytes, shape })
    }
}

impl Sum {
    fn of(frame: &[u8], start: usize, offset: usize) -> Result<Self, Malformed> {
        let at = start + offset;
        frame.get(at..at + 2).ok_or(Malformed)?;
        let is_implied = Layout::parse(frame)
            .is_some_and(|layout| (layout.transport_at, layout.checksum_at(), layout.end) == (start, at, frame.len()));
        Ok(if is_implied { Self::Left } else { Self::Unfinished { start, at } })
    }

    /// Writes `frame` to `room`, which is as long, and finishes its checksum if nobody else can.
    pub fn write(self, frame: &[u8], room: &mut [u8]) {
        room.copy_from_slice(frame);
        if let Self::Unfinished { start, at } = self {
            let sum = checksum::finish(&room[start..]);
            // A UDP checksum of zero means that there is none; elsewhere both zeros are one.
            put(room, at, if sum == 0 { 0xffff } else { sum });
        }
    }

    /// The frame with its checksum finished, for a way on which nobody else does it.
    pub fn finished(self, frame: &[u8]) -> Vec<u8> {
        let mut finished = vec![0; frame.len()];
        let place = Layout::parse(frame).map(|layout| (layout.transport_at, layout.checksum_at()));
        match (self, place) {
            (Self::Left, Some((start, at))) => Self::Unfinished { start, at }.write(frame, &mut finished),
            _ => self.write(frame, &mut finished),
        }
        finished
    }
}

impl Cut {
    /// Of a frame that is one segment: TCP may be cut further, which nobody notices.
    pub fn of_whole(sum: Sum, frame: &[u8]) -> Option<Self> {
        let layout = Layout::parse(frame).filter(|layout| sum == Sum::Left && layout.transport == Transport::Tcp)?;
        let has_few_headers = layout.payload_at <= HEADERS_BYTES_MAX && layout.payload_bytes() > 0;
        has_few_headers.then(|| Self { layout, size: layout.payload_bytes() })
    }

    fn of(segmentation: Segmentation, frame: &[u8]) -> Result<Self, Malformed> {
        let layout = Layout::parse(frame).ok_or(Malformed)?;
        let size = usize::from(segmentation.size);
        let is_of_kind = match segmentation.kind {
            Gso::Tcp4 | Gso::Tcp4Ecn => (layout.ip, layout.transport) == (Ip::V4, Transport::Tcp),
            Gso::Tcp6 | Gso::Tcp6Ecn => (layout.ip, layout.transport) == (Ip::V6, Transport::Tcp),
            Gso::Udp => layout.transport == Transport::Udp,
            Gso::Other(_) => false,
        };
        let is_cut_to_few = size > 0 && layout.payload_bytes().div_ceil(size) <= SEGMENTS_MAX;
        let is_whole = layout.end == frame.len() && layout.payload_at <= HEADERS_BYTES_MAX;
        if is_of_kind && is_cut_to_few && is_whole { Ok(Self { layout, size }) } else { Err(Malformed) }
    }

    /// The segments of `frame`, each a frame of at most `frame_bytes_max` octets, if they can be made that short:
    /// datagrams cannot, since their length means something.
    pub fn segments(self, frame: &[u8], frame_bytes_max: usize) -> impl Iterator<Item = Segment<'_>> {
        let payload_bytes = self.layout.payload_bytes();
        let size = match self.layout.transport {
            Transport::Tcp => self.size.min(frame_bytes_max.saturating_sub(self.layout.payload_at).max(1)),
            Transport::Udp => self.size,
        };
        let count = payload_bytes.div_ceil(size).max(1);
        (0..count).map(move |number| Segment {
            frame,
            layout: self.layout,
            number,
            from: number * size,
            to: payload_bytes.min((number + 1) * size),
        })
    }
}

/// One piece of a super-frame.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    frame: &'a [u8],
    layout: Layout,
    number: usize,
    /// Of the payload.
    from: usize,
    to: usize,
}

impl Segment<'_> {
    /// Octets of the whole frame.
    pub const fn bytes(&self) -> usize {
        self.layout.payload_at + self.to - self.from
    }

    /// Writes the segment to `room`, which is [`Self::bytes`] long, with its transport checksum [`Sum::Left`].
    pub fn write(&self, room: &mut [u8]) {
        let Self { frame, layout, number, from, to } = *self;
        let (headers, payload) = room.split_at_mut(layout.payload_at);
        headers.copy_from_slice(&frame[..layout.payload_at]);
        payload.copy_from_slice(&frame[layout.payload_at + from..layout.payload_at + to]);
        set_lengths(headers, &layout, payload.len());
        if layout.ip == Ip::V4 {
            let id = get(headers, layout.network_at + 4).wrapping_add(number as u16);
            put(headers, layout.network_at + 4, id);
            finish_ipv4(headers, &layout);
        }
        if layout.transport == Transport::Tcp {
            self.adjust_tcp(&mut headers[layout.transport_at..]);
        }
    }

    /// The segment with its checksum finished.
    pub fn finished(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes()];
        self.write(&mut bytes);
        Sum::Left.finished(&bytes)
    }

    /// Sequence number and flags, as RFC 9293 and RFC 3168 (CWR) want them.
    fn adjust_tcp(&self, header: &mut [u8]) {
        let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]).wrapping_add(self.from as u32);
        header[4..8].copy_from_slice(&sequence.to_be_bytes());
        if self.to < self.layout.payload_bytes() {
            header[13] &= !(FIN | PSH);
        }
        if self.from > 0 {
            header[13] &= !CWR;
        }
    }
}

/// Makes the lengths in the headers and the pseudo-header's sum those of a packet with `payload_bytes` of payload.
pub(super) fn set_lengths(headers: &mut [u8], layout: &Layout, payload_bytes: usize) {
    let transport_bytes = layout.payload_at - layout.transport_at + payload_bytes;
    let behind_network = transport_bytes + layout.transport_at - layout.network_at;
    match layout.ip {
        Ip::V4 => put(headers, layout.network_at + 2, behind_network as u16),
        Ip::V6 => put(headers, layout.network_at + 4, (behind_network - IPV6_HEADER_BYTES) as u16),
    }
    if layout.transport == Transport::Udp {
        put(headers, layout.transport_at + 4, transport_bytes as u16);
    }
    let before = (layout.end - layout.transport_at) as u16;
    let sum = checksum::replace(get(headers, layout.checksum_at()), before, transport_bytes as u16);
    put(headers, layout.checksum_at(), sum);
}

/// Computes the IPv4 header's own checksum.
pub(super) fn finish_ipv4(headers: &mut [u8], layout: &Layout) {
    put(headers, layout.network_at + 10, 0);
    let sum = checksum::finish(&headers[layout.network_at..layout.transport_at]);
    put(headers, layout.network_at + 10, sum);
}

pub(super) fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Flags of a TCP header's octet 13.
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const URG: u8 = 0x20;
pub(super) const CWR: u8 = 0x80;
