//! How much of control's time one connection may use.
//!
//! ```text
//!   stream ─► task ── takes a turn ─► report ─► control: handles it, charges what it cost ─► the turn is given back
//!                └ none left: the stream is not read, and the other end waits               └ later, if it is overdrawn
//! ```
//!
//! A connection that floods is slowed down to its share, and what it has sent waits in its own host's memory. Others do not
//! notice: of each connection only a few messages wait for control.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// How many messages of one connection wait for control.
const TURNS: usize = 8;
/// What a connection may use at once: joining a large mesh fits.
const BURST: Duration = Duration::from_secs(2);
/// It may use one part of so many in the long run.
const PART: u32 = 5;

/// The right to have one message handled; given back when it is dropped.
pub type Turn = OwnedSemaphorePermit;

/// One connection's share.
#[derive(Debug)]
pub(super) struct Share {
    turns: Arc<Semaphore>,
    account: Account,
}

impl Default for Share {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(TURNS)), account: Account::new(Instant::now()) }
    }
}

impl Share {
    pub(super) fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.turns)
    }

    /// Books what a message has cost, and gives its turn back when the connection may go on.
    pub(super) fn charge(&mut self, turn: Turn, cost: Duration) {
        let wait = self.account.charge(cost, Instant::now());
        if !wait.is_zero() {
            // At most `TURNS` of these exist for each connection.
            tokio::spawn(async move {
                sleep(wait).await;
                drop(turn);
            });
        }
    }
}

/// What was used, less what time has given back.
#[derive(Debug)]
struct Account {
    used: Duration,
    at: Instant,
}

impl Account {
    const fn new(at: Instant) -> Self {
        Self { used: Duration::ZERO, at }
    }

    /// How long to wait until what was used is within the burst again.
    fn charge(&mut self, cost: Duration, now: Instant) -> Duration {
        let given_back = now.saturating_duration_since(self.at) / PART;
        self.used = self.used.saturating_sub(given_back) + cost;
        self.at = now;
        self.used.saturating_sub(BURST) * PART
    }
}

/// The processor time that this thread has used: what others do on a busy machine is nobody's fault.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn who_stays_within_its_share_never_waits() {
        let mut now = Instant::now();
        let mut account = Account::new(now);
        for _ in 0..1_000 {
            assert_eq!(account.charge(STEP / PART, now), Duration::ZERO);
            now += STEP;
        }
    }

    #[test]
    fn a_flood_is_slowed_down_to_its_share() {
        let start = Instant::now();
        let mut account = Account::new(start);
        let mut now = start;
        for _ in 0..1_000 {
            now += account.charge(STEP, now);
        }

        let share = (STEP * 1_000).as_secs_f64() / (now - start).as_secs_f64();
        assert!((0.2..0.21).contains(&share), "{share}");
    }

    #[test]
    fn a_burst_does_not_wait() {
        let now = Instant::now();
        let mut account = Account::new(now);
        assert_eq!(account.charge(BURST, now), Duration::ZERO);
        assert!(account.charge(STEP, now) > Duration::ZERO);
    }
}
