//! Memory of an outbox: filled from the start, emptied at once, and kept.

use std::ops::Range;

/// Octets of one kind (datagrams, frames, heartbeats) that wait in an outbox: a broadcast frame to 1,000 peers is 1.5 MB.
pub const OUTBOX_BYTES_MAX: usize = 4 << 20;

/// The outbox holds [`OUTBOX_BYTES_MAX`]: send what is in it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outbox holds its limit of {OUTBOX_BYTES_MAX} bytes")]
pub struct OutboxFull;

/// A buffer that grows to what was needed most and is not wiped, so that a frame costs no clearing of memory.
#[derive(Debug, Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    filled: usize,
}

impl Arena {
    /// Room for `len` octets. The caller writes all of it.
    pub(super) fn take(&mut self, len: usize) -> Result<Range<usize>, OutboxFull> {
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

    pub(super) fn get(&self, span: Range<usize>) -> &[u8] {
        &self.bytes[span]
    }

    pub(super) fn get_mut(&mut self, span: Range<usize>) -> &mut [u8] {
        &mut self.bytes[span]
    }

    pub(super) const fn clear(&mut self) {
        self.filled = 0;
    }
}

/// Pieces of one arena.
#[derive(Debug, Default)]
pub(super) struct Spans {
    arena: Arena,
    spans: Vec<Range<usize>>,
}

impl Spans {
    pub(super) fn take(&mut self, len: usize) -> Result<&mut [u8], OutboxFull> {
        let span = self.arena.take(len)?;
        self.spans.push(span.clone());
        Ok(self.arena.get_mut(span))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|span| self.arena.get(span.clone()))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.spans.clear();
    }
}
