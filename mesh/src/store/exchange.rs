//! Who sends what to whom, so that each set reaches each peer once.
//!
//! ```text
//!   a set is new here ──► pending for every neighbour but its sender ─ paced ─► Offers
//!   Offers ──► newer than ours, not asked for elsewhere ──► Asks ──► Delta or Parts ──► checked ──► the node decides
//!                                └─ asked for elsewhere: remembered as another source
//!   Asks ──► answers, one set after the other, a stretch at a time: as fast as the neighbour takes them
//! ```
//!
//! A neighbour that offers what we were about to offer is told nothing: both have it.
//!
//! An offer proves nothing. Whoever offers what it does not give is in doubt for a while: everybody else is asked before
//! it. The owner itself is asked before all others.
//!
//! Invariants:
//! - a set is asked for from one neighbour at a time; when that one fails to answer, from the next that offered it;
//! - nothing is assembled that was not asked for, and never more than one set per neighbour;
//! - pending offers, asks, sources and assemblies are bounded by the owners of the store and the constants of the parts.

mod answers;
mod asked;
mod assembly;
mod neighbour;
mod refused;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Delta, Part, RecordKey, Set, SetError, Store, Tag, Version};
use crate::connector::ConnectionId;
use crate::identity::{Hash, PeerKey};
use crate::members::Members;
use crate::pace::Bursts;
use crate::time::Instant;
use crate::verifier::Verifier;
use crate::wire::{Ask, Message, OFFERS_MAX, Offer};

use self::answers::Next;
use self::asked::Asked;
use self::assembly::Assembly;
use self::neighbour::Neighbour;
use self::refused::RefusedSets;

/// What all incomplete sets together may occupy, octets. Over it the largest is given up.
const ASSEMBLIES_MAX: usize = 32 << 20;
/// Offers follow each other at this interval on average, and a longer one in a large mesh, where there are more to join.
const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(50);
const FLUSH_INTERVAL_PER_OWNER: Duration = Duration::from_micros(150);
const FLUSH_INTERVAL_MAX: Duration = Duration::from_millis(200);
/// So many of containers and names go at once after a quiet time: as many as an owner publishes at once.
const FLUSH_BURST: u32 = 64;
/// What is to be offered in so short a time is offered together.
const FLUSH_SPACING: Duration = Duration::from_millis(2);

/// A set that arrived whole and is what its owner signed.
#[derive(Debug)]
pub struct Received {
    pub set: Arc<Set>,
    /// The delta that made it, if it came as one.
    pub delta: Option<Arc<Delta>>,
}

/// Whether somebody waits for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// A container was attached, or a name given.
    AtOnce,
    /// Only the mesh is another: while it forms, that is all the time.
    InTurn,
}

impl Haste {
    pub const fn of_containers(are_others: bool) -> Self {
        if are_others { Self::AtOnce } else { Self::InTurn }
    }
}

/// What the exchange wants of a connection.
#[derive(Debug)]
pub enum Outgoing {
    Send(ConnectionId, Message),
    /// Tell [`Exchange::handle_room`] when all that was sent before has been taken.
    AwaitRoom(ConnectionId),
}

/// The exchange with all neighbours.
#[derive(Debug)]
pub struct Exchange {
    neighbours: BTreeMap<ConnectionId, Neighbour>,
    flush: Bursts,
    asked: BTreeMap<Tag, Asked>,
    /// When to look at which ask; an entry may be out of date, never missing.
    deadlines: BTreeSet<(Instant, Tag)>,
    refused: RefusedSets,
    outbox: VecDeque<Outgoing>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            neighbours: BTreeMap::new(),
            flush: Bursts::new(FLUSH_BURST, FLUSH_SPACING, FLUSH_INTERVAL_MIN),
            asked: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            refused: RefusedSets::default(),
            outbox: VecDeque::new(),
        }
    }
}

impl Exchange {
    /// `peer` is at the other end of `connection`.
    pub fn add_neighbour(&mut self, connection: ConnectionId, peer: Tag) {
        self.neighbours.insert(connection, Neighbour::new(peer));
    }

    /// Asks the others for what this neighbour was asked for.
    pub fn remove_neighbour(&mut self, connection: ConnectionId, store: &Store, members: &Members, now: Instant) {
        let orphans = self.neighbours.remove(&connection).map(|neighbour| neighbour.asked).unwrap_or_default();
        for tag in orphans {
            self.ask_next_source(tag, None, store, members, now);
        }
    }

    /// The set of `owner` is new here: it is offered to every neighbour but the one it came from.
    pub fn announce(&mut self, owner: &PeerKey, from: Option<ConnectionId>, haste: Haste, store: &Store, now: Instant) {
        let tag = Tag::from(owner);
        for (connection, neighbour) in &mut self.neighbours {
            if Some(*connection) != from {
                neighbour.pending.insert(tag);
            }
        }
        let per_owner = FLUSH_INTERVAL_PER_OWNER * u32::try_from(store.len()).unwrap_or(u32::MAX);
        self.flush.set_interval((FLUSH_INTERVAL_MIN + per_owner).min(FLUSH_INTERVAL_MAX));
        match haste {
            Haste::AtOnce => self.flush.request(now),
            Haste::InTurn => self.flush.request_in_turn(now),
        }
    }

    /// Offers `owners` to one neighbour at once.
    pub fn offer(&mut self, connection: ConnectionId, owners: impl IntoIterator<Item = Tag>, store: &Store) {
        let offer = |owner| Some(Offer { owner, version: store.listed(owner)?.version() });
        let offers: Vec<Offer> = owners.into_iter().filter_map(offer).collect();
        for offers in offers.chunks(OFFERS_MAX) {
            self.send(connection, Message::Offers(offers.to_vec()));
        }
    }

    fn send(&mut self, connection: ConnectionId, message: Message) {
        self.outbox.push_back(Outgoing::Send(connection, message));
    }

    /// Asks for what is newer than what we have. Returns the owners that are unlisted here although the neighbour has
    /// the very version that we have.
    pub fn handle_offers(
        &mut self,
        connection: ConnectionId,
        offers: &[Offer],
        store: &Store,
        members: &Members,
        now: Instant,
    ) -> Vec<PeerKey> {
        let (mut asks, mut vouched) = (Vec::new(), Vec::new());
        for offer in offers {
            match store.get_tagged(offer.owner) {
                Some(ours) if ours.version() == offer.version => {
                    if let Some(neighbour) = self.neighbours.get_mut(&connection) {
                        neighbour.pending.remove(&offer.owner);
                    }
                    if store.listed(offer.owner).is_none() {
                        vouched.push(ours.owner());
                    }
                }
                Some(ours) if ours.version() > offer.version => {}
                Some(_) | None => {
                    if self.is_to_be_asked(connection, offer, now) {
                        asks.push(ask(offer, store, members));
                    }
                }
            }
        }
        if !asks.is_empty() {
            self.send(connection, Message::Asks(asks));
        }
        vouched
    }

    /// Whether `connection` is to be asked now; if another is better, it is remembered as a source.
    fn is_to_be_asked(&mut self, connection: ConnectionId, offer: &Offer, now: Instant) -> bool {
        let Some(neighbour) = self.neighbours.get(&connection) else { return false };
        let (is_owner, is_doubted) = (neighbour.peer == offer.owner, neighbour.is_doubted(now));
        if !is_owner && (self.refused.must_wait(offer.owner, now) || !neighbour.may_be_asked(now)) {
            return false;
        }
        let neighbours = &self.neighbours;
        let is_in_doubt = |other: ConnectionId| {
            neighbours.get(&other).is_none_or(|other| other.is_doubted(now) && other.peer != offer.owner)
        };
        let mut sources = Vec::new();
        if let Some(asked) = self.asked.get_mut(&offer.owner) {
            let is_better = match is_owner {
                true => asked.version != offer.version,
                false => !is_doubted && is_in_doubt(asked.from),
            };
            if asked.from == connection || !is_better {
                asked.add_source(connection, offer.version, is_in_doubt);
                return false;
            }
            asked.add_source(asked.from, asked.version, is_in_doubt);
            sources = std::mem::take(&mut asked.sources);
            sources.retain(|(source, _)| *source != connection);
        }
        self.note_asked(connection, offer.owner, offer.version, sources, now);
        true
    }

    fn note_asked(
        &mut self,
        from: ConnectionId,
        owner: Tag,
        version: Version,
        sources: Vec<(ConnectionId, Version)>,
        now: Instant,
    ) {
        let asked = Asked::new(from, version, sources, now);
        self.deadlines.insert((asked.deadline, owner));
        if let Some(earlier) = self.asked.insert(owner, asked) {
            self.note_answered(earlier.from, owner);
        }
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.asked.insert(owner);
        }
    }

    /// Nothing of `owner` is expected from `from` any more.
    fn note_answered(&mut self, from: ConnectionId, owner: Tag) {
        if let Some(neighbour) = self.neighbours.get_mut(&from) {
            neighbour.asked.remove(&owner);
            neighbour.assembly.take_if(|assembly| assembly.owner == owner);
        }
    }

    /// The ask for the set of `tag` has ended, with version `got` or without one: the best of those that offered a newer
    /// one is asked.
    fn ask_next_source(&mut self, tag: Tag, got: Option<Version>, store: &Store, members: &Members, now: Instant) {
        let Some(mut asked) = self.asked.remove(&tag) else { return };
        self.note_answered(asked.from, tag);
        asked.sources.retain(|(source, version)| self.neighbours.contains_key(source) && got < Some(*version));
        let is_doubted = |source: &ConnectionId| self.neighbours[source].is_doubted(now);
        let best = asked.sources.iter().enumerate().min_by_key(|(_, (source, _))| is_doubted(source));
        let Some((best, _)) = best else { return };
        let (source, version) = asked.sources.remove(best);
        let ask = ask(&Offer { owner: tag, version }, store, members);
        self.send(source, Message::Asks(vec![ask]));
        self.note_asked(source, tag, version, asked.sources, now);
    }

    /// Sends what is asked for, once each, as fast as the neighbour takes it.
    pub fn handle_asks(&mut self, connection: ConnectionId, asks: &[Ask], store: &mut Store) {
        let Some(neighbour) = self.neighbours.get_mut(&connection) else { return };
        for ask in asks.iter().filter(|ask| store.listed(ask.owner).is_some()) {
            neighbour.pending.remove(&ask.owner);
            neighbour.answers.want(*ask);
        }
        self.answer(connection, store);
    }

    /// All that was sent to the neighbour before has been taken.
    pub fn handle_room(&mut self, connection: ConnectionId, store: &mut Store) {
        if let Some(neighbour) = self.neighbours.get_mut(&connection) {
            neighbour.answers.note_room();
            self.answer(connection, store);
        }
    }

    fn answer(&mut self, connection: ConnectionId, store: &mut Store) {
        let Some(neighbour) = self.neighbours.get_mut(&connection) else { return };
        loop {
            match neighbour.answers.next(store) {
                Next::Send(message) => self.outbox.push_back(Outgoing::Send(connection, message)),
                Next::AwaitRoom => self.outbox.push_back(Outgoing::AwaitRoom(connection)),
                Next::Nothing => return,
            }
        }
    }

    /// The set that `delta`, which was asked for, makes. One that does not make what the owner signed, here, is answered
    /// by asking for the whole set: that the sender has the same base is the owner's promise, not the sender's.
    pub fn handle_delta(
        &mut self,
        connection: ConnectionId,
        delta: Arc<Delta>,
        (store, members): (&Store, &Members),
        verifier: &mut Verifier,
        now: Instant,
    ) -> Option<Received> {
        let asked = self.asked.get_mut(&delta.owner).filter(|asked| asked.from == connection && !asked.is_whole)?;
        let base = store.get_tagged(delta.owner)?;
        if base.version() >= delta.to() {
            self.ask_next_source(delta.owner, Some(base.version()), store, members, now);
            return None;
        }
        if base.version() == delta.from()
            && let Ok(set) = delta.apply(base, verifier)
        {
            return Some(Received { set, delta: Some(delta) });
        }
        asked.is_whole = true;
        if asked.note_progress(now) {
            self.deadlines.insert((asked.deadline, delta.owner));
        }
        self.send(connection, Message::Asks(vec![Ask { owner: delta.owner, base: None, card: None }]));
        None
    }

    /// The set that `part` completes, if it does.
    ///
    /// # Errors
    /// When the parts together are not what the owner signed, or too long.
    pub fn handle_part(
        &mut self,
        connection: ConnectionId,
        part: Arc<Part>,
        members: &Members,
        verifier: &mut Verifier,
        now: Instant,
    ) -> Result<Option<Received>, SetError> {
        let tag = Tag::from(&part.owner);
        let Some(asked) = self.asked.get_mut(&tag).filter(|asked| asked.from == connection) else { return Ok(None) };
        let Some(neighbour) = self.neighbours.get_mut(&connection) else { return Ok(None) };
        let mut assembly =
            neighbour.assembly.take().filter(|begun| begun.is_of(&part)).unwrap_or_else(|| Assembly::new(&part));
        if assembly.add(part)? && asked.note_progress(now) {
            self.deadlines.insert((asked.deadline, tag));
        }
        if !assembly.is_complete() {
            neighbour.assembly = Some(assembly);
            self.give_up_largest();
            return Ok(None);
        }
        let parts = assembly.into_parts();
        let has_card = parts.iter().flat_map(|part| &part.records).any(|record| record.key() == RecordKey::Card);
        let card = if has_card { None } else { members.card_record(tag) };
        let set = Part::join(&parts, card.as_ref(), verifier)?;
        Ok(Some(Received { set, delta: None }))
    }

    /// Keeps incomplete sets within their limit.
    fn give_up_largest(&mut self) {
        let memory = |neighbour: &Neighbour| neighbour.assembly.as_ref().map_or(0, |assembly| assembly.memory);
        if self.neighbours.values().map(memory).sum::<usize>() > ASSEMBLIES_MAX
            && let Some(largest) = self.neighbours.values_mut().max_by_key(|neighbour| memory(neighbour))
        {
            largest.assembly = None;
        }
    }

    /// What was asked for is here, and was kept or was no news: whoever offered a newer version is asked next.
    pub fn settle(&mut self, set: &Set, store: &Store, members: &Members, now: Instant) {
        let tag = Tag::from(&set.owner());
        self.refused.forget(tag);
        self.ask_next_source(tag, Some(set.version()), store, members, now);
    }

    /// There was no room for what `connection` was asked for: later, maybe.
    pub fn refuse(&mut self, connection: ConnectionId, set: &Set, now: Instant) {
        let tag = Tag::from(&set.owner());
        self.refused.note(tag, connection, set.version(), now);
        if let Some(asked) = self.asked.remove(&tag) {
            self.note_answered(asked.from, tag);
        }
    }

    /// Sends the offers that are due, and asks others for what did not come.
    pub fn handle_timeout(&mut self, store: &Store, members: &Members, now: Instant) {
        if self.flush.due().is_some_and(|due| due <= now) {
            self.flush.note_done(now);
            self.flush(store);
        }
        while let Some((at, tag)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_first();
            if let Some(asked) = self.asked.get(&tag).filter(|asked| asked.deadline <= at) {
                if let Some(neighbour) = self.neighbours.get_mut(&asked.from) {
                    neighbour.doubt(now);
                }
                self.ask_next_source(tag, None, store, members, now);
            }
        }
        for (owner, from, version) in self.refused.take_due(now) {
            self.handle_offers(from, &[Offer { owner, version }], store, members, now);
        }
    }

    fn flush(&mut self, store: &Store) {
        let connections: Vec<ConnectionId> = self.neighbours.keys().copied().collect();
        for connection in connections {
            let pending = self.neighbours.get_mut(&connection).map(|neighbour| std::mem::take(&mut neighbour.pending));
            self.offer(connection, pending.unwrap_or_default(), store);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        self.flush.due().into_iter().chain(deadline).chain(self.refused.due()).min()
    }

    pub fn poll(&mut self) -> Option<Outgoing> {
        self.outbox.pop_front()
    }
}

fn ask(offer: &Offer, store: &Store, members: &Members) -> Ask {
    let ours = store.get_tagged(offer.owner).map(|set| set.version());
    let base = ours.filter(|ours| ours.incarnation == offer.version.incarnation);
    let card = members.card_record(offer.owner).map(|card| short_hash(card.hash()));
    Ask { owner: offer.owner, base, card }
}

fn short_hash(card: &Hash) -> [u8; 8] {
    std::array::from_fn(|octet| card[octet])
}

#[cfg(test)]
mod tests;
