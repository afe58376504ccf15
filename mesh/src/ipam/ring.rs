//! Who owns which addresses: the first ring, and signed transfers on top of it.
//!
//! ```text
//!   first ring   │ A, 0          │ B, 0          │        shares of equal standing, version 0
//!   transfers            ├ C, 1 ┤  ├ A, 1 ┤              A granted to C, B granted to A
//!                               ├┤ D, 2                   A granted one of these to D
//!   pieces       │ A, 0  │ C, 1 ││A,1│B, 0  │            what holds: at each address the highest version
//! ```
//!
//! Only the owner of an address signs its next version (or, when it is dead, its heir with everybody's consent), so at
//! each address versions are a chain, which every host follows by itself. Links that hold nowhere any more are kept for
//! those who were away, the latest of them.
//!
//! Invariants:
//! - the pieces cover the range, without a gap or an overlap;
//! - the version at an address never falls;
//! - two transfers of one version at one address mean that a signer broke the rule; both are named, and the one that was
//!   heard first stays;
//! - there are at most [`PIECES_MAX`] pieces, and those that cuts between blocks make.

mod first;
mod index;
mod merge;
mod transfer;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Estate, Range};
use crate::identity::{Hash, Identity, PeerKey, digest};
use crate::name::{MeshId, PeerName};

pub use self::first::{FirstRing, Origin, SHARES_MAX};
pub(super) use self::merge::{Faith, Merged};
pub use self::transfer::{Right, Transfer, Version};

/// Into how many pieces of any size the transfers of others cut a ring.
pub const PIECES_MAX: usize = 16_384;
/// In one of so many pieces, grants of ours cut blocks alone.
const GRANTED_PIECES_MAX: usize = PIECES_MAX / 2;
/// Cuts between so many equal blocks are always possible, in a /12 every 128 addresses.
const BLOCKS_MAX: u64 = 8_192;
/// How many transfers are kept that hold nowhere any more: who was away for longer than so many cannot follow.
const LINKS_MAX: usize = 512;

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
    version: Version,
    owner: Owner,
    /// What made it so; nothing for a share of the first ring.
    by: Option<Arc<Transfer>>,
}

#[derive(Clone, Debug)]
pub(super) struct Ring {
    first: Arc<FirstRing>,
    id: Hash,
    pieces: BTreeMap<u32, Piece>,
    /// Where the pieces of each owner begin.
    index: BTreeSet<(Owner, u32)>,
    /// What [`Self::state`] is, until a piece changes.
    hash: OnceCell<Hash>,
    /// What [`Self::estates`] are, until a piece or a link changes.
    estates: OnceCell<BTreeSet<Estate>>,
    /// Transfers that hold nowhere any more, in the order in which they were superseded.
    links: VecDeque<Arc<Transfer>>,
}

impl Ring {
    pub(super) fn new(first: Arc<FirstRing>, mesh: MeshId) -> Self {
        let piece = |(range, owner): (Range, Owner)| {
            (range.first, Piece { last: range.last, version: Version::default(), owner, by: None })
        };
        let pieces: BTreeMap<u32, Piece> = first.shares().into_iter().map(piece).collect();
        let index = pieces.iter().map(|(first, piece)| (piece.owner, *first)).collect();
        Self {
            id: first.id(mesh),
            first,
            pieces,
            index,
            hash: OnceCell::new(),
            estates: OnceCell::new(),
            links: VecDeque::new(),
        }
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

    /// Those that hold nowhere any more, in the order in which they were superseded.
    pub(super) fn links(&self) -> impl Iterator<Item = &Arc<Transfer>> {
        self.links.iter()
    }

    /// What leads to how it is inside `range`, as far as it is kept, in an order in which it can be followed.
    pub(super) fn history(&self, range: Range) -> Vec<Arc<Transfer>> {
        let mut seen = BTreeSet::new();
        let links = self.links.iter().filter(|link| link.range.intersection(range).is_some());
        let transfers = links.chain(self.overlapping(range).filter_map(|(_, piece)| piece.by.as_ref()));
        transfers.filter(|transfer| seen.insert(transfer.key())).cloned().collect()
    }

    /// What became of all that `owner` gave away, or that was inherited from it, in an order in which it can be followed.
    pub(super) fn history_after(&self, owner: &PeerKey) -> Vec<Arc<Transfer>> {
        let whole = self.history(self.first.range);
        let given: Vec<Range> =
            whole.iter().filter(|transfer| transfer.giver() == Some(*owner)).map(|transfer| transfer.range).collect();
        let is_after =
            |transfer: &Arc<Transfer>| given.iter().any(|range| range.intersection(transfer.range).is_some());
        whole.into_iter().filter(is_after).collect()
    }

    /// Whose estates were taken over, as far as it is kept.
    pub(super) fn estates(&self) -> &BTreeSet<Estate> {
        self.estates.get_or_init(|| {
            let holding = self.pieces.values().filter_map(|piece| piece.by.as_ref());
            holding.chain(&self.links).filter_map(|transfer| transfer.estate()).collect()
        })
    }

    /// Equal for equal rings.
    pub(super) fn state(&self) -> Hash {
        *self.hash.get_or_init(|| self.digest())
    }

    fn digest(&self) -> Hash {
        let mut bytes = Vec::with_capacity(self.pieces.len() * 45);
        for (first, piece) in &self.pieces {
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&piece.version.epoch.to_le_bytes());
            bytes.extend_from_slice(&piece.version.count.to_le_bytes());
            match piece.owner {
                Owner::Peer(key) => bytes.extend_from_slice(&key.0),
                Owner::Named(name) => bytes.extend_from_slice(&name.0),
            }
        }
        digest("weave-rs ring", &[&self.id, &bytes])
    }

    /// Gives `range`, which is ours, to `to`: one transfer for each epoch in it.
    pub(super) fn give(&mut self, range: Range, to: PeerKey, identity: &Identity) -> Vec<Arc<Transfer>> {
        let part = |(at, piece): (Range, &Piece)| Some((at.intersection(range)?, piece.version.given()?));
        let rows = rows(self.overlapping(range).filter_map(part), |one, other| one.epoch == other.epoch);
        self.make(rows, Right::Grant { from: identity.key() }, to, identity)
    }

    /// Makes one piece of those of ours that touch, the longest row of them, if there is one.
    pub(super) fn mend(&mut self, own: PeerKey, identity: &Identity) -> Vec<Arc<Transfer>> {
        let pieces = self.pieces_of(Owner::Peer(own)).map(|(range, piece)| (range, piece.version));
        let rows = rows(pieces, |_, _| true).into_iter().filter(|row| row.pieces > 1);
        let longest = rows.max_by_key(|row| row.pieces);
        let row = longest.and_then(|row| Some(Row { version: row.version.given()?, ..row }));
        self.make(row, Right::Grant { from: own }, own, identity)
    }

    /// Takes over an estate of which we are the heir.
    pub(super) fn inherit(&mut self, estate: &Estate, identity: &Identity) -> Vec<Arc<Transfer>> {
        let right = Right::TakeOver { from: estate.dead, id: estate.id };
        self.claim(Owner::Peer(estate.dead), right, Version::taken_over, identity)
    }

    /// Takes what is reserved for our name.
    pub(super) fn bind(&mut self, name: PeerName, identity: &Identity) -> Vec<Arc<Transfer>> {
        self.claim(Owner::Named(name), Right::Bind { name }, Version::given, identity)
    }

    fn claim(
        &mut self,
        owner: Owner,
        right: Right,
        next: impl Fn(Version) -> Option<Version>,
        identity: &Identity,
    ) -> Vec<Arc<Transfer>> {
        let part = |(range, piece): (Range, &Piece)| Some((range, next(piece.version)?));
        let rows = rows(self.pieces_of(owner).filter_map(part), |one, other| one == other);
        self.make(rows, right, identity.key(), identity)
    }

    fn make(
        &mut self,
        rows: impl IntoIterator<Item = Row>,
        right: Right,
        to: PeerKey,
        identity: &Identity,
    ) -> Vec<Arc<Transfer>> {
        let sign = |row: Row| Arc::new(Transfer::sign(&self.id, row.range, row.version, right, to, identity));
        let mut transfers: Vec<_> = rows.into_iter().map(sign).collect();
        transfers.retain(|transfer| self.apply(transfer, Faith::All) == Merged::New);
        transfers
    }

    fn overlapping(&self, range: Range) -> impl Iterator<Item = (Range, &Piece)> {
        let before = self.pieces.range(..range.first).next_back();
        let from = self.pieces.range(range.first..=range.last);
        let pieces = before.into_iter().chain(from);
        let pieces = pieces.map(|(first, piece)| (Range { first: *first, last: piece.last }, piece));
        pieces.filter(move |(piece, _)| piece.intersection(range).is_some())
    }
}

/// Pieces that touch, as one transfer takes them.
#[derive(Clone, Copy, Debug)]
struct Row {
    range: Range,
    /// The newest of them.
    version: Version,
    pieces: usize,
}

/// The rows of pieces that come in order, each as long as the versions of neighbours allow.
fn rows(pieces: impl Iterator<Item = (Range, Version)>, may_join: impl Fn(Version, Version) -> bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (range, version) in pieces {
        match rows.last_mut() {
            Some(row) if row.range.last + 1 == range.first && may_join(row.version, version) => {
                (row.range.last, row.version, row.pieces) = (range.last, version.max(row.version), row.pieces + 1);
            }
            Some(_) | None => rows.push(Row { range, version, pieces: 1 }),
        }
    }
    rows
}

#[cfg(test)]
mod tests;
