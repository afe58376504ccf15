//! When to ask again: pure, the random number comes from outside.
//!
//! ```text
//!   went well     max(15 s, 0.5 s × instances), and up to a quarter more
//!   failed        2 s, doubled each time                     ┐
//!   throttled     the usual interval, doubled each time      ┴ at most 15 min, of which a random half is waited or more
//! ```
//!
//! All instances of a group together ask about twice a second, however many they are; after a failure that they all share
//! they spread.

use std::time::Duration;

use crate::problem::Kind;

const INTERVAL_MIN: Duration = Duration::from_secs(15);
const PER_INSTANCE: Duration = Duration::from_millis(500);
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest that is waited.
pub const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// What became of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many instances are in the group.
    Listed(usize),
    Failed(Kind),
}

/// The rhythm of polls.
#[derive(Clone, Debug, Default)]
pub struct Polling {
    /// As the last answer had them.
    instances: usize,
    /// Polls that failed, since one went well.
    failures: u32,
}

impl Polling {
    /// How long to wait after a poll. `random` is evenly spread over all of `u32`.
    pub fn after(&mut self, outcome: Outcome, random: u32) -> Duration {
        let share = f64::from(random) / f64::from(u32::MAX);
        match outcome {
            Outcome::Listed(instances) => {
                *self = Self { instances, failures: 0 };
                self.interval().mul_f64(1.0 + share / 4.0).min(WAIT_MAX)
            }
            Outcome::Failed(kind) => {
                let first = if kind == Kind::Throttled { self.interval() } else { FIRST_RETRY };
                let longest = first.saturating_mul(2_u32.saturating_pow(self.failures)).min(WAIT_MAX);
                self.failures = self.failures.saturating_add(1);
                longest.mul_f64(0.5 + share / 2.0)
            }
        }
    }

    fn interval(&self) -> Duration {
        let instances = u32::try_from(self.instances).unwrap_or(u32::MAX);
        PER_INSTANCE.saturating_mul(instances).clamp(INTERVAL_MIN, WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_interval_grows_with_the_group() {
        let mut polling = Polling::default();
        assert_eq!(polling.after(Outcome::Listed(3), 0), 15 * SECOND);
        assert_eq!(polling.after(Outcome::Listed(1000), 0), 500 * SECOND);
        assert_eq!(polling.after(Outcome::Listed(1000), u32::MAX), 625 * SECOND);
        assert_eq!(polling.after(Outcome::Listed(usize::MAX), u32::MAX), WAIT_MAX);
    }

    #[test]
    fn failures_wait_longer_each_time_until_one_goes_well() {
        let mut polling = Polling::default();
        let waits: Vec<u64> =
            (0..4).map(|_| polling.after(Outcome::Failed(Kind::Failed), u32::MAX).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16]);
        polling.after(Outcome::Listed(1), 0);
        assert_eq!(polling.after(Outcome::Failed(Kind::Failed), u32::MAX), 2 * SECOND);
    }

    #[test]
    fn throttling_waits_longer_than_anything_else() {
        for failures in 0..6 {
            let waited = |kind| {
                let mut polling = Polling { instances: 100, failures };
                polling.after(Outcome::Failed(kind), 7)
            };
            assert!(waited(Kind::Throttled) > 2 * waited(Kind::Failed) || waited(Kind::Throttled) >= WAIT_MAX / 2);
        }
    }

    proptest! {
        #[test]
        fn no_wait_is_too_short_or_too_long(
            outcomes in prop::collection::vec((0_usize..100_000, any::<bool>(), any::<bool>(), any::<u32>()), 1..50)
        ) {
            let mut polling = Polling::default();
            for (instances, went_well, is_throttled, random) in outcomes {
                let kind = if is_throttled { Kind::Throttled } else { Kind::Failed };
                let outcome = if went_well { Outcome::Listed(instances) } else { Outcome::Failed(kind) };
                let wait = polling.after(outcome, random);
                prop_assert!((SECOND..=WAIT_MAX).contains(&wait));
                prop_assert!(!went_well || wait >= INTERVAL_MIN);
            }
        }
    }
}
