//! What the dead owned goes to one heir, by consent of everybody else.
//!
//! ```text
//!   certificate   a person, a successor on the same instance or the dead itself says that an identity is dead for ever
//!   heir          the next identity after the dead one, in the order of keys, that is not certified dead
//!
//!   heir                                  every member not certified dead
//!   Ask      ───────────────────────────► promised: nothing more from the dead one, no other heir       ┐ durable
//!            ◄─────────────────────────── Consent: its ring, addresses that its containers hold, peers  ┘ before
//!   all consented: TakeOver, durable, told to all with what justifies it ──► believed by each, promises end
//!
//!   two heirs     whoever was promised elsewhere says Occupied; of two askers the one with the higher key withdraws
//!   nothing left  an heir that hears that the dead one gave everything away withdraws: promises end, grants are believed
//! ```
//!
//! Invariants:
//! - a promise is durable before it is told or relied on, with the certificate that it rests on;
//! - nobody certified dead is promised anything;
//! - an heir takes over only with the consent of everybody it or any of them knows of;
//! - what containers elsewhere hold of it is in use until they give it back or die with their host.

mod accusation;
mod certificate;
mod estate;
mod inheritance;
mod promise;
mod review;
mod succession;

use std::collections::BTreeSet;

use super::operation::Attempt;
use super::ring::Ring;
use super::{Answer, Error, Ipam, Operation, Owner, Range, Surroundings, Ticket, Wait};
use crate::identity::{Hash, PeerKey, digest};

pub(super) use self::accusation::told;
pub use self::certificate::{Certificate, Reason};
pub(super) use self::estate::Approvals;
pub use self::estate::{Approval, Estate, Succession};
pub(super) use self::inheritance::Deaths;
pub(super) use self::promise::Promise;

fn members_hash(members: &BTreeSet<PeerKey>) -> Hash {
    let bytes: Vec<u8> = members.iter().flat_map(|member| member.0).collect();
    digest("weave-rs members", &[&bytes])
}

impl Ipam {
    /// Everybody that is not certified dead, ourselves included.
    fn alive(&self, near: &Surroundings<'_>) -> BTreeSet<PeerKey> {
        #[cfg(test)]
        self.deaths.walks.update(|walks| walks + 1);
        let members = near.members.iter().filter(|(_, member)| !member.reach.is_hearsay()).map(|(key, _)| *key);
        let mut alive: BTreeSet<PeerKey> = members.chain(self.ring.iter().flat_map(Ring::owners)).collect();
        alive.insert(near.card.key);
        alive.retain(|peer| !self.certificates.contains_key(peer));
        alive
    }

    /// Whether it is one of those.
    fn is_alive(&self, peer: &PeerKey, near: &Surroundings<'_>) -> bool {
        (near.is_member(peer) || *peer == near.card.key || self.is_owner(peer)) && !self.certificates.contains_key(peer)
    }

    /// Believes a certificate that is sound.
    pub(super) fn certify(&mut self, certificate: &Certificate, near: &Surroundings<'_>) {
        let dead = certificate.dead;
        self.accusations.remove(&dead);
        self.certificates.insert(dead, certificate.clone());
        self.buried.entry(dead).or_insert(near.now);
        self.promises.retain(|_, promise| promise.heir != dead);
        self.problems.remove(&dead);
        self.bequeath_holds(&dead, near);
        self.retry_ahead(near);
        self.persist_later(near);
        self.is_changed = true;
    }

    /// `rmpeer`: also of an identity that only others know, since it may be the one that is waited for.
    pub(crate) fn take_over(&mut self, ticket: Ticket, peer: PeerKey, near: &Surroundings<'_>) {
        self.call_dead(peer, near);
        let addresses = self.owned_by(peer);
        self.begin(ticket, Operation::TakeOver { peer, addresses }, near);
    }

    /// An operator says that `peer` is dead.
    fn call_dead(&mut self, peer: PeerKey, near: &Surroundings<'_>) {
        let successor = near.members.get(&peer).and_then(|member| review::seeming_successor(&member.card, near));
        self.accuse(peer, Reason::Operator { successor }, near);
    }

    /// How many addresses `peer` owns.
    fn owned_by(&self, peer: PeerKey) -> u64 {
        self.ring.iter().flat_map(|ring| ring.owned_by(Owner::Peer(peer))).map(Range::size).sum()
    }

    pub(super) fn is_owner(&self, peer: &PeerKey) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.owns_any(Owner::Peer(*peer)))
    }

    pub(super) fn try_take_over(&mut self, peer: PeerKey, addresses: u64, near: &Surroundings<'_>) -> Attempt {
        if !self.is_owner(&peer) {
            return Ok(Ok(Answer::TakenOver { addresses }));
        }
        if near.is_reachable(&peer) {
            return Ok(Err(Error::Reachable { peer, from: near.card.key }));
        }
        if !self.certificates.contains_key(&peer) {
            if !self.accusations.contains_key(&peer) {
                self.call_dead(peer, near);
            }
            return Err(Wait::Hold(peer));
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
