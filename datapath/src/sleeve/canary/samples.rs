//! Trains of both kinds that the next question is about, taken from traffic or made up.

use std::collections::VecDeque;

use crate::batch::SendMode;

/// Trains of each kind in a trial.
pub(super) const TRAINS: usize = 4;

/// Packets of one session with consecutive counters that left as one train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub first: u64,
    /// At most [`COUNT_MAX`](super::question::COUNT_MAX).
    pub count: u8,
    /// The last is as long as the others, which some cards and kernels get wrong.
    pub has_equal_tail: bool,
}

/// Both kinds, each in the order in which they left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Samples {
    segmented: VecDeque<Stretch>,
    plain: VecDeque<Stretch>,
}

impl Samples {
    /// Takes a train of traffic, and says how it leaves: while a trial `gathers`, the kinds take turns. A segmented one
    /// begins, so that traffic of single trains stays segmented.
    pub(super) fn take(&mut self, stretch: Stretch, gathers: bool) -> SendMode {
        if gathers && self.plain.len() < self.segmented.len().min(TRAINS) {
            self.plain.push_back(stretch);
            return SendMode::Plain;
        }
        if self.segmented.len() == TRAINS {
            self.segmented.pop_front();
        }
        self.segmented.push_back(stretch);
        SendMode::Segmented
    }

    /// Adds a train that was made up.
    pub(super) fn add(&mut self, stretch: Stretch, mode: SendMode) {
        match mode {
            SendMode::Segmented => self.segmented.push_back(stretch),
            SendMode::Plain => self.plain.push_back(stretch),
        }
    }

    /// How many there are of one kind.
    pub(super) fn number(&self, mode: SendMode) -> usize {
        match mode {
            SendMode::Segmented => self.segmented.len(),
            SendMode::Plain => self.plain.len(),
        }
    }

    /// All of them, segmented ones first.
    pub(super) fn into_stretches(self) -> Vec<Stretch> {
        self.segmented.into_iter().chain(self.plain).collect()
    }
}
