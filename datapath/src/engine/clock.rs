//! Timestamps of our handshakes: each above the last, across restarts too, whatever the wall clock does.

use std::time::Duration;

use weave_mesh::time::{Instant, UnixTime};

/// How far ahead timestamps are reserved on disk, so that no handshake waits for a disk.
const RESERVE: Duration = Duration::from_secs(60);

/// The source of timestamps, microseconds since 1970.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    wall_at_start: u64,
    last: u64,
    /// Everything up to here may have been used by whoever starts after us.
    reserved: u64,
}

impl Clock {
    /// `floor` is the number that was reserved last, by this daemon's predecessor.
    pub(super) const fn new(floor: u64, now: Instant, wall: UnixTime) -> Self {
        Self { started: now, wall_at_start: wall.0, last: floor, reserved: floor }
    }

    /// The next timestamp, and the number to be stored if the reserve runs low.
    pub(super) fn next(&mut self, now: Instant) -> (u64, Option<u64>) {
        let elapsed = now.as_micros().saturating_sub(self.started.as_micros());
        self.last = self.wall_at_start.saturating_add(elapsed).max(self.last.saturating_add(1));
        let reserve = RESERVE.as_micros() as u64;
        let is_low = self.last.saturating_add(reserve / 2) > self.reserved;
        (self.last, is_low.then(|| self.reserve(self.last.saturating_add(reserve))))
    }

    const fn reserve(&mut self, upto: u64) -> u64 {
        self.reserved = upto;
        upto
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_2026: u64 = 1_770_000_000_000_000;

    #[test]
    fn timestamps_follow_the_wall_clock_and_are_reserved_ahead() {
        let mut clock = Clock::new(0, Instant::ZERO, UnixTime(YEAR_2026));

        let (first, reserved) = clock.next(Instant::ZERO);
        assert_eq!((first, reserved), (YEAR_2026, Some(YEAR_2026 + 60_000_000)));
        assert_eq!(clock.next(Instant::ZERO), (YEAR_2026 + 1, None));
        let later = Instant::from_micros(31_000_000);
        assert_eq!(clock.next(later), (YEAR_2026 + 31_000_000, Some(YEAR_2026 + 91_000_000)));
    }

    #[test]
    fn after_a_restart_with_the_clock_set_back_they_go_on_above_the_reserve() {
        let floor = YEAR_2026 + 60_000_000;
        let mut clock = Clock::new(floor, Instant::ZERO, UnixTime(5));

        let (first, reserved) = clock.next(Instant::ZERO);

        assert_eq!(first, floor + 1);
        assert!(reserved.is_some_and(|reserved| reserved > first));
    }
}
