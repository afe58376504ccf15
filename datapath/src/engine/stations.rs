//! Who owns an Ethernet address. Sorted rather than hashed: a member cannot choose addresses that collide.

use std::collections::{BTreeMap, BTreeSet};

use weave_mesh::name::MacAddr;

use crate::engine::peers::Slot;

/// Where a station is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Station {
    Here,
    At(Slot),
}

/// All known stations.
#[derive(Debug, Default)]
pub(super) struct Stations {
    sorted: Vec<(MacAddr, Station)>,
}

impl Stations {
    /// Local addresses win over remote claims of the same ones.
    pub(super) fn new(local: &BTreeSet<MacAddr>, remote: impl Iterator<Item = (MacAddr, Slot)>) -> Self {
        let mut all: BTreeMap<MacAddr, Station> = remote.map(|(mac, slot)| (mac, Station::At(slot))).collect();
        all.extend(local.iter().map(|&mac| (mac, Station::Here)));
        Self { sorted: all.into_iter().collect() }
    }

    pub(super) fn find(&self, mac: MacAddr) -> Option<Station> {
        let at = self.sorted.binary_search_by_key(&mac, |(known, _)| *known).ok()?;
        Some(self.sorted[at].1)
    }
}
