//! Who sends what to whom, so that each set reaches each peer once.
//!
//! ```text
//!   a set is new here ──► pending for every neighbour but its sender ─ paced ─► Offers
//!   Offers ──► newer than ours, not asked for elsewhere ──► Asks ──► Delta or Parts ──► checked ──► the node decides
//!                                └─ asked for elsewhere: remembered as another source
//! ```
//!
//! A neighbour that offers what we were about to offer is told nothing: both have it.
//!
//! Invariants:
//! - a set is asked for from one neighbour at a time; when that one fails to answer, from the next that offered it;
//! - nothing is assembled that was not asked for, and never more than one set per neighbour and owner;
//! - pending offers, asks and sources are bounded by the owners of the store and the constants below.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{
    CardRecord, Delta, OWNERS_MAX, Part, Record, RecordKey, SET_BYTES_MAX, Set, SetError, Store, Tag, Version,
};
use crate::connector::ConnectionId;
use crate::identity::PeerKey;
use crate::members::Members;
use crate::pace::Pace;
use crate::time::Instant;
use crate::verifier::Verifier;
use crate::wire::{Ask, Message, OFFERS_MAX, Offer};

/// How long a neighbour may take to answer an ask, or to send the next part.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How many further sources of one set are remembered.
const SOURCES_MAX: usize = 3;
/// How many sets are asked for at one time.
const ASKED_MAX: usize = OWNERS_MAX;
/// Offers follow each other at this interval, and a longer one in a large mesh, where there are more to join; after a
/// quiet time they go at once.
const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(50);
const FLUSH_INTERVAL_PER_OWNER: Duration = Duration::from_micros(150);
const FLUSH_INTERVAL_MAX: Duration = Duration::from_millis(200);

/// A set that arrived whole and is what its owner signed.
#[derive(Debug)]
pub struct Received {
    pub set: Arc<Set>,
    /// The delta that made it, if it came as one.
    pub delta: Option<Arc<Delta>>,
}

#[derive(Debug)]
struct Asked {
    from: ConnectionId,
    version: Version,
    deadline: Instant,
    /// Neighbours that offered it too.
    sources: Vec<ConnectionId>,
    parts: Assembly,
}

#[derive(Debug, Default)]
struct Assembly {
    version: Version,
    parts: Vec<Option<Arc<Part>>>,
    bytes: usize,
}

/// The exchange with all neighbours.
#[derive(Debug, Default)]
pub struct Exchange {
    /// For each neighbour, the owners whose sets it is to be offered.
    pending: BTreeMap<ConnectionId, BTreeSet<Tag>>,
    flush: Pace,
    asked: BTreeMap<Tag, Asked>,
    /// When to look at which ask; an entry may be out of date, never missing.
    deadlines: VecDeque<(Instant, Tag)>,
    outbox: VecDeque<(ConnectionId, Message)>,
}

impl Exchange {
    pub fn add_neighbour(&mut self, connection: ConnectionId) {
        self.pending.insert(connection, BTreeSet::new());
    }

    /// Asks the others for what this neighbour was asked for.
    pub fn remove_neighbour(&mut self, connection: ConnectionId, store: &Store, members: &Members, now: Instant) {
        self.pending.remove(&connection);
        let orphans: Vec<Tag> =
            self.asked.iter().filter(|(_, asked)| asked.from == connection).map(|(tag, _)| *tag).collect();
        for tag in orphans {
            self.ask_next_source(tag, store, members, now);
        }
    }

    /// The set of `owner` is new here: it is offered to every neighbour but the one it came from.
    pub fn announce(&mut self, owner: &PeerKey, from: Option<ConnectionId>, store: &Store, now: Instant) {
        let tag = Tag::from(owner);
        for (connection, pending) in &mut self.pending {
            if Some(*connection) != from {
                pending.insert(tag);
            }
        }
        let per_owner = FLUSH_INTERVAL_PER_OWNER * u32::try_from(store.len()).unwrap_or(u32::MAX);
        self.flush.request((FLUSH_INTERVAL_MIN + per_owner).min(FLUSH_INTERVAL_MAX), now);
    }

    /// Offers `owners` to one neighbour at once.
    pub fn offer(&mut self, connection: ConnectionId, owners: impl IntoIterator<Item = Tag>, store: &Store) {
        let offer = |owner| Some(Offer { owner, version: store.listed(owner)?.version() });
        let offers: Vec<Offer> = owners.into_iter().filter_map(offer).collect();
        for offers in offers.chunks(OFFERS_MAX) {
            self.outbox.push_back((connection, Message::Offers(offers.to_vec())));
        }
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
                    if let Some(pending) = self.pending.get_mut(&connection) {
                        pending.remove(&offer.owner);
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
            self.outbox.push_back((connection, Message::Asks(asks)));
        }
        vouched
    }

    /// Whether `connection` is to be asked; if not, because another was, it is remembered as a source.
    fn is_to_be_asked(&mut self, connection: ConnectionId, offer: &Offer, now: Instant) -> bool {
        let is_full = self.asked.len() >= ASKED_MAX;
        match self.asked.get_mut(&offer.owner) {
            Some(asked) if asked.version >= offer.version => {
                if asked.from != connection && asked.sources.len() < SOURCES_MAX && !asked.sources.contains(&connection)
                {
                    asked.sources.push(connection);
                }
                false
            }
            None if is_full => false,
            Some(_) | None => {
                self.note_asked(connection, offer.owner, offer.version, Vec::new(), now);
                true
            }
        }
    }

    fn note_asked(
        &mut self,
        from: ConnectionId,
        owner: Tag,
        version: Version,
        sources: Vec<ConnectionId>,
        now: Instant,
    ) {
        let deadline = now + ANSWER_TIMEOUT;
        self.asked.insert(owner, Asked { from, version, deadline, sources, parts: Assembly::default() });
        self.deadlines.push_back((deadline, owner));
    }

    fn ask_next_source(&mut self, tag: Tag, store: &Store, members: &Members, now: Instant) {
        let Some(mut asked) = self.asked.remove(&tag) else { return };
        asked.sources.retain(|source| self.pending.contains_key(source));
        if asked.sources.is_empty() {
            return;
        }
        let source = asked.sources.remove(0);
        let offer = Offer { owner: tag, version: asked.version };
        self.outbox.push_back((source, Message::Asks(vec![ask(&offer, store, members)])));
        self.note_asked(source, tag, asked.version, asked.sources, now);
    }

    /// Sends what is asked for, as a delta where one can be made.
    pub fn handle_asks(&mut self, connection: ConnectionId, asks: &[Ask], store: &mut Store) {
        for ask in asks {
            let Some(set) = store.listed(ask.owner).cloned() else { continue };
            if let Some(pending) = self.pending.get_mut(&connection) {
                pending.remove(&ask.owner);
            }
            if let Some(delta) = ask.base.and_then(|base| store.delta(ask.owner, base)) {
                self.outbox.push_back((connection, Message::Delta(delta)));
                continue;
            }
            let has_card = ask.card.is_some() && ask.card == set.get(&RecordKey::Card).map(short_hash);
            let card = if has_card { CardRecord::Omit } else { CardRecord::Include };
            let parts = Part::split(&set, card).into_iter().map(Arc::new);
            self.outbox.extend(parts.map(|part| (connection, Message::Part(part))));
        }
    }

    /// The set that `delta` makes. One that does not make what the owner signed, here, is answered by asking for the
    /// whole set: that the sender has the same base is the owner's promise, not the sender's.
    pub fn handle_delta(
        &mut self,
        connection: ConnectionId,
        delta: Arc<Delta>,
        store: &Store,
        verifier: &mut Verifier,
        now: Instant,
    ) -> Option<Received> {
        let base = store.get_tagged(delta.owner)?;
        if base.version() >= delta.to() {
            return None;
        }
        if base.version() == delta.from()
            && let Ok(set) = delta.apply(base, verifier)
        {
            self.settle(delta.owner, set.version());
            return Some(Received { set, delta: Some(delta) });
        }
        let whole = Ask { owner: delta.owner, base: None, card: None };
        self.note_asked(connection, delta.owner, delta.to(), Vec::new(), now);
        self.outbox.push_back((connection, Message::Asks(vec![whole])));
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
        let (owner, version) = (part.owner, part.version);
        let tag = Tag::from(&owner);
        let Some(asked) = self.asked.get_mut(&tag).filter(|asked| asked.from == connection) else { return Ok(None) };
        if asked.deadline.since(now) < ANSWER_TIMEOUT / 2 {
            asked.deadline = now + ANSWER_TIMEOUT;
            self.deadlines.push_back((asked.deadline, tag));
        }
        let is_complete = asked.parts.add(part).inspect_err(|_| drop(self.asked.remove(&tag)))?;
        if !is_complete {
            return Ok(None);
        }
        let Some(asked) = self.asked.remove(&tag) else { return Ok(None) };
        let parts: Vec<Arc<Part>> = asked.parts.parts.into_iter().flatten().collect();
        let has_card = parts.iter().flat_map(|part| &part.records).any(|record| record.key() == RecordKey::Card);
        let card = if has_card { None } else { members.card_record(tag) };
        let set = Part::join(&parts, card.as_ref(), verifier)?;
        self.settle(tag, version);
        Ok(Some(Received { set, delta: None }))
    }

    /// What was asked for is here, unless a newer version was asked for.
    fn settle(&mut self, tag: Tag, version: Version) {
        if self.asked.get(&tag).is_some_and(|asked| asked.version <= version) {
            self.asked.remove(&tag);
        }
    }

    /// Sends the offers that are due, and asks others for what did not come.
    pub fn handle_timeout(&mut self, store: &Store, members: &Members, now: Instant) {
        if self.flush.due().is_some_and(|due| due <= now) {
            self.flush.note_done(now);
            self.flush(store);
        }
        while let Some((at, tag)) = self.deadlines.front().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_front();
            if self.asked.get(&tag).is_some_and(|asked| asked.deadline <= at) {
                self.ask_next_source(tag, store, members, now);
            }
        }
    }

    fn flush(&mut self, store: &Store) {
        let connections: Vec<ConnectionId> = self.pending.keys().copied().collect();
        for connection in connections {
            let owners = self.pending.get_mut(&connection).map(std::mem::take).unwrap_or_default();
            self.offer(connection, owners, store);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.deadlines.front().map(|(at, _)| *at);
        self.flush.due().into_iter().chain(deadline).min()
    }

    pub fn poll_message(&mut self) -> Option<(ConnectionId, Message)> {
        self.outbox.pop_front()
    }
}

fn ask(offer: &Offer, store: &Store, members: &Members) -> Ask {
    let ours = store.get_tagged(offer.owner).map(|set| set.version());
    let base = ours.filter(|ours| ours.incarnation == offer.version.incarnation);
    let card = members.card_record(offer.owner).as_ref().map(short_hash);
    Ask { owner: offer.owner, base, card }
}

fn short_hash(card: &Record) -> [u8; 8] {
    std::array::from_fn(|octet| card.hash()[octet])
}

impl Assembly {
    /// Whether `part` completes the set. A part of another version starts anew.
    fn add(&mut self, part: Arc<Part>) -> Result<bool, SetError> {
        let (index, count) = (usize::from(part.index), usize::from(part.count));
        if self.version != part.version || self.parts.len() != count {
            *self = Self { version: part.version, parts: vec![None; count], bytes: 0 };
        }
        self.bytes += part.records.iter().map(Record::encoded_bytes).sum::<usize>();
        if self.bytes > SET_BYTES_MAX {
            return Err(SetError::TooLarge { owner: part.owner });
        }
        if let Some(slot) = self.parts.get_mut(index) {
            *slot = Some(part);
        }
        Ok(self.parts.iter().all(Option::is_some))
    }
}

#[cfg(test)]
mod tests;
