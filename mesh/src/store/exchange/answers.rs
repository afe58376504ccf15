//! What one neighbour has asked for and not been sent yet.
//!
//! ```text
//!   Asks ──► wanted: one ask per owner ──► the next set ──► its parts ──► a stretch of octets ──► wait for room ──► …
//! ```
//!
//! Invariants:
//! - however often something is asked for, it waits here once, so what waits is bounded by the owners of the store;
//! - no more than a stretch, and one message, is on its way that the neighbour has not taken.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::super::{CardRecord, Part, Record, RecordKey, Store, Tag};
use super::short_hash;
use crate::wire::{Ask, Message};

/// How much is sent before the neighbour must have taken it, octets: enough for the next stretch to be under way in time.
const STRETCH_BYTES: usize = 256 * 1_024;

#[derive(Debug, Default)]
pub(super) struct Answers {
    wanted: BTreeMap<Tag, Ask>,
    /// The keys of `wanted`, the longest waiting first.
    order: VecDeque<Tag>,
    /// The rest of the set that is being sent: nothing comes between its parts.
    parts: VecDeque<Arc<Part>>,
    /// Sent since the neighbour was known to have taken everything, octets.
    sent: usize,
    is_waiting: bool,
}

/// What to do next for a neighbour.
pub(super) enum Next {
    Send(Message),
    /// Ask to be told when everything before has been taken.
    AwaitRoom,
    Nothing,
}

impl Answers {
    pub(super) fn want(&mut self, ask: Ask) {
        if self.wanted.insert(ask.owner, ask).is_none() {
            self.order.push_back(ask.owner);
        }
    }

    /// Everything sent before has been taken.
    pub(super) fn note_room(&mut self) {
        (self.sent, self.is_waiting) = (0, false);
    }

    pub(super) fn next(&mut self, store: &mut Store) -> Next {
        if self.is_waiting {
            return Next::Nothing;
        }
        if self.sent >= STRETCH_BYTES {
            self.is_waiting = true;
            return Next::AwaitRoom;
        }
        match self.next_message(store) {
            Some(message) => {
                self.sent += message.encoded_bytes();
                Next::Send(message)
            }
            None => Next::Nothing,
        }
    }

    /// The next part, or the answer to the next ask: a delta where one can be made.
    fn next_message(&mut self, store: &mut Store) -> Option<Message> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Some(Message::Part(part));
            }
            let ask = self.order.pop_front().and_then(|tag| self.wanted.remove(&tag))?;
            let Some(set) = store.listed(ask.owner).cloned() else { continue };
            if let Some(delta) = ask.base.and_then(|base| store.delta(ask.owner, base)) {
                return Some(Message::Delta(delta));
            }
            let card = set.get(&RecordKey::Card).map(Record::hash).map(short_hash);
            let card = if ask.card.is_some() && ask.card == card { CardRecord::Omit } else { CardRecord::Include };
            self.parts.extend(Part::split(&set, card).into_iter().map(Arc::new));
        }
    }
}
