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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Range;
use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::name::{MeshId, PeerName};
use crate::verifier::Verifier;

/// How many pieces a ring has at most: a /12 cut into as many is one of blocks of 64 addresses.
pub const PIECES_MAX: usize = 16_384;
/// Among how many owners the first ring is divided at most; whoever comes later asks for space.
pub const SHARES_MAX: usize = 256;
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

/// How the first ring came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A quorum agreed on what the proposer signed.
    Agreed { owners: Vec<PeerKey>, proposer: PeerKey, signature: Signature },
    /// The operator named the owners everywhere alike.
    Seeds(Vec<PeerName>),
}

/// The first ring of a mesh. Its hash identifies the ring for ever: another one is another ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstRing {
    pub range: Range,
    pub origin: Origin,
}

impl FirstRing {
    /// Divided among `owners`, as many of them as there are shares.
    pub(super) fn propose(range: Range, owners: BTreeSet<PeerKey>, mesh: MeshId, identity: &Identity) -> Self {
        let room = usize::try_from(range.size()).unwrap_or(usize::MAX).min(SHARES_MAX);
        let owners: Vec<PeerKey> = owners.into_iter().take(room).collect();
        let proposer = identity.key();
        let signature = identity.sign(&agreed_bytes(mesh, range, &owners, &proposer));
        Self { range, origin: Origin::Agreed { owners, proposer, signature } }
    }

    pub(super) fn of_seeds(range: Range, seeds: &[PeerName]) -> Self {
        let names: BTreeSet<PeerName> = seeds.iter().copied().collect();
        Self { range, origin: Origin::Seeds(names.into_iter().take(SHARES_MAX).collect()) }
    }

    pub fn id(&self, mesh: MeshId) -> Hash {
        match &self.origin {
            Origin::Agreed { owners, proposer, .. } => agreed_bytes(mesh, self.range, owners, proposer),
            Origin::Seeds(names) => {
                let names: Vec<u8> = names.iter().flat_map(|name| name.0).collect();
                digest("weave-rs ring of seeds", &[&mesh.0, &range_bytes(self.range), &names])
            }
        }
    }

    pub(super) fn is_within_limits(&self) -> bool {
        let shares = self.owners().len();
        self.range.first <= self.range.last && (1..=SHARES_MAX).contains(&shares) && shares as u64 <= self.range.size()
    }

    /// Whether its lists are in order and it is signed by its proposer.
    pub(super) fn is_sound(&self, verifier: &Verifier) -> bool {
        let is_ordered = self.owners().windows(2).all(|pair| pair[0] < pair[1]);
        let is_signed = match &self.origin {
            Origin::Agreed { proposer, signature, .. } => {
                verifier.is_signed(proposer, &self.id(verifier.mesh()), signature)
            }
            Origin::Seeds(_) => true,
        };
        self.is_within_limits() && is_ordered && is_signed
    }

    pub(super) fn owners(&self) -> Vec<Owner> {
        match &self.origin {
            Origin::Agreed { owners, .. } => owners.iter().copied().map(Owner::Peer).collect(),
            Origin::Seeds(names) => names.iter().copied().map(Owner::Named).collect(),
        }
    }

    /// Halved again and again, so that shares are blocks: of three owners the first has a half, the others a quarter.
    fn shares(&self) -> Vec<(Range, Owner)> {
        let mut shares = Vec::new();
        split(self.range, &self.owners(), &mut shares);
        shares
    }
}

fn split(range: Range, owners: &[Owner], shares: &mut Vec<(Range, Owner)>) {
    match owners {
        [] => {}
        [owner] => shares.push((range, *owner)),
        _ => {
            let middle = range.first + (range.last - range.first) / 2;
            let (one, other) = owners.split_at(owners.len() / 2);
            split(Range { last: middle, ..range }, one, shares);
            split(Range { first: middle + 1, ..range }, other, shares);
        }
    }
}

fn range_bytes(range: Range) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&range.first.to_le_bytes());
    bytes[4..].copy_from_slice(&range.last.to_le_bytes());
    bytes
}

fn agreed_bytes(mesh: MeshId, range: Range, owners: &[PeerKey], proposer: &PeerKey) -> Hash {
    let owners: Vec<u8> = owners.iter().flat_map(|owner| owner.0).collect();
    digest("weave-rs first ring", &[&mesh.0, &range_bytes(range), &owners, &proposer.0])
}

/// By what right a transfer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Right {
    /// Its owner gives it away.
    Grant { from: PeerKey },
    /// Its owner is certified dead, and everybody else consented.
    TakeOver { from: PeerKey },
    /// It was reserved for the name of this peer.
    Bind { name: PeerName },
}

/// The next owner of a range, signed by whoever made it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub range: Range,
    /// Higher than every version before at its addresses.
    pub version: u32,
    pub right: Right,
    pub to: PeerKey,
    signature: Signature,
}

impl Transfer {
    fn bytes(ring: &Hash, range: Range, version: u32, right: &Right, to: &PeerKey) -> Hash {
        // Encoding into memory cannot fail: the type does not refuse to be serialised.
        let right = postcard::to_stdvec(right).unwrap_or_default();
        digest("weave-rs transfer", &[ring, &range_bytes(range), &version.to_le_bytes(), &right, &to.0])
    }

    pub const fn signer(&self) -> PeerKey {
        match self.right {
            Right::Grant { from } => from,
            Right::TakeOver { .. } | Right::Bind { .. } => self.to,
        }
    }

    fn is_signed(&self, ring: &Hash, verifier: &Verifier) -> bool {
        let bytes = Self::bytes(ring, self.range, self.version, &self.right, &self.to);
        verifier.is_signed(&self.signer(), &bytes, &self.signature)
    }

    /// Which transfer it is, among those of a ring.
    const fn key(&self) -> (u32, u32) {
        (self.range.first, self.version)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    last: u32,
    version: u32,
    owner: Owner,
    /// What made it so; nothing for a share of the first ring.
    by: Option<Arc<Transfer>>,
}

/// What came of a transfer that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// It was known, or has been superseded.
    Old,
    New,
    /// It is no transfer of this ring.
    Unsound(&'static str),
    /// Another transfer of the same version is for the same address.
    Conflict {
        address: u32,
        signers: [PeerKey; 2],
    },
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

    /// Takes a transfer into account.
    pub(super) fn merge(&mut self, transfer: &Arc<Transfer>, verifier: &Verifier) -> Merged {
        let Range { first, last } = transfer.range;
        if first > last || !self.first.range.covers(transfer.range) || transfer.version == 0 {
            return Merged::Unsound("a transfer is outside the range");
        }
        let standing: Vec<_> = self.overlapping(transfer.range).map(|(at, piece)| (at, piece.clone())).collect();
        let is_known = standing.iter().all(|(_, piece)| {
            piece.version > transfer.version
                || (piece.version == transfer.version && piece.by.as_ref() == Some(transfer))
        });
        if is_known {
            return Merged::Old;
        }
        if self.pieces.len() + 2 > PIECES_MAX {
            return Merged::Unsound("the ring is cut into too many pieces");
        }
        if !transfer.is_signed(&self.id, verifier) {
            return Merged::Unsound("a transfer is not signed by who makes it");
        }
        let mut conflict = None;
        for (at, piece) in standing {
            if piece.version == transfer.version
                && let Some(by) = piece.by.as_ref().filter(|by| *by != transfer)
            {
                let address = at.first.max(first);
                conflict = Some(Merged::Conflict { address, signers: [by.signer(), transfer.signer()] });
            }
            let is_superseded = piece.version < transfer.version
                || (piece.version == transfer.version
                    && piece.by.as_ref().is_some_and(|by| by.signature.0 < transfer.signature.0));
            if let Some(part) = at.intersection(transfer.range).filter(|_| is_superseded) {
                self.replace(at, &piece, part, transfer);
            }
        }
        self.join(transfer);
        conflict.unwrap_or(Merged::New)
    }

    /// Joins pieces of one transfer that touch, so that equal rings have equal pieces whatever was heard first.
    fn join(&mut self, transfer: &Arc<Transfer>) {
        let parts: Vec<Range> = self
            .overlapping(transfer.range)
            .filter(|(_, piece)| piece.by.as_ref() == Some(transfer))
            .map(|(at, _)| at)
            .collect();
        for pair in parts.windows(2).rev().filter(|pair| pair[0].last + 1 == pair[1].first) {
            if let Some(after) = self.pieces.remove(&pair[1].first)
                && let Some(before) = self.pieces.get_mut(&pair[0].first)
            {
                before.last = after.last;
            }
        }
    }

    /// `part` of the piece that is `at` goes where `transfer` says.
    fn replace(&mut self, at: Range, piece: &Piece, part: Range, transfer: &Arc<Transfer>) {
        self.pieces.remove(&at.first);
        if at.first < part.first {
            self.pieces.insert(at.first, Piece { last: part.first - 1, ..piece.clone() });
        }
        if part.last < at.last {
            self.pieces.insert(part.last + 1, piece.clone());
        }
        let (version, owner, by) = (transfer.version, Owner::Peer(transfer.to), Some(Arc::clone(transfer)));
        self.pieces.insert(part.first, Piece { last: part.last, version, owner, by });
    }
}

#[cfg(test)]
mod tests;
