//! The side of the heir: it asks until all have consented, and then takes over.
//!
//! ```text
//!   owner is dead, we are its heir ──► asking ──► nobody missing: TakeOver, durable, told to all
//!                                        └──► Withdraw: a lower heir asks, too, or the dead one left nothing
//! ```
//!
//! Invariant: while we ask, what the dead one owned is promised to ourselves under the number of the asking.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_core::RngCore;

use super::super::note::{Consent, Note};
use super::super::ring::Ring;
use super::super::rules::Rule;
use super::super::{Action, Ipam, Surroundings};
use super::accusation::told;
use super::estate::{Approval, Estate, Succession};
use super::members_hash;
use super::promise::Promise;
use crate::identity::PeerKey;
use crate::store::OWNERS_MAX;
use crate::time::Instant;

/// How often those who have not consented are asked again.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long an heir that withdrew waits before it tries again.
const WITHDRAWN_DELAY: Duration = Duration::from_secs(3);

/// What has arrived of a consent.
#[derive(Debug, Default)]
struct Assembly {
    parts: u16,
    arrived: BTreeSet<u16>,
    approval: Option<Approval>,
}

impl Assembly {
    fn is_complete(&self) -> bool {
        self.parts > 0 && self.arrived.len() == usize::from(self.parts) && self.approval.is_some()
    }
}

/// An asking of ours.
#[derive(Debug)]
pub(super) struct Asking {
    id: u64,
    consents: BTreeMap<PeerKey, Assembly>,
    /// Whom those who answered know besides.
    known: BTreeSet<PeerKey>,
    ask_at: Instant,
}

#[derive(Debug, Default)]
pub(in crate::ipam) struct Deaths {
    pub(super) askings: BTreeMap<PeerKey, Asking>,
    /// Not before this do we ask again for what this dead peer owned.
    withdrawn: BTreeMap<PeerKey, Instant>,
    /// How often everybody alive was looked for.
    #[cfg(test)]
    pub(in crate::ipam) walks: std::cell::Cell<usize>,
}

impl Deaths {
    /// Whether an asking of ours is for what the peer owned, or for its consent.
    pub(in crate::ipam) fn is_about(&self, peer: &PeerKey) -> bool {
        self.askings.contains_key(peer) || self.names(peer)
    }

    /// Whether an asking of ours waits for the peer because others named it.
    pub(super) fn names(&self, peer: &PeerKey) -> bool {
        self.askings.values().any(|asking| asking.known.contains(peer))
    }
}

impl Ipam {
    /// What we ask for, and whose consent is missing.
    pub(in crate::ipam) fn inheriting(&self, near: &Surroundings<'_>) -> BTreeMap<PeerKey, Vec<PeerKey>> {
        let askings = self.deaths.askings.iter();
        askings.map(|(dead, asking)| (*dead, self.missing(*dead, asking, near))).collect()
    }

    pub(super) fn missing(&self, dead: PeerKey, asking: &Asking, near: &Surroundings<'_>) -> Vec<PeerKey> {
        let mut asked = self.alive(near);
        asked.extend(asking.known.iter().filter(|peer| !self.certificates.contains_key(peer)));
        let has_consented = |peer: &PeerKey| asking.consents.get(peer).is_some_and(Assembly::is_complete);
        asked.into_iter().filter(|peer| *peer != near.card.key && *peer != dead && !has_consented(peer)).collect()
    }

    /// Asks for what we are heir to, and takes it over when all have consented.
    pub(in crate::ipam) fn pursue_inheritances(&mut self, near: &Surroundings<'_>) {
        self.deaths.withdrawn.retain(|_, until| *until > near.now);
        if self.ring.is_none() || !self.is_resumed {
            self.deaths.askings.clear();
            return;
        }
        // What we take for an estate may have been inherited long ago.
        if self.may_be_outdated() {
            return;
        }
        let own = near.card.key;
        let is_empty = |(dead, promise): &(&PeerKey, &Promise)| {
            promise.heir == own && self.certificates.contains_key(dead) && !self.is_owner(dead)
        };
        let empty: Vec<PeerKey> = self.promises.iter().filter(is_empty).map(|(dead, _)| *dead).collect();
        empty.into_iter().for_each(|dead| self.withdraw(dead, near));
        let open: Vec<PeerKey> = self.dead_owners().filter(|dead| !self.deaths.withdrawn.contains_key(dead)).collect();
        if open.is_empty() {
            return;
        }
        // Who has followed another heir consents to nobody else.
        let taken: BTreeSet<PeerKey> = self.published(near).into_iter().map(|estate| estate.dead).collect();
        for dead in open {
            let is_ours = self.promises.get(&dead).is_some_and(|promise| promise.heir == own);
            if !taken.contains(&dead) && self.heir(dead, near) == own {
                self.pursue_inheritance(dead, near);
            } else if taken.contains(&dead) && is_ours {
                self.withdraw(dead, near);
            }
        }
    }

    fn pursue_inheritance(&mut self, dead: PeerKey, near: &Surroundings<'_>) {
        if !self.deaths.askings.contains_key(&dead) {
            let id = self.rng.next_u64();
            let asking = Asking { id, consents: BTreeMap::new(), known: BTreeSet::new(), ask_at: near.now };
            self.deaths.askings.insert(dead, asking);
            self.promises.insert(dead, Promise { heir: near.card.key, id });
            self.persist();
        }
        let Some(asking) = self.deaths.askings.get(&dead) else { return };
        let missing = self.missing(dead, asking, near);
        let excused = usize::from(!self.rules.keeps(Rule::EveryConsent));
        if missing.len() <= excused {
            self.inherit(dead, near);
        } else if asking.ask_at <= near.now {
            self.ask(dead, &missing, near);
        }
    }

    fn ask(&mut self, dead: PeerKey, missing: &[PeerKey], near: &Surroundings<'_>) {
        let (ring, members) =
            (self.ring.as_ref().map(Ring::state).unwrap_or_default(), members_hash(&self.alive(near)));
        let Some(certificate) = self.certificates.get(&dead).map(|certificate| told(certificate, near)) else { return };
        let Some(asking) = self.deaths.askings.get_mut(&dead) else { return };
        asking.ask_at = near.now + ASK_INTERVAL;
        let note = Note::Ask { certificate, id: asking.id, ring, members };
        for peer in missing.iter().filter(|peer| near.is_reachable(peer)) {
            self.write(*peer, &note);
        }
    }

    pub(in crate::ipam) fn handle_consent(&mut self, from: PeerKey, consent: &Consent, near: &Surroundings<'_>) {
        let is_current =
            |asking: &Asking| asking.id == consent.id && asking.known.len() + consent.known.len() <= OWNERS_MAX;
        if !self.deaths.askings.get(&consent.dead).is_some_and(is_current) {
            return;
        }
        let estate = Estate { dead: consent.dead, heir: near.card.key, id: consent.id };
        let Some(ring) = self.ring.as_ref().map(|ring| *ring.id()) else { return };
        let is_forged = |approval| !estate.is_approved(&ring, &from, approval, near.verifier);
        if consent.approval.as_ref().is_some_and(is_forged) {
            self.actions.push_back(Action::Breach(from, "an approval is not signed"));
            return;
        }
        let fresh = self.learn(from, &consent.transfers, near);
        self.spread(&fresh, &[], None);
        if consent.part == 0 {
            self.note_holds(from, &consent.holds, near);
        }
        let Some(asking) = self.deaths.askings.get_mut(&consent.dead) else { return };
        asking.known.extend(&consent.known);
        let assembly = asking.consents.entry(from).or_default();
        if assembly.parts != consent.parts {
            *assembly = Assembly { parts: consent.parts, ..Assembly::default() };
        }
        assembly.arrived.insert(consent.part);
        assembly.approval = consent.approval;
        self.is_changed = true;
    }

    /// All have consented.
    fn inherit(&mut self, dead: PeerKey, near: &Surroundings<'_>) {
        let Some(asking) = self.deaths.askings.remove(&dead) else { return };
        self.promises.remove(&dead);
        let Some(ring) = &mut self.ring else { return };
        let estate = Estate { dead, heir: near.card.key, id: asking.id };
        let transfers = ring.inherit(&estate, near.identity);
        let approvals = asking.consents.into_iter().filter_map(|(by, consent)| Some((by, consent.approval?))).collect();
        self.keep(&Succession { estate, approvals }, near);
        self.measure(near);
        self.persist();
        // What justifies it is told with it.
        let certificate = self.certificates.get(&dead).map(|certificate| told(certificate, near));
        self.spread(&[], certificate.as_slice(), None);
        self.spread_estate(&estate);
        self.spread(&transfers, &[], None);
        self.is_changed = true;
    }

    /// We give up asking for what `dead` owned, and whoever promised it to us is free.
    pub(super) fn withdraw(&mut self, dead: PeerKey, near: &Surroundings<'_>) {
        let Some(Promise { id, .. }) = self.promises.remove(&dead) else { return };
        let known = self.deaths.askings.remove(&dead).map(|asking| asking.known).unwrap_or_default();
        self.deaths.withdrawn.insert(dead, near.now + WITHDRAWN_DELAY);
        self.persist();
        for peer in self.alive(near).into_iter().chain(known) {
            if near.is_reachable(&peer) {
                self.write(peer, &Note::Withdraw { dead, id });
            }
        }
    }

    /// Somebody has promised to `heir`, in this asking of its.
    pub(in crate::ipam) fn handle_occupied(
        &mut self,
        from: PeerKey,
        dead: PeerKey,
        (heir, id): (PeerKey, u64),
        near: &Surroundings<'_>,
    ) {
        let own = near.card.key;
        if heir == own {
            self.answer_reminder(from, dead, id);
        } else if self.deaths.askings.contains_key(&dead) && heir < own {
            self.withdraw(dead, near);
        } else if let Some(asking) = self.deaths.askings.get_mut(&dead).filter(|asking| asking.known.len() < OWNERS_MAX)
        {
            asking.known.insert(heir);
        }
    }

    /// `from` keeps a promise to us: it need not, unless that asking still goes on.
    fn answer_reminder(&mut self, from: PeerKey, dead: PeerKey, id: u64) {
        if self.deaths.askings.get(&dead).is_none_or(|asking| asking.id != id) {
            self.write(from, &Note::Withdraw { dead, id });
        }
    }

    pub(in crate::ipam) fn death_timeout(&self) -> Option<Instant> {
        let askings = self.deaths.askings.values().map(|asking| asking.ask_at);
        askings.chain(self.deaths.withdrawn.values().copied()).min()
    }

    /// Somebody became reachable, who may have been missing.
    pub(in crate::ipam) fn hurry_askings(&mut self, near: &Surroundings<'_>) {
        for asking in self.deaths.askings.values_mut() {
            asking.ask_at = near.now;
        }
    }
}
