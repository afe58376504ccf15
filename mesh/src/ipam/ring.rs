//! Who owns which addresses: the first ring, and signed transfers on top of it.
//!
//! ```text
//!   first ring   │ A, 0          │ B, 0          │        shares of equal standing, version 0
//!   transfers            ├ C, 1 ┤  ├ A, 1 ┤              A granted to C, B granted to A
//!                               ├┤ D, 2                   A granted one of these to D
//!   pieces       │ A, 0  │ C, 1 ││A,1│B, 0  │            what holds: at each address the highest version
//! ```
//!
//! Only the owner of an address signs its next version (or, when it is certified dead, its heir), so at each address
//! versions are a chain, and rings merge address by address: the higher version holds, in whatever order they are heard.
//!
//! Invariants:
//! - the pieces cover the range, without a gap or an overlap;
//! - the version at an address never falls;
//! - two transfers of one version at one address mean that a signer broke the rule; both are named, and everybody keeps
//!   the same one;
//! - there are at most [`PIECES_MAX`] pieces.

mod first;
mod merge;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Range;
use crate::identity::{Hash, Identity, PeerKey, digest};
use crate::name::{MeshId, PeerName};

pub use self::first::{FirstRing, Origin, SHARES_MAX};
pub(super) use self::merge::Merged;
pub use self::transfer::{Right, Transfer};

/// How many pieces a ring has at most: a /12 cut into as many is one of blocks of 64 addresses.
pub const PIECES_MAX: usize = 16_384;
/// How far a take-over raises the version: above every transfer that the dead owner may have made unheard.
const TAKE_OVER_RISE: u32 = 1_000;

/// Who owns a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Owner {
    Peer(PeerKey),
    /// Reserved for the peer that the operator's `seed=` calls so, until it binds its key.
    Named(PeerName),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Peer(key) => key.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

fn range_bytes(range: Range) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&range.first.to_le_bytes());
    bytes[4..].copy_from_slice(&range.last.to_le_bytes());
    bytes
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    last: u32,
    version: u32,
    owner: Owner,
    /// What made it so; nothing for a share of the first ring.
    by: Option<Arc<Transfer>>,
}

#[derive(Clone, Debug)]
pub(super) struct Ring {
    first: Arc<FirstRing>,
    id: Hash,
    pieces: BTreeMap<u32, Piece>,
}

impl Ring {
    pub(super) fn new(first: Arc<FirstRing>, mesh: MeshId) -> Self {
        let piece =
            |(range, owner): (Range, Owner)| (range.first, Piece { last: range.last, version: 0, owner, by: None });
        let pieces = first.shares().into_iter().map(piece).collect();
        Self { id: first.id(mesh), first, pieces }
    }

    pub(super) const fn first(&self) -> &Arc<FirstRing> {
        &self.first
    }

    pub(super) const fn id(&self) -> &Hash {
        &self.id
    }

    /// Every piece with its owner, in the order of addresses.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Range, Owner)> {
        self.pieces.iter().map(|(first, piece)| (Range { first: *first, last: piece.last }, piece.owner))
    }

    pub(super) fn owned_by(&self, owner: Owner) -> impl Iterator<Item = Range> {
        self.pieces().filter(move |(_, other)| *other == owner).map(|(range, _)| range)
    }

    pub(super) fn owner(&self, address: u32) -> Option<Owner> {
        let (_, piece) = self.pieces.range(..=address).next_back()?;
        (piece.last >= address).then_some(piece.owner)
    }

    /// The transfers that make it what it is.
    pub(super) fn transfers(&self) -> Vec<Arc<Transfer>> {
        let mut seen = BTreeSet::new();
        let transfers = self.pieces.values().filter_map(|piece| piece.by.as_ref());
        transfers.filter(|transfer| seen.insert(transfer.key())).cloned().collect()
    }

    /// Those of them that matter inside `range`.
    pub(super) fn transfers_within(&self, range: Range) -> Vec<Arc<Transfer>> {
        let mut seen = BTreeSet::new();
        let transfers = self.overlapping(range).filter_map(|(_, piece)| piece.by.as_ref());
        transfers.filter(|transfer| seen.insert(transfer.key())).cloned().collect()
    }

    /// Equal for equal rings.
    pub(super) fn state(&self) -> Hash {
        let mut bytes = Vec::with_capacity(self.pieces.len() * 41);
        for (first, piece) in &self.pieces {
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&piece.version.to_le_bytes());
            match piece.owner {
                Owner::Peer(key) => bytes.extend_from_slice(&key.0),
                Owner::Named(name) => bytes.extend_from_slice(&name.0),
            }
        }
        digest("weave-rs ring", &[&self.id, &bytes])
    }

    /// A transfer of `range` that supersedes everything there.
    pub(super) fn make(&self, range: Range, right: Right, to: PeerKey, identity: &Identity) -> Arc<Transfer> {
        let versions = self.overlapping(range).map(|(_, piece)| piece.version);
        let rise = if matches!(right, Right::TakeOver { .. }) { TAKE_OVER_RISE } else { 1 };
        let version = versions.max().unwrap_or(0).saturating_add(rise);
        let signature = identity.sign(&Transfer::bytes(&self.id, range, version, &right, &to));
        Arc::new(Transfer { range, version, right, to, signature })
    }

    fn overlapping(&self, range: Range) -> impl Iterator<Item = (Range, &Piece)> {
        let before = self.pieces.range(..range.first).next_back();
        let from = self.pieces.range(range.first..=range.last);
        let pieces = before.into_iter().chain(from);
        let pieces = pieces.map(|(first, piece)| (Range { first: *first, last: piece.last }, piece));
        pieces.filter(move |(piece, _)| piece.intersection(range).is_some())
    }
}

#[cfg(test)]
mod tests;
