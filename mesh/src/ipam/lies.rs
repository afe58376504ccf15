//! Everything about addresses that a member could say, for the tests of those who hear it.
//!
//! ```text
//!   news    transfers, certificates, successions ─┐  of true owners, ranges and numbers as often as of random ones;
//!   notes   every kind of letter                  ─┘  signed by the liar, by keys of its own, or by nobody
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_core::RngCore;

use super::death::{Approval, Certificate, Estate, Reason, Succession};
use super::formation::{Ballot, Need};
use super::note::{Consent, Holds};
use super::{FirstRing, Ipam, Note, Range, Right, RingNews, RingState, Transfer, Version};
use crate::identity::{Hash, PeerKey};
use crate::store::fixtures::Owner;
use crate::wire::Goodbye;

impl Ipam {
    pub(crate) fn owner(&self, address: u32) -> Option<super::Owner> {
        self.ring.as_ref()?.owner(address)
    }

    /// Every transfer that made the ring what it is.
    pub(crate) fn history(&self) -> Vec<Arc<Transfer>> {
        self.ring.as_ref().map(|ring| ring.history(self.config.range.range())).unwrap_or_default()
    }
}

/// What the liar knows, which is everything.
pub(crate) struct Lies<'a> {
    pub(crate) rng: &'a mut ChaCha8Rng,
    pub(crate) ring: Hash,
    pub(crate) range: Range,
    /// Whom it speaks of, itself among them.
    pub(crate) owners: &'a [Owner],
    /// What it can sign with.
    pub(crate) keys: &'a [Owner],
    /// True transfers that it has heard.
    pub(crate) heard: &'a [Arc<Transfer>],
}

impl Lies<'_> {
    fn below(&mut self, limit: usize) -> usize {
        self.rng.next_u32() as usize % limit
    }

    fn number(&mut self) -> u64 {
        [0, 1, 2, 3, 1_000, u64::MAX, self.rng.next_u64()][self.below(7)]
    }

    fn count(&mut self) -> u32 {
        [0, 1, 2, 3, 4, u32::MAX, self.rng.next_u32()][self.below(7)]
    }

    fn version(&mut self) -> Version {
        Version { epoch: self.count(), count: self.count() }
    }

    fn anybody(&mut self) -> &Owner {
        let owner = self.below(self.owners.len());
        &self.owners[owner]
    }

    fn key(&mut self) -> PeerKey {
        self.anybody().key()
    }

    fn signer(&mut self) -> &Owner {
        let key = self.below(self.keys.len());
        &self.keys[key]
    }

    fn hash(&mut self) -> Hash {
        if self.below(4) > 0 {
            return self.ring;
        }
        let mut hash = [0; 32];
        self.rng.fill_bytes(&mut hash);
        hash
    }

    /// All, or anything.
    fn range(&mut self) -> Range {
        let any = self.range.first + self.rng.next_u32() % 256;
        match self.below(2) {
            0 => self.range,
            _ => Range { first: any, last: any.saturating_add(self.rng.next_u32() % 64) },
        }
    }

    /// By which right it is taken from `owner`.
    fn right(&mut self, owner: PeerKey) -> Right {
        match self.below(6) {
            0 => Right::Bind { name: self.anybody().card.name },
            1 | 2 => Right::TakeOver { from: owner, id: self.number() },
            3 => Right::TakeOver { from: self.key(), id: self.number() },
            4 => Right::Grant { from: owner },
            _ => Right::Grant { from: self.key() },
        }
    }

    /// What would come after `version`, or anything.
    fn next_version(&mut self, version: Version) -> Version {
        let next = [version.given(), version.taken_over(), Some(version), None][self.below(4)];
        next.unwrap_or_else(|| self.version())
    }

    /// A true one told again, one of the liar's that takes what a true one gave, or a true one that says something else now.
    fn transfer(&mut self) -> Arc<Transfer> {
        let heard = self.below(self.heard.len().max(1));
        let Some(heard) = self.heard.get(heard).cloned() else {
            let version = self.version();
            return self.stolen(self.range, version);
        };
        let stolen = self.stolen(heard.range, heard.version);
        let mut told = Transfer::clone(&heard);
        match self.below(8) {
            0 => told.range = self.range(),
            1 => told.version = stolen.version,
            2 => told.right = stolen.right,
            3 => told.to = stolen.to,
            4 => {}
            _ => return stolen,
        }
        Arc::new(told)
    }

    /// Of addresses in that range, which have that version, or some others.
    fn stolen(&mut self, range: Range, version: Version) -> Arc<Transfer> {
        let owner = self.heard.iter().find(|heard| heard.range == range).map_or_else(|| self.key(), |heard| heard.to);
        let range = if self.below(4) == 0 { self.range() } else { range };
        let (version, right, to) = (self.next_version(version), self.right(owner), self.key());
        let to = (self.below(4) == 0).then_some(to);
        let (ring, signer) = (self.ring, self.signer());
        Arc::new(Transfer::sign(&ring, range, version, right, to.unwrap_or_else(|| signer.key()), &signer.identity))
    }

    fn transfers(&mut self) -> Vec<Arc<Transfer>> {
        (0..self.below(4)).map(|_| self.transfer()).collect()
    }

    fn certificate(&mut self) -> Certificate {
        let (dead, successor) = (self.below(self.owners.len()), self.key());
        let incarnation = self.number();
        let dead = &self.owners[dead];
        let (key, mesh, card) = (dead.key(), dead.card.mesh, (dead.card.incarnation, dead.signed_card()));
        let reason = match self.below(4) {
            0 => Reason::Outlived { successor },
            1 => Reason::Goodbye(Goodbye::sign(&self.signer().identity, mesh, incarnation)),
            _ => Reason::Operator { successor: (self.below(2) == 0).then_some(successor) },
        };
        let newest = (self.below(3) > 0).then_some(card);
        let mut certificate = Certificate::sign(&self.signer().identity, mesh, key, reason, newest);
        match self.below(6) {
            0 => certificate.incarnation = incarnation,
            1 => certificate.by = successor,
            _ => {}
        }
        certificate
    }

    fn estate(&mut self) -> Estate {
        Estate { dead: self.key(), heir: self.key(), id: self.number() }
    }

    fn approval(&mut self, estate: &Estate) -> Approval {
        let (ring, incarnation) = (self.hash(), self.number());
        estate.approve(&ring, incarnation, &self.signer().identity)
    }

    /// Approved by the liar's keys, or by others as they would if it could sign for them.
    fn succession(&mut self) -> Succession {
        let estate = self.estate();
        let mut approvals = BTreeMap::new();
        for _ in 0..self.below(4) {
            let (ring, incarnation) = (self.hash(), self.number());
            let signer = self.signer();
            let approval = estate.approve(&ring, incarnation, &signer.identity);
            let by = signer.key();
            approvals.insert(if self.below(3) == 0 { self.key() } else { by }, approval);
        }
        Succession { estate, approvals }
    }

    fn first(&mut self) -> Arc<FirstRing> {
        let owners = (0..=self.below(3)).map(|_| self.key()).collect();
        let (range, signer) = (self.range, self.signer());
        Arc::new(FirstRing::propose(range, owners, signer.card.mesh, &signer.identity))
    }

    pub(crate) fn state(&mut self) -> RingState {
        RingState { ring: (self.below(4) > 0).then(|| self.hash()), state: self.hash() }
    }

    pub(crate) fn news(&mut self) -> RingNews {
        RingNews {
            ring: (self.below(8) > 0).then(|| self.hash()),
            first: (self.below(8) == 0).then(|| self.first()),
            transfers: self.transfers(),
            certificates: (0..self.below(3)).map(|_| self.certificate()).collect(),
            succession: (self.below(3) == 0).then(|| Box::new(self.succession())),
            compare: (self.below(4) == 0).then(|| self.hash()),
        }
    }

    fn addresses(&mut self) -> Vec<u32> {
        (0..self.below(4)).map(|_| self.range.first + self.rng.next_u32() % 256).collect()
    }

    fn holds(&mut self) -> Holds {
        Holds { number: (self.number(), self.number()), addresses: self.addresses() }
    }

    fn ballot(&mut self) -> Ballot {
        Ballot { round: self.number(), proposer: self.key() }
    }

    fn need(&mut self) -> Need {
        Need { peers: self.count(), given: self.count(), known: (0..self.below(3)).map(|_| self.key()).collect() }
    }

    fn consent(&mut self) -> Consent {
        let estate = self.estate();
        Consent {
            dead: estate.dead,
            id: estate.id,
            part: 0,
            parts: 1,
            transfers: self.transfers(),
            known: (0..self.below(3)).map(|_| self.key()).collect(),
            holds: self.holds(),
            approval: (self.below(2) == 0).then(|| self.approval(&estate)),
        }
    }

    /// Every kind of letter.
    pub(crate) fn note(&mut self) -> Note {
        match self.below(25) {
            0 => Note::Prepare { ballot: self.ballot(), need: self.need() },
            1 => {
                let accepted = (self.below(2) == 0).then(|| (self.ballot(), self.first()));
                Note::Promise { ballot: self.ballot(), accepted, need: self.need() }
            }
            2 => Note::Refuse { promised: self.ballot() },
            3 => Note::Exists { first: self.first() },
            4 => Note::Accept { ballot: self.ballot(), first: self.first() },
            5 => Note::Accepted { ballot: self.ballot() },
            6 => Note::Wanted,
            7 => Note::Request { id: self.number(), window: self.range() },
            8 => Note::Granted { id: self.number(), transfers: self.transfers() },
            9 => Note::Denied { id: self.number(), is_held: self.below(2) == 0, transfers: self.transfers() },
            10 => {
                let (ring, members) = (self.hash(), self.hash());
                Note::Ask { certificate: self.certificate(), id: self.number(), ring, members }
            }
            11 => Note::Consent(self.consent()),
            12 => Note::Occupied { dead: self.key(), heir: self.key(), id: self.number() },
            13 => Note::Withdraw { dead: self.key(), id: self.number() },
            14 => {
                let certificate = (self.below(2) == 0).then(|| self.certificate());
                Note::Approve { estate: self.estate(), certificate }
            }
            15 => {
                let estate = self.estate();
                Note::Approved { estate, approval: self.approval(&estate) }
            }
            16 => Note::Holds(self.holds()),
            17 => Note::HoldsHeard { number: self.holds().number },
            18 => Note::TellHolds,
            19 => Note::HandOver { id: self.number(), transfers: self.transfers() },
            20 => Note::HandOverHeard { id: self.number() },
            21 => Note::Newer { card: self.anybody().signed_card() },
            22 => Note::Accused { certificate: self.certificate() },
            23 => Note::AskRole,
            _ => Note::Observes,
        }
    }
}
