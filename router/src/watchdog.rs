//! What systemd is told: that we are ready, that we stop, and that the control task still turns.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until};

/// The service manager's view of us; does nothing without one.
#[derive(Debug)]
pub struct Watchdog {
    /// Half of what the manager allows.
    interval: Option<Duration>,
    due: Instant,
}

impl Watchdog {
    pub fn from_environment() -> Self {
        Self { interval: sd_notify::watchdog_enabled().map(|allowed| allowed / 2), due: Instant::now() }
    }

    /// Waits until a sign of life is due, and gives it; never returns when none is asked for.
    pub async fn tick(&mut self) {
        let Some(interval) = self.interval else { return pending().await };
        sleep_until(self.due).await;
        self.due = Instant::now() + interval;
        notify(NotifyState::Watchdog);
    }

    /// The daemon serves.
    pub fn ready(&self) {
        notify(NotifyState::Ready);
    }
}

/// The daemon is about to end.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

/// A manager that does not listen is no reason to fail.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}
