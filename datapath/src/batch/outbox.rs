//! What leaves: trains of datagrams for the UDP socket, deliveries and frames of our own for the TAP, heartbeats for the
//! VXLAN device.
//!
//! ```text
//!   arena     │ d1 → A │ d2 → A │ d3 → B │ d4 → A │        datagrams in the order in which they were made
//!   trains    A: [d1 d2] [d4]      B: [d3]                 each gathers the pieces for one destination
//! ```
//!
//! Invariants:
//! - a [`Train`] is what one `UDP_SEGMENT` send takes: one destination, every datagram of `segment_bytes` but the last,
//!   which may be shorter; at most [`TRAIN_DATAGRAMS_MAX`] and [`TRAIN_BYTES_MAX`];
//! - datagrams for one destination keep their order, those for different ones need not;
//! - an outbox never grows beyond [`OUTBOX_BYTES_MAX`]; the caller hears of it and counts a drop.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use crate::batch::DatagramBatch;
use crate::offload::coalesce::{Deliveries, Delivery, Merge};

/// Datagrams in one train: the kernel's `UDP_MAX_SEGMENTS` of old.
pub const TRAIN_DATAGRAMS_MAX: usize = 64;
/// Octets in one train: an IPv4 packet's 65,535 less its headers.
pub const TRAIN_BYTES_MAX: usize = 65_000;
/// Octets of one kind (datagrams, frames, heartbeats) that wait in an outbox: a broadcast frame to 1,000 peers is 1.5 MB.
pub const OUTBOX_BYTES_MAX: usize = 4 << 20;
/// Trains that are looked at, newest first, for one that a datagram can join.
const OPEN_TRAINS_MAX: usize = 16;

/// What the engine wants sent and written; emptied by the shell after every call.
#[derive(Debug, Default)]
pub struct Outbox {
    datagrams: Arena,
    trains: Vec<TrainSpan>,
    /// Trains before this one take no more datagrams.
    open_from: usize,
    pieces: Vec<Piece>,
    pub(crate) deliveries: Deliveries,
    frames: Spans,
    heartbeats: Spans,
}

/// How datagrams may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMode {
    /// Many in one call that the kernel or the device cuts (`UDP_SEGMENT`, Linux 4.18).
    Segmented,
    /// One by one.
    Plain,
}

impl fmt::Display for SendMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segmented => "segmented",
            Self::Plain => "plain",
        })
    }
}

/// Why the kernel refused a segmented send; the datagrams were sent one by one instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// EMSGSIZE or EINVAL: a datagram is longer than the path takes in one piece.
    TooLong,
    /// EIO and others: the device or the path cannot do it.
    Unsupported,
}

#[derive(Clone, Debug)]
struct TrainSpan {
    destination: SocketAddr,
    mode: SendMode,
    segment_bytes: usize,
    bytes: usize,
    first: usize,
    last: usize,
}

/// Datagrams of one train that lie side by side.
#[derive(Clone, Debug)]
struct Piece {
    span: Range<usize>,
    next: Option<usize>,
}

/// Datagrams for one destination, equal in size but for the last.
#[derive(Clone, Copy, Debug)]
pub struct Train<'a> {
    pub destination: SocketAddr,
    pub mode: SendMode,
    pub segment_bytes: usize,
    /// Octets of all datagrams together.
    pub bytes: usize,
    first: usize,
    outbox: &'a Outbox,
}

impl<'a> Train<'a> {
    /// The bytes in order. No datagram is divided between two pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Outbox { datagrams, pieces, .. } = self.outbox;
        let chain = std::iter::successors(Some(&pieces[self.first]), |piece| Some(&pieces[piece.next?]));
        chain.map(|piece| &datagrams.bytes[piece.span.clone()])
    }

    /// One by one, for a plain send.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let segment_bytes = self.segment_bytes;
        self.pieces().flat_map(move |piece| piece.chunks(segment_bytes))
    }
}

/// The outbox holds [`OUTBOX_BYTES_MAX`]: send what is in it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outbox holds its limit of {OUTBOX_BYTES_MAX} bytes")]
pub struct OutboxFull;

impl Outbox {
    pub fn new() -> Self {
        Self::default()
    }

    /// What is to be sent from the UDP socket, in order.
    pub fn trains(&self) -> impl ExactSizeIterator<Item = Train<'_>> {
        (0..self.trains.len()).map(|at| self.train(at))
    }

    /// The train at this place of [`Self::trains`].
    pub(crate) fn train(&self, at: usize) -> Train<'_> {
        let TrainSpan { destination, mode, segment_bytes, bytes, first, .. } = self.trains[at];
        Train { destination, mode, segment_bytes, bytes, first, outbox: self }
    }

    /// What is to be written to the TAP of the frames that arrived in `batch`, the one that was handled last.
    pub fn deliveries<'a>(&'a self, batch: &'a DatagramBatch) -> impl Iterator<Item = Delivery<'a>> {
        self.deliveries.iter(batch.bytes())
    }

    /// Says what the kernel behind the TAP can cut.
    pub fn set_merge(&mut self, merge: Merge) {
        self.deliveries.set_merge(merge);
    }

    /// Ethernet frames of our own for the TAP, in order.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter()
    }

    /// Ethernet frames for the VXLAN device.
    pub fn heartbeats(&self) -> impl Iterator<Item = &[u8]> {
        self.heartbeats.iter()
    }

    /// Forgets the contents and keeps the memory.
    pub fn clear(&mut self) {
        self.datagrams.filled = 0;
        self.trains.clear();
        self.open_from = 0;
        self.pieces.clear();
        self.deliveries.clear();
        self.frames.clear();
        self.heartbeats.clear();
    }

    pub fn is_empty(&self) -> bool {
        let Self { trains, deliveries, frames, heartbeats, .. } = self;
        trains.is_empty() && deliveries.is_empty() && frames.spans.is_empty() && heartbeats.spans.is_empty()
    }

    /// Room for a datagram of `len` octets, where it will be sent from. The caller writes all of it.
    pub(crate) fn datagram(
        &mut self,
        destination: SocketAddr,
        mode: SendMode,
        len: usize,
    ) -> Result<&mut [u8], OutboxFull> {
        let span = self.datagrams.take(len)?;
        match self.open_train(destination, mode, len) {
            Some(train) => self.extend(train, span.clone()),
            None => self.begin(destination, mode, span.clone()),
        }
        Ok(&mut self.datagrams.bytes[span])
    }

    /// The newest train to `destination`, if it takes one more.
    fn open_train(&self, destination: SocketAddr, mode: SendMode, len: usize) -> Option<usize> {
        let recent = self.open_from.max(self.trains.len().saturating_sub(OPEN_TRAINS_MAX))..self.trains.len();
        let newest = recent.rev().find(|&at| self.trains[at].destination == destination)?;
        self.trains[newest].takes(mode, len).then_some(newest)
    }

    /// Lets no datagram join a train that was begun before.
    pub(crate) fn close_trains(&mut self) {
        self.open_from = self.trains.len();
    }

    /// Has the train at this place of [`Self::trains`] leave one by one.
    pub(crate) fn send_plainly(&mut self, at: usize) {
        self.trains[at].mode = SendMode::Plain;
    }

    fn begin(&mut self, destination: SocketAddr, mode: SendMode, span: Range<usize>) {
        let (piece, bytes) = (self.pieces.len(), span.len());
        self.pieces.push(Piece { span, next: None });
        self.trains.push(TrainSpan {
            destination,
            mode,
            segment_bytes: bytes.max(1),
            bytes,
            first: piece,
            last: piece,
        });
    }

    fn extend(&mut self, train: usize, span: Range<usize>) {
        let train = &mut self.trains[train];
        train.bytes += span.len();
        let next = self.pieces.len();
        let last = &mut self.pieces[train.last];
        if last.span.end == span.start {
            last.span.end = span.end;
        } else {
            last.next = Some(next);
            train.last = next;
            self.pieces.push(Piece { span, next: None });
        }
    }

    /// Room for a frame of `len` octets to the TAP. The caller writes all of it.
    ///
    /// # Errors
    /// When it holds its limit of frames.
    pub fn frame(&mut self, len: usize) -> Result<&mut [u8], OutboxFull> {
        self.frames.take(len)
    }

    /// Room for a frame of `len` octets to the VXLAN device. The caller writes all of it.
    pub(crate) fn heartbeat(&mut self, len: usize) -> Result<&mut [u8], OutboxFull> {
        self.heartbeats.take(len)
    }
}

impl TrainSpan {
    fn takes(&self, mode: SendMode, len: usize) -> bool {
        self.mode == mode
            && len <= self.segment_bytes
            && self.bytes.is_multiple_of(self.segment_bytes)
            && self.bytes / self.segment_bytes < TRAIN_DATAGRAMS_MAX
            && self.bytes + len <= TRAIN_BYTES_MAX
    }
}

/// A buffer that is filled from the start and emptied at once. It grows to what was needed most and is not wiped, so
/// that a frame costs no clearing of memory.
#[derive(Debug, Default)]
struct Arena {
    bytes: Vec<u8>,
    filled: usize,
}

impl Arena {
    fn take(&mut self, len: usize) -> Result<Range<usize>, OutboxFull> {
        let span = self.filled..self.filled + len;
        if span.end > OUTBOX_BYTES_MAX {
            return Err(OutboxFull);
        }
        if span.end > self.bytes.len() {
            self.bytes.resize(span.end, 0);
        }
        self.filled = span.end;
        Ok(span)
    }
}

/// Pieces of one arena.
#[derive(Debug, Default)]
struct Spans {
    arena: Arena,
    spans: Vec<Range<usize>>,
}

impl Spans {
    fn take(&mut self, len: usize) -> Result<&mut [u8], OutboxFull> {
        let span = self.arena.take(len)?;
        self.spans.push(span.clone());
        Ok(&mut self.arena.bytes[span])
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| &self.arena.bytes[span.clone()])
    }

    fn clear(&mut self) {
        self.arena.filled = 0;
        self.spans.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn filled(pushed: &[(u16, usize)]) -> Outbox {
        let mut out = Outbox::new();
        for (at, &(port, len)) in pushed.iter().enumerate() {
            out.datagram(address(port), SendMode::Segmented, len).unwrap().fill(at as u8);
        }
        out
    }

    fn trains(pushed: &[(u16, usize)]) -> Vec<(u16, Vec<usize>)> {
        let out = filled(pushed);
        out.trains().map(|train| (train.destination.port(), train.datagrams().map(<[u8]>::len).collect())).collect()
    }

    #[test]
    fn a_train_is_one_destination_and_one_size_with_a_shorter_tail() {
        assert_eq!(trains(&[(1, 100), (1, 100), (1, 40), (1, 40)]), [(1, vec![100, 100, 40]), (1, vec![40])]);
        assert_eq!(trains(&[(1, 40), (1, 100)]), [(1, vec![40]), (1, vec![100])]);
    }

    #[test]
    fn destinations_that_alternate_get_long_trains_in_their_own_order() {
        let out = filled(&[(1, 40), (2, 50), (1, 40), (1, 40), (2, 50), (1, 30), (2, 60)]);

        let marks = |train: Train<'_>| train.datagrams().map(|datagram| (datagram.len(), datagram[0])).collect();
        let trains: Vec<(u16, Vec<_>)> = out.trains().map(|train| (train.destination.port(), marks(train))).collect();
        let expected = [(1, vec![(40, 0), (40, 2), (40, 3), (30, 5)]), (2, vec![(50, 1), (50, 4)]), (2, vec![(60, 6)])];
        assert_eq!(trains, expected);
        assert_eq!(out.trains().map(|train| train.pieces().count()).collect::<Vec<_>>(), [3, 2, 1]);
    }

    #[test]
    fn a_datagram_overtakes_no_other_of_its_destination() {
        let mut out = Outbox::new();
        for (mark, mode) in [SendMode::Segmented, SendMode::Plain, SendMode::Segmented].into_iter().enumerate() {
            out.datagram(address(1), mode, 10).unwrap().fill(mark as u8);
        }

        assert_eq!(
            out.trains().flat_map(|train| train.datagrams()).map(|bytes| bytes[0]).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_closed_train_takes_no_more_and_one_may_be_sent_plainly_after_all() {
        let mut out = filled(&[(1, 10), (1, 10)]);
        out.close_trains();
        out.datagram(address(1), SendMode::Segmented, 10).unwrap().fill(2);

        out.send_plainly(0);

        let trains: Vec<_> = out.trains().map(|train| (train.mode, train.bytes)).collect();
        assert_eq!(trains, [(SendMode::Plain, 20), (SendMode::Segmented, 10)]);
    }

    #[test]
    fn a_train_keeps_the_limits_of_one_segmented_send() {
        let small = trains(&[(1, 1); TRAIN_DATAGRAMS_MAX + 1]);
        assert_eq!(small.iter().map(|(_, lens)| lens.len()).collect::<Vec<_>>(), [TRAIN_DATAGRAMS_MAX, 1]);

        let large = trains(&[(1, 9_000); 8]);
        assert_eq!(large.iter().map(|(_, lens)| lens.len()).collect::<Vec<_>>(), [7, 1]);
    }

    #[test]
    fn a_full_outbox_refuses_and_keeps_what_it_has() {
        let mut out = Outbox::new();
        let datagram = |out: &mut Outbox, len| out.datagram(address(1), SendMode::Plain, len).map(|_| ());

        datagram(&mut out, OUTBOX_BYTES_MAX).unwrap();

        assert_eq!(datagram(&mut out, 1), Err(OutboxFull));
        assert_eq!(out.trains().count(), 1);
        out.clear();
        assert!(datagram(&mut out, 1).is_ok());
    }
}
