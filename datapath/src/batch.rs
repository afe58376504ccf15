//! Buffers in which frames and datagrams travel, many at a time, filled and emptied without allocation.
//!
//! ```text
//!   TAP read ──► FrameBatch ──┐                 ┌──► Outbox::trains      ──► UDP socket
//!                             ├──► Engine ──────┼──► Outbox::deliveries  ──► TAP write
//!   UDP read ► DatagramBatch ─┘                 └──► Outbox::heartbeats  ──► VXLAN device
//! ```
//!
//! Invariants:
//! - a frame for this host's bridge stays where it was opened: [`Outbox::deliveries`] point into the batch;
//! - what one `UDP_GRO` read returns is one entry of a [`DatagramBatch`] with its segment size;
//! - what leaves waits in an [`Outbox`], which has limits of its own.

use std::net::SocketAddr;
use std::ops::Range;

pub use arena::{OUTBOX_BYTES_MAX, OutboxFull};
pub use outbox::{Outbox, TRAIN_BYTES_MAX, TRAIN_DATAGRAMS_MAX, Train};
pub use send_mode::{Refusal, SendMode};

use crate::offload::vnet::Header;

mod arena;
mod outbox;
mod send_mode;

/// Frames read from the TAP, packed one behind the other: a few of 64 KiB, or many small ones.
#[derive(Debug)]
pub struct FrameBatch {
    bytes: Vec<u8>,
    frame_bytes_max: usize,
    frames_max: usize,
    frames: Vec<(Header, Range<usize>)>,
}

impl FrameBatch {
    /// Room for `frames` frames of at most `frame_bytes` octets each.
    pub fn new(frames: usize, frame_bytes: usize) -> Self {
        Self::packed(frames, frames * frame_bytes, frame_bytes)
    }

    /// Room for `frames` frames of together `bytes` octets, with one of `frame_bytes` as the last.
    pub fn packed(frames: usize, bytes: usize, frame_bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes],
            frame_bytes_max: frame_bytes,
            frames_max: frames,
            frames: Vec::with_capacity(frames),
        }
    }

    /// Where the next frame is to be read to, or nothing when the batch is full.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        let filled = self.filled();
        if self.frames.len() == self.frames_max {
            return None;
        }
        self.bytes.get_mut(filled..filled + self.frame_bytes_max)
    }

    /// Keeps the first `len` octets of [`Self::room`] as a frame that needs nothing done to it.
    pub fn push(&mut self, len: usize) {
        self.push_offloaded(Header::default(), len);
    }

    /// Keeps the first `len` octets of [`Self::room`] as a frame that came with `header`.
    pub fn push_offloaded(&mut self, header: Header, len: usize) {
        if let Some(len) = self.room().map(|room| room.len().min(len)) {
            let filled = self.filled();
            self.frames.push((header, filled..filled + len));
        }
    }

    pub fn clear(&mut self) {
        self.frames.clear();
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn get(&self, at: usize) -> (Header, &[u8]) {
        let (header, span) = &self.frames[at];
        (*header, &self.bytes[span.clone()])
    }

    fn filled(&self) -> usize {
        self.frames.last().map_or(0, |(_, span)| span.end)
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
    /// Where the slot begins in the batch.
    pub(crate) at: usize,
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
        let at = self.origins.len() * self.slots.slot_bytes;
        self.origins.push(Origin { source, at, segment_bytes: segment_bytes.max(1) });
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

    /// All slots, used or not.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.slots.bytes
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.slots.bytes
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

    fn get_mut(&mut self, at: usize) -> &mut [u8] {
        let start = at * self.slot_bytes;
        &mut self.bytes[start..start + self.lens[at]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_offers_no_room_and_ignores_a_push() {
        let mut batch = FrameBatch::new(2, 60);
        for len in [10, 99, 5] {
            batch.push(len);
        }

        assert_eq!((batch.len(), batch.room()), (2, None));
        assert_eq!((batch.get(0).1.len(), batch.get(1).1.len()), (10, 60));
    }

    #[test]
    fn small_frames_share_the_room_of_a_large_one() {
        let mut batch = FrameBatch::packed(100, 250, 100);
        while batch.room().is_some() {
            batch.push(40);
        }

        assert_eq!(batch.len(), 4);
    }
}
