//! The graph of connections as peers publish it, and who can be reached.
//!
//! An edge counts while both its ends publish it. Reachability is kept as a spanning tree from ourselves: a new edge
//! grows the tree at the cost of what it adds; an edge that leaves costs nothing unless the tree uses it, and then one
//! search, however many edges left, when [`Topology::settle`] is called.
//!
//! Invariants:
//! - `mutual` is symmetric, and lists exactly the pairs of vertices whose sets publish each other;
//! - unless `is_stale`, a vertex has a parent if and only if it is reachable, and its parent is mutual and reachable;
//! - there is one vertex for each set, so the store's limits bound the graph.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::identity::PeerKey;
use crate::store::Set;

/// Ourselves.
const ROOT: u32 = 0;

#[derive(Debug)]
struct Vertex {
    set: Arc<Set>,
    /// The other ends of its edges, sorted.
    mutual: Vec<u32>,
    parent: Option<u32>,
}

/// A peer that became reachable or unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Up(PeerKey),
    Down(PeerKey),
}

#[derive(Debug)]
pub struct Topology {
    index: BTreeMap<PeerKey, u32>,
    /// By index; `None` was removed and is used again.
    vertices: Vec<Option<Vertex>>,
    free: Vec<u32>,
    reachable: usize,
    /// The tree lost an edge and must be searched again.
    is_stale: bool,
    /// A tree of shortest chains; searched when asked for, forgotten when an edge changes.
    shortest: OnceCell<Vec<Option<u32>>>,
    changes: VecDeque<Change>,
}

impl Topology {
    /// With our own set, the root of everything.
    pub fn new(own: Arc<Set>) -> Self {
        let index = BTreeMap::from([(own.owner(), ROOT)]);
        let root = Vertex { set: own, mutual: Vec::new(), parent: Some(ROOT) };
        Self {
            index,
            vertices: vec![Some(root)],
            free: Vec::new(),
            reachable: 1,
            is_stale: false,
            shortest: OnceCell::new(),
            changes: VecDeque::new(),
        }
    }

    /// Takes `set` in place of its owner's earlier one; `peers` are those whose edges to the owner may differ, or all
    /// when not known.
    pub fn update(&mut self, set: Arc<Set>, peers: Option<&[PeerKey]>) {
        let owner = set.owner();
        let known = self.index.get(&owner).copied();
        let affected: Vec<PeerKey> = match (known, peers) {
            (Some(_), Some(peers)) => peers.to_vec(),
            (Some(index), None) => {
                let earlier = self.vertex(index).into_iter().flat_map(|vertex| vertex.set.edges());
                earlier.chain(set.edges()).map(|edge| edge.peer).collect()
            }
            (None, _) => set.edges().map(|edge| edge.peer).collect(),
        };
        let index = known.unwrap_or_else(|| self.add_vertex(owner, Arc::clone(&set)));
        if let Some(vertex) = self.vertex_mut(index) {
            vertex.set = set;
        }
        for peer in &affected {
            self.update_edge(index, owner, peer);
        }
    }

    fn add_vertex(&mut self, owner: PeerKey, set: Arc<Set>) -> u32 {
        self.shortest.take();
        let vertex = Some(Vertex { set, mutual: Vec::new(), parent: None });
        let index = match self.free.pop() {
            Some(index) => {
                self.vertices[index as usize] = vertex;
                index
            }
            None => {
                self.vertices.push(vertex);
                // The store holds far fewer sets than a `u32` counts.
                u32::try_from(self.vertices.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.index.insert(owner, index);
        index
    }

    fn update_edge(&mut self, index: u32, owner: PeerKey, peer: &PeerKey) {
        let Some(other) = self.index.get(peer).copied().filter(|other| *other != index) else { return };
        let publishes = |from: u32, to: &PeerKey| self.vertex(from).is_some_and(|vertex| vertex.set.edge(to).is_some());
        let is_mutual = publishes(index, peer) && publishes(other, &owner);
        let was_mutual = self.vertex(index).is_some_and(|vertex| vertex.mutual.binary_search(&other).is_ok());
        match (was_mutual, is_mutual) {
            (false, true) => self.add_edge(index, other),
            (true, false) => self.remove_edge(index, other),
            (true, true) | (false, false) => {}
        }
    }

    fn add_edge(&mut self, one: u32, other: u32) {
        self.shortest.take();
        for (from, to) in [(one, other), (other, one)] {
            if let Some(vertex) = self.vertex_mut(from)
                && let Err(position) = vertex.mutual.binary_search(&to)
            {
                vertex.mutual.insert(position, to);
            }
        }
        match (self.is_reached(one), self.is_reached(other)) {
            (true, false) => self.grow(one, other),
            (false, true) => self.grow(other, one),
            (true, true) | (false, false) => {}
        }
    }

    fn remove_edge(&mut self, one: u32, other: u32) {
        self.shortest.take();
        for (from, to) in [(one, other), (other, one)] {
            if let Some(vertex) = self.vertex_mut(from)
                && let Ok(position) = vertex.mutual.binary_search(&to)
            {
                vertex.mutual.remove(position);
                self.is_stale |= vertex.parent == Some(to) && from != ROOT;
            }
        }
    }

    /// The set of `owner` is dropped, and its vertex with it.
    pub fn remove(&mut self, owner: &PeerKey) {
        let Some(index) = self.index.get(owner).copied().filter(|index| *index != ROOT) else { return };
        self.shortest.take();
        let neighbours = self.vertex(index).map(|vertex| vertex.mutual.clone()).unwrap_or_default();
        for other in neighbours {
            self.remove_edge(index, other);
        }
        self.index.remove(owner);
        if self.vertices[index as usize].take().is_some_and(|vertex| vertex.parent.is_some()) {
            self.reachable -= 1;
            self.changes.push_back(Change::Down(*owner));
        }
        self.free.push(index);
    }

    /// `new` is reached from `parent`, and everything beyond it that was not.
    fn grow(&mut self, parent: u32, new: u32) {
        let mut queue = VecDeque::from([(parent, new)]);
        while let Some((parent, new)) = queue.pop_front() {
            let Some(vertex) = self.vertex_mut(new).filter(|vertex| vertex.parent.is_none()) else { continue };
            vertex.parent = Some(parent);
            let (owner, neighbours) = (vertex.set.owner(), vertex.mutual.clone());
            self.reachable += 1;
            self.changes.push_back(Change::Up(owner));
            queue.extend(neighbours.into_iter().filter(|next| !self.is_reached(*next)).map(|next| (new, next)));
        }
    }

    pub const fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Brings reachability up to date after edges have left.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let parents = self.search();
        for (index, parent) in parents.into_iter().enumerate() {
            let Some(vertex) = &mut self.vertices[index] else { continue };
            match (vertex.parent.is_some(), parent.is_some()) {
                (true, false) => {
                    self.reachable -= 1;
                    self.changes.push_back(Change::Down(vertex.set.owner()));
                }
                (false, true) => {
                    self.reachable += 1;
                    self.changes.push_back(Change::Up(vertex.set.owner()));
                }
                (true, true) | (false, false) => {}
            }
            vertex.parent = parent;
        }
    }

    fn search(&self) -> Vec<Option<u32>> {
        let mut parents = vec![None; self.vertices.len()];
        parents[ROOT as usize] = Some(ROOT);
        let mut queue = VecDeque::from([ROOT]);
        while let Some(index) = queue.pop_front() {
            for next in self.vertex(index).into_iter().flat_map(|vertex| &vertex.mutual) {
                if parents[*next as usize].is_none() {
                    parents[*next as usize] = Some(index);
                    queue.push_back(*next);
                }
            }
        }
        parents
    }

    /// The first hop of a shortest chain to `peer`. Each hop is one nearer, so where all see the same graph nothing goes in
    /// circles, as it may along the trees of [`Self::grow`].
    pub fn next_hop(&self, peer: &PeerKey) -> Option<PeerKey> {
        let parents = self.shortest.get_or_init(|| self.search());
        let mut index = self.index.get(peer).copied().filter(|index| *index != ROOT)?;
        loop {
            match parents.get(index as usize).copied().flatten()? {
                ROOT => return Some(self.vertex(index)?.set.owner()),
                parent => index = parent,
            }
        }
    }

    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// How many peers are reachable, ourselves included.
    pub const fn reachable_count(&self) -> usize {
        self.reachable
    }

    /// Whether the graph has a set of `peer`, reachable or not.
    pub fn contains(&self, peer: &PeerKey) -> bool {
        self.index.contains_key(peer)
    }

    pub fn is_reachable(&self, peer: &PeerKey) -> bool {
        self.index.get(peer).is_some_and(|index| self.is_reached(*index))
    }

    /// How many edges of `peer` count.
    pub fn degree(&self, peer: &PeerKey) -> usize {
        self.index.get(peer).and_then(|index| self.vertex(*index)).map_or(0, |vertex| vertex.mutual.len())
    }

    /// The other ends of the edges of `peer` that count, with the sets that publish them.
    pub fn neighbours<'a>(&'a self, peer: &PeerKey) -> impl Iterator<Item = &'a Arc<Set>> + use<'a> {
        let vertex = self.index.get(peer).and_then(|index| self.vertex(*index));
        let mutual = vertex.into_iter().flat_map(|vertex| &vertex.mutual);
        mutual.filter_map(|index| self.vertex(*index).map(|vertex| &vertex.set))
    }

    /// Reachable peers in the order of their keys from `start` on, round the ring, `start` and ourselves excluded.
    pub fn ring_from(&self, start: PeerKey) -> impl DoubleEndedIterator<Item = PeerKey> {
        let after = self.index.range(start..);
        let before = self.index.range(..start);
        after
            .chain(before)
            .filter(move |(key, index)| **key != start && **index != ROOT && self.is_reached(**index))
            .map(|(key, _)| *key)
    }

    /// The vertex at a position, to draw peers at random; `None` when it is free, unreachable or ourselves.
    pub fn at(&self, position: usize) -> Option<PeerKey> {
        let vertex = self.vertices.get(position)?.as_ref()?;
        (position != ROOT as usize && vertex.parent.is_some()).then(|| vertex.set.owner())
    }

    /// How many positions [`Self::at`] has.
    pub fn positions(&self) -> usize {
        self.vertices.len()
    }

    fn is_reached(&self, index: u32) -> bool {
        self.vertex(index).is_some_and(|vertex| vertex.parent.is_some())
    }

    fn vertex(&self, index: u32) -> Option<&Vertex> {
        self.vertices.get(index as usize)?.as_ref()
    }

    fn vertex_mut(&mut self, index: u32) -> Option<&mut Vertex> {
        self.vertices.get_mut(index as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests;
