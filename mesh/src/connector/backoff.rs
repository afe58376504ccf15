//! How long to wait before the next attempt: 250 ms, half as long again after each failure, at most 6 min, with jitter.
//! Hosts that boot together dial each other before all of them listen, so the first attempts follow quickly.

use std::time::Duration;

use rand_core::RngCore;

const INITIAL_INTERVAL: Duration = Duration::from_millis(250);
const MAX_INTERVAL: Duration = Duration::from_secs(6 * 60);

/// The interval after which a failed attempt is repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    interval: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { interval: INITIAL_INTERVAL }
    }
}

impl Backoff {
    /// The delay before the next attempt, uniform in [interval/2, 3·interval/2): peers that failed together do not
    /// come back together. Lengthens the interval.
    pub(super) fn next_delay(&mut self, rng: &mut impl RngCore) -> Duration {
        let interval = self.interval;
        self.interval = (interval * 3 / 2).min(MAX_INTERVAL);
        let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        interval / 2 + Duration::from_micros(rng.next_u64() % micros.max(1))
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn delays_grow_by_half_up_to_six_minutes_and_stay_within_their_jitter() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let mut interval = INITIAL_INTERVAL;

        for _ in 0..40 {
            let delay = backoff.next_delay(&mut rng);
            assert!(delay >= interval / 2 && delay < interval * 3 / 2, "{delay:?} for {interval:?}");
            interval = (interval * 3 / 2).min(Duration::from_secs(360));
        }

        assert_eq!(interval, Duration::from_secs(360));
    }
}
