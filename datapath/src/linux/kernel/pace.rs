//! When the next plan is applied: at once when somebody waits for it, else at a pace.
//!
//! ```text
//!   of the mesh   ●─── 4 × cost ───●─── 4 × cost ───●         while a mesh forms, dozens come in a second
//!   of ports      ●●●●─── 4 × cost ───●                       an attachment is answered when it is applied; what quiet
//!                                                             times leave unused may be used at once
//! ```
//!
//! Invariant: over any longer time plans take a fifth of the thread at most, and one that waits waits no longer than
//! [`DELAY_MAX`].

use std::time::Duration;

use tokio::time::Instant;

/// Between plans in terms of the time they take: a new guard costs a run of `nft`, and another to read it back.
const COST_RATIO: u32 = 4;
const DELAY_MAX: Duration = Duration::from_millis(250);
/// How much of such delays attachments may leave out after a quiet time: some ten of them.
const SAVED_MAX: Duration = Duration::from_secs(2);

/// Why a plan differs from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Ports were added or taken away: somebody waits.
    Ports,
    Mesh,
}

#[derive(Debug)]
pub(super) struct Pace {
    /// When the delay after the last plan is over.
    rested: Instant,
    /// When those after all plans will be, one after the other.
    paid: Instant,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self { rested: now, paid: now }
    }

    /// Not before this the next plan is applied.
    pub(super) fn not_before(&self, change: Change) -> Instant {
        match change {
            Change::Mesh => self.rested,
            Change::Ports => self.rested.min(self.paid.checked_sub(SAVED_MAX).unwrap_or(self.rested)),
        }
    }

    /// A plan has been applied, which took so long.
    pub(super) fn note_applied(&mut self, took: Duration, now: Instant) {
        let delay = took * COST_RATIO;
        self.rested = now + delay.min(DELAY_MAX);
        self.paid = (self.paid + took).max(now) + delay;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Duration = Duration::from_millis(40);

    /// How long each of so many plans waits, every one asked for when the one before is applied.
    fn waits(pace: &mut Pace, mut now: Instant, change: Change, count: usize) -> Vec<Duration> {
        let mut wait = || {
            let start = now.max(pace.not_before(change));
            let waited = start - now;
            now = start + COST;
            pace.note_applied(COST, now);
            waited
        };
        (0..count).map(|_| wait()).collect()
    }

    #[test]
    fn what_the_mesh_wants_is_applied_at_a_pace() {
        let start = Instant::now();
        let waits = waits(&mut Pace::new(start), start, Change::Mesh, 3);
        assert_eq!(waits, [Duration::ZERO, COST * COST_RATIO, COST * COST_RATIO]);
    }

    #[test]
    fn attachments_after_a_quiet_time_do_not_wait_and_many_wait_no_longer_than_others() {
        let start = Instant::now();
        let mut pace = Pace::new(start);

        let first = waits(&mut pace, start, Change::Ports, 100);
        assert_eq!(first[..10], [Duration::ZERO; 10]);
        assert_eq!(first[99], COST * COST_RATIO);

        let later = start + Duration::from_secs(60);
        assert_eq!(waits(&mut pace, later, Change::Ports, 10), [Duration::ZERO; 10]);
    }

    #[test]
    fn a_plan_that_took_seconds_delays_the_next_for_a_moment_only() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let end = start + Duration::from_secs(5);
        pace.note_applied(end - start, end);
        for change in [Change::Mesh, Change::Ports] {
            assert!(pace.not_before(change) <= end + DELAY_MAX);
        }
    }
}
