//! Buffers in which frames and datagrams travel, many at a time, filled and emptied without allocation.
//!
//! ```text
//!   TAP read ──► FrameBatch ──┐                 ┌──► Outbox::trains      ──► UDP socket
//!                             ├──► Engine ──────┼──► Outbox::frames      ──► TAP write
//!   UDP read ► DatagramBatch ─┘                 └──► Outbox::heartbeats  ──► VXLAN device
//! ```
//!
//! Invariants:
//! - a [`Train`] is what one `UDP_SEGMENT` send takes: one destination, every datagram of `segment_bytes` but the last,
//!   which may be shorter; at most [`TRAIN_DATAGRAMS_MAX`] and [`TRAIN_BYTES_MAX`];
//! - what one `UDP_GRO` read returns is one entry of a [`DatagramBatch`] with its segment size;
//! - an [`Outbox`] never grows beyond [`OUTBOX_BYTES_MAX`]; the caller hears of it and counts a drop.

use std::net::SocketAddr;
use std::ops::Range;

/// Datagrams in one train: the kernel's `UDP_MAX_SEGMENTS` of old.
pub const TRAIN_DATAGRAMS_MAX: usize = 64;
/// Octets in one train: an IPv4 packet's 65,535 less its headers.
pub const TRAIN_BYTES_MAX: usize = 65_000;
/// Octets of one kind (datagrams, frames, heartbeats) that wait in an outbox: a broadcast frame to 1,000 peers is 1.5 MB.
pub const OUTBOX_BYTES_MAX: usize = 4 << 20;

/// Frames read from the TAP, each in a slot of its own.
#[derive(Debug)]
pub struct FrameBatch {
    slots: Slots,
}

impl FrameBatch {
    /// Room for `slots` frames of at most `slot_bytes` octets.
    pub fn new(slots: usize, slot_bytes: usize) -> Self {
        Self { slots: Slots::new(slots, slot_bytes) }
    }

    /// Where the next frame is to be read to, or nothing when the batch is full.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        self.slots.room()
    }

    /// Keeps the first `len` octets of [`Self::room`] as a frame.
    pub fn push(&mut self, len: usize) {
        self.slots.push(len);
    }

    pub fn clear(&mut self) {
        self.slots.lens.clear();
    }

    pub fn len(&self) -> usize {
        self.slots.lens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.lens.is_empty()
    }

    pub(crate) fn get(&self, at: usize) -> &[u8] {
        self.slots.get(at)
    }
}

/// Datagrams read from the UDP socket, with their sources; opened in place.
#[derive(Debug)]
pub struct DatagramBatch {
    slots: Slots,
    origins: Vec<Origin>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) source: SocketAddr,
    /// Every datagram in the slot has this size but the last, which may be shorter.
    pub(crate) segment_bytes: usize,
}

impl DatagramBatch {
    /// Room for `slots` reads of at most `slot_bytes` octets.
    pub fn new(slots: usize, slot_bytes: usize) -> Self {
        Self { slots: Slots::new(slots, slot_bytes), origins: Vec::with_capacity(slots) }
    }

    /// Where the next read is to go, or nothing when the batch is full.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        self.slots.room()
    }

    /// Where the next reads are to go, for a call that makes many. [`Self::push`] keeps them in the same order.
    pub fn rooms(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.slots.rooms()
    }

    /// Keeps the first `len` octets of [`Self::room`], which came from `source` as datagrams of `segment_bytes` each
    /// (`len` when the kernel coalesced nothing).
    pub fn push(&mut self, len: usize, segment_bytes: usize, source: SocketAddr) {
        self.slots.push(len);
        self.origins.push(Origin { source, segment_bytes: segment_bytes.max(1) });
    }

    pub fn clear(&mut self) {
        self.slots.lens.clear();
        self.origins.clear();
    }

    pub fn len(&self) -> usize {
        self.origins.len()
    }

    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> (Origin, &mut [u8]) {
        (self.origins[at], self.slots.get_mut(at))
    }
}

/// Equal slots in one allocation.
#[derive(Debug)]
struct Slots {
    bytes: Vec<u8>,
    slot_bytes: usize,
    lens: Vec<usize>,
}

impl Slots {
    fn new(slots: usize, slot_bytes: usize) -> Self {
        Self { bytes: vec![0; slots * slot_bytes], slot_bytes, lens: Vec::with_capacity(slots) }
    }

    fn room(&mut self) -> Option<&mut [u8]> {
        let start = self.lens.len() * self.slot_bytes;
        self.bytes.get_mut(start..start + self.slot_bytes).filter(|room| !room.is_empty())
    }

    fn rooms(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let start = self.lens.len() * self.slot_bytes;
        self.bytes[start..].chunks_exact_mut(self.slot_bytes)
    }

    fn push(&mut self, len: usize) {
        let full = (self.lens.len() + 1) * self.slot_bytes > self.bytes.len();
        if !full {
            self.lens.push(len.min(self.slot_bytes));
        }
    }

    fn get(&self, at: usize) -> &[u8] {
        let start = at * self.slot_bytes;
        &self.bytes[start..start + self.lens[at]]
    }

    fn get_mut(&mut self, at: usize) -> &mut [u8] {
        let start = at * self.slot_bytes;
        &mut self.bytes[start..start + self.lens[at]]
    }
}

/// What the engine wants sent and written; emptied by the shell after every call.
#[derive(Debug, Default)]
pub struct Outbox {
    datagrams: Arena,
    trains: Vec<TrainSpan>,
    frames: Spans,
    heartbeats: Spans,
}

#[derive(Clone, Debug)]
struct TrainSpan {
    destination: SocketAddr,
    span: Range<usize>,
    segment_bytes: usize,
}

/// Datagrams for one destination, equal in size but for the last.
#[derive(Clone, Copy, Debug)]
pub struct Train<'a> {
    pub destination: SocketAddr,
    pub bytes: &'a [u8],
    pub segment_bytes: usize,
}

impl<'a> Train<'a> {
    /// One by one, for a plain send.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.segment_bytes)
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
    pub fn trains(&self) -> impl Iterator<Item = Train<'_>> {
        self.trains.iter().map(|train| Train {
            destination: train.destination,
            bytes: &self.datagrams.bytes[train.span.clone()],
            segment_bytes: train.segment_bytes,
        })
    }

    /// Ethernet frames for the TAP, in order.
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
        self.frames.clear();
        self.heartbeats.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.trains.is_empty() && self.frames.spans.is_empty() && self.heartbeats.spans.is_empty()
    }

    /// Room for a datagram of `len` octets, where it will be sent from. The caller writes all of it.
    pub(crate) fn datagram(&mut self, destination: SocketAddr, len: usize) -> Result<&mut [u8], OutboxFull> {
        let span = self.datagrams.take(len)?;
        match self.trains.last_mut().filter(|train| train.takes(destination, len)) {
            Some(train) => train.span.end = span.end,
            None => self.trains.push(TrainSpan { destination, span: span.clone(), segment_bytes: len.max(1) }),
        }
        Ok(&mut self.datagrams.bytes[span])
    }

    /// Room for a frame of `len` octets to the TAP. The caller writes all of it.
    pub(crate) fn frame(&mut self, len: usize) -> Result<&mut [u8], OutboxFull> {
        self.frames.take(len)
    }

    /// Room for a frame of `len` octets to the VXLAN device. The caller writes all of it.
    pub(crate) fn heartbeat(&mut self, len: usize) -> Result<&mut [u8], OutboxFull> {
        self.heartbeats.take(len)
    }
}

impl TrainSpan {
    fn takes(&self, destination: SocketAddr, len: usize) -> bool {
        let bytes = self.span.len();
        self.destination == destination
            && len <= self.segment_bytes
            && bytes.is_multiple_of(self.segment_bytes)
            && bytes / self.segment_bytes < TRAIN_DATAGRAMS_MAX
            && bytes + len <= TRAIN_BYTES_MAX
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

    fn trains(pushed: &[(u16, usize)]) -> Vec<(u16, Vec<usize>)> {
        let mut out = Outbox::new();
        for &(port, len) in pushed {
            out.datagram(address(port), len).unwrap().fill(0);
        }
        out.trains().map(|train| (train.destination.port(), train.datagrams().map(<[u8]>::len).collect())).collect()
    }

    #[test]
    fn a_train_is_one_destination_and_one_size_with_a_shorter_tail() {
        assert_eq!(trains(&[(1, 100), (1, 100), (1, 40), (1, 40)]), [(1, vec![100, 100, 40]), (1, vec![40])]);
        assert_eq!(trains(&[(1, 40), (1, 100)]), [(1, vec![40]), (1, vec![100])]);
        assert_eq!(trains(&[(1, 40), (2, 40), (1, 40)]), [(1, vec![40]), (2, vec![40]), (1, vec![40])]);
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

        out.datagram(address(1), OUTBOX_BYTES_MAX).unwrap();

        assert_eq!(out.datagram(address(1), 1), Err(OutboxFull));
        assert_eq!(out.trains().count(), 1);
        out.clear();
        assert!(out.datagram(address(1), 1).is_ok());
    }

    #[test]
    fn a_full_batch_offers_no_room_and_ignores_a_push() {
        let mut batch = FrameBatch::new(2, 60);
        for len in [10, 99, 5] {
            batch.push(len);
        }

        assert_eq!((batch.len(), batch.room()), (2, None));
        assert_eq!((batch.get(0).len(), batch.get(1).len()), (10, 60));
    }
}
