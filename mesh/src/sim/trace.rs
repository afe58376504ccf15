//! What happened, in order: a hash of all of it, to compare two runs, and the last of it, to read.

use std::collections::VecDeque;
use std::fmt;

use super::HostId;
use crate::time::Instant;

/// How many entries are kept for reading.
const KEPT_ENTRIES: usize = 400;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub at: Instant,
    pub from: HostId,
    pub to: HostId,
    pub what: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10}  {:>4} ", self.at.to_string(), self.from.0)?;
        match self.from == self.to {
            true => f.write_str("         ")?,
            false => write!(f, "──► {:<4} ", self.to.0)?,
        }
        f.write_str(&self.what)
    }
}

#[derive(Debug)]
pub struct Trace {
    hash: u64,
    recent: VecDeque<Entry>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: FNV_OFFSET, recent: VecDeque::new() }
    }
}

// FNV-1a, 64 bits: quick, and nobody forges a trace.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

impl Trace {
    /// Notes something worth reading.
    pub(super) fn note(&mut self, at: Instant, from: HostId, to: HostId, what: String) {
        self.mix(at, from, to, what.as_bytes());
        if self.recent.len() >= KEPT_ENTRIES {
            self.recent.pop_front();
        }
        self.recent.push_back(Entry { at, from, to, what });
    }

    /// Notes bytes sent: into the hash only, there are too many.
    pub(super) fn mix(&mut self, at: Instant, from: HostId, to: HostId, bytes: &[u8]) {
        let header = [at.as_micros(), from.0 as u64, to.0 as u64, bytes.len() as u64];
        for octet in header.iter().flat_map(|word| word.to_le_bytes()).chain(bytes.iter().copied()) {
            self.hash = (self.hash ^ u64::from(octet)).wrapping_mul(FNV_PRIME);
        }
    }

    /// Equal for equal histories.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The last things noted, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &Entry> {
        self.recent.iter()
    }
}
