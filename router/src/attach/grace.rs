//! Containers that died and may be started again: until then their addresses stay theirs.
//!
//! Invariant: a container's addresses are given up once, and not before it has been dead for [`GRACE`] on end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weave_mesh::time::Instant;

/// How long a dead container keeps its addresses, as in the original.
pub const GRACE: Duration = Duration::from_secs(30);
/// Dead containers that are waited for; the longest dead gives way.
const DEAD_MAX: usize = 16_384;

/// The dead, by container.
#[derive(Debug, Default)]
pub struct Grace {
    died: BTreeMap<String, Instant>,
    /// In the order of their deaths; an entry that differs from the map is history.
    queue: VecDeque<(Instant, String)>,
}

impl Grace {
    /// `container` is dead; it may have been told before.
    pub fn handle_death(&mut self, container: &str, now: Instant) {
        if self.died.contains_key(container) {
            return;
        }
        self.died.insert(container.to_owned(), now);
        self.queue.push_back((now, container.to_owned()));
    }

    /// `container` runs, or is no more.
    pub fn forget(&mut self, container: &str) {
        self.died.remove(container);
    }

    /// When to ask [`Self::expired`] again; may be early.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|(died, _)| *died + GRACE)
    }

    /// Takes those out that have been dead for long enough.
    pub fn expired(&mut self, now: Instant) -> Vec<String> {
        let mut expired = Vec::new();
        while let Some((died, _)) = self.queue.front()
            && (*died + GRACE <= now || self.queue.len() > DEAD_MAX)
            && let Some((died, container)) = self.queue.pop_front()
        {
            if self.died.get(&container) == Some(&died) {
                self.died.remove(&container);
                expired.push(container);
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1_000_000);

    #[test]
    fn a_container_that_stays_dead_expires_once() {
        let mut grace = Grace::default();
        grace.handle_death("a", START);
        grace.handle_death("a", START + GRACE / 2);

        assert_eq!(grace.poll_timeout(), Some(START + GRACE));
        assert!(grace.expired(START + GRACE / 2).is_empty());
        assert_eq!(grace.expired(START + GRACE), ["a"]);
        assert!(grace.expired(START + 3 * GRACE).is_empty());
        assert_eq!(grace.poll_timeout(), None);
    }

    #[test]
    fn a_container_that_comes_back_has_all_the_time_at_its_next_death() {
        let mut grace = Grace::default();
        grace.handle_death("a", START);
        grace.forget("a");
        grace.handle_death("a", START + GRACE / 2);

        assert!(grace.expired(START + GRACE).is_empty());
        assert_eq!(grace.expired(START + GRACE + GRACE / 2), ["a"]);
    }

    #[test]
    fn of_too_many_dead_the_longest_dead_gives_way() {
        let mut grace = Grace::default();
        for number in 0..=DEAD_MAX {
            grace.handle_death(&number.to_string(), START);
        }

        assert_eq!(grace.expired(START), ["0"]);
    }
}
