//! What a node keeps across restarts, as values that the shell stores. Nothing read back is trusted: cards and sets are
//! checked again.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::connector::{Oblivion, Wishes};
use crate::identity::PeerKey;
use crate::ipam::{self, Change};
use crate::name::PeerName;
use crate::store::{CardRecord, Content, Part, Record, RecordKey, Set, SetError};
use crate::verifier::Verifier;

/// Something to make durable before any later output is carried out.
#[derive(Clone, Debug)]
pub enum Persist {
    /// The incarnation in use; fsynced, since the next start must choose a higher one.
    Incarnation(u64),
    /// The name in use: a collision took the earlier one away.
    Name(PeerName),
    /// A peer, replacing what is stored under its key.
    Member(StoredMember),
    /// What is stored of this peer goes.
    Forget(PeerKey),
    /// Whom the operator wants us to dial, and not to dial, replacing what is stored.
    Wishes(Wishes),
    /// The ring and what else others rely on, replacing what is stored; fsynced.
    Ring(Vec<u8>),
    /// A container took or gave back an address: appended, and not fsynced, since it is worth nothing after a loss of power.
    Owned(Change),
}

/// A peer as it is remembered: its card, its last set and where its sleeve was last heard. Cheap to keep, encoded only
/// when it is written.
#[derive(Clone, Debug)]
pub struct StoredMember {
    pub key: PeerKey,
    pub(super) card: Record,
    pub(super) set: Option<Arc<Set>>,
    pub(super) address: Option<SocketAddr>,
    /// Whether its names were answered.
    pub(super) answering: bool,
}

/// What was persisted, read back; empty at the first start.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub incarnation: u64,
    /// Each as [`StoredMember::encode`] made it.
    pub members: Vec<Vec<u8>>,
    pub forgotten: Vec<Oblivion>,
    pub ipam: ipam::Restored,
}

/// The bytes of a stored member.
#[derive(Serialize, Deserialize)]
struct Image {
    card: Record,
    /// The set without its card; empty when nothing of it is to be kept.
    parts: Vec<Arc<Part>>,
    address: Option<SocketAddr>,
    answering: bool,
}

/// Bytes that are no stored member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("a stored peer does not decode")]
    Malformed,
    #[error("a stored peer is not what it signed: {0}")]
    Set(#[from] SetError),
}

impl StoredMember {
    /// `set` belongs to `card`, or is absent.
    pub const fn new(
        key: PeerKey,
        card: Record,
        set: Option<Arc<Set>>,
        address: Option<SocketAddr>,
        answering: bool,
    ) -> Self {
        Self { key, card, set, address, answering }
    }

    pub fn encode(&self) -> Vec<u8> {
        let parts = self.set.as_ref().map(|set| Part::split(set, CardRecord::Omit)).unwrap_or_default();
        let parts = parts.into_iter().map(Arc::new).collect();
        let image = Image { card: self.card.clone(), parts, address: self.address, answering: self.answering };
        // Encoding into memory cannot fail: no type here refuses to be serialised.
        postcard::to_stdvec(&image).unwrap_or_default()
    }

    /// # Errors
    /// When `bytes` are not what [`Self::encode`] made, or not what the peer signed.
    pub fn decode(bytes: &[u8], verifier: &mut Verifier) -> Result<Self, RestoreError> {
        let image: Image = postcard::from_bytes(bytes).map_err(|_| RestoreError::Malformed)?;
        let Content::Card(signed) = image.card.content() else { return Err(RestoreError::Malformed) };
        let card = verifier.check(signed).map_err(|error| SetError::BadCard { owner: PeerKey([0; 32]), error })?;
        let set = match image.parts.as_slice() {
            [] => None,
            parts => Some(Part::join(parts, Some(&image.card), verifier)?),
        };
        if set.as_ref().is_some_and(|set| set.owner() != card.key || set.get(&RecordKey::Card) != Some(&image.card)) {
            return Err(RestoreError::Malformed);
        }
        Ok(Self { key: card.key, card: image.card, set, address: image.address, answering: image.answering })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixtures::{Owner, endpoint, verifier};

    #[test]
    fn a_member_comes_back_with_its_set_and_address() {
        let owner = Owner::new(1);
        let set = owner.set(3, (0..300).map(|id| endpoint(id, 8)));
        let address = Some(([192, 0, 2, 1], 6783).into());

        let stored = StoredMember::new(owner.key(), owner.card_record(), Some(Arc::clone(&set)), address, true);
        let again = StoredMember::decode(&stored.encode(), &mut verifier()).unwrap();

        assert_eq!((again.key, again.address, again.answering), (owner.key(), address, true));
        assert_eq!(again.set.unwrap().root(), set.root());
    }

    #[test]
    fn a_member_without_a_set_keeps_its_identity() {
        let owner = Owner::new(1);
        let stored = StoredMember::new(owner.key(), owner.card_record(), None, None, false);

        let again = StoredMember::decode(&stored.encode(), &mut verifier()).unwrap();

        assert_eq!((again.key, again.set.is_none()), (owner.key(), true));
    }

    #[test]
    fn damaged_bytes_are_an_error_and_nothing_is_believed() {
        let owner = Owner::new(1);
        let set = owner.set(3, [endpoint(1, 1)]);
        let bytes = StoredMember::new(owner.key(), owner.card_record(), Some(set), None, true).encode();

        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            if let Ok(member) = StoredMember::decode(&damaged, &mut verifier()) {
                assert_eq!(member.key, owner.key());
                assert!(member.set.is_none_or(|set| set.endpoints().count() == 1));
            }
        }
    }
}
