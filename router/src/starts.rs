//! Starts of Docker's containers, as this daemon sees them: how many wait here, and which of them failed.
//!
//! Invariant: what is kept does not grow with the containers that fail, nor with how often they do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Failures that are kept; the oldest gives way.
const FAILURES_MAX: usize = 16;
/// The longest reason that is kept, octets.
const REASON_MAX_BYTES: usize = 512;

/// A container that did not get what it was to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its name, or its id where that is all that is known.
    pub container: String,
    pub reason: String,
    /// Seconds since 1970.
    pub when: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Starts {
    waiting: AtomicUsize,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    /// Oldest first, the last one of each container.
    kept: VecDeque<Failure>,
    total: u64,
}

/// A start that waits as long as this lives.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Starts);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Starts {
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub fn note_failure(&self, container: &str, reason: &str) {
        let when = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.failures().note(container, reason, when);
    }

    /// How many there were, and the last ones.
    pub fn failed(&self) -> (u64, Vec<Failure>) {
        let failures = self.failures();
        (failures.total, failures.kept.iter().cloned().collect())
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failures {
    /// Whoever asks again and again for the same start has failed once.
    fn note(&mut self, container: &str, reason: &str, when: u64) {
        let reason = reason[..reason.floor_char_boundary(REASON_MAX_BYTES)].to_owned();
        let failure = Failure { container: container.to_owned(), reason, when };
        let known = self.kept.iter().position(|known| known.container == failure.container);
        let known = known.and_then(|index| self.kept.remove(index));
        if known.is_none_or(|known| known.reason != failure.reason) {
            self.total += 1;
        }
        if self.kept.len() == FAILURES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_waits_until_it_is_over() {
        let starts = Starts::default();
        let (one, other) = (starts.wait(), starts.wait());
        assert_eq!(starts.waiting(), 2);
        drop((one, other));
        assert_eq!(starts.waiting(), 0);
    }

    #[test]
    fn the_last_failures_are_kept_one_of_each_container() {
        let mut failures = Failures::default();
        for (at, reason) in [(1, "a"), (2, "a"), (3, "b")] {
            failures.note("web", reason, at);
        }
        assert_eq!((failures.total, failures.kept.len(), failures.kept[0].when), (2, 1, 3));

        for number in 0..FAILURES_MAX {
            failures.note(&number.to_string(), &"\u{e9}".repeat(REASON_MAX_BYTES), 4);
        }
        assert_eq!(failures.kept.len(), FAILURES_MAX);
        assert!(failures.kept.iter().all(|kept| kept.container != "web" && kept.reason.len() <= REASON_MAX_BYTES));
    }
}
