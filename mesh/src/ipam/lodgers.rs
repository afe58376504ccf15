//! Addresses of ours that containers of other peers hold.
//!
//! Invariant: an address is in use as long as one list, of whomever, has it.

use std::collections::{BTreeMap, BTreeSet};

use super::Range;
use super::note::{Holds, HoldsNumber};
use crate::identity::PeerKey;

/// How many addresses others hold of ours, and how many of them one: as many containers as a host can have.
const LODGERS_MAX: usize = 65_536;
const LODGERS_EACH_MAX: usize = 4_096;

/// The number of a list that a successor has from who was there before it; every list of its own is newer.
const ASSUMED: HoldsNumber = (0, 0);

/// Other peers'.
#[derive(Clone, Debug, Default)]
pub(super) struct Lodgers {
    pub(super) holds: BTreeMap<PeerKey, Holds>,
    /// How many hold it; more than one only by mistake.
    count: BTreeMap<u32, u32>,
}

impl Lodgers {
    pub(super) fn restore(holds: BTreeMap<PeerKey, Holds>) -> Self {
        let mut lodgers = Self::default();
        holds.into_iter().for_each(|(holder, holds)| drop(lodgers.replace(holder, holds)));
        lodgers
    }

    /// Whether `holder` may hold so many.
    pub(super) fn has_room_for(&self, holder: &PeerKey, addresses: usize) -> bool {
        let before = self.holds.get(holder).map_or(0, |holds| holds.addresses.len());
        addresses <= LODGERS_EACH_MAX && self.count.len() - before.min(self.count.len()) + addresses <= LODGERS_MAX
    }

    pub(super) fn has(&self, address: u32) -> bool {
        self.count.contains_key(&address)
    }

    pub(super) fn holder(&self, address: u32) -> Option<PeerKey> {
        let mut holders = self.holds.iter().filter(|(_, holds)| holds.addresses.contains(&address));
        holders.next().map(|(holder, _)| *holder)
    }

    pub(super) fn within(&self, range: Range) -> impl Iterator<Item = u32> {
        self.count.range(range.first..=range.last).map(|(address, _)| *address)
    }

    /// Returns the addresses that nobody holds any more.
    pub(super) fn replace(&mut self, holder: PeerKey, holds: Holds) -> Vec<u32> {
        let addresses: BTreeSet<u32> = holds.addresses.iter().copied().collect();
        let holds = Holds { addresses: addresses.iter().copied().collect(), ..holds };
        let before = self.holds.insert(holder, holds).unwrap_or_default();
        addresses.iter().for_each(|address| *self.count.entry(*address).or_default() += 1);
        self.release(&before)
    }

    pub(super) fn forget(&mut self, holder: &PeerKey) -> Vec<u32> {
        let before = self.holds.remove(holder).unwrap_or_default();
        self.release(&before)
    }

    /// What `dead` held is held by `successor`, unless that has said itself what it holds. Returns what nobody holds any
    /// more.
    pub(super) fn pass_on(&mut self, dead: &PeerKey, successor: PeerKey) -> Vec<u32> {
        let Some(before) = self.holds.get(dead) else { return Vec::new() };
        let known = self.holds.get(&successor);
        if known.is_none_or(|known| known.number == ASSUMED) {
            let known = known.into_iter().flat_map(|known| &known.addresses);
            let addresses = before.addresses.iter().chain(known).copied().collect();
            self.replace(successor, Holds { number: ASSUMED, addresses });
        }
        self.forget(dead)
    }

    /// Of whom we assume what they hold.
    pub(super) fn assumed(&self) -> impl Iterator<Item = PeerKey> {
        self.holds.iter().filter(|(_, holds)| holds.number == ASSUMED).map(|(holder, _)| *holder)
    }

    fn release(&mut self, before: &Holds) -> Vec<u32> {
        let mut freed = Vec::new();
        for address in &before.addresses {
            let Some(count) = self.count.get_mut(address) else { continue };
            *count -= 1;
            if *count == 0 {
                self.count.remove(address);
                freed.push(*address);
            }
        }
        freed
    }
}
