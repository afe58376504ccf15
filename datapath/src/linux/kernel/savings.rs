//! How soon one plan is applied after another: at a pace that follows what plans cost, with something saved up by quiet times.
//!
//! ```text
//!   quiet ── plan, plan, plan at once ── saved up is spent ── plan ── pause ── plan ── pause ──
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// Pauses in terms of the time that a plan took: while a mesh forms, dozens come in a second.
const COST_RATIO: u32 = 4;
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// So much of pauses is saved up: a container that starts makes three plans, of 10 to 30 ms each, and others do meanwhile.
const SAVED_MAX: Duration = Duration::from_millis(750);

/// A token bucket, kept as the time when everything is paid for.
#[derive(Debug)]
pub(super) struct Savings {
    paid: Instant,
}

impl Savings {
    pub(super) const fn full(now: Instant) -> Self {
        Self { paid: now }
    }

    /// A plan took so long, until `now`.
    pub(super) fn spend(&mut self, cost: Duration, now: Instant) {
        self.paid = self.paid.max(now) + (cost * COST_RATIO).min(PAUSE_MAX);
    }

    /// When the next plan may be applied.
    pub(super) fn next(&self, now: Instant) -> Instant {
        now + self.paid.saturating_duration_since(now).saturating_sub(SAVED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Duration = Duration::from_millis(20);

    /// How many plans of `COST` one after the other take how long.
    fn takes(savings: &mut Savings, plans: u32, begin: Instant) -> Duration {
        let mut now = begin;
        for _ in 0..plans {
            now = savings.next(now) + COST;
            savings.spend(COST, now);
        }
        now - begin
    }

    #[test]
    fn a_few_plans_after_a_quiet_time_do_not_wait_and_many_do() {
        let now = Instant::now();
        let mut savings = Savings::full(now);

        assert_eq!(takes(&mut savings, 9, now), 9 * COST);
        let many = takes(&mut savings, 100, now + 9 * COST);
        assert!(many >= 90 * COST * COST_RATIO, "{many:?}");
    }

    #[test]
    fn what_was_spent_is_saved_again_and_no_more_than_that() {
        let now = Instant::now();
        let mut savings = Savings::full(now);
        takes(&mut savings, 100, now);

        let later = savings.paid + Duration::from_secs(3_600);
        assert_eq!(takes(&mut savings, 9, later), 9 * COST);
        assert!(takes(&mut savings, 20, later + 9 * COST) > 20 * COST);
    }

    #[test]
    fn no_single_plan_makes_others_wait_for_long() {
        let now = Instant::now();
        let mut savings = Savings::full(now);
        for _ in 0..4 {
            savings.spend(Duration::from_secs(60), now);
        }
        assert_eq!(savings.next(now) - now, 4 * PAUSE_MAX - SAVED_MAX);
    }
}
