//! What there is a limited number of, shared among those who ask: TCP connections, questions under way to others.
//!
//! ```text
//!   asker ── take ──► has < free ? ──► Share, given back when dropped
//! ```
//!
//! One asker alone gets half of all there is, the next one half of what is left, and several that ask at a time equal
//! parts. On Docker's bridges an address can be forged, so what a whole segment has counts for each address on it:
//! whatever happens on one, as much is left for the others. On the overlay the guard lets nobody forge.
//!
//! Invariants:
//! - never more than the total is taken, so the maps below have no more entries than that;
//! - a share is given back exactly once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::asker::{Asker, Segment};

/// A limited number of something.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    sources: BTreeMap<IpAddr, usize>,
    segments: BTreeMap<Segment, usize>,
}

/// One of them, for as long as it lives.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    asker: Asker,
}

impl Budget {
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, taken: Mutex::default() })
    }

    pub const fn total(&self) -> usize {
        self.total
    }

    /// One for `asker`, unless it has its part already.
    pub fn take(self: &Arc<Self>, asker: Asker) -> Option<Share> {
        let mut taken = self.taken();
        let has = |count: Option<&usize>| count.copied().unwrap_or_default();
        let beside = match asker.segment {
            Segment::Docker(_) => has(taken.segments.get(&asker.segment)),
            Segment::Host | Segment::Overlay => 0,
        };
        let own = has(taken.sources.get(&asker.source)) + beside;
        if own >= self.total - taken.all {
            return None;
        }
        taken.all += 1;
        *taken.sources.entry(asker.source).or_default() += 1;
        *taken.segments.entry(asker.segment).or_default() += 1;
        drop(taken);
        Some(Share { budget: Arc::clone(self), asker })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.budget.taken();
        taken.all -= 1;
        give_back(&mut taken.sources, &self.asker.source);
        give_back(&mut taken.segments, &self.asker.segment);
    }
}

fn give_back<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weave_mesh::card::Subnet;

    use super::*;

    fn container(number: u8) -> Asker {
        Asker { source: [10, 32, 0, number].into(), segment: Segment::Overlay }
    }

    fn on_docker(number: u16) -> Asker {
        let [high, low] = number.to_be_bytes();
        let subnet = Subnet { address: [172, 17, 0, 0].into(), prefix_len: 16 };
        Asker { source: [172, 17, high, low].into(), segment: Segment::Docker(subnet) }
    }

    /// Takes as much as `asker` gets.
    fn exhaust(budget: &Arc<Budget>, asker: Asker) -> Vec<Share> {
        std::iter::from_fn(|| budget.take(asker)).collect()
    }

    #[test]
    fn one_container_alone_gets_half_and_the_next_ones_get_theirs() {
        let budget = Budget::new(300);

        let first = exhaust(&budget, container(1));
        let second = exhaust(&budget, container(2));
        let third = exhaust(&budget, on_docker(1));

        assert_eq!((first.len(), second.len(), third.len()), (150, 75, 25));
        drop(first);
        assert!(budget.take(container(2)).is_some());
    }

    #[test]
    fn forged_addresses_on_one_segment_leave_room_for_the_others() {
        let budget = Budget::new(300);
        let forged: Vec<Share> = (0..1_000).filter_map(|number| budget.take(on_docker(number))).collect();

        assert!(forged.len() <= 150, "{}", forged.len());
        assert!(exhaust(&budget, container(1)).len() >= 50);
    }

    proptest! {
        #[test]
        fn whoever_has_nothing_gets_something_while_the_others_are_no_more_than_what_there_is(
            greedy in proptest::collection::vec(1_u8..20, 0..400)
        ) {
            let budget = Budget::new(256);
            let held: Vec<Share> = greedy.iter().filter_map(|number| budget.take(container(*number))).collect();
            prop_assert!(budget.take(container(100)).is_some());
            drop(held);
            let taken = budget.taken();
            prop_assert_eq!((taken.all, taken.sources.len(), taken.segments.len()), (0, 0, 0));
        }
    }
}
