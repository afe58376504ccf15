//! Transfers that are told: each has to follow from what is known here, and waits until it does.
//!
//! ```text
//!   told ──► follows ──► the ring changes ──► those that wait are looked at again
//!       └──► ahead: waits for what lies between, or for a reason to believe it
//! ```
//!
//! Invariant: whoever has all of a ring believes nothing of it that does not follow, whoever tells it. A newcomer believes its
//! guide.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::ring::{Faith, Merged, Ring};
use super::{Action, Ipam, Owner, Problem, Range, Surroundings, Transfer};
use crate::identity::PeerKey;
use crate::time::Instant;

/// How many transfers wait for what they follow; the oldest gives way, and is told again when rings are compared.
const AHEAD_MAX: usize = 1_024;
/// How soon after news those that wait are looked at: once, however many news there were.
const AHEAD_DELAY: Duration = Duration::from_millis(10);

/// What is told, signed by who makes it, and cannot be followed yet.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    transfers: VecDeque<Arc<Transfer>>,
    /// When they are looked at again.
    pub(super) retry_at: Option<Instant>,
}

impl Ahead {
    pub(super) fn transfers(&self) -> impl Iterator<Item = &Transfer> {
        self.transfers.iter().map(Arc::as_ref)
    }

    fn push(&mut self, transfer: &Arc<Transfer>) {
        if self.transfers.contains(transfer) {
            return;
        }
        if self.transfers.len() >= AHEAD_MAX {
            self.transfers.pop_front();
        }
        self.transfers.push_back(Arc::clone(transfer));
    }
}

impl Ipam {
    /// Takes transfers into account that `peer` tells; returns those that were news.
    pub(super) fn learn(
        &mut self,
        peer: PeerKey,
        transfers: &[Arc<Transfer>],
        near: &Surroundings<'_>,
    ) -> Vec<Arc<Transfer>> {
        let believes = self.believes(transfers, near);
        let faith = if self.is_guided_by(peer, near) { Faith::All } else { Faith::In(&believes) };
        let allowed: Vec<_> = transfers.iter().filter(|transfer| !self.is_forbidden(transfer, near)).collect();
        self.change_ring(near, |ipam, ring| {
            let mut fresh = Vec::new();
            for transfer in allowed {
                match ring.merge(transfer, near.verifier, faith) {
                    Merged::Old => {}
                    Merged::New => fresh.push(Arc::clone(transfer)),
                    Merged::Ahead => ipam.ahead.push(transfer),
                    Merged::Conflict { address, signers } => {
                        ipam.note_problem(peer, Problem::Conflict { address, signers });
                    }
                    Merged::Unsound(problem) => ipam.actions.push_back(Action::Breach(peer, problem)),
                }
            }
            fresh
        })
    }

    /// Looks at those that wait. What follows now is told to all: whoever told it did so to one of us.
    pub(super) fn follow_ahead(&mut self, near: &Surroundings<'_>) {
        self.ahead.retry_at = None;
        let mut waiting: Vec<_> = self.ahead.transfers.drain(..).collect();
        waiting.retain(|transfer| !self.is_forbidden(transfer, near));
        let believes = self.believes(&waiting, near);
        let fresh = self.change_ring(near, |ipam, ring| {
            let mut fresh = Vec::new();
            for transfer in waiting {
                match ring.apply(&transfer, Faith::In(&believes)) {
                    Merged::New => fresh.push(transfer),
                    Merged::Ahead => ipam.ahead.transfers.push_back(transfer),
                    Merged::Old | Merged::Conflict { .. } | Merged::Unsound(_) => {}
                }
            }
            fresh
        });
        self.spread(&fresh, &[], None);
    }

    /// What `change` does to the ring, and all that hangs on it; returns the transfers that were news.
    fn change_ring(
        &mut self,
        near: &Surroundings<'_>,
        change: impl FnOnce(&mut Self, &mut Ring) -> Vec<Arc<Transfer>>,
    ) -> Vec<Arc<Transfer>> {
        let Some(mut ring) = self.ring.take() else { return Vec::new() };
        let own = Owner::Peer(near.card.key);
        let before: Vec<Range> = ring.owned_by(own).collect();
        let fresh = change(self, &mut ring);
        let is_ours_changed = !ring.owned_by(own).eq(before);
        self.ring = Some(ring);
        if is_ours_changed {
            self.measure(near);
            self.persist();
        } else if !fresh.is_empty() {
            self.persist_later(near);
        }
        if !fresh.is_empty() {
            self.are_strays_stale |= fresh.iter().any(|transfer| self.strays.is_any_within(transfer.range));
            self.end_promises(near);
            self.retry_ahead(near);
            self.compare_told(near);
            self.is_changed = true;
        }
        fresh
    }

    /// Something has changed that transfers may wait for.
    pub(super) fn retry_ahead(&mut self, near: &Surroundings<'_>) {
        if !self.ahead.transfers.is_empty() {
            self.ahead.retry_at.get_or_insert(near.now + AHEAD_DELAY);
        }
    }
}
