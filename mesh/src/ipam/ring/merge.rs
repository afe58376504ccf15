//! Transfers that are heard, in whatever order, and what holds then.
//!
//! ```text
//!   of each piece that it touches  │ what is heard
//!   ───────────────────────────────┼────────────────────────────────────────────────────────────────────────
//!   as new as it, or newer         │ old; another transfer of that version: a conflict, and nothing changes
//!   its owner's own grant          │ new, in the same epoch, or the newest of those that it makes one piece of
//!   the next epoch, or a name      │ new, if this host has reason to believe that
//!   anything else                  │ ahead: of what comes between, or of that reason
//! ```
//!
//! Invariants:
//! - what a peer owns goes to another by its own signature, or by a succession that this host believes;
//! - what holds is never taken back: of two transfers of one version the one that was heard first stays;
//! - whoever has heard the same transfers of owners that keep the rule has the same pieces.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BLOCKS_MAX, GRANTED_PIECES_MAX, LINKS_MAX, Owner, PIECES_MAX, Piece, Right, Ring, Transfer, Version};
use crate::identity::PeerKey;
use crate::ipam::Range;
use crate::verifier::Verifier;

/// What came of a transfer that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ipam) enum Merged {
    /// It was known, or has been superseded.
    Old,
    New,
    /// What it follows, or rests on, is not known.
    Ahead,
    /// It is no transfer of this ring.
    Unsound(&'static str),
    /// Another transfer of the same version is for the same address.
    Conflict {
        address: u32,
        signers: [PeerKey; 2],
    },
}

/// What a host believes that a transfer does not prove by itself.
#[derive(Clone, Copy)]
pub(in crate::ipam) enum Faith<'a> {
    /// Everything: it made it itself, read it from its own disk, or has just come to this ring.
    All,
    /// That a take-over, or who binds a name, is as it says.
    In(&'a dyn Fn(&Transfer) -> bool),
}

/// What a transfer is to one piece that it touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Behind,
    Next,
    Ahead,
}

impl Ring {
    /// Takes a transfer into account.
    pub(in crate::ipam) fn merge(&mut self, transfer: &Arc<Transfer>, verifier: &Verifier, faith: Faith<'_>) -> Merged {
        let Range { first, last } = transfer.range;
        if first > last || !self.first.range.covers(transfer.range) || transfer.version == Version::default() {
            return Merged::Unsound("a transfer is outside the range");
        }
        // Who comes to a ring may hear what led to it last, and is asked for it by others.
        let is_history = matches!(faith, Faith::All) && !self.keeps(transfer);
        if self.knows(transfer) && !is_history {
            return Merged::Old;
        }
        if !transfer.is_signed(&self.id, verifier) {
            return Merged::Unsound("a transfer is not signed by who makes it");
        }
        let merged = self.apply(transfer, faith);
        if merged == Merged::Old && is_history {
            self.remember(Arc::clone(transfer));
        }
        merged
    }

    /// Whether it is one of those that hold, or did.
    fn keeps(&self, transfer: &Arc<Transfer>) -> bool {
        self.links.contains(transfer)
            || self.overlapping(transfer.range).any(|(_, piece)| piece.by.as_ref() == Some(transfer))
    }

    /// Whether it holds, or newer ones do, wherever it says something.
    pub(in crate::ipam) fn knows(&self, transfer: &Arc<Transfer>) -> bool {
        self.overlapping(transfer.range).all(|(_, piece)| {
            piece.version > transfer.version
                || (piece.version == transfer.version && piece.by.as_ref() == Some(transfer))
        })
    }

    /// Takes into account what is signed by who makes it.
    pub(in crate::ipam) fn apply(&mut self, transfer: &Arc<Transfer>, faith: Faith<'_>) -> Merged {
        let standing: Vec<_> = self.overlapping(transfer.range).map(|(at, piece)| (at, piece.clone())).collect();
        let is_mending = is_mending(transfer, &standing);
        let steps: Vec<Step> = standing.iter().map(|(_, piece)| step(transfer, piece, faith, is_mending)).collect();
        if !steps.contains(&Step::Next) {
            return match compare(transfer, &standing, faith) {
                Some(conflict) => conflict,
                None if steps.contains(&Step::Ahead) => Merged::Ahead,
                None => Merged::Old,
            };
        }
        // What was written down, or is told by a guide, was believed before, in another order.
        if matches!(faith, Faith::In(_)) && !self.has_room_for_told(transfer.range) {
            return Merged::Unsound("the ring is cut into too many pieces");
        }
        for ((at, piece), _) in standing.iter().zip(steps).filter(|(_, step)| *step == Step::Next) {
            if let Some(part) = at.intersection(transfer.range) {
                self.replace(*at, piece, part, transfer);
            }
        }
        self.join(transfer);
        standing.into_iter().filter_map(|(_, piece)| piece.by).for_each(|by| self.remember(by));
        Merged::New
    }

    /// Whether a grant of ours may cut it at the ends of `range`: anywhere, as long as others have cut it into few pieces.
    pub(in crate::ipam) fn has_room_for(&self, range: Range) -> bool {
        self.cuts_blocks(range) || self.pieces.len() + 2 <= GRANTED_PIECES_MAX
    }

    /// Whether one that we are told may. It has to be believed by all or by none, and others know other transfers: so what anybody
    /// honest grants is far below this limit, or cuts blocks.
    fn has_room_for_told(&self, range: Range) -> bool {
        self.cuts_blocks(range) || self.pieces.len() + 2 <= PIECES_MAX
    }

    /// Whether both ends are borders already, or lie where a cut into equal blocks would.
    fn cuts_blocks(&self, range: Range) -> bool {
        let whole = self.first.range;
        let block = whole.size().div_ceil(BLOCKS_MAX);
        let is_border = |at: u32| at > whole.last || self.pieces.contains_key(&at);
        let is_between_blocks = |at: u32| u64::from(at.saturating_sub(whole.first)) % block == 0;
        [range.first, range.last.saturating_add(1)].into_iter().all(|at| is_border(at) || is_between_blocks(at))
    }

    /// Keeps a transfer that holds nowhere any more, for those who have yet to hear what followed it.
    fn remember(&mut self, superseded: Arc<Transfer>) {
        let holds = self.overlapping(superseded.range).any(|(_, piece)| piece.by.as_ref() == Some(&superseded));
        if !holds {
            self.restore_link(superseded);
        }
    }

    /// Keeps a transfer as one that holds nowhere any more. The oldest gives way of whoever signed most of them; those who own
    /// nothing any more, of whom there are ever more, count as one.
    pub(in crate::ipam) fn restore_link(&mut self, link: Arc<Transfer>) {
        self.estates.take();
        self.links.push_back(link);
        if self.links.len() > LINKS_MAX {
            let signer = |link: &Transfer| Some(link.signer()).filter(|by| self.owns_any(Owner::Peer(*by)));
            let signers: Vec<Option<PeerKey>> = self.links.iter().map(|link| signer(link)).collect();
            let mut counts: BTreeMap<Option<PeerKey>, usize> = BTreeMap::new();
            signers.iter().for_each(|signer| *counts.entry(*signer).or_default() += 1);
            let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(signer, _)| signer);
            let oldest = signers.iter().position(|signer| Some(*signer) == most);
            oldest.map(|oldest| self.links.remove(oldest));
        }
    }

    /// Joins pieces of one transfer that touch, so that equal rings have equal pieces whatever was heard first.
    fn join(&mut self, transfer: &Arc<Transfer>) {
        let parts: Vec<Range> = self
            .overlapping(transfer.range)
            .filter(|(_, piece)| piece.by.as_ref() == Some(transfer))
            .map(|(at, _)| at)
            .collect();
        for pair in parts.windows(2).rev().filter(|pair| pair[0].last + 1 == pair[1].first) {
            if let Some(after) = self.take_out(pair[1].first)
                && let Some(before) = self.pieces.get_mut(&pair[0].first)
            {
                before.last = after.last;
            }
        }
    }

    /// `part` of the piece that is `at` goes where `transfer` says.
    fn replace(&mut self, at: Range, piece: &Piece, part: Range, transfer: &Arc<Transfer>) {
        self.take_out(at.first);
        if at.first < part.first {
            self.put_in(at.first, Piece { last: part.first - 1, ..piece.clone() });
        }
        if part.last < at.last {
            self.put_in(part.last + 1, piece.clone());
        }
        let (version, owner, by) = (transfer.version, Owner::Peer(transfer.to), Some(Arc::clone(transfer)));
        self.put_in(part.first, Piece { last: part.last, version, owner, by });
    }
}

/// Whether an owner makes one piece of several: in the newest epoch that one of them has, and no other, so that no epoch is
/// ever higher than take-overs have made it.
fn is_mending(transfer: &Transfer, standing: &[(Range, Piece)]) -> bool {
    let has_epoch =
        |piece: &Piece| piece.owner == Owner::Peer(transfer.to) && piece.version.epoch == transfer.version.epoch;
    transfer.is_grant_of(&transfer.to) && standing.iter().any(|(_, piece)| has_epoch(piece))
}

fn step(transfer: &Transfer, piece: &Piece, faith: Faith<'_>, is_mending: bool) -> Step {
    if piece.version >= transfer.version {
        return Step::Behind;
    }
    let is_by_owner = match transfer.right {
        Right::Grant { from } => {
            piece.owner == Owner::Peer(from) && (is_mending || transfer.version.epoch == piece.version.epoch)
        }
        Right::TakeOver { from, .. } => {
            piece.owner == Owner::Peer(from) && piece.version.taken_over() == Some(transfer.version)
        }
        Right::Bind { name } => piece.owner == Owner::Named(name) && piece.version.given() == Some(transfer.version),
    };
    let is_next = match (faith, transfer.right) {
        (Faith::All, _) => true,
        (Faith::In(_), Right::Grant { .. }) => is_by_owner,
        (Faith::In(believes), Right::TakeOver { .. } | Right::Bind { .. }) => is_by_owner && believes(transfer),
    };
    if is_next { Step::Next } else { Step::Ahead }
}

/// Whether a transfer that changes nothing is at odds with one that holds: its signer gave the same away twice, or two heirs
/// of one estate are believed. Anything else of that version is nobody's fault but its signer's, and says nothing.
fn compare(transfer: &Arc<Transfer>, standing: &[(Range, Piece)], faith: Faith<'_>) -> Option<Merged> {
    let is_believed = match faith {
        Faith::All => true,
        Faith::In(believes) => believes(transfer),
    };
    let dead = |transfer: &Transfer| transfer.estate().map(|estate| estate.dead);
    let is_rival = |by: &Transfer| {
        by.signer() == transfer.signer() || (is_believed && dead(by).is_some() && dead(by) == dead(transfer))
    };
    standing.iter().find_map(|(at, piece)| {
        let by = piece.by.as_ref().filter(|by| piece.version == transfer.version && *by != transfer && is_rival(by))?;
        let address = at.first.max(transfer.range.first);
        Some(Merged::Conflict { address, signers: [by.signer(), transfer.signer()] })
    })
}
