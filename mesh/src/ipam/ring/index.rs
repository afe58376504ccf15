//! The pieces of each owner, found without a walk around the ring.
//!
//! Invariants:
//! - `index` names the owner and the first address of every piece, and nothing else;
//! - pieces come and go here alone, so that the hash over them is never of an earlier ring.

use super::{Owner, Piece, Ring};
use crate::identity::PeerKey;
use crate::ipam::Range;

impl Ring {
    pub(in crate::ipam) fn owned_by(&self, owner: Owner) -> impl Iterator<Item = Range> {
        self.pieces_of(owner).map(|(range, _)| range)
    }

    pub(in crate::ipam) fn owns_any(&self, owner: Owner) -> bool {
        self.index.range((owner, 0)..=(owner, u32::MAX)).next().is_some()
    }

    /// Every peer that owns something, once.
    pub(in crate::ipam) fn owners(&self) -> impl Iterator<Item = PeerKey> {
        let first = self.index.first().map(|(owner, _)| *owner);
        let after = |owner: &Owner| {
            let next = (std::ops::Bound::Excluded((*owner, u32::MAX)), std::ops::Bound::Unbounded);
            self.index.range(next).next().map(|(owner, _)| *owner)
        };
        std::iter::successors(first, after).filter_map(|owner| match owner {
            Owner::Peer(key) => Some(key),
            Owner::Named(_) => None,
        })
    }

    pub(super) fn pieces_of(&self, owner: Owner) -> impl Iterator<Item = (Range, &Piece)> {
        let firsts = self.index.range((owner, 0)..=(owner, u32::MAX)).map(|(_, first)| *first);
        firsts.filter_map(|first| self.pieces.get(&first).map(|piece| (Range { first, last: piece.last }, piece)))
    }

    pub(super) fn put_in(&mut self, first: u32, piece: Piece) {
        self.hash.take();
        self.estates.take();
        self.index.insert((piece.owner, first));
        self.pieces.insert(first, piece);
    }

    pub(super) fn take_out(&mut self, first: u32) -> Option<Piece> {
        self.hash.take();
        self.estates.take();
        let piece = self.pieces.remove(&first)?;
        self.index.remove(&(piece.owner, first));
        Some(piece)
    }
}
