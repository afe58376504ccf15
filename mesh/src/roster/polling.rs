//! When a list is asked for again.
//!
//! Invariants:
//! - all hosts of a group together ask about twice a second at most, whatever their number: a cloud counts the calls of a whole
//!   account;
//! - hosts that start together do not go on asking together;
//! - whoever is told to slow down does, and nobody waits longer than [`FAILURE_MAX`].

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// The shortest time between two answers, when nothing is waited for.
const INTERVAL: Duration = Duration::from_secs(15);
/// What every listed machine adds to what all others may wait.
const INTERVAL_EACH: Duration = Duration::from_millis(500);
/// While something is waited for; twice as long each time.
const URGENT: Duration = Duration::from_secs(1);
/// After a failure, and after being told to slow down; twice as long each time.
const FAILURE: Duration = Duration::from_secs(1);
const THROTTLED: Duration = Duration::from_secs(4);
const FAILURE_MAX: Duration = Duration::from_secs(120);
const DOUBLINGS_MAX: u32 = 10;

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many machines are listed; somebody waits for what further answers say.
    Answered {
        instances: usize,
        is_urgent: bool,
    },
    Failed,
    /// The service said that it is asked too often.
    Throttled,
}

/// The machine.
#[derive(Debug)]
pub struct Polling {
    rng: ChaCha8Rng,
    failures: u32,
    urgent: u32,
}

impl Polling {
    pub fn new(seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), failures: 0, urgent: 0 }
    }

    /// How long to wait after `outcome`.
    pub fn next(&mut self, outcome: Outcome) -> Duration {
        let delay = match outcome {
            Outcome::Answered { instances, is_urgent } => self.after_answer(instances, is_urgent),
            Outcome::Failed => self.after_failure(FAILURE),
            Outcome::Throttled => self.after_failure(THROTTLED),
        };
        self.spread(delay)
    }

    fn after_answer(&mut self, instances: usize, is_urgent: bool) -> Duration {
        self.failures = 0;
        let instances = u32::try_from(instances).unwrap_or(u32::MAX);
        let usual = INTERVAL_EACH.saturating_mul(instances).max(INTERVAL);
        if !is_urgent {
            self.urgent = 0;
            return usual;
        }
        self.urgent += 1;
        doubled(URGENT, self.urgent - 1).min(usual)
    }

    fn after_failure(&mut self, shortest: Duration) -> Duration {
        self.failures += 1;
        doubled(shortest, self.failures - 1).min(FAILURE_MAX)
    }

    /// A quarter less or more, by chance.
    fn spread(&mut self, delay: Duration) -> Duration {
        let quarter = u64::try_from(delay.as_micros() / 4).unwrap_or(u64::MAX / 2);
        let extra = self.rng.next_u64() % (2 * quarter).max(1);
        delay - Duration::from_micros(quarter) + Duration::from_micros(extra)
    }
}

fn doubled(delay: Duration, times: u32) -> Duration {
    delay.saturating_mul(1 << times.min(DOUBLINGS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answered(instances: usize, is_urgent: bool) -> Outcome {
        Outcome::Answered { instances, is_urgent }
    }

    fn delays(outcomes: &[Outcome]) -> Vec<Duration> {
        let mut polling = Polling::new(1);
        outcomes.iter().map(|outcome| polling.next(*outcome)).collect()
    }

    fn is_about(delay: Duration, middle: Duration) -> bool {
        delay >= middle * 3 / 4 && delay <= middle * 5 / 4
    }

    #[test]
    fn a_group_of_any_size_asks_about_twice_a_second_at_most() {
        for instances in [0, 1, 30, 300, 1_000, 10_000] {
            let delay = delays(&[answered(instances, false)])[0];
            assert!(delay >= INTERVAL * 3 / 4, "{delay:?}");
            let a_second = instances as f64 / delay.as_secs_f64();
            assert!(a_second <= 2.7 || instances <= 30, "{a_second} from {instances}");
        }
    }

    #[test]
    fn what_is_waited_for_is_asked_for_soon_and_then_less_often() {
        let delays = delays(&[answered(3, true); 8]);
        for (delay, seconds) in delays.iter().zip([1, 2, 4, 8, 15, 15, 15, 15]) {
            assert!(is_about(*delay, seconds * SECOND), "{delays:?}");
        }
    }

    #[test]
    fn who_fails_waits_longer_each_time_and_who_is_throttled_longest() {
        let failed = delays(&[Outcome::Failed; 12]);
        let throttled = delays(&[Outcome::Throttled; 12]);
        assert!(is_about(failed[0], SECOND) && is_about(failed[3], 8 * SECOND), "{failed:?}");
        assert!(is_about(throttled[0], 4 * SECOND), "{throttled:?}");
        assert!(failed.iter().chain(&throttled).all(|delay| *delay <= FAILURE_MAX * 5 / 4));
    }

    #[test]
    fn an_answer_makes_failures_forgotten() {
        let outcomes = [Outcome::Failed, Outcome::Failed, answered(3, false), Outcome::Failed];
        assert!(is_about(delays(&outcomes)[3], SECOND));
    }

    #[test]
    fn two_hosts_do_not_ask_at_the_same_time() {
        let delay = |seed| Polling::new(seed).next(answered(3, false));
        assert_ne!(delay(1), delay(2));
    }
}
