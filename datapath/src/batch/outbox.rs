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
//! - an outbox never grows beyond [`OUTBOX_BYTES_MAX`](super::OUTBOX_BYTES_MAX); the caller hears of it and counts a
//!   drop.

use std::net::SocketAddr;
use std::ops::Range;

use super::arena::{Arena, OutboxFull, Spans};
use super::{DatagramBatch, SendMode};
use crate::offload::coalesce::{Deliveries, Delivery, Merge};

/// Datagrams in one train: the kernel's `UDP_MAX_SEGMENTS` of old.
pub const TRAIN_DATAGRAMS_MAX: usize = 64;
/// Octets in one train: an IPv4 packet's 65,535 less its headers.
pub const TRAIN_BYTES_MAX: usize = 65_000;
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
        chain.map(|piece| datagrams.get(piece.span.clone()))
    }

    /// One by one, for a plain send.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let segment_bytes = self.segment_bytes;
        self.pieces().flat_map(move |piece| piece.chunks(segment_bytes))
    }
}

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
        self.datagrams.clear();
        self.trains.clear();
        self.open_from = 0;
        self.pieces.clear();
        self.deliveries.clear();
        self.frames.clear();
        self.heartbeats.clear();
    }

    pub fn is_empty(&self) -> bool {
        let Self { trains, deliveries, frames, heartbeats, .. } = self;
        trains.is_empty() && deliveries.is_empty() && frames.is_empty() && heartbeats.is_empty()
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
        Ok(self.datagrams.get_mut(span))
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

#[cfg(test)]
mod tests;
