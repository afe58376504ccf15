//! Which sets of others are kept.
//!
//! ```text
//!   its owner is connected to us ───────────────► kept
//!   named by somebody reachable, or known ──────► kept, if there is room behind its sponsor      sponsors.rs
//!   neither ────────────────────────────────────► kept, if there is room for a stranger          strangers.rs
//!   out of reach ───────────────────────────────► kept for an hour, if it is not long and they are many
//! ```

use super::Node;
use crate::connector::ConnectionId;
use crate::identity::PeerKey;
use crate::store::Set;
use crate::time::Instant;

/// What the sets of those occupy who were reachable and are not, octets.
const UNREACHABLE_MEMORY_MAX: usize = 32 << 20;

impl Node {
    /// Whether a set that came over `from` is to be kept.
    pub(super) fn has_room_for(&mut self, set: &Set, from: ConnectionId) -> bool {
        let (owner, memory) = (set.owner(), set.memory());
        let Some(neighbour) = self.links.get(from).map(|link| link.peer) else { return false };
        self.sponsors.meet(neighbour);
        let naming = self.naming(set);
        let is_known = self.members.get(&owner).is_some_and(|member| !member.reach.is_hearsay());
        match (naming.is_empty(), is_known) {
            (false, _) => self.sponsors.admit(owner, memory, naming),
            (true, true) => self.sponsors.admit(owner, memory, [neighbour]),
            (true, false) => self.strangers.admit(owner, neighbour, memory),
        }
    }

    /// The same for one that became reachable, and was a stranger or was kept from before a restart.
    pub(super) fn has_room_behind_others(&mut self, owner: &PeerKey) -> bool {
        self.strangers.remove(owner);
        let Some(set) = self.store.get(owner).filter(|_| !self.sponsors.contains(owner)) else { return true };
        let naming = self.naming(set);
        self.sponsors.admit(*owner, set.memory(), naming)
    }

    /// Keeps the sets of those who are out of reach within bounds: the longest go first.
    pub(super) fn trim_unreachable(&mut self, now: Instant) {
        let out_of_reach = self.members.iter().filter(|(_, member)| !member.reach.is_reachable());
        let mut held: Vec<(usize, PeerKey)> =
            out_of_reach.filter_map(|(key, _)| Some((self.store.get(key)?.memory(), *key))).collect();
        held.sort_unstable();
        let mut total = 0;
        for (memory, key) in held {
            total += memory;
            if total > UNREACHABLE_MEMORY_MAX {
                self.drop_set(&key, now);
            }
        }
    }

    /// Who of those that its owner says are its neighbours says so too; ourselves alone, if we are connected to it.
    fn naming(&self, set: &Set) -> Vec<PeerKey> {
        let owner = set.owner();
        if self.links.live_to(&owner).is_some() {
            return vec![self.key()];
        }
        let names = |peer: &PeerKey| self.store.get(peer).and_then(|other| other.edge(&owner)).is_some();
        let neighbours = set.edges().map(|edge| edge.peer);
        neighbours.filter(|peer| names(peer) && self.topology.is_reachable(peer)).collect()
    }
}
