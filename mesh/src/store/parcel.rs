//! How a set travels: whole, in parts, or as the changes since a version that the receiver has.
//!
//! A parcel is signed by the set's owner and passed on unchanged. It keeps the set that it was found to make, so that
//! within one process (a simulated mesh) a set is assembled and checked once; that result never crosses the wire.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::record::{Record, RecordKey};
use super::set::{Changes, Draft, Set, SetError, Version};
use crate::identity::{PeerKey, Signature};
use crate::verifier::Verifier;

/// How long the records of one part are together, octets: a part is sealed as one message.
pub const PART_BYTES_MAX: usize = 32 * 1024;
/// How many parts one set has at most; more than the largest set needs.
pub const PARTS_MAX: u16 = 512;

/// The first octets of a peer's key: names an owner in offers and asks at a quarter of the price. Two keys with one
/// tag can be made on purpose, at great cost and to the harm of these two only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(pub [u8; 8]);

impl From<&PeerKey> for Tag {
    fn from(key: &PeerKey) -> Self {
        let mut tag = [0; 8];
        tag.copy_from_slice(&key.0[..8]);
        Self(tag)
    }
}

impl Tag {
    /// The least key with this tag.
    pub const fn first_key(self) -> PeerKey {
        let mut key = [0; 32];
        let mut octet = 0;
        while octet < 8 {
            key[octet] = self.0[octet];
            octet += 1;
        }
        PeerKey(key)
    }
}

/// The set that a parcel was found to make.
type Made = OnceLock<Arc<Set>>;

/// What changed in a set, from exactly the version `from`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delta {
    pub owner: Tag,
    pub incarnation: u64,
    pub from: u64,
    pub to: u64,
    pub signature: Signature,
    pub put: Vec<Record>,
    pub removed: Vec<RecordKey>,
    #[serde(skip)]
    made: Made,
}

impl Delta {
    /// The delta that leads from `older` to `newer`, of one incarnation.
    pub fn between(older: &Set, newer: &Arc<Set>) -> Self {
        let Changes { put, removed } = newer.changes_since(older);
        Self {
            owner: Tag::from(&newer.owner()),
            incarnation: newer.version().incarnation,
            from: older.version().counter,
            to: newer.version().counter,
            signature: newer.signature(),
            put,
            removed,
            made: OnceLock::from(Arc::clone(newer)),
        }
    }

    pub const fn from(&self) -> Version {
        Version { incarnation: self.incarnation, counter: self.from }
    }

    pub const fn to(&self) -> Version {
        Version { incarnation: self.incarnation, counter: self.to }
    }

    /// How long the changes are, octets.
    pub fn encoded_bytes(&self) -> usize {
        let removed = self.removed.len() * size_of::<RecordKey>();
        self.put.iter().map(Record::encoded_bytes).sum::<usize>() + removed
    }

    /// The set that this makes of `base`, which must be of version [`Self::from`].
    ///
    /// # Errors
    /// When the result is not what the owner signed, or breaks a limit.
    pub fn apply(&self, base: &Set, verifier: &mut Verifier) -> Result<Arc<Set>, SetError> {
        if let Some(set) = self.made.get() {
            return Ok(Arc::clone(set));
        }
        let mut draft = Draft::from_set(base);
        self.removed.iter().for_each(|key| draft.remove(key));
        self.put.iter().try_for_each(|record| draft.put(record.clone()))?;
        let set = Arc::new(draft.check(self.to(), self.signature, verifier)?);
        Ok(Arc::clone(self.made.get_or_init(|| set)))
    }
}

/// Whether the receiver has the owner's card already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardRecord {
    Include,
    Omit,
}

/// One part of a whole set. A set counts only when all its parts are there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    pub owner: PeerKey,
    pub version: Version,
    pub signature: Signature,
    pub index: u16,
    pub count: u16,
    pub records: Vec<Record>,
    #[serde(skip)]
    made: Made,
}

impl Part {
    /// The part as it is after it crossed the wire: nothing is known of what it makes.
    #[must_use]
    pub(crate) fn received(self) -> Self {
        Self { made: OnceLock::new(), ..self }
    }

    /// `set` in as few parts as it needs.
    pub fn split(set: &Arc<Set>, card: CardRecord) -> Vec<Self> {
        let mut groups = vec![Vec::new()];
        let mut bytes = 0;
        for record in set.records().filter(|record| card == CardRecord::Include || record.key() != RecordKey::Card) {
            if bytes + record.encoded_bytes() > PART_BYTES_MAX {
                groups.push(Vec::new());
                bytes = 0;
            }
            bytes += record.encoded_bytes();
            if let Some(group) = groups.last_mut() {
                group.push(record.clone());
            }
        }
        let count = u16::try_from(groups.len()).unwrap_or(u16::MAX);
        (0..count)
            .zip(groups)
            .map(|(index, records)| Self {
                owner: set.owner(),
                version: set.version(),
                signature: set.signature(),
                index,
                count,
                records,
                made: OnceLock::from(Arc::clone(set)),
            })
            .collect()
    }

    /// The set that `parts`, all of one set and complete, make with `card` when they lack one.
    ///
    /// # Errors
    /// When it is not what the owner signed, or breaks a limit.
    pub fn join(parts: &[Arc<Self>], card: Option<&Record>, verifier: &mut Verifier) -> Result<Arc<Set>, SetError> {
        let Some(first) = parts.first() else { return Err(SetError::NoCard { owner: PeerKey([0; 32]) }) };
        if let Some(set) = first.made.get() {
            return Ok(Arc::clone(set));
        }
        let mut draft = Draft::new(first.owner);
        card.map_or(Ok(()), |card| draft.put(card.clone()))?;
        parts.iter().flat_map(|part| &part.records).try_for_each(|record| draft.put(record.clone()))?;
        let set = Arc::new(draft.check(first.version, first.signature, verifier)?);
        Ok(Arc::clone(first.made.get_or_init(|| set)))
    }
}
