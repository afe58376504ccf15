//! Frames for the TAP, with consecutive segments of one flow put together again as the kernel would have done (its GRO).
//!
//! ```text
//!   batch     │…│ eth ip tcp data │…│ eth ip tcp data │…│ eth ip tcp data │…       opened in place
//!   delivery        ╰─────────────────────────╌╌╌╌╌╌╰──╯╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╰──╯      headers of the first, data of each
//! ```
//!
//! Invariants:
//! - nothing is copied: a delivery is made of pieces of the batch in which its frames arrived, to be written before the
//!   batch is read into again;
//! - frames of one flow keep their order;
//! - cutting a super-frame gives back the frames it was made of, but for IPv4 ids that mean nothing (DF, RFC 6864);
//! - only frames whose transport checksum was left unfinished are merged, and the result is marked as unfinished.

use std::ops::Range;

use crate::offload::checksum;
use crate::offload::layout::{DONT_FRAGMENT, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, Ip, Layout, Transport};
use crate::offload::segment::{CWR, FIN, PSH, RST, SYN, URG, finish_ipv4, get, set_lengths};
use crate::offload::vnet::{Checksum, Gso, Header, Segmentation};

/// Frames in one delivery.
pub const MERGED_MAX: usize = 64;
/// Flows that may still grow at a time.
const OPEN_MAX: usize = 16;
/// Headers of a frame that can be merged: Ethernet with two tags, IPv6, TCP with options.
const HEADERS_BYTES_MAX: usize = 14 + 8 + IPV6_HEADER_BYTES + 60;
/// An IP packet.
const PACKET_BYTES_MAX: usize = 65_535;

/// Whether datagrams are merged too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// The TAP's kernel cannot cut datagrams (before Linux 6.2).
    #[default]
    Tcp,
    TcpAndUdp,
}

/// What is to be written to the TAP, in order.
#[derive(Debug, Default)]
pub struct Deliveries {
    merge: Merge,
    frames: Vec<Entry>,
    pieces: Vec<Piece>,
    open: Vec<Flow>,
    /// Which open flow gives way next.
    oldest: usize,
}

#[derive(Debug)]
struct Entry {
    header: Header,
    frames: usize,
    bytes: usize,
    first: usize,
    last: usize,
    merged: Option<Merged>,
}

/// What makes a super-frame of the first frame's headers.
#[derive(Debug)]
struct Merged {
    layout: Layout,
    payload_bytes: usize,
    /// FIN and PSH of the last.
    flags: u8,
}

#[derive(Debug)]
struct Piece {
    span: Range<usize>,
    next: Option<usize>,
}

/// A delivery that may still grow.
#[derive(Debug)]
struct Flow {
    entry: usize,
    layout: Layout,
    headers: [u8; HEADERS_BYTES_MAX],
    /// Payload of the first frame, and of each after it but the last.
    size: usize,
    payload_bytes: usize,
    frames: usize,
    is_closed: bool,
}

/// One write to the TAP.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub header: Header,
    /// How many frames were merged.
    pub frames: usize,
    /// Octets of all pieces.
    pub bytes: usize,
    first: usize,
    pieces: &'a [Piece],
    batch: &'a [u8],
}

impl<'a> Delivery<'a> {
    /// The frame, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Self { first, pieces, batch, .. } = *self;
        std::iter::successors(Some(&pieces[first]), |piece| Some(&pieces[piece.next?]))
            .map(|piece| &batch[piece.span.clone()])
    }
}

impl Deliveries {
    pub fn set_merge(&mut self, merge: Merge) {
        self.merge = merge;
    }

    pub fn clear(&mut self) {
        self.frames.clear();
        self.pieces.clear();
        self.open.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Each with its pieces of `batch`, in which [`Self::finish`] has completed the headers.
    pub fn iter<'a>(&'a self, batch: &'a [u8]) -> impl Iterator<Item = Delivery<'a>> {
        self.frames.iter().map(|&Entry { header, frames, bytes, first, .. }| Delivery {
            header,
            frames,
            bytes,
            first,
            pieces: &self.pieces,
            batch,
        })
    }

    /// Adds `frame`, which lies in the batch from `at` on and needs nothing done to it.
    pub fn push(&mut self, at: usize, frame: &[u8]) {
        if !self.open.is_empty()
            && let Some(flow) = Layout::parse(frame).and_then(|layout| self.flow_of(&layout, frame))
        {
            self.open[flow].is_closed = true;
        }
        self.add(Header::default(), at..at + frame.len());
    }

    /// Adds a frame whose transport checksum is the pseudo-header's sum. False for one that has no such checksum.
    pub fn push_unsummed(&mut self, at: usize, frame: &[u8]) -> bool {
        let Some(layout) = Layout::parse(frame) else { return false };
        match self.flow_of(&layout, frame) {
            Some(flow) if self.open[flow].takes(&layout, frame) => self.append(flow, at, &layout, frame),
            found => self.begin(found, at, &layout, frame),
        }
        true
    }

    fn append(&mut self, flow: usize, at: usize, layout: &Layout, frame: &[u8]) {
        let flow = &mut self.open[flow];
        flow.payload_bytes += layout.payload_bytes();
        flow.frames += 1;
        let flags = flow.end_flags(layout, frame);
        flow.is_closed = flags != 0 || layout.payload_bytes() < flow.size || flow.frames == MERGED_MAX;
        let entry = &mut self.frames[flow.entry];
        entry.frames += 1;
        entry.bytes += layout.payload_bytes();
        entry.merged = Some(Merged { layout: flow.layout, payload_bytes: flow.payload_bytes, flags });
        entry.header.segmentation = Some(Segmentation {
            kind: flow.kind(),
            header_bytes: flow.layout.payload_at as u16,
            size: flow.size as u16,
        });
        let next = self.pieces.len();
        self.pieces[entry.last].next = Some(next);
        entry.last = next;
        self.pieces.push(Piece { span: at + layout.payload_at..at + layout.end, next: None });
    }

    /// Adds a frame that may be the first of several, in place of the flow's earlier one.
    fn begin(&mut self, found: Option<usize>, at: usize, layout: &Layout, frame: &[u8]) {
        let checksum = Checksum::Needed { start: layout.transport_at as u16, offset: layout.checksum_offset() as u16 };
        let entry = self.frames.len();
        // What Ethernet padded has no place in front of another piece.
        self.add(Header { checksum, segmentation: None }, at..at + layout.end);
        let flow = Flow::new(entry, layout, frame, self.merge);
        match (found, flow) {
            (Some(found), Some(flow)) => self.open[found] = flow,
            (Some(found), None) => self.open[found].is_closed = true,
            (None, Some(flow)) if self.open.len() < OPEN_MAX => self.open.push(flow),
            (None, Some(flow)) => {
                self.open[self.oldest] = flow;
                self.oldest = (self.oldest + 1) % OPEN_MAX;
            }
            (None, None) => {}
        }
    }

    fn add(&mut self, header: Header, span: Range<usize>) {
        let piece = self.pieces.len();
        self.frames.push(Entry { header, frames: 1, bytes: span.len(), first: piece, last: piece, merged: None });
        self.pieces.push(Piece { span, next: None });
    }

    fn flow_of(&self, layout: &Layout, frame: &[u8]) -> Option<usize> {
        self.open.iter().position(|flow| flow.is_of(layout, frame))
    }

    /// Completes the headers of super-frames in the batch. After it, nothing more is added.
    pub fn finish(&mut self, batch: &mut [u8]) {
        self.open.clear();
        for entry in &mut self.frames {
            let Some(Merged { layout, payload_bytes, flags }) = entry.merged.take() else { continue };
            let headers = &mut batch[self.pieces[entry.first].span.clone()][..layout.payload_at];
            set_lengths(headers, &layout, payload_bytes);
            if layout.ip == Ip::V4 {
                finish_ipv4(headers, &layout);
            }
            if layout.transport == Transport::Tcp {
                headers[layout.transport_at + 13] |= flags;
            }
        }
    }
}

impl Flow {
    /// A flow that starts with this frame, if another may follow.
    fn new(entry: usize, layout: &Layout, frame: &[u8], merge: Merge) -> Option<Self> {
        let can_grow = match layout.transport {
            Transport::Tcp => tcp_flags(layout, frame) & (FIN | SYN | RST | PSH | URG) == 0,
            Transport::Udp => merge == Merge::TcpAndUdp,
        };
        if !can_grow
            || !is_intact(layout, frame)
            || !layout.is_plain()
            || layout.payload_bytes() == 0
            || layout.payload_at > HEADERS_BYTES_MAX
        {
            return None;
        }
        let mut headers = [0; HEADERS_BYTES_MAX];
        headers[..layout.payload_at].copy_from_slice(&frame[..layout.payload_at]);
        let payload_bytes = layout.payload_bytes();
        Some(Self { entry, layout: *layout, headers, size: payload_bytes, payload_bytes, frames: 1, is_closed: false })
    }

    /// Whether a frame has the same addresses and ports.
    fn is_of(&self, layout: &Layout, frame: &[u8]) -> bool {
        let is_alike = (layout.ip, layout.transport, layout.network_at, layout.transport_at)
            == (self.layout.ip, self.layout.transport, self.layout.network_at, self.layout.transport_at);
        let addresses = match layout.ip {
            Ip::V4 => layout.network_at + 12..layout.network_at + IPV4_HEADER_BYTES,
            Ip::V6 => layout.network_at + 8..layout.network_at + IPV6_HEADER_BYTES,
        };
        is_alike && self.is_same(frame, layout.transport_at..layout.transport_at + 4) && self.is_same(frame, addresses)
    }

    /// Whether a frame of the flow continues it so that cutting would give back what was merged.
    fn takes(&self, layout: &Layout, frame: &[u8]) -> bool {
        let payload_bytes = layout.payload_bytes();
        let total_bytes = self.layout.payload_at - self.layout.network_at + self.payload_bytes + payload_bytes;
        !self.is_closed
            && (1..=self.size).contains(&payload_bytes)
            && total_bytes <= PACKET_BYTES_MAX
            && layout.payload_at == self.layout.payload_at
            && is_intact(layout, frame)
            && self.is_same(frame, 0..layout.network_at)
            && self.continues_network(layout, frame)
            && (layout.transport == Transport::Udp || self.continues_tcp(layout, frame))
    }

    fn continues_network(&self, layout: &Layout, frame: &[u8]) -> bool {
        let at = layout.network_at;
        match layout.ip {
            Ip::V4 => {
                let (first, id) = (get(&self.headers, at + 4), get(frame, at + 4));
                let counts = id == first.wrapping_add(self.frames as u16);
                let is_meaningless = get(frame, at + 6) & DONT_FRAGMENT != 0 && id == first;
                self.is_same(frame, at..at + 2) && self.is_same(frame, at + 6..at + 10) && (counts || is_meaningless)
            }
            Ip::V6 => self.is_same(frame, at..at + 4) && self.is_same(frame, at + 6..at + 8),
        }
    }

    fn continues_tcp(&self, layout: &Layout, frame: &[u8]) -> bool {
        let at = layout.transport_at;
        let number = |bytes: &[u8]| u32::from_be_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]);
        let flags = tcp_flags(layout, frame);
        let changed = flags ^ self.headers[at + 13];
        number(frame) == number(&self.headers).wrapping_add(self.payload_bytes as u32)
            && changed & !(CWR | FIN | PSH) == 0
            && flags & (CWR | SYN | RST | URG) == 0
            // Acknowledgement, header length; window; urgent pointer and options.
            && self.is_same(frame, at + 8..at + 13)
            && self.is_same(frame, at + 14..at + 16)
            && self.is_same(frame, at + 18..layout.payload_at)
    }

    fn is_same(&self, frame: &[u8], span: Range<usize>) -> bool {
        self.headers[span.clone()] == frame[span]
    }

    fn end_flags(&self, layout: &Layout, frame: &[u8]) -> u8 {
        match layout.transport {
            Transport::Tcp => tcp_flags(layout, frame) & (FIN | PSH),
            Transport::Udp => 0,
        }
    }

    fn kind(&self) -> Gso {
        let has_cwr = self.layout.transport == Transport::Tcp && self.headers[self.layout.transport_at + 13] & CWR != 0;
        match (self.layout.transport, self.layout.ip, has_cwr) {
            (Transport::Udp, ..) => Gso::Udp,
            (Transport::Tcp, Ip::V4, false) => Gso::Tcp4,
            (Transport::Tcp, Ip::V4, true) => Gso::Tcp4Ecn,
            (Transport::Tcp, Ip::V6, false) => Gso::Tcp6,
            (Transport::Tcp, Ip::V6, true) => Gso::Tcp6Ecn,
        }
    }
}

/// Whether the IPv4 header's own checksum is right: that of a super-frame is computed anew, which would hide it.
fn is_intact(layout: &Layout, frame: &[u8]) -> bool {
    layout.ip == Ip::V6 || checksum::finish(&frame[layout.network_at..layout.transport_at]) == 0
}

fn tcp_flags(layout: &Layout, frame: &[u8]) -> u8 {
    frame[layout.transport_at + 13]
}
