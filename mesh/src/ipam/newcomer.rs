//! A newcomer asks one neighbour for the ring, and not all that have it.
//!
//! ```text
//!   neighbours tell that they have a ring ──► one is asked ──► tells all of it ──► one that has another is asked, once
//!                                                └── silent for ANSWER_TIME ──► the next
//! ```
//!
//! Invariant: while one is asked nobody else is, so that the ring comes once, however many neighbours there are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, Ipam, RingState, Surroundings};
use crate::connector::ConnectionId;
use crate::identity::{Hash, PeerKey};
use crate::time::Instant;

/// How long one that is asked may take; the ring of a large mesh is some hundred messages.
const ANSWER_TIME: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Newcomer {
    asked: Option<Asked>,
    /// Neighbours that have a ring, and its state, as far as they said.
    told: BTreeMap<ConnectionId, Hash>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    connection: ConnectionId,
    peer: PeerKey,
    until: Instant,
}

impl Ipam {
    /// Whether there is no ring here, or not all of it.
    pub(super) fn is_newcomer(&self, near: &Surroundings<'_>) -> bool {
        self.ring.is_none() || self.guide.is_some_and(|guide| guide.until > near.now)
    }

    /// Our state as a new neighbour is told it: of a newcomer it says nothing.
    pub(crate) fn opening_state(&self, near: &Surroundings<'_>) -> Option<RingState> {
        self.told_state().filter(|_| !self.is_newcomer(near))
    }

    /// A neighbour has a ring, and we have none, or not all of it.
    pub(super) fn hear_of_ring(&mut self, from: ConnectionId, state: Hash, near: &Surroundings<'_>) {
        self.newcomer.told.insert(from, state);
        let is_asked = self
            .newcomer
            .asked
            .is_some_and(|asked| asked.until > near.now && near.neighbour(asked.connection).is_some());
        if !is_asked {
            self.ask_for_ring(from, near);
        }
    }

    fn ask_for_ring(&mut self, connection: ConnectionId, near: &Surroundings<'_>) {
        let Some(peer) = near.neighbour(connection) else { return };
        self.newcomer.asked = Some(Asked { connection, peer, until: near.now + ANSWER_TIME });
        self.actions.push_back(Action::TellState(connection, self.state()));
    }

    /// Whether `peer` may be the one whose word is taken for the ring.
    pub(super) fn may_guide(&self, peer: PeerKey) -> bool {
        self.newcomer.asked.is_none_or(|asked| asked.peer == peer)
    }

    pub(super) fn newcomer_timeout(&self) -> Option<Instant> {
        self.newcomer.asked.map(|asked| asked.until)
    }

    /// Who was asked has not told all of it.
    pub(super) fn handle_newcomer_timeout(&mut self, near: &Surroundings<'_>) {
        let Some(asked) = self.newcomer.asked.take_if(|asked| asked.until <= near.now) else { return };
        self.newcomer.told.remove(&asked.connection);
        self.newcomer.told.retain(|connection, _| near.neighbour(*connection).is_some());
        let next = self.newcomer.told.keys().next().copied().filter(|_| self.is_newcomer(near));
        next.into_iter().for_each(|next| self.ask_for_ring(next, near));
    }

    /// All of it is told. What has changed meanwhile others tell as news; what they knew before, one of them is asked for.
    pub(super) fn end_as_newcomer(&mut self) {
        let told = std::mem::take(&mut self.newcomer).told;
        let ours = self.state();
        if let Some((connection, _)) = told.into_iter().find(|(_, state)| *state != ours.state) {
            self.actions.push_back(Action::TellState(connection, ours));
        }
    }
}
