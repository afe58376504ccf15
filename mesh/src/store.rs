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

pub use self::exchange::{Exchange, Received};
pub use self::parcel::{CardRecord, Delta, PART_BYTES_MAX, PARTS_MAX, Part, Tag};
pub use self::record::{
    CONTAINER_MAX_BYTES, Content, Direction, ENDPOINT_ADDRESSES_MAX, ENDPOINT_NAME_MAX_BYTES, ENDPOINT_NAMES_MAX, Edge,
    Endpoint, EndpointId, Record, RecordKey, Session,
};
pub use self::set::{Changes, Draft, SET_BYTES_MAX, SET_RECORDS_MAX, Set, SetError, Version};

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
    /// Predecessors of one incarnation, newest last.
    earlier: VecDeque<Arc<Set>>,
    /// Deltas to `set`, received or made, so that each is made once.
    deltas: Vec<Arc<Delta>>,
}

/// The sets of all owners.
#[derive(Debug, Default)]
pub struct Store {
    entries: BTreeMap<PeerKey, Entry>,
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
        self.entries.get(owner).map(|entry| &entry.set)
    }

    /// The owner that `tag` names, if its set is here.
    pub fn find(&self, tag: Tag) -> Option<PeerKey> {
        let (key, _) = self.entries.range(tag.first_key()..).next()?;
        (Tag::from(key) == tag).then_some(*key)
    }

    pub fn is_listed(&self, owner: &PeerKey) -> bool {
        self.entries.get(owner).is_some_and(|entry| entry.listing == Listing::Listed)
    }

    /// The version here that others may hear of.
    fn listed_version(&self, owner: &PeerKey) -> Option<Version> {
        let entry = self.entries.get(owner)?;
        (entry.listing == Listing::Listed).then(|| entry.set.version())
    }

    /// Keeps `set`, unless one as new is here or there are too many owners; `delta` led to it, if one did. Returns
    /// whether it was kept.
    pub fn insert(&mut self, set: Arc<Set>, delta: Option<Arc<Delta>>) -> bool {
        let (owner, version) = (set.owner(), set.version());
        let is_full = self.entries.len() >= OWNERS_MAX;
        let deltas: Vec<_> = delta.into_iter().collect();
        match self.entries.get_mut(&owner) {
            Some(entry) if entry.set.version() >= version => return false,
            Some(entry) => {
                let earlier = std::mem::replace(&mut entry.set, set);
                if entry.listing == Listing::Listed {
                    self.hashes.toggle(&owner, earlier.version());
                    self.hashes.toggle(&owner, version);
                }
                if earlier.version().incarnation != version.incarnation {
                    entry.earlier.clear();
                } else if entry.earlier.len() >= EARLIER_MAX {
                    entry.earlier.pop_front();
                }
                if earlier.version().incarnation == version.incarnation {
                    entry.earlier.push_back(earlier);
                }
                entry.deltas = deltas;
            }
            None if is_full => return false,
            None => {
                let entry = Entry { set, listing: Listing::Unlisted, earlier: VecDeque::new(), deltas };
                self.entries.insert(owner, entry);
            }
        }
        true
    }

    pub fn remove(&mut self, owner: &PeerKey) {
        self.unlist(owner);
        self.entries.remove(owner);
    }

    /// From now on the set of `owner` is passed on.
    pub fn list(&mut self, owner: &PeerKey) {
        self.set_listing(owner, Listing::Listed);
    }

    pub fn unlist(&mut self, owner: &PeerKey) {
        self.set_listing(owner, Listing::Unlisted);
    }

    fn set_listing(&mut self, owner: &PeerKey, listing: Listing) {
        if let Some(entry) = self.entries.get_mut(owner)
            && entry.listing != listing
        {
            entry.listing = listing;
            self.hashes.toggle(owner, entry.set.version());
        }
    }

    /// The delta from exactly `base` to the set here, when it can be made and is worth it.
    fn delta(&mut self, owner: &PeerKey, base: Version) -> Option<Arc<Delta>> {
        let entry = self.entries.get_mut(owner)?;
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
