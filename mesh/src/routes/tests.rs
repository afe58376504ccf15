//! Relay routes: inherited over hops, only where both ends have a session, no more than are useful.

use std::sync::Arc;

use super::*;
use crate::store::fixtures::{Owner, edge};

/// The graph of `edges`, whose two ends publish what is given; peer 0 is ourselves.
fn relays_of(peers: u8, edges: &[(usize, usize, Session, Session)]) -> Vec<Vec<usize>> {
    let owners: Vec<Owner> = (0..peers).map(Owner::new).collect();
    let sets: Vec<Arc<Set>> = (0..owners.len())
        .map(|peer| {
            let published = edges.iter().filter_map(|(one, other, from_one, from_other)| match peer {
                _ if peer == *one => Some(edge(&owners[*other].key(), *from_one)),
                _ if peer == *other => Some(edge(&owners[*one].key(), *from_other)),
                _ => None,
            });
            owners[peer].set(1, published)
        })
        .collect();
    let mut topology = Topology::new(Arc::clone(&sets[0]));
    sets.iter().skip(1).for_each(|set| topology.update(Arc::clone(set), None));
    let found = relays(&sets[0], &topology);
    let number = |key: &PeerKey| owners.iter().position(|owner| owner.key() == *key).unwrap();
    owners
        .iter()
        .map(|owner| {
            let mut relays: Vec<usize> = found.get(&owner.key()).into_iter().flatten().map(number).collect();
            relays.sort_unstable();
            relays
        })
        .collect()
}

const DIRECT: Session = Session::Direct;
const INDIRECT: Session = Session::Indirect;

#[test]
fn a_peer_two_hops_away_has_every_neighbour_that_leads_to_it() {
    let edges = [(0, 1, DIRECT, DIRECT), (0, 2, DIRECT, DIRECT), (1, 3, DIRECT, DIRECT), (2, 3, DIRECT, DIRECT)];

    assert_eq!(relays_of(4, &edges), [vec![], vec![], vec![], vec![1, 2]]);
}

#[test]
fn relays_are_inherited_over_many_hops() {
    let edges = [(0, 1, DIRECT, DIRECT), (1, 2, DIRECT, DIRECT), (2, 3, DIRECT, DIRECT)];

    assert_eq!(relays_of(4, &edges), [vec![], vec![], vec![1], vec![1]]);
}

#[test]
fn a_session_that_one_end_only_publishes_carries_nothing() {
    let edges = [(0, 1, DIRECT, DIRECT), (1, 2, DIRECT, INDIRECT), (0, 3, INDIRECT, DIRECT), (3, 2, DIRECT, DIRECT)];

    assert_eq!(relays_of(4, &edges), [vec![], vec![], vec![], vec![]]);
}

#[test]
fn a_neighbour_without_a_direct_session_is_reached_by_relay() {
    let edges = [(0, 1, DIRECT, DIRECT), (0, 2, INDIRECT, INDIRECT), (1, 2, DIRECT, DIRECT)];

    assert_eq!(relays_of(3, &edges), [vec![], vec![], vec![1]]);
}

#[test]
fn no_more_relays_are_named_than_are_useful() {
    let edges: Vec<_> = (1..7).flat_map(|peer| [(0, peer, DIRECT, DIRECT), (peer, 7, DIRECT, DIRECT)]).collect();

    assert_eq!(relays_of(8, &edges)[7].len(), RELAYS_MAX);
}
