//! The side of those who consent that an heir takes over.
//!
//! ```text
//!   Ask ──► promised, durable ──► Consent, in parts        from here on no grant of the dead one is believed
//!           promised to another ──► Occupied, to both
//!   Approve, by another who came too late to be asked ──► promised, if the heir has published
//!   a promise ends   the heir published its take-over │ withdrew that asking │ is certified dead
//!                    │ the dead one is back, and has been for a minute
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::note::{CONSENT_PARTS_MAX, Consent, Holds, KNOWN_MAX, Note, TRANSFERS_MAX};
use super::super::{Ipam, Owner, Right, Surroundings, Transfer};
use super::certificate::Certificate;
use super::estate::Estate;
use super::members_hash;
use crate::identity::{Hash, PeerKey};
use crate::members::Reach;

/// A take-over of what one owned that is back is heard within this time from those who know of it, or is none.
pub(in crate::ipam) const RETURN_TIME: Duration = Duration::from_secs(60);

/// To whom we promised what a dead peer owned, and for which of its askings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ipam) struct Promise {
    pub(in crate::ipam) heir: PeerKey,
    pub(super) id: u64,
}

impl Promise {
    /// Whether it is of that asking.
    pub(super) fn is_for(&self, estate: &Estate) -> bool {
        (self.heir, self.id) == (estate.heir, estate.id)
    }
}

impl Ipam {
    /// Whether a promise of ours, or none, lets us believe a transfer.
    pub(in crate::ipam) fn is_forbidden(&self, transfer: &Transfer, near: &Surroundings<'_>) -> bool {
        let Right::Grant { from } = transfer.right else { return false };
        self.promises.get(&from).is_some_and(|promise| promise.heir != near.card.key)
    }

    pub(in crate::ipam) fn handle_ask(
        &mut self,
        from: PeerKey,
        certificate: &Certificate,
        id: u64,
        theirs: (Hash, Hash),
        near: &Surroundings<'_>,
    ) {
        if self.hear(from, certificate, near) {
            self.spread(&[], std::slice::from_ref(certificate), None);
        }
        let (dead, own) = (certificate.dead, near.card.key);
        // An asker that is dead itself would never end the promise.
        if !self.may_promise(&dead, near) || self.certificates.contains_key(&from) {
            return;
        }
        match self.promises.get(&dead).map(|promise| promise.heir) {
            Some(heir) if heir == own && from < own => self.withdraw(dead, near),
            Some(heir) if heir != from => return self.tell_occupied(from, dead, near),
            Some(_) | None => {}
        }
        let promise = Promise { heir: from, id };
        // It learns of our strays now, and of each change from here on.
        let is_told = !self.strays.told.insert(from);
        if self.promises.insert(dead, promise) != Some(promise) || !is_told {
            self.persist();
        }
        self.consent(from, dead, id, theirs, near);
    }

    /// Who seems alive here may be, and a daemon that does not know its own containers yet cannot speak for them.
    fn may_promise(&self, dead: &PeerKey, near: &Surroundings<'_>) -> bool {
        let is_doubtful = *dead == near.card.key || near.is_reachable(dead) || !self.is_resumed;
        !is_doubtful && self.certificates.contains_key(dead)
    }

    /// Whether we promised that asking. Who came when it was answered by all others promises it when its heir has published:
    /// two who came then would wait for each other's approval.
    pub(super) fn promise_late(&mut self, estate: &Estate, near: &Surroundings<'_>) -> bool {
        if let Some(promise) = self.promises.get(&estate.dead) {
            return promise.is_for(estate);
        }
        let is_published = !self.is_done(estate) && self.published(near).contains(estate);
        let may_promise = is_published && self.may_promise(&estate.dead, near);
        if may_promise {
            self.promises.insert(estate.dead, Promise { heir: estate.heir, id: estate.id });
            self.persist();
        }
        may_promise
    }

    /// `from` asks for what is promised to another: both hear so, since the other may have given up and its letter got lost.
    fn tell_occupied(&mut self, from: PeerKey, dead: PeerKey, near: &Surroundings<'_>) {
        let Some(Promise { heir, id }) = self.promises.get(&dead).copied() else { return };
        let told = [from, heir].into_iter().filter(|peer| *peer != near.card.key);
        told.for_each(|peer| self.write(peer, &Note::Occupied { dead, heir, id }));
    }

    /// Everything that the heir must know, in parts: first what containers hold, then ring and peers.
    fn consent(
        &mut self,
        heir: PeerKey,
        dead: PeerKey,
        id: u64,
        (ring, members): (Hash, Hash),
        near: &Surroundings<'_>,
    ) {
        let alive = self.alive(near);
        let known: Vec<PeerKey> =
            if members_hash(&alive) == members { Vec::new() } else { alive.into_iter().collect() };
        let transfers = match &self.ring {
            Some(ours) if ours.state() != ring => ours.history_after(&dead),
            Some(_) | None => Vec::new(),
        };
        let more = transfers.len().div_ceil(TRANSFERS_MAX).max(known.len().div_ceil(KNOWN_MAX));
        let parts = u16::try_from(more + 1).unwrap_or(CONSENT_PARTS_MAX).min(CONSENT_PARTS_MAX);
        let (mut transfers, mut known) = (transfers.chunks(TRANSFERS_MAX), known.chunks(KNOWN_MAX));
        let holds = self.own_holds(near);
        // What another inherited already is nobody's to inherit again.
        let approval = self.approval(&Estate { dead, heir, id }, near).filter(|_| self.is_owner(&dead));
        for part in 0..parts {
            let mut consent = Consent {
                dead,
                id,
                part,
                parts,
                transfers: Vec::new(),
                known: Vec::new(),
                holds: holds.clone(),
                approval,
            };
            if part > 0 {
                consent.transfers = transfers.next().unwrap_or_default().to_vec();
                consent.known = known.next().unwrap_or_default().to_vec();
                consent.holds = Holds::default();
            }
            self.write(heir, &Note::Consent(consent));
        }
    }

    /// The heir gave up that asking, or it is over. What it has published, we are yet to follow.
    pub(in crate::ipam) fn handle_withdraw(&mut self, from: PeerKey, dead: PeerKey, id: u64, near: &Surroundings<'_>) {
        let void = Promise { heir: from, id };
        let is_published = || self.published(near).contains(&Estate { dead, heir: from, id });
        if from != near.card.key && self.promises.get(&dead) == Some(&void) && !is_published() {
            self.promises.remove(&dead);
            self.persist();
            self.is_changed = true;
        }
    }

    /// Promises end when the heir has published.
    pub(in crate::ipam) fn end_promises(&mut self, near: &Surroundings<'_>) {
        let Some(ring) = self.ring.as_ref().filter(|_| !self.promises.is_empty()) else { return };
        let (own, estates) = (near.card.key, ring.estates());
        let is_over = |dead: &PeerKey, promise: &Promise| {
            promise.heir != own
                && !ring.owns_any(Owner::Peer(*dead))
                && estates.iter().any(|estate| estate.dead == *dead)
        };
        self.promises.retain(|dead, promise| !is_over(dead, promise));
    }

    /// Who was called dead and is back owes nobody anything, once a take-over that was under way must have been heard.
    pub(in crate::ipam) fn void_promises(&mut self, near: &Surroundings<'_>) {
        let is_back = |dead: &PeerKey| match near.members.get(dead).map(|member| member.reach) {
            Some(Reach::Reachable { since }) => near.now.since(since) >= RETURN_TIME,
            _ => false,
        };
        let before = self.promises.len();
        self.promises.retain(|dead, _| !is_back(dead));
        if self.promises.len() != before {
            self.persist_later(near);
            self.is_changed = true;
        }
    }

    /// Asks those whom we promised something whether they still want it: a withdrawal may have got lost.
    pub(in crate::ipam) fn remind_heirs(&mut self, near: &Surroundings<'_>) {
        for (dead, Promise { heir, id }) in self.promises.clone() {
            if heir != near.card.key && near.is_reachable(&heir) {
                self.write(heir, &Note::Occupied { dead, heir, id });
            }
        }
    }
}
