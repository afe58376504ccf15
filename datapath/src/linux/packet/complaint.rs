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

/// Of one packet thread.
#[derive(Debug)]
pub(super) struct Complaints {
    pub(super) tap_read: Complaint,
    pub(super) tap_write: Complaint,
    pub(super) tap_reopen: Complaint,
    pub(super) udp_read: Complaint,
    pub(super) udp_write: Complaint,
    pub(super) heartbeat_read: Complaint,
    pub(super) wait: Complaint,
}

impl Default for Complaints {
    fn default() -> Self {
        Self {
            tap_read: Complaint::new("cannot read from the TAP device"),
            tap_write: Complaint::new("the TAP device refuses frames"),
            tap_reopen: Complaint::new("the TAP device was deleted and cannot be made again"),
            udp_read: Complaint::new("cannot receive from the UDP socket"),
            udp_write: Complaint::new("the UDP socket has no room or refuses datagrams"),
            heartbeat_read: Complaint::new("cannot receive heartbeats from the bridge"),
            wait: Complaint::new("cannot wait for descriptors"),
        }
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
