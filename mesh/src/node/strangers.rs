//! How much is kept of peers that nobody is connected to.
//!
//! Anybody can invent owners and sign sets for them. Such a set leads nowhere: no peer that is reachable names its owner as
//! a neighbour. Honest ones are like that for a moment, when a set overtakes the one that connects it.
//!
//! Invariants:
//! - all such sets together, and those that came from one neighbour, keep the limits below;
//! - nobody who is connected, was reachable before, or is named by a reachable peer gives way to them, or waits for them.

use std::collections::BTreeMap;

use crate::identity::PeerKey;

/// How many sets of strangers are kept, and how many of them came from one neighbour.
const STRANGERS_MAX: usize = 1_024;
const STRANGERS_EACH_MAX: usize = 512;
/// What they occupy, octets.
const MEMORY_MAX: usize = 8 << 20;
const MEMORY_EACH_MAX: usize = 4 << 20;

#[derive(Debug)]
struct Stranger {
    /// The neighbour that its set came from.
    from: PeerKey,
    memory: usize,
}

#[derive(Debug, Default)]
pub(super) struct Strangers {
    strangers: BTreeMap<PeerKey, Stranger>,
}

impl Strangers {
    /// Keeps a set of `owner`, in place of an earlier one, if there is room.
    pub(super) fn admit(&mut self, owner: PeerKey, from: PeerKey, memory: usize) -> bool {
        let others = || self.strangers.iter().filter(|(other, _)| **other != owner).map(|(_, stranger)| stranger);
        let of_neighbour = || others().filter(|stranger| stranger.from == from);
        let occupied = |memory: usize, stranger: &Stranger| memory + stranger.memory;
        let has_room = others().count() < STRANGERS_MAX
            && of_neighbour().count() < STRANGERS_EACH_MAX
            && others().fold(memory, occupied) <= MEMORY_MAX
            && of_neighbour().fold(memory, occupied) <= MEMORY_EACH_MAX;
        if has_room {
            self.strangers.insert(owner, Stranger { from, memory });
        }
        has_room
    }

    /// It is no stranger any more, or forgotten.
    pub(super) fn remove(&mut self, owner: &PeerKey) {
        self.strangers.remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(number: u16) -> PeerKey {
        let [a, b] = number.to_be_bytes();
        let mut key = [0; 32];
        (key[0], key[1]) = (a, b);
        PeerKey(key)
    }

    #[test]
    fn what_one_neighbour_brings_leaves_room_for_what_others_bring() {
        let mut strangers = Strangers::default();
        let (liar, honest) = (key(60_000), key(60_001));

        let kept = (0..60).filter(|owner| strangers.admit(key(*owner), liar, 1 << 20)).count();

        assert_eq!(kept, 4);
        assert!(strangers.admit(key(100), honest, 1 << 20));
        strangers.remove(&key(0));
        assert!(strangers.admit(key(101), liar, 1 << 20));
    }

    #[test]
    fn however_small_they_are_there_are_only_so_many() {
        let mut strangers = Strangers::default();
        let kept = (0..2_000).filter(|owner| strangers.admit(key(*owner), key(60_000 + owner % 5), 1)).count();
        assert_eq!(kept, STRANGERS_MAX);
    }

    #[test]
    fn a_newer_set_takes_the_room_of_the_earlier_one() {
        let mut strangers = Strangers::default();
        for _ in 0..10 {
            assert!(strangers.admit(key(1), key(2), MEMORY_EACH_MAX));
        }
    }
}
