//! A newcomer asks one neighbour for the ring, and not all that have it.
//!
//! ```text
//!   neighbours tell that they have a ring ──► one is the guide ──► tells all of it ──► all others hear that we have it
//!                                                └── silent for ANSWER_TIME ──► the next
//! ```
//!
//! Invariants:
//! - while there is a guide nobody else is asked, so that the ring comes once, however many neighbours there are;
//! - a guide is a neighbour, and only what it tells is believed without a reason;
//! - who has not been told all of a ring tells nobody of it, so that no other newcomer takes a part for the whole; gives out
//!   nothing of it, since what it owned once may be another's; and writes nothing of it down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Action, FirstRing, Ipam, RingState, Surroundings};
use crate::connector::ConnectionId;
use crate::identity::{Hash, PeerKey};
use crate::time::Instant;

/// How long a guide may be silent; the ring of a large mesh is some hundred messages, one after the other.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// How long, from the first part on, there may be no guide who tells all of it.
const GUIDANCE_TIME: Duration = Duration::from_secs(60);

/// There is no ring here, or not all of it.
#[derive(Debug, Default)]
pub(super) struct Newcomer {
    guide: Option<Guide>,
    /// Neighbours that have a ring, and its state, as far as they said.
    told: BTreeMap<ConnectionId, Hash>,
    /// Until when we wait for the rest of it.
    until: Option<Instant>,
}

/// Who tells us the ring to which we have come.
#[derive(Clone, Copy, Debug)]
struct Guide {
    connection: ConnectionId,
    peer: PeerKey,
    until: Instant,
}

impl Newcomer {
    /// The guide, while it is there and tells.
    fn guide(&self, near: &Surroundings<'_>) -> Option<Guide> {
        self.guide.filter(|guide| guide.until > near.now && near.neighbour(guide.connection).is_some())
    }
}

impl Ipam {
    pub(super) const fn is_newcomer(&self) -> bool {
        self.newcomer.is_some()
    }

    /// Whether all of a ring is yet to be told.
    pub(super) const fn has_a_part(&self) -> bool {
        self.is_newcomer() && self.ring.is_some()
    }

    /// Our state as a new neighbour is told it: of a newcomer it says nothing.
    pub(crate) fn opening_state(&self) -> Option<RingState> {
        self.told_state().filter(|_| !self.is_newcomer())
    }

    /// A neighbour has a ring, and we have none, or not all of it.
    pub(super) fn hear_of_ring(&mut self, from: ConnectionId, state: Hash, near: &Surroundings<'_>) {
        let has_all = self.has_all_in(state);
        let Some(newcomer) = &mut self.newcomer else { return };
        newcomer.told.insert(from, state);
        if has_all {
            self.end_as_newcomer(near);
        } else if newcomer.guide(near).is_none() {
            self.ask_for_ring(from, near);
        }
    }

    /// Whether what we take for a part is in that state, so that whoever has it has nothing more to tell.
    fn has_all_in(&self, state: Hash) -> bool {
        self.has_a_part() && self.state().state == state
    }

    fn ask_for_ring(&mut self, connection: ConnectionId, near: &Surroundings<'_>) {
        if self.be_guided(connection, near) {
            self.actions.push_back(Action::TellState(connection, self.shown_state()));
        }
    }

    /// Our state; of a newcomer without the ring, so that nobody with the same part of it takes that for the whole.
    pub(super) fn shown_state(&self) -> RingState {
        let state = self.state();
        RingState { ring: state.ring.filter(|_| !self.is_newcomer()), ..state }
    }

    /// From now on this neighbour is the guide.
    fn be_guided(&mut self, connection: ConnectionId, near: &Surroundings<'_>) -> bool {
        let (Some(newcomer), Some(peer)) = (&mut self.newcomer, near.neighbour(connection)) else { return false };
        newcomer.guide = Some(Guide { connection, peer, until: near.now + ANSWER_TIME });
        true
    }

    /// We come to a ring that was there before us, unless we have one.
    pub(super) fn join(&mut self, first: Arc<FirstRing>, near: &Surroundings<'_>) {
        if self.ring.is_some() {
            return;
        }
        self.adopt(first, near);
        if let Some(newcomer) = &mut self.newcomer {
            newcomer.until = Some(near.now + GUIDANCE_TIME);
        }
    }

    /// A neighbour tells a part of all that it has: it is the guide unless another is.
    pub(super) fn follow_guide(&mut self, from: ConnectionId, near: &Surroundings<'_>) {
        let guide = self.newcomer.as_ref().and_then(|newcomer| newcomer.guide(near));
        if guide.is_none_or(|guide| guide.connection == from) {
            self.be_guided(from, near);
        }
    }

    pub(super) fn is_guided_by(&self, peer: PeerKey, near: &Surroundings<'_>) -> bool {
        let guide = self.newcomer.as_ref().and_then(|newcomer| newcomer.guide(near));
        guide.is_some_and(|guide| guide.peer == peer)
    }

    pub(super) fn newcomer_timeout(&self) -> Option<Instant> {
        let newcomer = self.newcomer.as_ref()?;
        newcomer.guide.map(|guide| guide.until).into_iter().chain(newcomer.until).min()
    }

    /// The guide has not told all of it, or nobody has for too long.
    pub(super) fn handle_newcomer_timeout(&mut self, near: &Surroundings<'_>) {
        let Some(newcomer) = &mut self.newcomer else { return };
        if newcomer.until.is_some_and(|until| until <= near.now) {
            // It may be a part of what others have.
            self.newcomer = None;
            return self.doubt(near);
        }
        let Some(guide) = newcomer.guide.take_if(|guide| guide.until <= near.now) else { return };
        newcomer.told.remove(&guide.connection);
        newcomer.told.retain(|connection, _| near.neighbour(*connection).is_some());
        let next = newcomer.told.keys().next().copied();
        next.into_iter().for_each(|next| self.ask_for_ring(next, near));
    }

    /// `peer` has told all that it has, in this state: all of it, if that is the guide, or no more than we have.
    pub(super) fn leave_guide(&mut self, peer: PeerKey, state: Hash, near: &Surroundings<'_>) {
        if self.is_guided_by(peer, near) || self.has_all_in(state) {
            self.end_as_newcomer(near);
        }
    }

    /// Who has told nothing of a ring may look for one to tell it. What has changed meanwhile others tell as news; what they
    /// knew before, one of them is asked for.
    fn end_as_newcomer(&mut self, near: &Surroundings<'_>) {
        let Some(Newcomer { guide, told, .. }) = self.newcomer.take() else { return };
        let ours = self.state();
        let guide = guide.map(|guide| guide.connection);
        let silent = near.links.live().map(|(id, _)| id).filter(|id| Some(*id) != guide && !told.contains_key(id));
        let other = told.iter().find(|(_, state)| **state != ours.state).map(|(id, _)| *id);
        self.actions.extend(silent.chain(other).map(|to| Action::TellState(to, ours)));
        self.is_changed = true;
        self.persist();
    }
}
