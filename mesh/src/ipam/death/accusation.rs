//! What a host makes of a certificate of death: anybody may say it of anybody, and is believed only where it may be true.
//!
//! ```text
//!   heard ──► the accused was reached within the hold ──► looked at again until it is over ──► believed, told to neighbours
//!        ├──► our own list says that its machine is gone ──────────────────────────────────► believed, told to neighbours
//!        ├──► never met, or not for so long ───────────────────────────────────────────────► believed, told to neighbours
//!        ├──► signed by the dead itself: a goodbye ────────────────────────────────────────► believed, told to neighbours
//!        ├──► the accused is reachable, the accuser unknown ──► nothing
//!        └──► a newer card of the accused is known ──► nothing; the accuser is sent that card
//!
//!   believed ──► the accused is reachable, or shows a newer card ──► not believed any more
//!   against ourselves ──► our incarnation rises above it and is published
//! ```
//!
//! Invariants:
//! - nobody who reaches the accused, or did within the hold, believes that it is dead: while its entries in the kernel are
//!   held its containers may be served, and a daemon that restarts or a cable that is pulled is no death. Whose own cloud says
//!   that the machine is gone waits for no hold: that is no restart;
//! - a certificate is looked at once: what is known costs no signature.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::note::Note;
use super::super::ring::Ring;
use super::super::{Action, Ipam, Owner, Surroundings};
use super::certificate::{Certificate, Newest, Reason};
use crate::card::SignedCard;
use crate::identity::PeerKey;
use crate::members::{HOLD, Reach};
use crate::store::Content;
use crate::time::Instant;

/// How many certificates wait until a hold is over, of all accusers together.
const ACCUSATIONS_MAX: usize = 1_024;
/// Of how many peers a newer card is kept than the member list has.
const NEWER_MAX: usize = 1_024;
/// How often we rise above those who call us dead: each time is a file to write and a card for everybody.
const REFUTE_INTERVAL: Duration = Duration::from_secs(5);

/// What a host makes of a certificate.
#[derive(Debug)]
enum Verdict {
    Believed,
    /// The accused was reached too lately.
    Early,
    Refused,
    /// A newer card of the accused is known.
    Void(SignedCard),
}

/// Whether the cloud told us, too, that the machine of the accused is no more: nothing is served there, and nobody comes
/// back. Of whom we never met the certificate shows the card.
fn is_terminated(certificate: &Certificate, near: &Surroundings<'_>) -> bool {
    match near.members.get(&certificate.dead) {
        Some(member) => near.roster.is_gone(&member.card.instance_id),
        None => certificate.shown_card(near.verifier).is_some_and(|card| near.roster.is_gone(&card.instance_id)),
    }
}

/// A certificate as it is told: when its accuser is not there, in our own name.
pub(in crate::ipam) fn told(certificate: &Certificate, near: &Surroundings<'_>) -> Certificate {
    if certificate.by == near.card.key || near.is_reachable(&certificate.by) {
        certificate.clone()
    } else {
        certificate.repeated(near.identity, near.mesh())
    }
}

impl Ipam {
    /// `from` tells a certificate; whether it is believed, and news.
    pub(in crate::ipam) fn hear(&mut self, from: PeerKey, certificate: &Certificate, near: &Surroundings<'_>) -> bool {
        if certificate.dead == near.card.key {
            self.refute(certificate, near);
            return false;
        }
        let known = [&self.certificates, &self.accusations].map(|all| all.get(&certificate.dead));
        let is_known = |known: &Certificate| known.incarnation >= certificate.incarnation;
        let has_grown = certificate.is_goodbye() && known[0].is_none_or(|known| !known.is_goodbye());
        if known.into_iter().flatten().any(is_known) && !has_grown {
            return false;
        }
        match self.judge(certificate, near) {
            Verdict::Refused => false,
            _ if !certificate.is_sound(near.verifier) => {
                self.actions.push_back(Action::Breach(from, "a certificate of death is not signed"));
                false
            }
            Verdict::Void(card) => {
                self.write(from, &Note::Newer { card });
                false
            }
            Verdict::Early => {
                self.suspect(certificate, near);
                false
            }
            Verdict::Believed => {
                self.certify(certificate, near);
                true
            }
        }
    }

    fn judge(&self, certificate: &Certificate, near: &Surroundings<'_>) -> Verdict {
        let (dead, by) = (certificate.dead, certificate.by);
        let is_member = by == near.card.key || near.is_member(&by);
        if !is_member || (by == dead && !certificate.is_goodbye()) || !self.is_known(&dead, near) {
            return Verdict::Refused;
        }
        if let Some((incarnation, card)) = self.newest(&dead, near)
            && incarnation > certificate.incarnation
        {
            return Verdict::Void(card);
        }
        if certificate.is_goodbye() {
            Verdict::Believed
        } else if near.is_reachable(&dead) {
            Verdict::Refused
        } else if near.now.since(self.reached(&dead, near)) < HOLD && !is_terminated(certificate, near) {
            Verdict::Early
        } else {
            Verdict::Believed
        }
    }

    /// When the peer may have been reached for the last time: of whom we have not met, we know only since our start.
    fn reached(&self, peer: &PeerKey, near: &Surroundings<'_>) -> Instant {
        match near.members.get(peer).map(|member| member.reach) {
            Some(Reach::Unreachable { since } | Reach::Lost { since }) => since,
            Some(Reach::Reachable { .. }) => near.now,
            Some(Reach::Heard { .. }) | None => self.started,
        }
    }

    /// Whether the identity matters here: it is a member, owns addresses, is believed dead, was promised something, or is
    /// asked for its consent.
    pub(super) fn is_known(&self, peer: &PeerKey, near: &Surroundings<'_>) -> bool {
        near.members.get(peer).is_some()
            || self.certificates.contains_key(peer)
            || self.promises.values().any(|promise| promise.heir == *peer)
            || self.is_owner(peer)
            || self.deaths.names(peer)
    }

    /// The newest card of `peer` that we have.
    pub(super) fn newest(&self, peer: &PeerKey, near: &Surroundings<'_>) -> Newest {
        let heard = self.newer.get(peer).cloned();
        let member = near.members.get(peer).and_then(|member| match member.record.content() {
            Content::Card(signed) => Some((member.card.incarnation, signed.clone())),
            _ => None,
        });
        heard.into_iter().chain(member).max_by_key(|(incarnation, _)| *incarnation)
    }

    fn suspect(&mut self, certificate: &Certificate, near: &Surroundings<'_>) {
        let has_room = self.accusations.len() < ACCUSATIONS_MAX;
        if has_room || self.accusations.contains_key(&certificate.dead) {
            self.accusations.insert(certificate.dead, certificate.clone());
            self.persist_later(near);
        }
    }

    /// Says that `dead` is, and believes it as soon as others would.
    pub(super) fn accuse(&mut self, dead: PeerKey, reason: Reason, near: &Surroundings<'_>) {
        let newest = self.newest(&dead, near);
        let certificate = Certificate::sign(near.identity, near.mesh(), dead, reason, newest);
        match self.judge(&certificate, near) {
            Verdict::Believed => {
                self.certify(&certificate, near);
                self.spread(&[], &[certificate], None);
            }
            Verdict::Early => self.suspect(&certificate, near),
            Verdict::Refused | Verdict::Void(_) => {}
        }
    }

    /// Looks again at whom to believe dead: holds end, and who was called dead is there.
    pub(in crate::ipam) fn review_accusations(&mut self, near: &Surroundings<'_>) {
        let is_void = |certificate: &Certificate| match self.judge(certificate, near) {
            Verdict::Void(_) => true,
            _ => !certificate.is_goodbye() && near.is_reachable(&certificate.dead),
        };
        let void: Vec<PeerKey> =
            self.certificates.iter().filter(|(_, known)| is_void(known)).map(|(dead, _)| *dead).collect();
        void.iter().for_each(|dead| self.absolve(dead, near));
        let heard: Vec<Certificate> = self.accusations.values().cloned().collect();
        for certificate in heard {
            match self.judge(&certificate, near) {
                Verdict::Early => {}
                Verdict::Believed => {
                    self.certify(&certificate, near);
                    self.spread(&[], &[certificate], None);
                }
                Verdict::Refused | Verdict::Void(_) => drop(self.accusations.remove(&certificate.dead)),
            }
        }
    }

    /// It lives. It is told who called it dead, to rise above that.
    fn absolve(&mut self, dead: &PeerKey, near: &Surroundings<'_>) {
        let Some(certificate) = self.certificates.remove(dead) else { return };
        self.buried.remove(dead);
        self.write(*dead, &Note::Accused { certificate });
        if self.promises.get(dead).is_some_and(|promise| promise.heir == near.card.key) {
            self.withdraw(*dead, near);
        }
        self.persist_later(near);
        self.is_changed = true;
    }

    /// Somebody says that we are dead: a card of a higher incarnation voids it, everywhere and for good.
    pub(in crate::ipam) fn refute(&mut self, certificate: &Certificate, near: &Surroundings<'_>) {
        let is_current = certificate.dead == near.card.key && certificate.incarnation >= near.card.incarnation;
        let is_early = self.refuted.is_some_and(|at| near.now.since(at) < REFUTE_INTERVAL);
        if is_current && !is_early && certificate.is_sound(near.verifier) {
            self.refuted = Some(near.now);
            self.actions.push_back(Action::Refute(certificate.incarnation));
        }
    }

    /// A card of one whom we called dead, newer than ours.
    pub(in crate::ipam) fn handle_newer(&mut self, signed: SignedCard, near: &Surroundings<'_>) {
        let Ok(card) = near.verifier.read(&signed) else { return };
        let has_room = self.newer.len() < NEWER_MAX || self.newer.contains_key(&card.key);
        let is_newer = self.newest(&card.key, near).is_none_or(|(known, _)| known < card.incarnation);
        if !has_room || !is_newer || !self.is_known(&card.key, near) {
            return;
        }
        self.newer.insert(card.key, (card.incarnation, signed));
        self.accusations.remove(&card.key);
        self.absolve(&card.key, near);
        // Whoever still has a reason to call it dead says so of this incarnation.
        self.is_changed = true;
    }

    /// It left for good, and said so itself.
    pub(crate) fn handle_goodbye(&mut self, goodbye: crate::wire::Goodbye, near: &Surroundings<'_>) {
        self.accuse(goodbye.owner, Reason::Goodbye(goodbye), near);
    }

    /// The certificates that are told with the ring: those of the dead whose estates are open, and of those whose were taken
    /// over, since who came meanwhile follows that only if it believes the death. Of others everybody heard, or hears when a
    /// connection to it opens again.
    pub(in crate::ipam) fn told_certificates(&self, near: &Surroundings<'_>) -> Vec<Certificate> {
        let succeeded: BTreeSet<PeerKey> = self.succeeded().map(|(estate, _)| estate.dead).collect();
        let matters =
            |dead: &PeerKey| self.is_owner(dead) || self.promises.contains_key(dead) || succeeded.contains(dead);
        let told_of = self.certificates.iter().filter(|(dead, _)| matters(dead));
        told_of.map(|(_, certificate)| told(certificate, near)).collect()
    }

    /// Those of them that concern everybody: the dead who own something.
    pub(in crate::ipam) fn dead_owners(&self) -> impl Iterator<Item = PeerKey> {
        self.ring.iter().flat_map(|ring| self.dead_owners_in(ring))
    }

    pub(in crate::ipam) fn dead_owners_in(&self, ring: &Ring) -> impl Iterator<Item = PeerKey> {
        self.certificates.keys().copied().filter(|dead| ring.owns_any(Owner::Peer(*dead)))
    }
}
