//! The first ring: agreed by a quorum, given by the operator's seeds, or learnt.
//!
//! ```text
//!   proposer                    voters
//!   Prepare(ballot)   ────────► promised: nothing below this ballot any more      ┐ durable before
//!   a quorum          ◄──────── Promise(what was accepted before)                 ┘ the answer
//!   Accept(ballot, ring) ─────► accepted                                          ┐ likewise
//!   a quorum: chosen  ◄──────── Accepted                                          ┘
//! ```
//!
//! That is single-decree Paxos. What a quorum is, each voter has a say in: its [`Need`] comes with its vote.
//!
//! Invariants:
//! - a quorum is a majority of the largest number of peers heard of, and contains a majority of the peers given to each of
//!   its members; so two quorums share a member as soon as what was given overlaps enough;
//! - a vote is durable before it is told;
//! - an observer never votes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;
use serde::{Deserialize, Serialize};

use super::note::Note;
use super::ring::Ring;
use super::rules::Rule;
use super::{FirstRing, Init, Ipam, Origin, Owner, Problem, Right, Surroundings, Wait};
use crate::identity::PeerKey;
use crate::time::Instant;

/// How many of the peers given to it a voter names.
pub(super) const NEED_KNOWN_MAX: usize = 128;
/// How long a proposal may take.
const PROPOSAL_TIMEOUT: Duration = Duration::from_millis(400);
/// How much later the next in the order of keys proposes, so that the first is done by then.
const RANK_DELAY: Duration = Duration::from_millis(30);
const RANKS_MAX: u32 = 16;
/// After a proposal that failed: at least half of this, and twice as long each time.
const RETRY_DELAY: Duration = Duration::from_millis(60);
const RETRY_DOUBLINGS_MAX: u32 = 5;
/// While too few peers are reachable.
const RECRUIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a seed without a ring looks for somebody who has one.
const SEED_DELAY: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    pub round: u64,
    pub proposer: PeerKey,
}

/// What a voter demands of a quorum that it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// How many peers it believes there are.
    pub peers: u32,
    /// How many distinct peers it was given.
    pub given: u32,
    /// Those of them that it knows.
    pub known: Vec<PeerKey>,
}

impl Need {
    fn is_met_by(&self, voters: &BTreeMap<PeerKey, Self>) -> bool {
        let present = self.known.iter().filter(|peer| voters.contains_key(peer)).count();
        self.given == 0 || present > self.given as usize / 2
    }
}

/// What we have promised and accepted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Voter {
    promised: Option<Ballot>,
    accepted: Option<(Ballot, Arc<FirstRing>)>,
}

#[derive(Debug)]
struct Proposal {
    ballot: Ballot,
    promises: BTreeMap<PeerKey, Need>,
    /// Of the rings accepted before, that of the highest ballot.
    earlier: Option<(Ballot, Arc<FirstRing>)>,
    /// What we proposed, once a quorum promised.
    first: Option<Arc<FirstRing>>,
    accepted: BTreeMap<PeerKey, Need>,
    deadline: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Formation {
    pub(super) voter: Voter,
    proposal: Option<Proposal>,
    /// The highest heard.
    round: u64,
    peers: u32,
    next_try: Option<Instant>,
    failures: u32,
    seed_at: Option<Instant>,
}

/// The largest group of `voters` in which everybody's need is met, if it is a majority of `peers`.
fn quorum(voters: &BTreeMap<PeerKey, Need>, peers: u32) -> Option<BTreeSet<PeerKey>> {
    let mut group = voters.clone();
    loop {
        let unmet: Vec<PeerKey> =
            group.iter().filter(|(_, need)| !need.is_met_by(&group)).map(|(voter, _)| *voter).collect();
        if unmet.is_empty() {
            break;
        }
        unmet.iter().for_each(|voter| drop(group.remove(voter)));
    }
    (group.len() > peers as usize / 2).then(|| group.into_keys().collect())
}

impl Ipam {
    /// Without a ring: what is waited for, and the next step towards it.
    pub(super) fn await_ring(&mut self, near: &Surroundings<'_>) -> Result<(), Wait> {
        if self.ring.is_some() {
            return Ok(());
        }
        match self.config.init {
            Init::Consensus(_) => {
                if self.formation.proposal.is_none() && self.formation.next_try.is_none() {
                    self.formation.next_try = Some(near.now + RANK_DELAY * self.rank(near));
                }
                let need = self.need(near).peers as usize / 2 + 1;
                Err(Wait::Quorum { have: near.reachable().len() + 1, need })
            }
            Init::Observer => {
                self.formation.next_try.get_or_insert(near.now);
                Err(Wait::Ring)
            }
            Init::Seed(_) => Err(Wait::Ring),
        }
    }

    /// How many reachable peers come before us in the order of keys.
    fn rank(&self, near: &Surroundings<'_>) -> u32 {
        let own = near.card.key;
        let before = near.reachable().range(..own).count();
        u32::try_from(before).unwrap_or(RANKS_MAX).min(RANKS_MAX)
    }

    fn need(&self, near: &Surroundings<'_>) -> Need {
        let given = near.given();
        let peers = match self.config.init {
            Init::Consensus(Some(peers)) => peers,
            Init::Consensus(None) | Init::Seed(_) | Init::Observer => given.others + 1,
        };
        Need { peers: peers.max(self.formation.peers), given: given.peers, known: given.known }
    }

    pub(super) fn start_formation(&mut self, near: &Surroundings<'_>) {
        if matches!(&self.config.init, Init::Seed(seeds) if seeds.contains(&near.card.name)) && self.ring.is_none() {
            self.formation.seed_at = Some(near.now + SEED_DELAY);
        }
    }

    pub(super) fn formation_timeout(&self) -> Option<Instant> {
        let deadline = self.formation.proposal.as_ref().map(|proposal| proposal.deadline);
        [deadline, self.formation.next_try, self.formation.seed_at].into_iter().flatten().min()
    }

    pub(super) fn handle_formation_timeout(&mut self, near: &Surroundings<'_>) {
        let now = near.now;
        if self.formation.seed_at.take_if(|at| *at <= now).is_some()
            && let Init::Seed(seeds) = &self.config.init
        {
            let first = FirstRing::of_seeds(self.config.range.range(), seeds);
            self.adopt(Arc::new(first), near);
        }
        if self.formation.proposal.as_ref().is_some_and(|proposal| proposal.deadline <= now) {
            self.abandon(near);
        }
        if self.formation.next_try.take_if(|at| *at <= now).is_some() {
            self.pursue_ring(near);
        }
    }

    /// Others became reachable: a quorum may be there.
    pub(super) fn hurry_formation(&mut self, near: &Surroundings<'_>) {
        if self.formation.proposal.is_none() && self.formation.next_try.is_some() {
            let soon = near.now + RANK_DELAY * self.rank(near);
            self.formation.next_try = self.formation.next_try.map(|at| at.min(soon));
        }
    }

    fn pursue_ring(&mut self, near: &Surroundings<'_>) {
        if self.ring.is_some() || self.pending.is_empty() && !self.formation_is_wanted {
            return;
        }
        let reachable = near.reachable();
        match self.config.init {
            Init::Observer => {
                reachable.iter().for_each(|peer| self.write(*peer, &Note::Wanted));
                self.formation.next_try = Some(near.now + RECRUIT_INTERVAL);
            }
            Init::Consensus(_) if reachable.len() < self.need(near).peers as usize / 2 => {
                self.formation.next_try = Some(near.now + RECRUIT_INTERVAL);
            }
            Init::Consensus(_) => self.propose(&reachable, near),
            Init::Seed(_) => {}
        }
    }

    fn propose(&mut self, reachable: &BTreeSet<PeerKey>, near: &Surroundings<'_>) {
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
    fn abandon(&mut self, near: &Surroundings<'_>) {
        if self.formation.proposal.take().is_some() {
            let most = RETRY_DELAY * (1 << self.formation.failures.min(RETRY_DOUBLINGS_MAX));
            self.formation.failures += 1;
            let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX) / 2;
            let delay = Duration::from_micros(micros + self.rng.next_u64() % micros.max(1));
            self.formation.next_try = Some(near.now + delay);
        }
    }

    pub(super) fn handle_prepare(&mut self, from: PeerKey, ballot: Ballot, need: &Need, near: &Surroundings<'_>) {
        self.formation.peers = self.formation.peers.max(need.peers);
        if self.refuses(from, ballot) {
            return;
        }
        self.formation.voter.promised = Some(ballot);
        let accepted = self.formation.voter.accepted.clone();
        let promise = Note::Promise { ballot, accepted, need: self.need(near) };
        self.vote(from, &promise, near);
    }

    pub(super) fn handle_accept(
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

    pub(super) fn handle_promise(
        &mut self,
        from: PeerKey,
        ballot: Ballot,
        accepted: Option<(Ballot, Arc<FirstRing>)>,
        need: Need,
        near: &Surroundings<'_>,
    ) {
        self.formation.peers = self.formation.peers.max(need.peers);
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

    pub(super) fn handle_accepted(&mut self, from: PeerKey, ballot: Ballot, near: &Surroundings<'_>) {
        let peers = self.need(near).peers;
        let Some(proposal) = self.formation.proposal.as_mut().filter(|proposal| proposal.ballot == ballot) else {
            return;
        };
        let Some(need) = proposal.promises.get(&from).cloned() else { return };
        proposal.accepted.insert(from, need);
        if let Some(first) = proposal.first.clone().filter(|_| quorum(&proposal.accepted, peers).is_some()) {
            self.adopt(first, near);
        }
    }

    pub(super) fn handle_refuse(&mut self, promised: Ballot, near: &Surroundings<'_>) {
        self.formation.round = self.formation.round.max(promised.round);
        if self.formation.proposal.as_ref().is_some_and(|proposal| proposal.ballot < promised) {
            self.abandon(near);
        }
    }

    pub(super) fn handle_wanted(&mut self, from: PeerKey, near: &Surroundings<'_>) {
        match &self.ring {
            Some(ring) => {
                let first = Arc::clone(ring.first());
                self.write(from, &Note::Exists { first });
            }
            None => {
                self.formation_is_wanted = true;
                // Whoever wants it hears of it when it is there: it is gossiped.
                let _ = self.await_ring(near);
            }
        }
    }

    /// Whether a first ring that `from` told is one that we could live in.
    pub(super) fn is_usable(&mut self, from: PeerKey, first: &FirstRing, near: &Surroundings<'_>) -> bool {
        let ours = self.config.range.range();
        if first.range != ours {
            self.note_problem(from, Problem::OtherRange { ours, theirs: first.range });
            return false;
        }
        if let (Init::Seed(ours), Origin::Seeds(theirs)) = (&self.config.init, &first.origin) {
            let ours: BTreeSet<_> = ours.iter().copied().collect();
            if !ours.iter().eq(theirs) {
                let (ours, theirs) = (ours.into_iter().collect(), theirs.clone());
                self.note_problem(from, Problem::OtherSeeds { ours, theirs });
                return false;
            }
        }
        first.is_sound(near.verifier)
    }

    /// The first ring is this one, for ever.
    pub(super) fn adopt(&mut self, first: Arc<FirstRing>, near: &Surroundings<'_>) {
        if self.ring.is_some() {
            return;
        }
        self.formation = Formation { voter: std::mem::take(&mut self.formation.voter), ..Formation::default() };
        let mut ring = Ring::new(first, near.mesh());
        let name = near.card.name;
        let reserved: Vec<_> = ring.owned_by(Owner::Named(name)).collect();
        for range in reserved {
            let bound = ring.make(range, Right::Bind { name }, near.card.key, near.identity);
            ring.merge(&bound, near.verifier);
        }
        self.ring = Some(ring);
        self.measure(near);
        self.persist();
        self.spread_all(near);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PeerKey {
        PeerKey([number; 32])
    }

    fn voters(voters: &[(u8, &[u8], u32)]) -> BTreeMap<PeerKey, Need> {
        let need = |known: &[u8], given| Need { peers: 1, given, known: known.iter().copied().map(key).collect() };
        voters.iter().map(|(voter, known, given)| (key(*voter), need(known, *given))).collect()
    }

    #[test]
    fn a_quorum_is_a_majority() {
        let three = voters(&[(1, &[], 0), (2, &[], 0), (3, &[], 0)]);
        assert_eq!(quorum(&three, 5).map(|quorum| quorum.len()), Some(3));
        assert_eq!(quorum(&three, 6), None);
    }

    #[test]
    fn a_quorum_has_a_majority_of_what_was_given_to_each() {
        let without_seed = voters(&[(2, &[1], 1), (3, &[1], 1)]);
        assert_eq!(quorum(&without_seed, 3), None);
        let with_seed = voters(&[(1, &[], 0), (2, &[1], 1), (3, &[1], 1)]);
        assert_eq!(quorum(&with_seed, 3).unwrap().len(), 3);
        let with_unknown = voters(&[(1, &[], 0), (2, &[1], 2)]);
        assert_eq!(quorum(&with_unknown, 1), Some(BTreeSet::from([key(1)])), "whose need is not met is left out");
    }
}
