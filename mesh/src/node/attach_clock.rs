//! The Lamport clock of attachments: of two owners that claim one address the later attachment has it.
//!
//! The clock follows what others publish, and anybody may publish any number. An honest one is at most the number of
//! attachments that the mesh has ever seen ahead of ours, so:
//!
//! - all that others publish moves our clock by at most [`LEAP`] at once, and as much a second: it cannot be run to its end
//!   in a lifetime, and whoever has just joined an honest mesh catches up with the first set;
//! - a claim from further ahead than that is no attachment at all, and yields to every other.

use super::claims::Weight;
use crate::allowance::Allowance;
use crate::time::Instant;

/// More attachments than a mesh makes.
pub(super) const LEAP: u64 = 1 << 32;

#[derive(Debug)]
pub(super) struct AttachClock {
    /// The highest attachment time believed.
    time: u64,
    leaps: Allowance,
}

impl Default for AttachClock {
    fn default() -> Self {
        Self { time: 0, leaps: Allowance::new(LEAP, LEAP) }
    }
}

impl AttachClock {
    /// Later than every attachment believed.
    pub(super) const fn next(&self) -> u64 {
        self.time.saturating_add(1)
    }

    /// An attachment of our own.
    pub(super) fn note_own(&mut self, attached: u64) {
        self.time = self.time.max(attached);
    }

    /// The latest attachment of somebody else.
    pub(super) fn witness(&mut self, attached: u64, now: Instant) {
        let ahead = attached.saturating_sub(self.time);
        self.time += self.leaps.take_up_to(ahead, now);
    }

    /// What a claim of `weight` counts when it was made at `attached`.
    pub(super) fn weigh(&self, weight: Weight, attached: u64) -> Weight {
        if attached.saturating_sub(self.time) > LEAP { Weight::Absurd } else { weight }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_clock_is_later_than_every_honest_attachment() {
        let mut clock = AttachClock::default();

        clock.witness(1_000_000, Instant::ZERO);
        clock.witness(7, Instant::ZERO);

        assert_eq!(clock.next(), 1_000_001);
    }

    #[test]
    fn nobody_runs_it_to_its_end() {
        let mut clock = AttachClock::default();
        let a_year = Duration::from_secs(365 * 86_400);
        for second in 0..1_000 {
            clock.witness(u64::MAX, Instant::ZERO + Duration::from_secs(second));
        }

        let rate = clock.next() / 1_000;
        assert!(u64::MAX / rate / a_year.as_secs() > 50);
        assert!(clock.next() > clock.time, "a later attachment can still be made");
    }

    #[test]
    fn a_claim_from_out_of_reach_yields_to_every_other() {
        let clock = AttachClock::default();

        assert_eq!(clock.weigh(Weight::Live, LEAP), Weight::Live);
        assert_eq!(clock.weigh(Weight::Live, u64::MAX), Weight::Absurd);
        assert!(Weight::Absurd < Weight::Held);
    }
}
