//! What the exchange knows of one neighbour.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::Tag;
use super::answers::Answers;
use super::assembly::Assembly;
use crate::time::Instant;

/// How many sets one neighbour is asked for at one time.
const ASKED_EACH_MAX: usize = 4_096;
/// The same for one that is in doubt.
const ASKED_IN_DOUBT_MAX: usize = 64;
/// How long a neighbour is in doubt that offered a set and did not give it.
const DOUBT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Neighbour {
    /// Whose sets come from nobody better.
    pub(super) peer: Tag,
    /// The owners whose sets it is to be offered.
    pub(super) pending: BTreeSet<Tag>,
    pub(super) answers: Answers,
    /// One set at a time, since an honest neighbour sends one after the other.
    pub(super) assembly: Option<Assembly>,
    /// The sets that it is asked for.
    pub(super) asked: BTreeSet<Tag>,
    doubted_until: Option<Instant>,
}

impl Neighbour {
    pub(super) fn new(peer: Tag) -> Self {
        Self {
            peer,
            pending: BTreeSet::new(),
            answers: Answers::default(),
            assembly: None,
            asked: BTreeSet::new(),
            doubted_until: None,
        }
    }

    /// It did not give what it had offered: others are asked before it.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.doubted_until = Some(now + DOUBT);
    }

    pub(super) fn is_doubted(&self, now: Instant) -> bool {
        self.doubted_until.is_some_and(|until| until > now)
    }

    pub(super) fn may_be_asked(&self, now: Instant) -> bool {
        let limit = if self.is_doubted(now) { ASKED_IN_DOUBT_MAX } else { ASKED_EACH_MAX };
        self.asked.len() < limit
    }
}
