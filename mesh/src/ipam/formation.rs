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
//!   its members; so two quorums share a member as soon as what was given overlaps enough. To a member that was told how many
//!   vote, those that say themselves that they never do were not given: there the number alone is what two quorums share;
//! - where a cloud lists the machines, the number is theirs and the oldest of them is in every quorum: `electorate.rs`;
//! - a vote is durable before it is told;
//! - an observer never votes.

mod electorate;
mod proposer;
mod quorum;
mod voter;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::note::Note;
use super::ring::Ring;
use super::{FirstRing, Init, Ipam, Origin, Problem, Surroundings, Wait};
use crate::identity::PeerKey;
use crate::time::Instant;

use self::proposer::Proposal;
pub(super) use self::quorum::{NEED_KNOWN_MAX, Need};
pub(super) use self::voter::{Ballot, Voter};

/// How much later the next in the order of keys proposes, so that the first is done by then.
const RANK_DELAY: Duration = Duration::from_millis(30);
const RANKS_MAX: u32 = 16;
/// While too few peers are reachable.
const RECRUIT_INTERVAL: Duration = Duration::from_secs(1);
/// How often the peers given to us are asked whether they vote.
const ROLES_INTERVAL: Duration = Duration::from_millis(200);
/// How many of the given peers that nobody answers at are named.
const UNMET_MAX: usize = 8;
/// How long a seed without a ring looks for somebody who has one.
const SEED_DELAY: Duration = Duration::from_millis(500);

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
    /// Of the peers given to us, those that say that they never vote.
    pub(super) observers: BTreeSet<PeerKey>,
    roles_asked: Option<Instant>,
}

impl Ipam {
    /// Without a ring: what is waited for, and the next step towards it.
    pub(super) fn await_ring(&mut self, near: &Surroundings<'_>) -> Result<(), Wait> {
        if self.ring.is_some() {
            return Ok(());
        }
        match self.config.init {
            Init::Consensus(_) | Init::Listed => {
                if self.formation.proposal.is_none() && self.formation.next_try.is_none() {
                    self.formation.next_try = Some(near.now + RANK_DELAY * self.rank(near));
                }
                Err(self.missing_quorum(near))
            }
            Init::Observer => {
                self.formation.next_try.get_or_insert(near.now);
                Err(Wait::Ring)
            }
            Init::Seed(_) => Err(Wait::Ring),
        }
    }

    /// Who is needed to agree on a ring and is not there.
    fn missing_quorum(&self, near: &Surroundings<'_>) -> Wait {
        if self.config.init == Init::Listed {
            return self.missing_electors(near);
        }
        let given = near.given();
        let are_all_observers =
            given.others > 0 && given.apart_from(&self.formation.observers).apart_from(&near.itself()).peers == 0;
        if are_all_observers && self.config.init == Init::Consensus(None) {
            return Wait::Electors;
        }
        let electors = near.reachable().into_iter().filter(|peer| !self.formation.observers.contains(peer));
        let unmet = near.connector.unmet(|peer| near.is_reachable(peer)).take(UNMET_MAX);
        Wait::Quorum {
            have: electors.count() + 1,
            need: self.need(near).peers as usize / 2 + 1,
            oldest: None,
            unmet: unmet.map(ToString::to_string).collect(),
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
        match self.config.init {
            Init::Consensus(Some(peers)) => {
                // The operator said how many vote: of those that he gave, the ones that never do are none of them.
                let given = given.apart_from(&self.formation.observers);
                Need { peers: peers.max(self.formation.peers), given: given.peers, known: given.known }
            }
            Init::Listed => self.listed_need(near),
            Init::Consensus(None) | Init::Seed(_) | Init::Observer => {
                let peers = (given.others + 1).max(self.formation.peers);
                Need { peers, given: given.peers, known: given.known }
            }
        }
    }

    /// Asks the peers given to us whether they vote, unless they were asked just now.
    pub(super) fn ask_roles(&mut self, near: &Surroundings<'_>) {
        if self.formation.roles_asked.is_some_and(|at| near.now.since(at) < ROLES_INTERVAL) {
            return;
        }
        self.formation.roles_asked = Some(near.now);
        let known = near.given().known;
        let is_asked = |peer: &&PeerKey| !self.formation.observers.contains(peer) && near.is_reachable(peer);
        let asked: Vec<PeerKey> = known.iter().filter(is_asked).copied().collect();
        asked.into_iter().for_each(|peer| self.write(peer, &Note::AskRole));
    }

    pub(super) fn handle_ask_role(&mut self, from: PeerKey) {
        if matches!(self.config.init, Init::Observer) {
            self.write(from, &Note::Observes);
        }
    }

    /// `from` says that it never votes. Only of those given to us that is of any use.
    pub(super) fn handle_observes(&mut self, from: PeerKey, near: &Surroundings<'_>) {
        if self.ring.is_none() && near.given().known.contains(&from) && self.formation.observers.insert(from) {
            self.is_changed = true;
            self.hurry_formation(near);
        }
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
            self.begin_ring(Arc::new(first), near);
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
        if matches!(self.config.init, Init::Consensus(_)) {
            self.ask_roles(near);
        }
        match self.config.init {
            Init::Observer => {
                reachable.iter().for_each(|peer| self.write(*peer, &Note::Wanted));
                self.formation.next_try = Some(near.now + RECRUIT_INTERVAL);
            }
            Init::Consensus(_) if reachable.len() < self.need(near).peers as usize / 2 => {
                self.formation.next_try = Some(near.now + RECRUIT_INTERVAL);
            }
            Init::Listed if !self.is_electorate_there(near) => {
                self.formation.next_try = Some(near.now + RECRUIT_INTERVAL);
            }
            Init::Consensus(_) | Init::Listed => self.propose(&reachable, near),
            Init::Seed(_) => {}
        }
    }

    pub(super) fn handle_wanted(&mut self, from: PeerKey, near: &Surroundings<'_>) {
        self.handle_observes(from, near);
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

    /// The first ring is this one, as it is everywhere where it was agreed on: nothing has happened to it.
    pub(super) fn begin_ring(&mut self, first: Arc<FirstRing>, near: &Surroundings<'_>) {
        if self.ring.is_none() {
            self.adopt(first, near);
            self.newcomer = None;
            self.spread_all(near);
        }
    }

    /// The first ring is this one, for ever.
    pub(super) fn adopt(&mut self, first: Arc<FirstRing>, near: &Surroundings<'_>) {
        self.formation = Formation { voter: std::mem::take(&mut self.formation.voter), ..Formation::default() };
        let mut ring = Ring::new(first, near.mesh());
        ring.bind(near.card.name, near.identity);
        self.ring = Some(ring);
        self.measure(near);
        self.persist();
    }
}
