//! The replicated store: one signed set per owner, and how sets spread.
//!
//! ```text
//!   set.rs     records under one version and signature        parcel.rs    a set on its way: delta or parts
//!   record.rs  one thing that an owner says                   exchange.rs  offers, asks, assembly: who sends what
//!   store.rs   the sets of all owners                         compare.rs   finding what got lost
//! ```
//!
//! Deletion is absence: a record that is not in the owner's newest set does not exist.
//!
//! Invariants:
//! - a set is replaced only by a newer one of its owner;
//! - only *listed* sets, those of reachable owners, are hashed, offered or handed out;
//! - there are at most [`OWNERS_MAX`] sets.

mod compare;
mod exchange;
mod parcel;
mod record;
mod set;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::identity::PeerKey;

pub use self::exchange::{Exchange, Haste, Outgoing, Received};
pub use self::parcel::{CardRecord, Delta, PART_BYTES_MAX, PARTS_MAX, Part, Tag};
pub use self::record::{
    CONTAINER_MAX_BYTES, Content, Direction, ENDPOINT_ADDRESSES_MAX, ENDPOINT_NAME_MAX_BYTES, ENDPOINT_NAMES_MAX, Edge,
    Endpoint, EndpointId, HostName, HostNameId, Record, RecordKey, Session,
};
pub use self::set::{Changes, Draft, SET_BYTES_MAX, SET_MEMORY_MAX, SET_RECORDS_MAX, Set, SetError, Version};

use self::compare::BucketHashes;

/// How many owners one store knows.
pub const OWNERS_MAX: usize = 16_384;
/// How many earlier versions of a set are kept to make deltas from. Two cover a neighbour that missed one round.
const EARLIER_MAX: usize = 3;

/// Whether a set is passed on to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Listed,
    Unlisted,
}

#[derive(Debug)]
struct Entry {
    set: Arc<Set>,
    listing: Listing,
    /// Predecessors of one incarnation, newest last: those alone from which a delta is worth it, so that they share nearly
    /// all records with the set.
    earlier: VecDeque<Arc<Set>>,
    /// Deltas to `set`, received or made, so that each is made once.
    deltas: Vec<Arc<Delta>>,
}

impl Entry {
    /// Takes `set` in place of the present one, whose version is returned; `delta` led to it, if one did.
    fn replace(&mut self, set: Arc<Set>, delta: Option<Arc<Delta>>) -> Version {
        let earlier = std::mem::replace(&mut self.set, set);
        let version = earlier.version();
        let is_same_life = version.incarnation == self.set.version().incarnation;
        let delta = delta.or_else(|| is_same_life.then(|| Arc::new(Delta::between(&earlier, &self.set))));
        match delta.filter(|delta| is_same_life && delta.encoded_bytes() <= PART_BYTES_MAX) {
            Some(delta) => {
                if self.earlier.len() >= EARLIER_MAX {
                    self.earlier.pop_front();
                }
                self.earlier.push_back(earlier);
                self.deltas = vec![delta];
            }
            None => {
                self.earlier.clear();
                self.deltas.clear();
            }
        }
        version
    }
}

/// The sets of all owners.
#[derive(Debug, Default)]
pub struct Store {
    /// By tag, since nearly every look-up is for an offer. Of two owners with one tag the first is kept.
    entries: BTreeMap<Tag, Entry>,
    hashes: BucketHashes,
}

impl Store {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, owner: &PeerKey) -> Option<&Arc<Set>> {
        self.get_tagged(Tag::from(owner)).filter(|set| set.owner() == *owner)
    }

    /// The set of the owner that `tag` names.
    pub fn get_tagged(&self, tag: Tag) -> Option<&Arc<Set>> {
        self.entries.get(&tag).map(|entry| &entry.set)
    }

    pub fn is_listed(&self, owner: &PeerKey) -> bool {
        self.listed(Tag::from(owner)).is_some_and(|set| set.owner() == *owner)
    }

    /// The set of the owner that `tag` names, if others may hear of it.
    fn listed(&self, tag: Tag) -> Option<&Arc<Set>> {
        let entry = self.entries.get(&tag)?;
        (entry.listing == Listing::Listed).then_some(&entry.set)
    }

    /// Whether [`Self::insert`] would keep `set`.
    pub fn lacks(&self, set: &Set) -> bool {
        match self.entries.get(&Tag::from(&set.owner())) {
            Some(entry) => entry.set.owner() == set.owner() && entry.set.version() < set.version(),
            None => self.entries.len() < OWNERS_MAX,
        }
    }

    /// Keeps `set`, unless one as new is here or there are too many owners; `delta` led to it, if one did. Returns
    /// whether it was kept.
    pub fn insert(&mut self, set: Arc<Set>, delta: Option<Arc<Delta>>) -> bool {
        if !self.lacks(&set) {
            return false;
        }
        let (tag, version) = (Tag::from(&set.owner()), set.version());
        match self.entries.get_mut(&tag) {
            Some(entry) => {
                let earlier = entry.replace(set, delta);
                if entry.listing == Listing::Listed {
                    self.hashes.toggle(tag, earlier);
                    self.hashes.toggle(tag, version);
                }
            }
            None => {
                let (earlier, deltas) = (VecDeque::new(), Vec::new());
                let entry = Entry { set, listing: Listing::Unlisted, earlier, deltas };
                self.entries.insert(tag, entry);
            }
        }
        true
    }

    pub fn remove(&mut self, owner: &PeerKey) {
        if self.get(owner).is_some() {
            self.unlist(owner);
            self.entries.remove(&Tag::from(owner));
        }
    }

    /// From now on the set of `owner` is passed on.
    pub fn list(&mut self, owner: &PeerKey) {
        self.set_listing(owner, Listing::Listed);
    }

    pub fn unlist(&mut self, owner: &PeerKey) {
        self.set_listing(owner, Listing::Unlisted);
    }

    fn set_listing(&mut self, owner: &PeerKey, listing: Listing) {
        let tag = Tag::from(owner);
        if let Some(entry) = self.entries.get_mut(&tag)
            && entry.set.owner() == *owner
            && entry.listing != listing
        {
            entry.listing = listing;
            self.hashes.toggle(tag, entry.set.version());
        }
    }

    /// The delta from exactly `base` to the set here, when it can be made and is worth it.
    fn delta(&mut self, tag: Tag, base: Version) -> Option<Arc<Delta>> {
        let entry = self.entries.get_mut(&tag)?;
        if let Some(delta) = entry.deltas.iter().find(|delta| delta.from() == base) {
            return Some(Arc::clone(delta));
        }
        let older = entry.earlier.iter().find(|set| set.version() == base)?;
        let delta = Arc::new(Delta::between(older, &entry.set));
        if delta.encoded_bytes() > PART_BYTES_MAX {
            return None;
        }
        entry.deltas.push(Arc::clone(&delta));
        Some(delta)
    }
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
