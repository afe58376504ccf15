//! A set: all that one owner says, under one version and one signature. Immutable; a change makes a new one that shares
//! every untouched bucket with its predecessor.
//!
//! ```text
//!   head = sign( mesh, owner, incarnation, counter, root )
//!                                                    │
//!             root = hash( (bucket number, bucket hash) of every bucket that is not empty )
//!                                                    │
//!                  bucket hash = hash( record hashes, in key order )     one change rehashes one bucket
//! ```
//!
//! Invariants:
//! - a [`Set`] exists only signed and checked: limits kept, one card, the card is the owner's and of this incarnation;
//! - two sets with one root have the same records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{Content, Edge, Endpoint, EndpointId, Record, RecordKey};
use crate::card::{Card, CardError, SignedCard};
use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::name::MeshId;
use crate::verifier::Verifier;

/// How many records one set has at most.
pub const SET_RECORDS_MAX: usize = 100_000;
/// How long the records of one set are together, octets.
pub const SET_BYTES_MAX: usize = 8 << 20;
/// What the records of one set occupy here together, octets.
pub const SET_MEMORY_MAX: usize = 16 << 20;

/// Orders the sets of one owner: by start of the owner, then by change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    pub incarnation: u64,
    pub counter: u64,
}

/// A set that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error(
        "set of {owner} has more than {SET_RECORDS_MAX} records or {SET_BYTES_MAX} bytes, or needs more than {SET_MEMORY_MAX} bytes of memory"
    )]
    TooLarge { owner: PeerKey },
    #[error("set of {owner} has a record with a list or text over its limit")]
    RecordOverLimit { owner: PeerKey },
    #[error("set of {owner} has no card")]
    NoCard { owner: PeerKey },
    #[error("set of {owner} has a bad card: {error}")]
    BadCard { owner: PeerKey, error: CardError },
    #[error("set of {owner} has the card of {card} or of another incarnation")]
    ForeignCard { owner: PeerKey, card: PeerKey },
    #[error("set of {owner} is not signed by it")]
    BadSignature { owner: PeerKey },
}

#[derive(Clone, Debug)]
struct Bucket {
    hash: Hash,
    /// Sorted by key.
    records: Vec<Record>,
}

/// All that one owner says; see the module.
#[derive(Clone, Debug)]
pub struct Set {
    owner: PeerKey,
    version: Version,
    signature: Signature,
    root: Hash,
    card: Arc<Card>,
    body: Body,
}

/// The records of a set, by bucket.
#[derive(Clone, Debug, Default)]
struct Body {
    /// The buckets that are not empty, by number.
    buckets: Vec<(u8, Arc<Bucket>)>,
    records: usize,
    bytes: usize,
    memory: usize,
}

impl Set {
    pub const fn owner(&self) -> PeerKey {
        self.owner
    }

    pub const fn version(&self) -> Version {
        self.version
    }

    pub const fn signature(&self) -> Signature {
        self.signature
    }

    pub const fn root(&self) -> &Hash {
        &self.root
    }

    pub const fn card(&self) -> &Arc<Card> {
        &self.card
    }

    /// How many records there are, the card included.
    pub const fn len(&self) -> usize {
        self.body.records
    }

    /// How long the records are together, octets.
    pub const fn bytes(&self) -> usize {
        self.body.bytes
    }

    /// What the records occupy here together, octets.
    pub const fn memory(&self) -> usize {
        self.body.memory
    }

    /// Never: a set has a card.
    pub const fn is_empty(&self) -> bool {
        self.body.records == 0
    }

    /// Every record, in an order that is the same for equal sets.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.body.buckets.iter().flat_map(|(_, bucket)| &bucket.records)
    }

    pub fn get(&self, key: &RecordKey) -> Option<&Record> {
        self.body.get(key)
    }

    /// The owner's card as it signed it.
    pub fn signed_card(&self) -> Option<&SignedCard> {
        match self.get(&RecordKey::Card)?.content() {
            Content::Card(card) => Some(card),
            Content::Edge(_) | Content::Endpoint(..) | Content::HostName(..) => None,
        }
    }

    pub fn edges(&self) -> impl Iterator<Item = &Edge> {
        self.records().filter_map(|record| match record.content() {
            Content::Edge(edge) => Some(edge),
            Content::Card(_) | Content::Endpoint(..) | Content::HostName(..) => None,
        })
    }

    pub fn edge(&self, peer: &PeerKey) -> Option<&Edge> {
        match self.get(&RecordKey::Edge(*peer))?.content() {
            Content::Edge(edge) => Some(edge),
            Content::Card(_) | Content::Endpoint(..) | Content::HostName(..) => None,
        }
    }

    pub fn endpoints(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> {
        self.records().filter_map(|record| match record.content() {
            Content::Endpoint(id, endpoint) => Some((*id, endpoint)),
            Content::Card(_) | Content::Edge(_) | Content::HostName(..) => None,
        })
    }

    /// What changed from `older` to this set: records new or different, and keys gone. Touches only buckets that
    /// differ.
    pub fn changes_since(&self, older: &Self) -> Changes {
        let buckets = |set: &Self| -> BTreeMap<u8, Arc<Bucket>> { set.body.buckets.iter().cloned().collect() };
        let (new, old) = (buckets(self), buckets(older));
        let numbers: BTreeSet<u8> = new.keys().chain(old.keys()).copied().collect();
        let mut changes = Changes::default();
        for number in numbers {
            let (new, old) = (new.get(&number), old.get(&number));
            if new.map(|bucket| bucket.hash) == old.map(|bucket| bucket.hash) {
                continue;
            }
            let records = |bucket: Option<&Arc<Bucket>>| -> Vec<Record> {
                bucket.map(|bucket| bucket.records.clone()).unwrap_or_default()
            };
            let (new, old) = (records(new), records(old));
            changes.put.extend(new.iter().filter(|record| !old.contains(record)).cloned());
            let is_gone = |key: &RecordKey| new.binary_search_by_key(key, Record::key).is_err();
            changes.removed.extend(old.iter().map(Record::key).filter(is_gone));
        }
        changes
    }
}

/// The difference between two sets of one owner.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub put: Vec<Record>,
    pub removed: Vec<RecordKey>,
}

impl Changes {
    pub const fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty()
    }
}

impl Body {
    fn get(&self, key: &RecordKey) -> Option<&Record> {
        let position = self.buckets.binary_search_by_key(&key.bucket(), |(number, _)| *number).ok()?;
        let records = &self.buckets[position].1.records;
        records.binary_search_by_key(key, Record::key).ok().map(|position| &records[position])
    }

    fn put(&mut self, record: Record) {
        let key = record.key();
        let position = match self.buckets.binary_search_by_key(&key.bucket(), |(number, _)| *number) {
            Ok(position) => position,
            Err(position) => {
                let bucket = Bucket { hash: Hash::default(), records: Vec::new() };
                self.buckets.insert(position, (key.bucket(), Arc::new(bucket)));
                position
            }
        };
        self.bytes += record.encoded_bytes();
        self.memory += record.memory();
        let records = &mut Arc::make_mut(&mut self.buckets[position].1).records;
        match records.binary_search_by_key(&key, Record::key) {
            Ok(position) => {
                let replaced = std::mem::replace(&mut records[position], record);
                self.bytes -= replaced.encoded_bytes();
                self.memory -= replaced.memory();
            }
            Err(position) => {
                records.insert(position, record);
                self.records += 1;
            }
        }
    }

    fn remove(&mut self, key: &RecordKey) {
        let Ok(number) = self.buckets.binary_search_by_key(&key.bucket(), |(number, _)| *number) else { return };
        let Ok(position) = self.buckets[number].1.records.binary_search_by_key(key, Record::key) else { return };
        let removed = Arc::make_mut(&mut self.buckets[number].1).records.remove(position);
        self.bytes -= removed.encoded_bytes();
        self.memory -= removed.memory();
        self.records -= 1;
    }
}

/// A set in the making: the records of a predecessor, or none, plus changes; becomes a [`Set`] when signed or checked.
#[derive(Debug)]
pub struct Draft {
    owner: PeerKey,
    body: Body,
    touched: BTreeSet<u8>,
    /// The predecessor's card, which needs no second check while its record stays.
    card: Option<(Record, Arc<Card>)>,
}

impl Draft {
    pub fn new(owner: PeerKey) -> Self {
        Self { owner, body: Body::default(), touched: BTreeSet::new(), card: None }
    }

    pub fn from_set(set: &Set) -> Self {
        let card = set.get(&RecordKey::Card).map(|record| (record.clone(), Arc::clone(&set.card)));
        Self { owner: set.owner, body: set.body.clone(), touched: BTreeSet::new(), card }
    }

    /// # Errors
    /// When the set or the record grows over its limit.
    pub fn put(&mut self, record: Record) -> Result<(), SetError> {
        let owner = self.owner;
        if !record.is_within_limits() {
            return Err(SetError::RecordOverLimit { owner });
        }
        self.touched.insert(record.key().bucket());
        self.body.put(record);
        let Body { records, bytes, memory, .. } = self.body;
        if records > SET_RECORDS_MAX || bytes > SET_BYTES_MAX || memory > SET_MEMORY_MAX {
            return Err(SetError::TooLarge { owner });
        }
        Ok(())
    }

    pub fn remove(&mut self, key: &RecordKey) {
        self.touched.insert(key.bucket());
        self.body.remove(key);
    }

    /// The owner's own signature over the draft.
    ///
    /// # Errors
    /// When there is no card or it is not the owner's of this incarnation.
    pub fn sign(mut self, version: Version, identity: &Identity, verifier: &mut Verifier) -> Result<Set, SetError> {
        let root = self.root();
        let signature = identity.sign(&signed_bytes(verifier.mesh(), &self.owner, version, &root));
        self.into_set(version, signature, root, verifier)
    }

    /// The draft as a set, if `signature` is its owner's.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(mut self, version: Version, signature: Signature, verifier: &mut Verifier) -> Result<Set, SetError> {
        let root = self.root();
        let owner = self.owner;
        if !verifier.is_signed(&owner, &signed_bytes(verifier.mesh(), &owner, version, &root), &signature) {
            return Err(SetError::BadSignature { owner });
        }
        self.into_set(version, signature, root, verifier)
    }

    fn root(&mut self) -> Hash {
        for number in &self.touched {
            let Ok(position) = self.body.buckets.binary_search_by_key(number, |(number, _)| *number) else { continue };
            let bucket = Arc::make_mut(&mut self.body.buckets[position].1);
            let hashes: Vec<&[u8]> = bucket.records.iter().map(|record| &record.hash()[..]).collect();
            bucket.hash = digest("weave-rs bucket", &hashes);
        }
        self.body.buckets.retain(|(_, bucket)| !bucket.records.is_empty());
        let mut parts = Vec::with_capacity(self.body.buckets.len() * 33);
        for (number, bucket) in &self.body.buckets {
            parts.push(*number);
            parts.extend_from_slice(&bucket.hash);
        }
        digest("weave-rs root", &[&parts])
    }

    fn into_set(
        self,
        version: Version,
        signature: Signature,
        root: Hash,
        verifier: &mut Verifier,
    ) -> Result<Set, SetError> {
        let owner = self.owner;
        let record = self.body.get(&RecordKey::Card).ok_or(SetError::NoCard { owner })?;
        let card = match (&self.card, record.content()) {
            (Some((known, card)), _) if known == record => Arc::clone(card),
            (_, Content::Card(signed)) => verifier.check(signed).map_err(|error| SetError::BadCard { owner, error })?,
            (_, Content::Edge(_) | Content::Endpoint(..) | Content::HostName(..)) => {
                return Err(SetError::NoCard { owner });
            }
        };
        if card.key != owner || card.incarnation != version.incarnation {
            return Err(SetError::ForeignCard { owner, card: card.key });
        }
        Ok(Set { owner, version, signature, root, card, body: self.body })
    }
}

fn signed_bytes(mesh: MeshId, owner: &PeerKey, version: Version, root: &Hash) -> Hash {
    let Version { incarnation, counter } = version;
    digest("weave-rs head", &[&mesh.0, &owner.0, &incarnation.to_le_bytes(), &counter.to_le_bytes(), root])
}

#[cfg(test)]
mod tests;
