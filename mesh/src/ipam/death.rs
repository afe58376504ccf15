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

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_core::RngCore;
use serde::{Deserialize, Serialize};

use super::note::{CONSENT_PARTS_MAX, Consent, Holds, KNOWN_MAX, Note, TRANSFERS_MAX};
use super::ring::Ring;
use super::rules::Rule;
use super::{Answer, Ipam, Operation, Owner, Problem, Range, Right, Surroundings, Transfer, Wait};
use crate::card::Card;
use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::members::Reach;
use crate::name::MeshId;
use crate::store::OWNERS_MAX;
use crate::time::Instant;
use crate::verifier::Verifier;

/// How often those who have not consented are asked again.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long an heir that withdrew waits before it tries again.
const WITHDRAWN_DELAY: Duration = Duration::from_secs(3);
/// How long two identities of one machine are reachable together until it is no machine id that tells machines apart.
const TOGETHER: Duration = Duration::from_secs(30);

/// "This identity is dead for ever."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub dead: PeerKey,
    pub by: PeerKey,
    /// The identity that lives on its machine now, if that is how it is known.
    pub successor: Option<PeerKey>,
    signature: Signature,
}

impl Certificate {
    pub(super) fn sign(identity: &Identity, mesh: MeshId, dead: PeerKey, successor: Option<PeerKey>) -> Self {
        let by = identity.key();
        Self { dead, by, successor, signature: identity.sign(&Self::bytes(mesh, &dead, &by, successor)) }
    }

    fn bytes(mesh: MeshId, dead: &PeerKey, by: &PeerKey, successor: Option<PeerKey>) -> Hash {
        let successor = successor.map(|key| key.0);
        let successor = successor.as_ref().map_or(&[][..], |key| key);
        digest("weave-rs death", &[&mesh.0, &dead.0, &by.0, successor])
    }

    pub(super) fn is_signed(&self, verifier: &Verifier) -> bool {
        let bytes = Self::bytes(verifier.mesh(), &self.dead, &self.by, self.successor);
        verifier.is_signed(&self.by, &bytes, &self.signature)
    }
}

/// To whom we promised what a dead peer owned, and for which of its askings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Promise {
    pub(super) heir: PeerKey,
    id: u64,
}

/// What has arrived of a consent.
#[derive(Debug, Default)]
struct Assembly {
    parts: u16,
    arrived: BTreeSet<u16>,
}

impl Assembly {
    fn is_complete(&self) -> bool {
        self.parts > 0 && self.arrived.len() == usize::from(self.parts)
    }
}

/// An asking of ours.
#[derive(Debug)]
struct Asking {
    id: u64,
    consents: BTreeMap<PeerKey, Assembly>,
    /// Whom those who answered know besides.
    known: BTreeSet<PeerKey>,
    ask_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Deaths {
    askings: BTreeMap<PeerKey, Asking>,
    /// Not before this do we ask again for what this dead peer owned.
    withdrawn: BTreeMap<PeerKey, Instant>,
}

fn members_hash(members: &BTreeSet<PeerKey>) -> Hash {
    let bytes: Vec<u8> = members.iter().flat_map(|member| member.0).collect();
    digest("weave-rs members", &[&bytes])
}

/// What tells a machine from others: its instance id, else its machine id, unless there is none.
fn machine_of(card: &Card) -> Option<Hash> {
    match card.instance_id.as_str() {
        "" => (card.machine != [0; 32]).then_some(card.machine),
        id => Some(digest("weave-rs instance", &[id.as_bytes()])),
    }
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

    /// Certifies who left for good, and whose machine lives on as somebody else.
    pub(super) fn review_members(&mut self, near: &Surroundings<'_>) {
        let mut living: BTreeMap<Hash, (u64, PeerKey, bool)> = BTreeMap::new();
        let mut note = |shared: &mut BTreeSet<Hash>, card: &Card, is_long: bool| {
            let Some(machine) = machine_of(card) else { return };
            let this = (card.incarnation, card.key, is_long);
            let best = living.entry(machine).or_insert(this);
            if best.1 != card.key && best.2 && is_long {
                shared.insert(machine);
            }
            *best = (*best).max(this);
        };
        note(&mut self.shared_machines, near.card, true);
        for (_, member) in near.members.iter() {
            if let Reach::Reachable { since } = member.reach {
                note(&mut self.shared_machines, &member.card, near.now.since(since) >= TOGETHER);
            }
        }
        let mut dead = Vec::new();
        for (key, member) in near.members.iter() {
            let is_gone = matches!(member.reach, Reach::Unreachable { .. } | Reach::Lost { .. });
            if !is_gone || self.certificates.contains_key(key) {
                continue;
            }
            let machine = machine_of(&member.card).filter(|machine| !self.shared_machines.contains(machine));
            match machine.and_then(|machine| living.get(&machine)) {
                Some((incarnation, successor, _)) if *incarnation > member.card.incarnation && successor != key => {
                    dead.push((*key, Some(*successor)));
                }
                _ if member.departed.is_some() => dead.push((*key, None)),
                _ => {}
            }
        }
        dead.into_iter().for_each(|(dead, successor)| self.declare_dead(dead, successor, near));
    }

    /// `rmpeer`: also of an identity that only others know, since it may be the one that is waited for.
    pub(crate) fn take_over(&mut self, ticket: super::Ticket, peer: PeerKey, near: &Surroundings<'_>) {
        self.declare_dead(peer, None, near);
        let addresses = self.owned_by(peer);
        self.begin(ticket, Operation::TakeOver { peer, addresses }, near);
    }

    /// How many addresses `peer` owns.
    fn owned_by(&self, peer: PeerKey) -> u64 {
        self.ring.iter().flat_map(|ring| ring.owned_by(Owner::Peer(peer))).map(Range::size).sum()
    }

    pub(super) fn try_take_over(&self, peer: PeerKey, addresses: u64, near: &Surroundings<'_>) -> super::Attempt {
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

    /// What we ask for, and whose consent is missing.
    pub(super) fn inheriting(&self, near: &Surroundings<'_>) -> BTreeMap<PeerKey, Vec<PeerKey>> {
        let askings = self.deaths.askings.iter();
        askings.map(|(dead, asking)| (*dead, self.missing(*dead, asking, near))).collect()
    }

    fn missing(&self, dead: PeerKey, asking: &Asking, near: &Surroundings<'_>) -> Vec<PeerKey> {
        let mut asked = self.alive(near);
        asked.extend(asking.known.iter().filter(|peer| !self.certificates.contains_key(peer)));
        let has_consented = |peer: &PeerKey| asking.consents.get(peer).is_some_and(Assembly::is_complete);
        asked.into_iter().filter(|peer| *peer != near.card.key && *peer != dead && !has_consented(peer)).collect()
    }

    /// Asks for what we are heir to, and takes it over when all have consented.
    pub(super) fn pursue_inheritances(&mut self, near: &Surroundings<'_>) {
        self.deaths.withdrawn.retain(|_, until| *until > near.now);
        if self.ring.is_none() || !self.is_resumed || self.certificates.contains_key(&near.card.key) {
            self.deaths.askings.clear();
            return;
        }
        let dead: Vec<PeerKey> = self.certificates.keys().copied().collect();
        for dead in dead {
            let (is_heir, is_owner) = (self.heir(dead, near) == near.card.key, self.owned_by(dead) > 0);
            if is_heir && !is_owner {
                self.withdraw(dead, near);
            } else if is_heir && !self.deaths.withdrawn.contains_key(&dead) {
                self.pursue_inheritance(dead, near);
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
        let Some(certificate) = self.certificates.get(&dead).cloned() else { return };
        let Some(asking) = self.deaths.askings.get_mut(&dead) else { return };
        asking.ask_at = near.now + ASK_INTERVAL;
        let note = Note::Ask { certificate, id: asking.id, ring, members };
        for peer in missing.iter().filter(|peer| near.is_reachable(peer)) {
            self.write(*peer, &note);
        }
    }

    /// All have consented.
    fn inherit(&mut self, dead: PeerKey, near: &Surroundings<'_>) {
        self.deaths.askings.remove(&dead);
        self.promises.remove(&dead);
        let Some(ring) = &mut self.ring else { return };
        let mut transfers = Vec::new();
        let ranges: Vec<Range> = ring.owned_by(Owner::Peer(dead)).collect();
        for range in ranges {
            let transfer = ring.make(range, Right::TakeOver { from: dead }, near.card.key, near.identity);
            ring.merge(&transfer, near.verifier);
            transfers.push(transfer);
        }
        self.measure(near);
        self.persist();
        // What the consents told of the ring is told with it.
        self.spread_all(near);
        self.spread(&transfers, &[], None);
        self.is_changed = true;
    }

    /// Whether a promise of ours, or none, lets us believe a transfer.
    pub(super) fn is_forbidden(&self, transfer: &Transfer, near: &Surroundings<'_>) -> bool {
        let Right::Grant { from } = transfer.right else { return false };
        self.promises.get(&from).is_some_and(|promise| promise.heir != near.card.key)
    }

    pub(super) fn handle_ask(
        &mut self,
        from: PeerKey,
        certificate: &Certificate,
        id: u64,
        theirs: (Hash, Hash),
        near: &Surroundings<'_>,
    ) {
        if self.certify(certificate, near) {
            self.spread(&[], std::slice::from_ref(certificate), None);
        }
        let (dead, own) = (certificate.dead, near.card.key);
        // Who seems alive here may be, and a daemon that does not know its own containers yet cannot speak for them.
        let is_doubtful = dead == own || near.is_reachable(&dead) || !self.is_resumed;
        // An asker that is dead itself would never end the promise.
        let is_in_vain = self.certificates.contains_key(&from);
        if is_doubtful || is_in_vain || !self.certificates.contains_key(&dead) {
            return;
        }
        match self.promises.get(&dead).map(|promise| promise.heir) {
            Some(heir) if heir == own && from < own => self.withdraw(dead, near),
            Some(heir) if heir != from => return self.tell_occupied(from, dead, near),
            Some(_) | None => {}
        }
        self.promises.insert(dead, Promise { heir: from, id });
        // It learns of our strays now, and of each change from here on.
        self.strays.told.insert(from);
        self.persist();
        self.consent(from, dead, id, theirs, near);
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
            Some(ours) if ours.state() != ring => ours.transfers(),
            Some(_) | None => Vec::new(),
        };
        let more = transfers.len().div_ceil(TRANSFERS_MAX).max(known.len().div_ceil(KNOWN_MAX));
        let parts = u16::try_from(more + 1).unwrap_or(CONSENT_PARTS_MAX).min(CONSENT_PARTS_MAX);
        let (mut transfers, mut known) = (transfers.chunks(TRANSFERS_MAX), known.chunks(KNOWN_MAX));
        let holds = self.own_holds(near);
        for part in 0..parts {
            let mut consent =
                Consent { dead, id, part, parts, transfers: Vec::new(), known: Vec::new(), holds: holds.clone() };
            if part > 0 {
                consent.transfers = transfers.next().unwrap_or_default().to_vec();
                consent.known = known.next().unwrap_or_default().to_vec();
                consent.holds = Holds::default();
            }
            self.write(heir, &Note::Consent(consent));
        }
    }

    pub(super) fn handle_consent(&mut self, from: PeerKey, consent: &Consent, near: &Surroundings<'_>) {
        let is_current =
            |asking: &Asking| asking.id == consent.id && asking.known.len() + consent.known.len() <= OWNERS_MAX;
        if !self.deaths.askings.get(&consent.dead).is_some_and(is_current) {
            return;
        }
        self.learn(from, &consent.transfers, near);
        if consent.part == 0 {
            self.note_holds(from, &consent.holds, near);
        }
        let Some(asking) = self.deaths.askings.get_mut(&consent.dead) else { return };
        asking.known.extend(&consent.known);
        let assembly = asking.consents.entry(from).or_default();
        if assembly.parts != consent.parts {
            *assembly = Assembly { parts: consent.parts, arrived: BTreeSet::new() };
        }
        assembly.arrived.insert(consent.part);
        self.is_changed = true;
    }

    /// `from` asks for what is promised to another: both hear so, since the other may have given up and its letter got lost.
    fn tell_occupied(&mut self, from: PeerKey, dead: PeerKey, near: &Surroundings<'_>) {
        let Some(Promise { heir, id }) = self.promises.get(&dead).copied() else { return };
        let told = [from, heir].into_iter().filter(|peer| *peer != near.card.key);
        told.for_each(|peer| self.write(peer, &Note::Occupied { dead, heir, id }));
    }

    /// We give up asking for what `dead` owned, and whoever promised it to us is free.
    fn withdraw(&mut self, dead: PeerKey, near: &Surroundings<'_>) {
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
    pub(super) fn handle_occupied(
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

    /// The heir gave up that asking.
    pub(super) fn handle_withdraw(&mut self, from: PeerKey, dead: PeerKey, id: u64, near: &Surroundings<'_>) {
        let void = Promise { heir: from, id };
        if from != near.card.key && self.promises.get(&dead) == Some(&void) {
            self.promises.remove(&dead);
            self.persist();
            self.is_changed = true;
        }
    }

    /// Promises end when the heir has published.
    pub(super) fn end_promises(&mut self, near: &Surroundings<'_>) {
        let Some(ring) = &self.ring else { return };
        let own = near.card.key;
        let is_over = |dead: &PeerKey, promise: &Promise| {
            promise.heir != own
                && ring.owned_by(Owner::Peer(*dead)).next().is_none()
                && ring.transfers().iter().any(|transfer| transfer.right == Right::TakeOver { from: *dead })
        };
        self.promises.retain(|dead, promise| !is_over(dead, promise));
    }

    /// Asks those whom we promised something whether they still want it: a withdrawal may have got lost.
    pub(super) fn remind_heirs(&mut self, near: &Surroundings<'_>) {
        for (dead, Promise { heir, id }) in self.promises.clone() {
            if heir != near.card.key && near.is_reachable(&heir) {
                self.write(heir, &Note::Occupied { dead, heir, id });
            }
        }
    }

    pub(super) fn death_timeout(&self) -> Option<Instant> {
        let askings = self.deaths.askings.values().map(|asking| asking.ask_at);
        askings.chain(self.deaths.withdrawn.values().copied()).min()
    }

    /// Somebody became reachable, who may have been missing.
    pub(super) fn hurry_askings(&mut self, near: &Surroundings<'_>) {
        for asking in self.deaths.askings.values_mut() {
            asking.ask_at = near.now;
        }
    }
}
