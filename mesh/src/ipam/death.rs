//! What the dead owned goes to one heir, by consent of everybody else.
//!
//! ```text
//!   certificate   a person, the cloud or a successor on the same machine says that an identity is dead for ever
//!   heir          the next identity after the dead one, in the order of keys, that is not certified dead
//!
//!   heir                                  every member not certified dead
//!   Ask      ───────────────────────────► promised: nothing more from the dead one, no other heir       ┐ durable
//!            ◄─────────────────────────── Consent: its ring, addresses that its containers hold, peers  ┘ before
//!   all consented: TakeOver, durable, told to all ──► promises end
//!
//!   two heirs     whoever was promised elsewhere says Occupied; of two askers the one with the higher key withdraws
//!   nothing left  an heir that hears that the dead one gave everything away withdraws: promises end, grants are believed
//! ```
//!
//! Invariants:
//! - a certificate and a promise are durable before they are told or relied on;
//! - nobody certified dead is promised anything;
//! - an heir takes over only with the consent of everybody it or any of them knows of;
//! - what containers elsewhere hold of it is in use until they give it back or die with their host.

mod certificate;
mod inheritance;
mod promise;
mod review;

use std::collections::BTreeSet;

use super::operation::Attempt;
use super::ring::Ring;
use super::{Answer, Ipam, Operation, Owner, Problem, Range, Surroundings, Ticket, Wait};
use crate::identity::{Hash, PeerKey, digest};
use crate::members::Reach;
use crate::store::OWNERS_MAX;

pub use self::certificate::Certificate;
pub(super) use self::inheritance::Deaths;
pub(super) use self::promise::Promise;

fn members_hash(members: &BTreeSet<PeerKey>) -> Hash {
    let bytes: Vec<u8> = members.iter().flat_map(|member| member.0).collect();
    digest("weave-rs members", &[&bytes])
}

impl Ipam {
    /// Everybody that is not certified dead, ourselves included.
    fn alive(&self, near: &Surroundings<'_>) -> BTreeSet<PeerKey> {
        let was_reachable = |reach: Reach| !matches!(reach, Reach::Heard { .. });
        let members = near.members.iter().filter(|(_, member)| was_reachable(member.reach)).map(|(key, _)| *key);
        let owners = self.ring.iter().flat_map(Ring::pieces).filter_map(|(_, owner)| match owner {
            Owner::Peer(key) => Some(key),
            Owner::Named(_) => None,
        });
        let certifiers = self
            .certificates
            .values()
            .flat_map(|certificate| [Some(certificate.by), certificate.successor].into_iter().flatten());
        let mut alive: BTreeSet<PeerKey> = members.chain(owners).chain(certifiers).collect();
        alive.insert(near.card.key);
        alive.retain(|peer| !self.certificates.contains_key(peer));
        alive
    }

    /// Takes a certificate into account; whether it is sound and news.
    pub(super) fn certify(&mut self, certificate: &Certificate, near: &Surroundings<'_>) -> bool {
        let is_known = self.certificates.contains_key(&certificate.dead);
        if is_known || self.certificates.len() >= OWNERS_MAX || !certificate.is_signed(near.verifier) {
            return false;
        }
        let dead = certificate.dead;
        if dead == near.card.key {
            self.note_problem(certificate.by, Problem::WeAreDead);
        }
        self.certificates.insert(dead, certificate.clone());
        self.promises.retain(|_, promise| promise.heir != dead);
        self.bequeath_holds(&dead, near);
        self.persist();
        self.is_changed = true;
        true
    }

    fn declare_dead(&mut self, dead: PeerKey, successor: Option<PeerKey>, near: &Surroundings<'_>) {
        let certificate = Certificate::sign(near.identity, near.mesh(), dead, successor);
        if self.certify(&certificate, near) {
            self.spread(&[], &[certificate], None);
        }
    }

    /// `rmpeer`: also of an identity that only others know, since it may be the one that is waited for.
    pub(crate) fn take_over(&mut self, ticket: Ticket, peer: PeerKey, near: &Surroundings<'_>) {
        self.declare_dead(peer, None, near);
        let addresses = self.owned_by(peer);
        self.begin(ticket, Operation::TakeOver { peer, addresses }, near);
    }

    /// How many addresses `peer` owns.
    fn owned_by(&self, peer: PeerKey) -> u64 {
        self.ring.iter().flat_map(|ring| ring.owned_by(Owner::Peer(peer))).map(Range::size).sum()
    }

    pub(super) fn try_take_over(&self, peer: PeerKey, addresses: u64, near: &Surroundings<'_>) -> Attempt {
        if self.owned_by(peer) == 0 {
            return Ok(Ok(Answer::TakenOver { addresses }));
        }
        let heir = self.heir(peer, near);
        let missing = self.deaths.askings.get(&peer).map(|asking| self.missing(peer, asking, near));
        Err(Wait::Consent { heir, missing: missing.unwrap_or_default() })
    }

    /// The next identity after `dead` that is not certified dead, unless another was promised already.
    fn heir(&self, dead: PeerKey, near: &Surroundings<'_>) -> PeerKey {
        if let Some(promise) = self.promises.get(&dead) {
            return promise.heir;
        }
        let alive = self.alive(near);
        let after = alive.range(dead..).next();
        after.or_else(|| alive.first()).copied().unwrap_or(near.card.key)
    }
}
