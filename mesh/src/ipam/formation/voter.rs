//! The acceptor: it promises and accepts, and never takes back what it told.
//!
//! Invariant: a vote is durable before it is told.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::note::Note;
use super::super::rules::Rule;
use super::super::{FirstRing, Init, Ipam, Surroundings};
use super::Need;
use crate::identity::PeerKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    pub round: u64,
    pub proposer: PeerKey,
}

/// What we have promised and accepted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::ipam) struct Voter {
    pub(super) promised: Option<Ballot>,
    pub(super) accepted: Option<(Ballot, Arc<FirstRing>)>,
}

impl Ipam {
    pub(in crate::ipam) fn handle_prepare(
        &mut self,
        from: PeerKey,
        ballot: Ballot,
        need: &Need,
        near: &Surroundings<'_>,
    ) {
        self.formation.peers = self.formation.peers.max(need.peers);
        // Whoever proposes votes, whatever it said before.
        self.formation.observers.remove(&from);
        if self.refuses(from, ballot) {
            return;
        }
        self.ask_roles(near);
        self.formation.voter.promised = Some(ballot);
        let accepted = self.formation.voter.accepted.clone();
        let promise = Note::Promise { ballot, accepted, need: self.need(near) };
        self.vote(from, &promise, near);
    }

    pub(in crate::ipam) fn handle_accept(
        &mut self,
        from: PeerKey,
        ballot: Ballot,
        first: Arc<FirstRing>,
        near: &Surroundings<'_>,
    ) {
        if self.refuses(from, ballot) || !self.is_usable(from, &first, near) {
            return;
        }
        self.formation.voter = Voter { promised: Some(ballot), accepted: Some((ballot, first)) };
        self.vote(from, &Note::Accepted { ballot }, near);
    }

    /// Tells a vote that has just been cast.
    fn vote(&mut self, to: PeerKey, note: &Note, near: &Surroundings<'_>) {
        if self.rules.keeps(Rule::PersistVote) {
            self.persist();
        } else {
            self.persist_later(near);
        }
        self.write(to, note);
    }

    /// Whether the ballot gets no vote of ours; says why.
    fn refuses(&mut self, from: PeerKey, ballot: Ballot) -> bool {
        if matches!(self.config.init, Init::Observer) {
            return true;
        }
        if let Some(ring) = &self.ring {
            let first = Arc::clone(ring.first());
            self.write(from, &Note::Exists { first });
            return true;
        }
        self.formation.round = self.formation.round.max(ballot.round);
        match self.formation.voter.promised {
            Some(promised) if promised > ballot => {
                self.write(from, &Note::Refuse { promised });
                true
            }
            Some(_) | None => false,
        }
    }
}
