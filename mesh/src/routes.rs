//! Which neighbours can relay sleeve packets to a peer that we do not reach directly.
//!
//! ```text
//!   us ═══ B ═══ C        ═══ an edge whose two ends both publish a direct session
//!   us ═══ D ═══ C        relays of C: B, D          E has none: no chain of such edges leads to it
//!   us ─── E
//! ```
//!
//! Invariants:
//! - a relay has a direct session with us, and is nearer to the peer than we are;
//! - a peer with which we have a direct session needs none and has none.

use std::collections::BTreeMap;

use crate::identity::PeerKey;
use crate::store::{Session, Set};
use crate::topology::Topology;

/// How many relays are named for one peer.
const RELAYS_MAX: usize = 3;

/// For each peer without a direct session of ours: neighbours with one that can relay towards it, best first.
pub type Relays = BTreeMap<PeerKey, Vec<PeerKey>>;

fn is_direct(one: &Set, other: &Set) -> bool {
    let publishes = |from: &Set, to: &Set| from.edge(&to.owner()).is_some_and(|edge| edge.session == Session::Direct);
    publishes(one, other) && publishes(other, one)
}

fn direct_neighbours<'a>(set: &'a Set, topology: &'a Topology) -> impl Iterator<Item = &'a Set> {
    topology.neighbours(&set.owner()).map(AsRef::as_ref).filter(|other| is_direct(set, other))
}

/// Searches outwards from `own`, one hop a round; each peer inherits the relays of those that lead to it.
pub fn relays(own: &Set, topology: &Topology) -> Relays {
    let mut found: Relays = BTreeMap::from([(own.owner(), Vec::new())]);
    let mut frontier: BTreeMap<PeerKey, &Set> = BTreeMap::new();
    for neighbour in direct_neighbours(own, topology) {
        found.insert(neighbour.owner(), vec![neighbour.owner()]);
        frontier.insert(neighbour.owner(), neighbour);
    }
    while !frontier.is_empty() {
        let mut next: BTreeMap<PeerKey, &Set> = BTreeMap::new();
        let mut reached: Relays = BTreeMap::new();
        for (key, set) in &frontier {
            for beyond in direct_neighbours(set, topology).filter(|beyond| !found.contains_key(&beyond.owner())) {
                let relays = reached.entry(beyond.owner()).or_default();
                let more: Vec<_> = found[key].iter().filter(|relay| !relays.contains(relay)).copied().collect();
                relays.extend(more);
                relays.truncate(RELAYS_MAX);
                next.insert(beyond.owner(), beyond);
            }
        }
        found.append(&mut reached);
        frontier = next;
    }
    found.retain(|peer, relays| !relays.contains(peer) && !relays.is_empty());
    found
}

#[cfg(test)]
mod tests;
