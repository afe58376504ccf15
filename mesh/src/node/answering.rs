//! Whose names are answered: our own at once, whether or not they are published yet; a peer's from the moment it is
//! reachable until it leaves, or until [`HOLD`] after it became unreachable. So it is over our own restart too: [`Member::answering`](crate::members::Member::answering) is persisted.

use std::sync::Arc;

use super::own::Differences;
use super::{Event, Node};
use crate::dns::{HOLD, Names};
use crate::identity::PeerKey;
use crate::store::Set;
use crate::time::Instant;

impl Node {
    /// All names of the mesh as they are now. After an [`Event::NamesChanged`] this is asked for before the next one
    /// comes.
    pub fn names(&mut self) -> Arc<Names> {
        self.names_told = false;
        self.zone.snapshot()
    }

    /// Our own names are others than before.
    pub(super) fn answer_differences(&mut self, differences: &Differences) {
        self.zone.change(self.key(), &differences.gone, &differences.new);
    }

    /// A peer is reachable, or was when we were last here.
    pub(super) fn start_answering(&mut self, peer: &PeerKey) {
        self.lapses.retain(|(_, lapsing)| lapsing != peer);
        if let Some(set) = self.store.get(peer) {
            self.zone.put(set);
        }
    }

    /// A peer has become unreachable.
    pub(super) fn schedule_lapse(&mut self, peer: &PeerKey, now: Instant) {
        self.lapses.insert((now + HOLD, *peer));
    }

    /// A peer has left, or its time is over.
    pub(super) fn stop_answering(&mut self, peer: &PeerKey) {
        self.lapses.retain(|(_, lapsing)| lapsing != peer);
        self.zone.remove(peer);
        self.members.fall_silent(peer);
    }

    /// `set` replaces an earlier one of its owner, or is the first.
    pub(super) fn follow_names(&mut self, set: &Arc<Set>, touches_names: bool) {
        let answering = self.members.get(&set.owner()).is_some_and(|member| member.answering);
        match touches_names {
            true if answering => self.zone.put(set),
            true => {}
            false => self.zone.renew(set),
        }
    }

    pub(super) fn end_lapses(&mut self, now: Instant) {
        while let Some((_, peer)) = self.lapses.first().copied().filter(|(at, _)| *at <= now) {
            self.stop_answering(&peer);
        }
    }

    pub(super) fn tell_names(&mut self) {
        if self.zone.has_changes() && !self.names_told {
            self.names_told = true;
            self.event(Event::NamesChanged);
        }
    }
}
