//! Transfers that are heard, in whatever order, and what holds then.
//!
//! Invariant: whoever has heard the same transfers has the same pieces.

use std::sync::Arc;

use super::{Owner, PIECES_MAX, Piece, Ring, Transfer};
use crate::identity::PeerKey;
use crate::ipam::Range;
use crate::verifier::Verifier;

/// What came of a transfer that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ipam) enum Merged {
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

impl Ring {
    /// Takes a transfer into account.
    pub(in crate::ipam) fn merge(&mut self, transfer: &Arc<Transfer>, verifier: &Verifier) -> Merged {
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
