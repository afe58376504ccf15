//! Trouble with a descriptor is worth a line, not a line per packet.

use std::fmt;
use std::time::Duration;

use weave_mesh::time::Instant;

/// One kind of trouble; a counter tells how often it happened.
#[derive(Debug)]
pub(super) struct Complaint {
    what: &'static str,
    last: Option<Instant>,
}

impl Complaint {
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, last: None }
    }

    /// Logs, unless it did so within [`SILENCE`].
    pub(super) fn log(&mut self, error: &dyn fmt::Display, now: Instant) {
        if self.is_due(now) {
            tracing::warn!(%error, "{}", self.what);
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.since(last) >= SILENCE);
        if due {
            self.last = Some(now);
        }
        due
    }
}

const SILENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_lasts_is_told_once_in_a_while() {
        let mut complaint = Complaint::new("trouble");
        let seconds = |seconds: u64| Instant::from_micros(seconds * 1_000_000);

        let told: Vec<_> = (0..130).filter(|second| complaint.is_due(seconds(*second))).collect();

        assert_eq!(told, [0, 60, 120]);
    }
}
