//! The proposer: one ballot after the other, until a quorum has accepted one.
//!
//! ```text
//!   propose ──► a quorum promised ──► a quorum accepted: the ring is chosen
//!      ▲               └───────────────────┴── refused, or too late: abandoned, and again after a while
//!      └────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: what is proposed is the ring of the highest ballot that a promising voter has accepted, if any has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;

use super::super::note::Note;
use super::super::rules::Rule;
use super::super::{FirstRing, Ipam, Surroundings};
use super::quorum::quorum;
use super::{Ballot, Need, Voter};
use crate::identity::PeerKey;
use crate::time::Instant;

/// How long a proposal may take.
const PROPOSAL_TIMEOUT: Duration = Duration::from_millis(400);
/// After a proposal that failed: at least half of this, and twice as long each time.
const RETRY_DELAY: Duration = Duration::from_millis(60);
const RETRY_DOUBLINGS_MAX: u32 = 5;

#[derive(Debug)]
pub(super) struct Proposal {
    ballot: Ballot,
    promises: BTreeMap<PeerKey, Need>,
    /// Of the rings accepted before, that of the highest ballot.
    earlier: Option<(Ballot, Arc<FirstRing>)>,
    /// What we proposed, once a quorum promised.
    first: Option<Arc<FirstRing>>,
    accepted: BTreeMap<PeerKey, Need>,
    pub(super) deadline: Instant,
}

impl Ipam {
    pub(super) fn propose(&mut self, reachable: &BTreeSet<PeerKey>, near: &Surroundings<'_>) {
        let promised = self.formation.voter.promised.map_or(0, |ballot| ballot.round);
        self.formation.round = self.formation.round.max(promised) + 1;
        let ballot = Ballot { round: self.formation.round, proposer: near.card.key };
        let need = self.need(near);
        self.formation.proposal = Some(Proposal {
            ballot,
            promises: BTreeMap::new(),
            earlier: None,
            first: None,
            accepted: BTreeMap::new(),
            deadline: near.now + PROPOSAL_TIMEOUT,
        });
        self.formation.voter.promised = Some(ballot);
        self.persist();
        reachable.iter().for_each(|peer| self.write(*peer, &Note::Prepare { ballot, need: need.clone() }));
        let accepted = self.formation.voter.accepted.clone();
        self.handle_promise(near.card.key, ballot, accepted, need, near);
    }

    /// The proposal comes to nothing; the next one follows.
    pub(super) fn abandon(&mut self, near: &Surroundings<'_>) {
        if self.formation.proposal.take().is_some() {
            let most = RETRY_DELAY * (1 << self.formation.failures.min(RETRY_DOUBLINGS_MAX));
            self.formation.failures += 1;
            let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX) / 2;
            let delay = Duration::from_micros(micros + self.rng.next_u64() % micros.max(1));
            self.formation.next_try = Some(near.now + delay);
        }
    }

    pub(in crate::ipam) fn handle_promise(
        &mut self,
        from: PeerKey,
        ballot: Ballot,
        accepted: Option<(Ballot, Arc<FirstRing>)>,
        need: Need,
        near: &Surroundings<'_>,
    ) {
        self.formation.peers = self.formation.peers.max(need.peers);
        self.formation.observers.remove(&from);
        let peers = self.need(near).peers;
        let accepted = accepted.filter(|(_, first)| self.is_usable(from, first, near));
        let keeps_needs = self.rules.keeps(Rule::SeedsMajority);
        let Some(proposal) = &mut self.formation.proposal else { return };
        if proposal.ballot != ballot || proposal.first.is_some() {
            return;
        }
        let need = if keeps_needs { need } else { Need { given: 0, ..need } };
        proposal.promises.insert(from, need);
        if accepted.as_ref().map(|(ballot, _)| ballot) > proposal.earlier.as_ref().map(|(ballot, _)| ballot) {
            proposal.earlier = accepted;
        }
        let Some(members) = quorum(&proposal.promises, peers) else { return };
        let first = match &proposal.earlier {
            Some((_, first)) => Arc::clone(first),
            None => Arc::new(FirstRing::propose(self.config.range.range(), members, near.mesh(), near.identity)),
        };
        proposal.first = Some(Arc::clone(&first));
        let voters: Vec<PeerKey> = proposal.promises.keys().copied().filter(|voter| *voter != near.card.key).collect();
        for voter in voters {
            self.write(voter, &Note::Accept { ballot, first: Arc::clone(&first) });
        }
        // Another ballot may have got our promise meanwhile.
        if self.formation.voter.promised <= Some(ballot) {
            self.formation.voter = Voter { promised: Some(ballot), accepted: Some((ballot, first)) };
            self.persist();
            self.handle_accepted(near.card.key, ballot, near);
        }
    }

    pub(in crate::ipam) fn handle_accepted(&mut self, from: PeerKey, ballot: Ballot, near: &Surroundings<'_>) {
        let peers = self.need(near).peers;
        let Some(proposal) = self.formation.proposal.as_mut().filter(|proposal| proposal.ballot == ballot) else {
            return;
        };
        let Some(need) = proposal.promises.get(&from).cloned() else { return };
        proposal.accepted.insert(from, need);
        if let Some(first) = proposal.first.clone().filter(|_| quorum(&proposal.accepted, peers).is_some()) {
            self.begin_ring(first, near);
        }
    }

    pub(in crate::ipam) fn handle_refuse(&mut self, promised: Ballot, near: &Surroundings<'_>) {
        self.formation.round = self.formation.round.max(promised.round);
        if self.formation.proposal.as_ref().is_some_and(|proposal| proposal.ballot < promised) {
            self.abandon(near);
        }
    }
}
