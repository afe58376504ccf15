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
        if self.last.is_none_or(|last| now.since(last) >= SILENCE) {
            self.last = Some(now);
            tracing::warn!(%error, "{}", self.what);
        }
    }
}

const SILENCE: Duration = Duration::from_secs(60);
