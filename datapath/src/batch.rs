//! Buffers in which frames and datagrams travel, many at a time, filled and emptied without allocation.
//!
//! ```text
//!   TAP read ──► FrameBatch ──┐                 ┌──► Outbox::trains      ──► UDP socket
//!                             ├──► Engine ──────┼──► Outbox::frames      ──► TAP write
//!   UDP read ► DatagramBatch ─┘                 └──► Outbox::heartbeats  ──► VXLAN device
//! ```
//!
//! Invariants:
//! - what one `UDP_GRO` read returns is one entry of a [`DatagramBatch`] with its segment size;
//! - what leaves waits in an [`Outbox`], which has limits of its own.

use std::net::SocketAddr;

pub use outbox::{
    OUTBOX_BYTES_MAX, Outbox, OutboxFull, Refusal, SendMode, TRAIN_BYTES_MAX, TRAIN_DATAGRAMS_MAX, Train,
};

mod outbox;

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
        assert_eq!((batch.get(0).len(), batch.get(1).len()), (10, 60));
    }
}
