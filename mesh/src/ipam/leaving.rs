//! `reset`: what we own and nobody holds goes to one peer before we leave.
//!
//! ```text
//!   HandOver(transfers) ──► durable there ──► HandOverHeard         again, until it is heard
//! ```
//!
//! Invariant: who leaves gives nothing to anybody else.

use std::sync::Arc;

use rand_core::RngCore;

use super::donation::REQUEST_TIMEOUT;
use super::note::{Note, TRANSFERS_MAX};
use super::{Answer, Error, Ipam, Owner, Range, Surroundings, Transfer, Wait};
use crate::identity::PeerKey;
use crate::time::Instant;

/// What we gave to those who leave it to us, or got from them.
#[derive(Debug)]
pub(super) struct HandingOver {
    pub(super) id: u64,
    pub(super) to: PeerKey,
    pub(super) transfers: Vec<Arc<Transfer>>,
    pub(super) is_heard: bool,
    pub(super) deadline: Instant,
}

impl Ipam {
    /// `reset`: everything that is free goes to one reachable peer.
    pub(super) fn try_hand_over(&mut self, near: &Surroundings<'_>) -> Result<Result<Answer, Error>, Wait> {
        match &self.donations.handing_over {
            Some(handing) if handing.is_heard => return Ok(Ok(Answer::HandedOver { to: Some(handing.to) })),
            Some(handing) => return Err(Wait::Peer(handing.to)),
            None => {}
        }
        self.await_others()?;
        let has_room = |block: &Range| self.ring.as_ref().is_some_and(|ring| ring.has_room_for(*block));
        let mut free: Vec<Range> = self.space.within(self.config.range.range()).filter(has_room).collect();
        let Some(to) = self.successor(near).filter(|_| !free.is_empty()) else {
            return Ok(Ok(Answer::HandedOver { to: None }));
        };
        // The rest is taken over once we have left.
        free.sort_by_key(|block| std::cmp::Reverse(block.size()));
        free.truncate(TRANSFERS_MAX);
        let transfers = self.grant(&free, to, near);
        let id = self.rng.next_u64();
        self.write(to, &Note::HandOver { id, transfers: transfers.clone() });
        let deadline = near.now + REQUEST_TIMEOUT;
        self.donations.handing_over = Some(HandingOver { id, to, transfers, is_heard: false, deadline });
        Err(Wait::Peer(to))
    }

    /// A reachable owner, else anybody reachable.
    fn successor(&self, near: &Surroundings<'_>) -> Option<PeerKey> {
        let ring = self.ring.as_ref()?;
        let is_owner = |peer: &PeerKey| ring.owns_any(Owner::Peer(*peer));
        let is_alive = |peer: &PeerKey| !self.certificates.contains_key(peer);
        let mut reachable = near.reachable();
        reachable.retain(is_alive);
        reachable.iter().find(|peer| is_owner(peer)).or_else(|| reachable.first()).copied()
    }

    pub(super) const fn is_leaving(&self) -> bool {
        self.donations.handing_over.is_some()
    }

    pub(super) fn handle_hand_over(
        &mut self,
        from: PeerKey,
        id: u64,
        transfers: &[Arc<Transfer>],
        near: &Surroundings<'_>,
    ) {
        if self.ring.is_none() || self.is_newcomer() {
            return;
        }
        let fresh = self.learn(from, transfers, near);
        self.spread(&fresh, &[], None);
        // What we cannot follow yet is handed over again.
        if self.ring.as_ref().is_some_and(|ring| transfers.iter().all(|transfer| ring.knows(transfer))) {
            self.write(from, &Note::HandOverHeard { id });
        }
    }

    pub(super) fn handle_hand_over_heard(&mut self, id: u64) {
        if let Some(handing) = self.donations.handing_over.as_mut().filter(|handing| handing.id == id) {
            handing.is_heard = true;
            self.is_changed = true;
        }
    }
}
