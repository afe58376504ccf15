//! What IPAM sees of the node around it while it handles one input.

use std::collections::{BTreeMap, BTreeSet};

use super::formation;
use crate::card::Card;
use crate::connector::Connector;
use crate::identity::{Identity, PeerKey};
use crate::members::Members;
use crate::name::MeshId;
use crate::node::Claims;
use crate::node::links::Links;
use crate::roster::Roster;
use crate::time::Instant;
use crate::topology::Topology;
use crate::verifier::Verifier;

/// What IPAM may look at while it handles an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) card: &'a Card,
    pub(crate) identity: &'a Identity,
    pub(crate) verifier: &'a Verifier,
    pub(crate) topology: &'a Topology,
    pub(crate) links: &'a Links,
    pub(crate) members: &'a Members,
    pub(crate) connector: &'a Connector,
    pub(crate) roster: &'a Roster,
    pub(crate) claims: &'a Claims,
    pub(crate) now: Instant,
}

/// The peers that the operator gave us, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// How many distinct ones; and without ourselves.
    pub(super) peers: u32,
    pub(super) others: u32,
    pub(super) known: Vec<PeerKey>,
}

impl Given {
    /// The same without `others`, as far as they are known.
    pub(super) fn apart_from(&self, others: &BTreeSet<PeerKey>) -> Self {
        let known: Vec<PeerKey> = self.known.iter().filter(|peer| !others.contains(peer)).copied().collect();
        let less = u32::try_from(self.known.len() - known.len()).unwrap_or(u32::MAX);
        Self { peers: self.peers.saturating_sub(less), others: self.others, known }
    }
}

impl Surroundings<'_> {
    /// Ourselves, as a group.
    pub(super) fn itself(&self) -> BTreeSet<PeerKey> {
        BTreeSet::from([self.card.key])
    }

    pub(super) const fn mesh(&self) -> MeshId {
        self.card.mesh
    }

    /// Other peers that letters reach: those to which edges lead, and neighbours, whose edge may not be published yet.
    pub(super) fn reachable(&self) -> BTreeSet<PeerKey> {
        let neighbours = self.links.live().map(|(_, link)| link.peer);
        self.topology.ring_from(self.card.key).chain(neighbours).collect()
    }

    /// Who is at the other end of a connection that is live.
    pub(super) fn neighbour(&self, connection: crate::connector::ConnectionId) -> Option<PeerKey> {
        self.links.get(connection).filter(|link| link.is_live()).map(|link| link.peer)
    }

    pub(super) fn is_reachable(&self, peer: &PeerKey) -> bool {
        self.topology.is_reachable(peer) || self.links.live_to(peer).is_some()
    }

    /// Whether it is, or was, connected to anybody.
    pub(super) fn is_member(&self, peer: &PeerKey) -> bool {
        self.members.get(peer).is_some_and(|member| !member.reach.is_hearsay())
    }

    /// By its instance id, who lives on a machine and is reachable; ourselves included.
    pub(super) fn residents(&self) -> BTreeMap<&str, PeerKey> {
        let reachable = self.members.iter().filter(|(key, _)| self.is_reachable(key));
        let mut cards: Vec<&Card> = reachable.map(|(_, member)| &*member.card).chain([self.card]).collect();
        cards.sort_unstable_by_key(|card| card.incarnation);
        cards.into_iter().map(|card| (card.instance_id.as_str(), card.key)).collect()
    }

    pub(super) fn given(&self) -> Given {
        let mut known = BTreeSet::new();
        let mut unknown = 0;
        for target in self.connector.leads() {
            match target.map(|peer| peer.unwrap_or(self.card.key)) {
                Some(peer) => drop(known.insert(peer)),
                None => unknown += 1,
            }
        }
        let peers = known.len() + unknown;
        let others = peers - usize::from(known.contains(&self.card.key));
        let count = |peers: usize| u32::try_from(peers).unwrap_or(u32::MAX);
        let known = known.into_iter().take(formation::NEED_KNOWN_MAX).collect();
        Given { peers: count(peers), others: count(others), known }
    }
}
