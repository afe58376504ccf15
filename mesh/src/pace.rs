//! Doing something at once, and then not again before an interval has passed.

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

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);

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
