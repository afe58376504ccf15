//! The graph: edges count while both ends publish them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::store::Session;
use crate::store::fixtures::{Owner, edge};

/// A graph in the making: which peer publishes which edges.
struct Graph {
    owners: Vec<Owner>,
    published: Vec<BTreeSet<usize>>,
    versions: Vec<u64>,
    topology: Topology,
}

impl Graph {
    /// Peer 0 is ourselves.
    fn new(peers: u8) -> Self {
        let owners: Vec<Owner> = (0..peers).map(Owner::new).collect();
        let count = owners.len();
        let topology = Topology::new(owners[0].set(1, []));
        let mut graph = Self { owners, published: vec![BTreeSet::new(); count], versions: vec![1; count], topology };
        (1..count).for_each(|peer| graph.publish(peer));
        graph
    }

    fn publish(&mut self, peer: usize) {
        self.versions[peer] += 1;
        let edges: Vec<_> =
            self.published[peer].iter().map(|other| edge(&self.owners[*other].key(), Session::Indirect)).collect();
        self.topology.update(self.owners[peer].set(self.versions[peer], edges), None);
    }

    /// One end publishes an edge, or no longer.
    fn toggle(&mut self, peer: usize, other: usize) {
        if !self.published[peer].remove(&other) {
            self.published[peer].insert(other);
        }
        self.publish(peer);
    }

    fn join(&mut self, one: usize, other: usize) {
        self.toggle(one, other);
        self.toggle(other, one);
    }

    fn reached(&self) -> BTreeSet<usize> {
        let keys = self.owners.iter().map(Owner::key).enumerate();
        keys.filter(|(_, key)| self.topology.is_reachable(key)).map(|(peer, _)| peer).collect()
    }

    /// The same from first principles.
    fn expected(&self) -> BTreeSet<usize> {
        let mut reached = BTreeSet::from([0]);
        loop {
            let next: Vec<usize> = (0..self.owners.len())
                .filter(|peer| !reached.contains(peer))
                .filter(|peer| {
                    reached
                        .iter()
                        .any(|other| self.published[*peer].contains(other) && self.published[*other].contains(peer))
                })
                .collect();
            if next.is_empty() {
                return reached;
            }
            reached.extend(next);
        }
    }
}

#[test]
fn an_edge_counts_while_both_ends_publish_it() {
    let mut graph = Graph::new(2);

    graph.toggle(0, 1);
    assert_eq!(graph.reached(), BTreeSet::from([0]));
    graph.toggle(1, 0);
    assert_eq!(graph.reached(), BTreeSet::from([0, 1]));
    graph.toggle(0, 1);
    graph.topology.settle();

    assert_eq!(graph.reached(), BTreeSet::from([0]));
}

#[test]
fn an_edge_that_the_tree_does_not_use_leaves_without_a_search() {
    let mut graph = Graph::new(3);
    graph.join(0, 1);
    graph.join(0, 2);
    graph.join(1, 2);

    graph.toggle(1, 2);

    assert!(!graph.topology.is_stale());
    assert_eq!(graph.reached().len(), 3);
}

#[test]
fn everybody_beyond_a_lost_edge_goes_down_together() {
    let mut graph = Graph::new(4);
    graph.join(0, 1);
    graph.join(1, 2);
    graph.join(2, 3);
    while graph.topology.poll_change().is_some() {}

    graph.toggle(1, 2);
    graph.topology.settle();

    let changes: Vec<Change> = std::iter::from_fn(|| graph.topology.poll_change()).collect();
    let down = |peer: usize| Change::Down(graph.owners[peer].key());
    assert_eq!(changes.len(), 2);
    assert!(changes.contains(&down(2)) && changes.contains(&down(3)));
}

#[test]
fn the_ring_visits_every_reachable_peer_once_and_never_ourselves() {
    let mut graph = Graph::new(9);
    (1..8).for_each(|peer| graph.join(0, peer));

    let own = graph.owners[0].key();
    let ring: Vec<PeerKey> = graph.topology.ring_from(own).collect();

    assert_eq!(ring.len(), 7);
    assert_eq!(ring.iter().collect::<BTreeSet<_>>().len(), 7);
    assert!(!ring.contains(&own) && !ring.contains(&graph.owners[8].key()));
    let next = ring.iter().filter(|key| **key > own).min().or_else(|| ring.iter().min());
    assert_eq!(Some(&ring[0]), next);
}

#[derive(Clone, Debug)]
enum Step {
    Toggle(usize, usize),
    Remove(usize),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..7_usize, 0..7_usize).prop_map(|(peer, other)| Step::Toggle(peer, other)),
        1 => (1..7_usize).prop_map(Step::Remove),
        2 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn reachability_is_what_a_search_finds_and_changes_tell_all_of_it(steps in steps()) {
        let mut graph = Graph::new(7);
        let mut told = BTreeSet::from([graph.owners[0].key()]);
        for step in steps {
            match step {
                Step::Toggle(peer, other) if peer != other => graph.toggle(peer, other),
                Step::Toggle(..) => {}
                Step::Remove(peer) => {
                    graph.topology.remove(&graph.owners[peer].key());
                    graph.published[peer].clear();
                }
                Step::Settle => graph.topology.settle(),
            }
        }
        graph.topology.settle();
        while let Some(change) = graph.topology.poll_change() {
            match change {
                Change::Up(key) => prop_assert!(told.insert(key)),
                Change::Down(key) => prop_assert!(told.remove(&key)),
            }
        }

        prop_assert_eq!(graph.reached(), graph.expected());
        prop_assert_eq!(told.len(), graph.topology.reachable_count());
        prop_assert!(told.iter().all(|key| graph.topology.is_reachable(key)));
    }
}
