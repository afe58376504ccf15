//! How much is kept of peers that we know through others only.
//!
//! Whoever is connected to us has proved that it is there. Of the rest we know what others say: a member can invent owners,
//! sign sets for them and name them as its neighbours, and they look like hosts that it is connected to. Only their number
//! and size tell. So each owner is counted to one that named it, its *sponsor*, with all that is counted to it itself:
//!
//! ```text
//!   we ◄── neighbour ◄── further ◄── further          a set counts for every sponsor on its way to us;
//!               behind:  2 sets      1 set            it is kept if none of them has more behind it than is its due
//! ```
//!
//! In an honest mesh the ways are many, and what found no room on one of them finds it on another, or when we are connected to
//! more peers.
//!
//! Invariants:
//! - sponsors lead to ourselves, never in a circle;
//! - `behind` is the sum of what is counted to an owner, however far away;
//! - an owner stays counted where it is until its set is dropped or it finds a nearer sponsor: losing connections makes no room.

use std::collections::BTreeMap;
use std::iter::successors;

use crate::identity::PeerKey;

/// What may hang on a neighbour of ours.
const NEIGHBOUR: Load = Load { sets: 8_192, memory: 32 << 20 };
/// What may hang on anybody further away.
const FURTHER: Load = Load { sets: 4_096, memory: 16 << 20 };
/// Of so many that name an owner one is chosen.
const CANDIDATES_MAX: usize = 64;
/// How far away an owner may be. Honest graphs of 16,384 peers are a few wide.
const DEPTH_MAX: usize = 64;

/// Sets, and the octets that they occupy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    sets: usize,
    memory: usize,
}

impl Load {
    const fn plus(self, other: Self) -> Self {
        Self { sets: self.sets + other.sets, memory: self.memory + other.memory }
    }

    const fn minus(self, other: Self) -> Self {
        Self { sets: self.sets.saturating_sub(other.sets), memory: self.memory.saturating_sub(other.memory) }
    }

    const fn fits(self, limit: Self) -> bool {
        self.sets <= limit.sets && self.memory <= limit.memory
    }
}

#[derive(Debug)]
struct Sponsored {
    sponsor: PeerKey,
    /// Its own set; nothing when that was dropped and others are still counted to it.
    own: Load,
    behind: Load,
}

#[derive(Debug)]
pub(super) struct Sponsors {
    /// Ourselves, to whom everybody leads.
    root: PeerKey,
    sponsored: BTreeMap<PeerKey, Sponsored>,
}

impl Sponsors {
    pub(super) const fn new(root: PeerKey) -> Self {
        Self { root, sponsored: BTreeMap::new() }
    }

    pub(super) fn contains(&self, owner: &PeerKey) -> bool {
        self.sponsored.contains_key(owner)
    }

    /// Counts a set of `owner`, in place of an earlier one, to the nearest of `candidates` and its present sponsor that has
    /// room. Returns whether there was one.
    pub(super) fn admit(
        &mut self,
        owner: PeerKey,
        memory: usize,
        candidates: impl IntoIterator<Item = PeerKey>,
    ) -> bool {
        let own = Load { sets: 1, memory };
        let earlier = self.take_out(&owner);
        let behind = earlier.as_ref().map_or_else(Load::default, |earlier| earlier.behind);
        let present = earlier.as_ref().map(|earlier| earlier.sponsor);
        let candidates = present.into_iter().chain(candidates).take(CANDIDATES_MAX);
        let with_room = candidates.filter(|sponsor| self.has_room(&owner, sponsor, own.plus(behind)));
        let nearest = with_room.min_by_key(|sponsor| self.chain(sponsor).count());
        let is_admitted = nearest.is_some();
        let counted = nearest.map(|sponsor| Sponsored { sponsor, own, behind }).or(earlier);
        if let Some(counted) = counted {
            self.put_in(owner, counted);
        }
        present.into_iter().for_each(|left| self.prune(left));
        is_admitted
    }

    /// It is connected to us: it hangs on nobody.
    pub(super) fn meet(&mut self, neighbour: PeerKey) {
        let earlier = self.take_out(&neighbour);
        let (own, behind) = earlier.as_ref().map(|earlier| (earlier.own, earlier.behind)).unwrap_or_default();
        self.put_in(neighbour, Sponsored { sponsor: self.root, own, behind });
        earlier.into_iter().for_each(|earlier| self.prune(earlier.sponsor));
    }

    /// The set of `owner` was dropped.
    pub(super) fn remove(&mut self, owner: &PeerKey) {
        let Some(left) = self.take_out(owner) else { return };
        self.put_in(*owner, Sponsored { own: Load::default(), ..left });
        self.prune(*owner);
    }

    /// Whoever is gone was kept for the sake of those behind it.
    fn prune(&mut self, mut last: PeerKey) {
        while let Some(gone) = self.sponsored.get(&last).filter(|gone| gone.own.sets + gone.behind.sets == 0) {
            let sponsor = gone.sponsor;
            self.sponsored.remove(&last);
            last = sponsor;
        }
    }

    /// Whether `sponsor`, and all that it is counted to, have room for `load` that `owner` brings.
    fn has_room(&self, owner: &PeerKey, sponsor: &PeerKey, load: Load) -> bool {
        if *sponsor == self.root {
            return true;
        }
        let has_room = |next: &Sponsored| {
            let limit = if next.sponsor == self.root { NEIGHBOUR } else { FURTHER };
            next.behind.plus(load).fits(limit)
        };
        let is_circle = *sponsor == *owner || self.chain(sponsor).any(|next| next.sponsor == *owner);
        let is_near = self.contains(sponsor) && self.chain(sponsor).nth(DEPTH_MAX).is_none();
        is_near && !is_circle && self.chain(sponsor).all(has_room)
    }

    /// `from`, its sponsor, the sponsor of that and so on.
    fn chain(&self, from: &PeerKey) -> impl Iterator<Item = &Sponsored> {
        successors(self.sponsored.get(from), |sponsored| self.sponsored.get(&sponsored.sponsor))
    }

    fn take_out(&mut self, owner: &PeerKey) -> Option<Sponsored> {
        let sponsored = self.sponsored.remove(owner)?;
        let load = sponsored.own.plus(sponsored.behind);
        self.change_behind(sponsored.sponsor, |behind| behind.minus(load));
        Some(sponsored)
    }

    fn put_in(&mut self, owner: PeerKey, sponsored: Sponsored) {
        let load = sponsored.own.plus(sponsored.behind);
        self.change_behind(sponsored.sponsor, |behind| behind.plus(load));
        self.sponsored.insert(owner, sponsored);
    }

    fn change_behind(&mut self, from: PeerKey, change: impl Fn(Load) -> Load) {
        let mut next = from;
        while let Some(sponsored) = self.sponsored.get_mut(&next) {
            sponsored.behind = change(sponsored.behind);
            next = sponsored.sponsor;
        }
    }
}

#[cfg(test)]
mod tests;
