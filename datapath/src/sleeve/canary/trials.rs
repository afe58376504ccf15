//! Questions that await their report.

use std::collections::VecDeque;

use super::evidence::Tally;
use super::question::{Question, Report};
use super::samples::{Samples, Stretch};
use crate::batch::SendMode;

/// Questions in a row without an answer after which segmented sends end: some three seconds of traffic.
const OPEN_MAX: usize = 64;

/// The questions, oldest first, at most [`OPEN_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct Trials {
    open: VecDeque<Trial>,
    /// Of the last question. Never used again, so that a late report of another time is told apart.
    id: u64,
}

#[derive(Clone, Debug)]
struct Trial {
    id: u64,
    /// So many of the stretches, the first ones, left as segmented sends.
    segmented: usize,
    stretches: Vec<Stretch>,
}

impl Trials {
    /// Asks about these trains.
    pub(super) fn open(&mut self, samples: Samples) -> Question {
        self.id += 1;
        let (id, segmented) = (self.id, samples.number(SendMode::Segmented));
        let stretches = samples.into_stretches();
        if self.open.len() == OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back(Trial { id, segmented, stretches: stretches.clone() });
        Question { id, stretches }
    }

    /// What a report says of segmented and of plain sends. What was asked before it will not be answered any more.
    pub(super) fn close(&mut self, report: &Report) -> Option<[Tally; 2]> {
        let at = self.open.iter().position(|trial| trial.id == report.id)?;
        let trial = self.open.drain(..=at).next_back()?;
        (trial.stretches.len() == report.fates.len()).then(|| trial.tallies(report))
    }

    /// As many as may wait do, and none was answered.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() == OPEN_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Reports on what is open will be of no interest.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

impl Trial {
    fn tallies(&self, report: &Report) -> [Tally; 2] {
        let mut tallies = [Tally::default(); 2];
        for (at, (stretch, fate)) in self.stretches.iter().zip(&report.fates).enumerate() {
            tallies[usize::from(at >= self.segmented)].add(stretch, *fate);
        }
        tallies
    }
}
