//! The addresses that are ours to give and that nobody holds, as intervals.
//!
//! ```text
//!   owned   ├──────────────────────┤        ├───────────┤
//!   held         x  xx        x                 x
//!   free    ├──┤  ·    ├────┤ ├──┤          ├─┤ ├──────┤       taking and giving back cost O(log intervals)
//! ```
//!
//! Invariants:
//! - intervals neither overlap nor touch;
//! - there are at most as many as addresses held and ranges owned, together, and one.

use std::collections::BTreeMap;

use super::Range;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Space {
    /// First address to last.
    free: BTreeMap<u32, u32>,
    size: u64,
}

impl Space {
    /// How many addresses are free.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The free addresses inside `window`, lowest first.
    pub(super) fn within(&self, window: Range) -> impl Iterator<Item = Range> {
        let before = self.free.range(..window.first).next_back();
        let from = self.free.range(window.first..=window.last);
        let intervals = before.into_iter().chain(from).map(|(first, last)| Range { first: *first, last: *last });
        intervals.filter_map(move |interval| interval.intersection(window))
    }

    /// The lowest free address inside `window` that `is_wanted`.
    pub(super) fn lowest(&self, window: Range, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
        self.within(window).flat_map(|interval| interval.first..=interval.last).find(|address| is_wanted(*address))
    }

    /// The block of `window` to give away: the biggest, but at most half of what is free in `window`.
    pub(super) fn donation(&self, window: Range) -> Option<Range> {
        let free: u64 = self.within(window).map(Range::size).sum();
        let limit = free.div_ceil(2);
        let blocks = self.within(window).filter_map(|interval| interval.biggest_block(limit));
        blocks.max_by_key(|block| (block.size(), block.first))
    }

    /// Whether the address was free; it is no longer.
    pub(super) fn take(&mut self, address: u32) -> bool {
        let Some((&first, &last)) = self.free.range(..=address).next_back().filter(|(_, last)| **last >= address)
        else {
            return false;
        };
        self.free.remove(&first);
        if first < address {
            self.free.insert(first, address - 1);
        }
        if address < last {
            self.free.insert(address + 1, last);
        }
        self.size -= 1;
        true
    }

    /// Whether all of `range` is free.
    pub(super) fn covers(&self, range: Range) -> bool {
        let before = self.free.range(..=range.first).next_back();
        before.is_some_and(|(_, last)| *last >= range.last)
    }

    /// `range` is free from here on; no address of it was.
    pub(super) fn give(&mut self, range: Range) {
        let Range { mut first, mut last } = range;
        if let Some((&before, &end)) = self.free.range(..first).next_back()
            && end.checked_add(1) == Some(first)
        {
            first = before;
        }
        if let Some(after) = last.checked_add(1)
            && let Some(end) = self.free.remove(&after)
        {
            last = end;
        }
        self.free.insert(first, last);
        self.size += range.size();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const ALL: Range = Range { first: 0, last: u32::MAX };

    fn space(first: u32, last: u32) -> Space {
        let mut space = Space::default();
        space.give(Range { first, last });
        space
    }

    #[test]
    fn the_lowest_free_address_comes_first() {
        let mut space = space(10, 20);
        assert!(space.take(10) && space.take(12));
        assert_eq!(space.lowest(ALL, |_| true), Some(11));
        assert_eq!(space.lowest(Range { first: 12, last: 12 }, |_| true), None);
        assert_eq!(space.lowest(Range { first: 12, last: 15 }, |_| true), Some(13));
    }

    #[test]
    fn at_most_half_is_given_away_and_of_one_address_that() {
        assert_eq!(space(0, 15).donation(ALL).unwrap().size(), 8);
        assert_eq!(space(0, 14).donation(ALL), Some(Range { first: 0, last: 7 }));
        assert_eq!(space(7, 7).donation(ALL), Some(Range::one(7)));
        assert_eq!(space(0, 15).donation(Range { first: 3, last: 3 }), Some(Range::one(3)));
        assert_eq!(space(0, 15).donation(Range { first: 16, last: 20 }), None);
    }

    proptest! {
        #[test]
        fn intervals_are_a_set_of_addresses(actions in proptest::collection::vec((any::<bool>(), 0..64_u32), 0..200)) {
            let (mut space, mut model) = (Space::default(), BTreeSet::new());
            for (is_taken, address) in actions {
                if is_taken {
                    prop_assert_eq!(space.take(address), model.remove(&address));
                } else if model.insert(address) {
                    space.give(Range::one(address));
                }
                let flat: Vec<u32> = space.within(ALL).flat_map(|range| range.first..=range.last).collect();
                prop_assert!(flat.iter().eq(&model));
                prop_assert_eq!(space.size(), model.len() as u64);
                let ends: Vec<Range> = space.within(ALL).collect();
                prop_assert!(ends.windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
            }
        }
    }
}
