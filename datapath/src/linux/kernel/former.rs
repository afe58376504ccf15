//! What addresses were before they were gone.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use weave_mesh::name::MacAddr;

use crate::plan::{Observed, Plan};

/// Addresses whose last MAC is remembered after they are gone.
const FORMER_MAX: usize = 4096;

/// The MACs that addresses had before they were removed: when one comes back with another, somebody's cache is wrong.
#[derive(Debug, Default)]
pub(super) struct FormerNeighbours {
    macs: BTreeMap<IpAddr, MacAddr>,
    /// Oldest first.
    order: VecDeque<IpAddr>,
}

impl FormerNeighbours {
    pub(super) fn remember(&mut self, address: IpAddr, observed: &Observed) {
        let Some(entry) = observed.neighbours.get(&address) else {
            return;
        };
        self.forget(address);
        if self.order.len() == FORMER_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.macs.remove(&oldest);
        }
        self.macs.insert(address, entry.mac);
        self.order.push_back(address);
    }

    pub(super) fn forget(&mut self, address: IpAddr) {
        if self.macs.remove(&address).is_some() {
            self.order.retain(|known| *known != address);
        }
    }

    /// Of the addresses that `plan` has.
    pub(super) fn of(&self, plan: &Plan) -> BTreeMap<IpAddr, MacAddr> {
        self.macs.iter().filter(|(address, _)| plan.neighbours.contains_key(address)).map(|(a, m)| (*a, *m)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::plan::NeighbourEntry;

    #[test]
    fn the_oldest_makes_room() {
        let mut former = FormerNeighbours::default();
        let addresses = || (0..=FORMER_MAX as u32).map(|number| IpAddr::V4(Ipv4Addr::from_bits(number)));
        let entry = NeighbourEntry { mac: MacAddr([2; 6]), permanent: true };
        let neighbours = addresses().map(|address| (address, entry)).collect();
        let observed = Observed { neighbours, ..Observed::default() };

        addresses().for_each(|address| former.remember(address, &observed));

        assert_eq!((former.macs.len(), former.order.len()), (FORMER_MAX, FORMER_MAX));
        assert!(!former.macs.contains_key(&IpAddr::V4(Ipv4Addr::from_bits(0))));
    }
}
