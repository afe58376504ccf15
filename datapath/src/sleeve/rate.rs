//! A token bucket: so many units a second, with a burst of one second's worth.

use weave_mesh::time::Instant;

/// What is left to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    left: u32,
    /// The time up to which `left` counts what came in.
    filled_to: Instant,
}

impl Bucket {
    pub const fn full(per_second: u32, now: Instant) -> Self {
        Self { left: per_second, filled_to: now }
    }

    /// Takes `units` if they are there.
    pub fn take(&mut self, units: u32, per_second: u32, now: Instant) -> bool {
        self.fill(per_second, now);
        let enough = self.left >= units;
        if enough {
            self.left -= units;
        }
        enough
    }

    fn fill(&mut self, per_second: u32, now: Instant) {
        let waited = now.since(self.filled_to).as_micros();
        let gained = waited * u128::from(per_second) / 1_000_000;
        if gained == 0 {
            return;
        }
        let room = u128::from(per_second.saturating_sub(self.left));
        self.left += u32::try_from(gained.min(room)).unwrap_or(u32::MAX);
        self.filled_to = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_refills_what_a_second_may_use() {
        let mut now = Instant::ZERO;
        let mut bucket = Bucket::full(10, now);

        assert!(bucket.take(10, 10, now));
        assert!(!bucket.take(1, 10, now));
        now += Duration::from_millis(500);
        assert!(bucket.take(5, 10, now));
        assert!(!bucket.take(1, 10, now));
        now += Duration::from_secs(3_600);
        assert!(bucket.take(10, 10, now));
        assert!(!bucket.take(1, 10, now));
    }

    #[test]
    fn asking_often_does_not_keep_it_empty() {
        let mut now = Instant::ZERO;
        let mut bucket = Bucket::full(10, now);
        assert!(bucket.take(10, 10, now));

        let taken = (0..1_000)
            .filter(|_| {
                now += Duration::from_millis(1);
                bucket.take(1, 10, now)
            })
            .count();

        assert_eq!(taken, 10);
    }
}
