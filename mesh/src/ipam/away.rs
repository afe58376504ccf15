//! A host that was away: what it owned may be another's by now, and who could tell why may be forgotten.
//!
//! ```text
//!   starts with a ring ──► silent: nothing is allocated, nothing told of its ring
//!        │                   ├── a neighbour's ring is equal ─────────────────────► back
//!        │                   ├── nobody tells of another ring for FIRST_ROUND ────► back
//!        ▼                   └── another ring ──► told what we know, and asked again each round
//!   was alone for HOLD                                 ├── equal, or nobody tells of another ─────────► back
//!                                                      └── all neighbours have one and the same, and we cannot follow it
//!                                                             ──► taken anew, as a newcomer does ─────► back
//! ```
//!
//! Invariants:
//! - whoever starts gives out nothing of what it owned before it has heard, or nobody is there to be heard;
//! - a ring is taken anew only while we are away, from a neighbour, and if it is what all neighbours say that they have;
//! - what we gave away ourselves stays given: a ring that does not hold with it is not taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ring::{Faith, Merged, Ring};
use super::{Action, Ipam, Problem, RingNews, RingState, Surroundings, Wait};
use crate::connector::ConnectionId;
use crate::identity::{Hash, PeerKey};
use crate::members::{HOLD, Reach};
use crate::time::Instant;

/// How long one that starts waits for somebody who tells of another ring.
const FIRST_ROUND: Duration = Duration::from_secs(10);
/// How long those whose ring is another may take to answer, each time that they are asked.
const ROUND: Duration = Duration::from_secs(2);
/// How long we try to follow before the ring is taken anew: all that would let us is told within a round.
const FOLLOW_TIME: Duration = Duration::from_secs(10);
/// After so long a person is told.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known while we are away.
#[derive(Debug)]
pub(super) struct Away {
    /// Whether others are told nothing, since this host has not run since it last heard of them.
    is_silent: bool,
    /// Whether what we have may be a part, and not an old whole.
    is_part: bool,
    /// Since when another ring has been heard of.
    differing: Option<Instant>,
    round_ends: Instant,
    /// What neighbours have told in this round.
    told: BTreeMap<PeerKey, Hash>,
    /// A ring that is taken anew, from whom, and the state that it must have in the end.
    candidate: Option<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    from: PeerKey,
    ring: Ring,
    state: Hash,
}

impl Away {
    fn since(now: Instant, is_silent: bool) -> Self {
        let round_ends = now + if is_silent { FIRST_ROUND } else { ROUND };
        Self { is_silent, is_part: false, differing: None, round_ends, told: BTreeMap::new(), candidate: None }
    }

    /// The state that all have told, if it is one.
    fn unanimous(&self) -> Option<Hash> {
        let mut told = self.told.values();
        let first = *told.next()?;
        told.all(|other| *other == first).then_some(first)
    }
}

impl Ipam {
    /// We start, with what an earlier life of ours left.
    pub(super) fn begin_away(&mut self, near: &Surroundings<'_>) {
        let own = near.card.key;
        let is_alone = near.members.is_empty() && self.ring.iter().flat_map(Ring::owners).all(|owner| owner == own);
        if self.ring.is_some() && !is_alone {
            self.away = Some(Away::since(near.now, true));
        }
    }

    /// Who was reached by nobody for so long that it may be believed dead has been away.
    pub(super) fn note_solitude(&mut self, near: &Surroundings<'_>) {
        let is_alone = near.links.live().next().is_none();
        match (is_alone, self.alone_since) {
            (true, _) => drop(self.alone_since.get_or_insert(near.now)),
            (false, Some(since)) => {
                self.alone_since = None;
                if near.now.since(since) >= HOLD && self.ring.is_some() {
                    self.away.get_or_insert_with(|| Away::since(near.now, false));
                }
            }
            (false, None) => {}
        }
    }

    /// Nothing of what we own is given out while it may be another's.
    pub(super) fn await_others(&self) -> Result<(), Wait> {
        if self.may_be_outdated() { Err(Wait::Comparison) } else { Ok(()) }
    }

    pub(super) fn may_be_outdated(&self) -> bool {
        self.has_a_part() || self.away.as_ref().is_some_and(|away| away.is_silent || away.differing.is_some())
    }

    /// What we have may not be all of it: others are asked.
    pub(super) fn doubt(&mut self, near: &Surroundings<'_>) {
        self.away = Some(Away { is_part: true, ..Away::since(near.now, true) });
        self.tell_state_to_all(near);
    }

    /// Whether one that has this state may be told that ours is all there is: a newcomer believes it, others compare.
    pub(super) fn may_be_the_whole(&self, theirs: &RingState) -> bool {
        self.away.as_ref().is_none_or(|away| !away.is_part && (!away.is_silent || theirs.ring.is_some()))
    }

    /// Our state as neighbours are told it, unless it may be an old one.
    pub(crate) fn told_state(&self) -> Option<RingState> {
        self.away.as_ref().is_none_or(|away| !away.is_silent).then(|| self.shown_state())
    }

    pub(super) fn away_timeout(&self) -> Option<Instant> {
        self.away.as_ref().map(|away| away.round_ends)
    }

    /// `from` has this ring, in this state.
    pub(super) fn note_told(&mut self, from: PeerKey, ring: Option<Hash>, state: Hash, near: &Surroundings<'_>) {
        if self.away.is_none() || ring.is_none() || ring != self.ring.as_ref().map(|ring| *ring.id()) {
            return;
        }
        if self.state().state == state {
            return self.be_back(near);
        }
        if let Some(away) = &mut self.away {
            away.told.insert(from, state);
            away.differing.get_or_insert(near.now);
            away.round_ends = away.round_ends.min(near.now + ROUND);
        }
    }

    /// Our ring has changed: it may be what others have.
    pub(super) fn compare_told(&mut self, near: &Surroundings<'_>) {
        let Some(away) = self.away.as_ref().filter(|away| !away.told.is_empty()) else { return };
        let ours = self.state().state;
        if away.told.values().any(|told| *told == ours) {
            self.be_back(near);
        }
    }

    /// Our ring is that of the others.
    fn be_back(&mut self, near: &Surroundings<'_>) {
        self.away = None;
        self.problems.retain(|_, problem| *problem != Problem::Away);
        self.tell_state_to_all(near);
        self.is_changed = true;
    }

    fn tell_state_to_all(&mut self, near: &Surroundings<'_>) {
        let state = self.state();
        let live: Vec<ConnectionId> = near.links.live().map(|(id, _)| id).collect();
        live.into_iter().for_each(|to| self.actions.push_back(Action::TellState(to, state)));
    }

    /// A round is over: nobody has another ring, or those who have are asked again.
    pub(super) fn handle_away_timeout(&mut self, near: &Surroundings<'_>) {
        let Some(away) = self.away.as_mut().filter(|away| away.round_ends <= near.now) else { return };
        if away.told.is_empty() {
            return self.be_back(near);
        }
        let age = away.differing.map_or(Duration::ZERO, |since| near.now.since(since));
        let agreed = away.unanimous().filter(|_| age >= FOLLOW_TIME);
        let from = away.told.keys().next().copied();
        away.told.clear();
        away.candidate = None;
        away.round_ends = near.now + ROUND;
        if let (Some(from), Some(state), Some(ring)) = (from, agreed, &self.ring) {
            let ring = Ring::new(Arc::clone(ring.first()), near.mesh());
            away.candidate = Some(Candidate { from, ring, state });
        }
        if age >= PATIENCE
            && let Some(from) = from
        {
            self.note_problem(from, Problem::Away);
        }
        self.tell_state_to_all(near);
    }

    /// What `peer` tells goes into the ring that is taken anew, if it is to be from that peer.
    pub(super) fn gather(&mut self, peer: PeerKey, news: &RingNews, near: &Surroundings<'_>) {
        let Some(candidate) = self.away.as_mut().and_then(|away| away.candidate.as_mut()) else { return };
        if candidate.from != peer {
            return;
        }
        for transfer in &news.transfers {
            // What is not signed costs the connection where the same news are learnt.
            candidate.ring.merge(transfer, near.verifier, Faith::All);
        }
        if news.compare.is_some()
            && let Some(candidate) = self.away.as_mut().and_then(|away| away.candidate.take())
        {
            self.take_anew(candidate, near);
        }
    }

    /// All of it is told. What we gave away holds in it, or it is not taken.
    fn take_anew(&mut self, candidate: Candidate, near: &Surroundings<'_>) {
        let Candidate { mut ring, state, .. } = candidate;
        if self.state_of(&ring) != state {
            return;
        }
        let history = self.ring.as_ref().map(|ring| ring.history(self.config.range.range())).unwrap_or_default();
        let believes_none = |_: &super::Transfer| false;
        let is_lost = history.iter().filter(|transfer| transfer.is_grant_of(&near.card.key)).any(|transfer| {
            matches!(ring.merge(transfer, near.verifier, Faith::In(&believes_none)), Merged::Ahead | Merged::Unsound(_))
        });
        if is_lost {
            return;
        }
        self.ring = Some(ring);
        self.measure(near);
        self.forget_absent(near);
        self.end_promises(near);
        self.persist();
        self.compare_told(near);
        if self.away.is_some() {
            self.tell_state_to_all(near);
        }
    }

    /// Of whom we knew, those who are neither there nor own anything may be dead and forgotten everywhere else.
    fn forget_absent(&mut self, near: &Surroundings<'_>) {
        let is_absent = |reach: Reach| matches!(reach, Reach::Unreachable { .. } | Reach::Lost { .. });
        let absent = near.members.iter().filter(|(_, member)| is_absent(member.reach)).map(|(peer, _)| *peer);
        let absent: Vec<PeerKey> = absent.filter(|peer| !near.is_reachable(peer) && self.may_give_way(peer)).collect();
        absent.iter().for_each(|peer| self.forget(peer, near));
    }
}
