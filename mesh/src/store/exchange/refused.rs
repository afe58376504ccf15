//! Sets for which there was no room: asked for again, at ever longer intervals.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Tag, Version};
use crate::connector::ConnectionId;
use crate::time::Instant;

/// How many are remembered. What is not remembered comes with the next comparison.
const REFUSED_MAX: usize = 1_024;
const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(120);

#[derive(Debug)]
struct Refused {
    from: ConnectionId,
    version: Version,
    /// None while it is asked for again.
    until: Option<Instant>,
    delay: Duration,
}

#[derive(Debug, Default)]
pub(super) struct RefusedSets {
    sets: BTreeMap<Tag, Refused>,
}

impl RefusedSets {
    pub(super) fn note(&mut self, owner: Tag, from: ConnectionId, version: Version, now: Instant) {
        let delay = self.sets.get(&owner).map_or(DELAY_MIN, |refused| (2 * refused.delay).min(DELAY_MAX));
        if self.sets.len() >= REFUSED_MAX {
            self.sets.retain(|_, refused| refused.until.is_some());
        }
        if self.sets.len() < REFUSED_MAX {
            self.sets.insert(owner, Refused { from, version, until: Some(now + delay), delay });
        }
    }

    /// There was room after all, or the set is no longer wanted.
    pub(super) fn forget(&mut self, owner: Tag) {
        self.sets.remove(&owner);
    }

    pub(super) fn must_wait(&self, owner: Tag, now: Instant) -> bool {
        self.sets.get(&owner).and_then(|refused| refused.until).is_some_and(|until| until > now)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.sets.values().filter_map(|refused| refused.until).min()
    }

    /// Those to ask for again now: from whom, and which version.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(Tag, ConnectionId, Version)> {
        let due = self.sets.iter_mut().filter(|(_, refused)| refused.until.is_some_and(|until| until <= now));
        let due = due.map(|(tag, refused)| {
            refused.until = None;
            (*tag, refused.from, refused.version)
        });
        due.collect()
    }
}
