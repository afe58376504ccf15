//! Probes to one peer that are under way.

use std::collections::VecDeque;
use std::time::Duration;

use weave_mesh::time::Instant;

use super::Via;

/// How long a probe is remembered for a late answer.
const PROBE_LIFETIME: Duration = Duration::from_secs(4);
/// Probes remembered: a dozen ticks with every address of a card and a relay.
const PROBES_MAX: usize = 96;

/// In the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes(VecDeque<Probe>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    nonce: u64,
    pub(super) via: Via,
    pub(super) sent: Instant,
    /// Already counted as lost.
    lost: bool,
}

impl Probes {
    pub(super) fn add(&mut self, nonce: u64, via: Via, now: Instant) {
        if self.0.len() == PROBES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Probe { nonce, via, sent: now, lost: false });
    }

    /// The one that was answered.
    pub(super) fn take(&mut self, nonce: u64) -> Option<Probe> {
        let at = self.0.iter().position(|probe| probe.nonce == nonce)?;
        self.0.remove(at)
    }

    /// How many on `way` were not answered within this time, and were not counted before.
    pub(super) fn expire(&mut self, way: Option<Via>, within: Duration, now: Instant) -> u32 {
        while self.0.front().is_some_and(|probe| now.since(probe.sent) >= PROBE_LIFETIME) {
            self.0.pop_front();
        }
        let mut missed = 0;
        for probe in self.0.iter_mut().filter(|probe| !probe.lost && now.since(probe.sent) >= within) {
            probe.lost = true;
            missed += u32::from(way == Some(probe.via));
        }
        missed
    }

    /// When the first of those was sent that may still be answered in time.
    pub(super) fn first_sent(&self) -> Option<Instant> {
        self.0.iter().find(|probe| !probe.lost).map(|probe| probe.sent)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
