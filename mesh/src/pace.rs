//! Doing something at once, and then not again before an interval has passed; or several times at once, and then not
//! more often than the interval on average.
//!
//! ```text
//!   Pace     ●────────●────────●            every interval at most
//!   Bursts   ●●●●●●●●●────────●────────●    the same, but what was not used in a quiet time may be used at once
//! ```

use std::time::Duration;

use crate::time::Instant;

/// When something was done last and is to be done next.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Pace {
    /// There is something to do: now, or `interval` after the last time.
    pub(crate) fn request(&mut self, interval: Duration, now: Instant) {
        if self.due.is_none() {
            let earliest = self.last.map_or(now, |last| last + interval);
            self.due = Some(earliest.max(now));
        }
    }

    /// There is something to do that does not wait.
    pub(crate) const fn request_now(&mut self, now: Instant) {
        self.due = Some(now);
    }

    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It is done, if it was asked for.
    pub(crate) fn note_done(&mut self, now: Instant) {
        if self.due.take().is_some() {
            self.last = Some(now);
        }
    }
}

/// A [`Pace`] that saves up what a quiet time leaves unused: a token bucket, kept as the time until which it is spent.
#[derive(Debug)]
pub(crate) struct Bursts {
    /// What one time costs.
    interval: Duration,
    /// How many times may be saved up.
    size: u32,
    /// What follows closely is taken together all the same.
    spacing: Duration,
    last: Option<Instant>,
    /// When everything that was done will be paid for.
    paid: Instant,
    due: Option<Instant>,
}

impl Bursts {
    /// Up to `size` times after a quiet time, `spacing` apart, and every `interval` on average.
    pub(crate) fn new(size: u32, spacing: Duration, interval: Duration) -> Self {
        Self { interval, size, spacing, last: None, paid: Instant::ZERO, due: None }
    }

    /// From the next time on one costs this much.
    pub(crate) const fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// There is something to do: as soon as there is something saved.
    pub(crate) fn request(&mut self, now: Instant) {
        let spaced = self.last.map_or(now, |last| last + self.spacing);
        let saved_max = self.interval * self.size.saturating_sub(1);
        let debt = self.paid.since(now).saturating_sub(saved_max);
        self.request_by(spaced.max(now + debt));
    }

    /// There is something to do that may wait for an interval: what is saved is left to others.
    pub(crate) fn request_in_turn(&mut self, now: Instant) {
        let spaced = self.last.map_or(now, |last| last + self.interval);
        self.request_by(spaced.max(now));
    }

    fn request_by(&mut self, due: Instant) {
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It is done, if it was asked for.
    pub(crate) fn note_done(&mut self, now: Instant) {
        if self.due.take().is_some() {
            self.last = Some(now);
            self.paid = self.paid.max(now) + self.interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);
    const SPACING: Duration = Duration::from_millis(2);

    /// When `count` changes are done that come `apart`, each as soon as it may be.
    fn bursts(bursts: &mut Bursts, start: Instant, count: usize, apart: Duration) -> Vec<Duration> {
        let mut now = start;
        let mut done = Vec::new();
        for _ in 0..count {
            bursts.request(now);
            now = now.max(bursts.due().unwrap());
            bursts.note_done(now);
            done.push(now - start);
            now += apart;
        }
        done
    }

    #[test]
    fn a_burst_is_done_at_once_and_what_exceeds_it_at_the_interval() {
        let mut pace = Bursts::new(3, SPACING, INTERVAL);
        let apart = Duration::from_millis(10);

        let first = bursts(&mut pace, Instant::from_micros(7), 5, apart);

        assert_eq!(first[..3], [Duration::ZERO, apart, 2 * apart]);
        assert_eq!(first[3..], [INTERVAL, 2 * INTERVAL]);
        let later = Instant::from_micros(7) + 10 * INTERVAL;
        assert_eq!(bursts(&mut pace, later, 3, apart), [Duration::ZERO, apart, 2 * apart], "a quiet time is saved up");
    }

    #[test]
    fn what_follows_closely_is_taken_together() {
        let mut pace = Bursts::new(3, SPACING, INTERVAL);

        assert_eq!(bursts(&mut pace, Instant::ZERO, 2, Duration::ZERO), [Duration::ZERO, SPACING]);
    }

    #[test]
    fn what_may_wait_takes_nothing_of_what_is_saved() {
        let mut pace = Bursts::new(3, SPACING, INTERVAL);
        for turn in 0..5 {
            let now = Instant::ZERO + turn * INTERVAL;
            pace.request_in_turn(now);
            assert_eq!(pace.due(), Some(now));
            pace.note_done(now);
        }
        let now = Instant::ZERO + 4 * INTERVAL;
        pace.request_in_turn(now);
        assert_eq!(pace.due(), Some(now + INTERVAL));
        pace.request(now);
        assert_eq!(pace.due(), Some(now + SPACING), "and goes along with what may not");
    }

    #[test]
    fn no_more_is_saved_than_a_burst() {
        let mut pace = Bursts::new(3, SPACING, INTERVAL);
        let late = Instant::ZERO + 1_000 * INTERVAL;

        let done = bursts(&mut pace, late, 100, Duration::ZERO);

        assert_eq!(done.last(), Some(&(97 * INTERVAL)));
    }

    #[test]
    fn the_first_request_is_due_at_once_and_the_next_after_the_interval() {
        let mut pace = Pace::default();
        let start = Instant::from_micros(7);

        pace.request(INTERVAL, start);
        assert_eq!(pace.due(), Some(start));
        pace.note_done(start);
        pace.request(INTERVAL, start);

        assert_eq!(pace.due(), Some(start + INTERVAL));
    }

    #[test]
    fn a_request_after_a_quiet_time_does_not_wait() {
        let mut pace = Pace::default();
        pace.request(INTERVAL, Instant::ZERO);
        pace.note_done(Instant::ZERO);

        let late = Instant::ZERO + 3 * INTERVAL;
        pace.request(INTERVAL, late);

        assert_eq!(pace.due(), Some(late));
    }
}
