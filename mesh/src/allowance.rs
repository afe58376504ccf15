//! How much of something one of the others may use: so much at once, and so much a second in the long run.

use crate::time::Instant;

/// A token bucket: full at first, emptied by use, refilled by time.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    per_second: u64,
    burst: u64,
    left: u64,
    /// When it was last refilled.
    at: Instant,
}

impl Allowance {
    pub(crate) const fn new(per_second: u64, burst: u64) -> Self {
        Self { per_second, burst, left: burst, at: Instant::ZERO }
    }

    /// Uses `cost`, or nothing when less is left. Returns whether it was used.
    pub(crate) fn take(&mut self, cost: u64, now: Instant) -> bool {
        self.refill(now);
        let is_enough = cost <= self.left;
        self.left -= if is_enough { cost } else { 0 };
        is_enough
    }

    /// Uses as much of `cost` as is left. Returns how much that was.
    pub(crate) fn take_up_to(&mut self, cost: u64, now: Instant) -> u64 {
        self.refill(now);
        let taken = cost.min(self.left);
        self.left -= taken;
        taken
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.since(self.at).as_micros() * u128::from(self.per_second) / 1_000_000;
        // What is less than one is earned later.
        if earned > 0 {
            let earned = u64::try_from(earned).unwrap_or(u64::MAX);
            self.left = self.left.saturating_add(earned).min(self.burst);
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_followed_by_so_much_a_second() {
        let mut allowance = Allowance::new(10, 100);
        assert!(allowance.take(100, Instant::ZERO));
        assert!(!allowance.take(1, Instant::ZERO));

        let later = Instant::ZERO + Duration::from_millis(500);
        assert!(allowance.take(5, later));
        assert!(!allowance.take(1, later));
        assert_eq!(allowance.take_up_to(500, later + Duration::from_secs(3_600)), 100);
    }

    #[test]
    fn what_is_asked_too_often_to_earn_anything_is_earned_all_the_same() {
        let mut allowance = Allowance::new(1, 1);
        assert!(allowance.take(1, Instant::ZERO));

        let times = (1..=1_000).map(|milliseconds| Instant::ZERO + Duration::from_millis(milliseconds));
        assert_eq!(times.filter(|at| allowance.take(1, *at)).count(), 1);
    }
}
