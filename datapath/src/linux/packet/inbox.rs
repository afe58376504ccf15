//! What control hands to the packet thread: a slot per kind of request, and a bell.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;
use weave_mesh::identity::PeerKey;

use super::{Status, StatusError};
use crate::tables::Tables;

/// Requests for the status that may wait at a time.
const STATUS_REQUESTS_MAX: usize = 64;

/// Shared by the handle and the thread.
#[derive(Debug)]
pub(super) struct Inbox {
    requests: Mutex<Requests>,
    bell: OwnedFd,
}

/// What was asked for since the thread last looked. The latest of each kind counts.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) tables: Option<Arc<Tables>>,
    pub(super) traffic: Option<BTreeMap<PeerKey, Duration>>,
    pub(super) status: Vec<oneshot::Sender<Status>>,
    pub(super) end: bool,
    /// The thread has ended and looks no more.
    ended: bool,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { requests: Mutex::default(), bell })
    }

    /// Changes the requests and wakes the thread.
    pub(super) fn post(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.lock());
        // A full counter (2^64 - 2) cannot be reached; the thread would be awake anyhow.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }

    /// Asks for the status, which arrives by the returned channel.
    pub(super) fn ask(&self) -> Result<oneshot::Receiver<Status>, StatusError> {
        let (answer, receiver) = oneshot::channel();
        let mut refused = None;
        self.post(|requests| match requests {
            Requests { ended: true, .. } => refused = Some(StatusError::Ended),
            Requests { status, .. } if status.len() >= STATUS_REQUESTS_MAX => refused = Some(StatusError::Busy),
            Requests { status, .. } => status.push(answer),
        });
        refused.map_or(Ok(receiver), Err)
    }

    /// Takes what was asked for, and silences the bell.
    pub(super) fn take(&self) -> Requests {
        let mut rung = [0; 8];
        // The bell first: a request that comes in between is taken now, and its ring is heard in vain.
        let _ = rustix::io::read(&self.bell, &mut rung);
        std::mem::take(&mut *self.lock())
    }

    /// Called when the thread ends, for whatever reason: whoever waits for an answer learns that none comes.
    pub(super) fn close(&self) {
        *self.lock() = Requests { ended: true, ..Requests::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_once() -> io::Result<()> {
        let inbox = Inbox::new()?;
        inbox.post(|requests| requests.end = true);

        assert!(inbox.take().end);
        assert!(!inbox.take().end);
        Ok(())
    }

    #[test]
    fn more_questions_than_the_limit_are_refused() -> io::Result<()> {
        let inbox = Inbox::new()?;
        let asked: Vec<_> = (0..=STATUS_REQUESTS_MAX).map(|_| inbox.ask().err()).collect();

        assert_eq!(asked.iter().position(Option::is_some), Some(STATUS_REQUESTS_MAX));
        assert_eq!(asked.last(), Some(&Some(StatusError::Busy)));
        assert_eq!(inbox.take().status.len(), STATUS_REQUESTS_MAX);
        Ok(())
    }

    #[test]
    fn nobody_waits_for_a_thread_that_has_ended() -> io::Result<()> {
        let inbox = Inbox::new()?;
        let mut before = inbox.ask().expect("room for a question");

        inbox.close();

        assert!(before.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        assert_eq!(inbox.ask().err(), Some(StatusError::Ended));
        Ok(())
    }
}
