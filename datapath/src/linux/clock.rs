//! The one place where a clock of the operating system becomes the time of a machine.

use std::time::{Duration, SystemTime};

use weave_mesh::time::{Instant, UnixTime};

/// CLOCK_MONOTONIC, counted from when this was made. Copies agree, so that the instants of control and of the packet
/// thread can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that reads zero as of this call.
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    pub fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// The operating system's instant for one of this clock's, for its timers.
    pub fn system_instant(&self, at: Instant) -> std::time::Instant {
        self.start + at.since(Instant::ZERO)
    }

    /// Wall-clock time; zero on a machine whose clock stands before 1970.
    pub fn wall(&self) -> UnixTime {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        UnixTime(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
    }
}
