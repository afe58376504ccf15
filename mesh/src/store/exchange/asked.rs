//! A set that was asked for: from whom, until when, and who else has it.

use std::time::Duration;

use super::super::Version;
use crate::connector::ConnectionId;
use crate::time::Instant;

/// How long a neighbour may take to answer an ask, or to send the next part.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the whole set may take: the longest one over a slow line.
const SET_TIMEOUT: Duration = Duration::from_secs(60);
/// How many further sources of one set are remembered.
const SOURCES_MAX: usize = 3;

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) from: ConnectionId,
    pub(super) version: Version,
    pub(super) deadline: Instant,
    expires: Instant,
    /// A delta did not do: parts are awaited.
    pub(super) is_whole: bool,
    /// What others offered meanwhile.
    pub(super) sources: Vec<(ConnectionId, Version)>,
}

impl Asked {
    pub(super) fn new(
        from: ConnectionId,
        version: Version,
        sources: Vec<(ConnectionId, Version)>,
        now: Instant,
    ) -> Self {
        let (deadline, expires) = (now + ANSWER_TIMEOUT, now + SET_TIMEOUT);
        Self { from, version, deadline, expires, is_whole: false, sources }
    }

    /// Something of it has come. Returns whether the deadline has moved.
    pub(super) fn note_progress(&mut self, now: Instant) -> bool {
        let deadline = (now + ANSWER_TIMEOUT).min(self.expires);
        // Not for every part: a deadline is kept in a list.
        let is_worth_it = deadline.since(self.deadline) >= ANSWER_TIMEOUT / 2;
        if is_worth_it {
            self.deadline = deadline;
        }
        is_worth_it
    }

    /// `connection` offers `version` too. One `in_doubt` displaces nobody, and is displaced.
    pub(super) fn add_source(
        &mut self,
        connection: ConnectionId,
        version: Version,
        is_in_doubt: impl Fn(ConnectionId) -> bool,
    ) {
        if let Some((_, known)) = self.sources.iter_mut().find(|(source, _)| *source == connection) {
            *known = version.max(*known);
        } else if self.sources.len() < SOURCES_MAX {
            self.sources.push((connection, version));
        } else if !is_in_doubt(connection)
            && let Some(source) = self.sources.iter_mut().find(|(source, _)| is_in_doubt(*source))
        {
            *source = (connection, version);
        }
    }
}
