//! What IPAM knows, as plain values for `status ipam`, the control API and the simulator.

use std::collections::BTreeMap;

use super::{Cidr, Config, Ipam, Owner, Problem, Surroundings, Ticket, Wait};
use crate::identity::PeerKey;

#[derive(Clone, Debug)]
pub struct IpamView {
    pub config: Config,
    /// Whether the ring exists.
    pub is_ready: bool,
    /// How many addresses each owns; empty before the ring exists.
    pub owned: BTreeMap<Owner, u64>,
    /// How many of ours nobody holds.
    pub free: u64,
    /// How many of ours containers hold, here or elsewhere.
    pub active: u64,
    pub pending: Vec<PendingView>,
    /// Identities that are certified dead, and by whom.
    pub dead: BTreeMap<PeerKey, PeerKey>,
    /// Whose addresses we are to inherit, and who has not consented yet.
    pub inheriting: BTreeMap<PeerKey, Vec<PeerKey>>,
    /// What is wrong with other peers and needs a person.
    pub problems: BTreeMap<PeerKey, Problem>,
}

/// An operation that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingView {
    pub ticket: Ticket,
    /// For whom an address is wanted, if one is.
    pub container: Option<String>,
    /// The very address that is claimed for it, if one is.
    pub claimed: Option<Cidr>,
    pub wait: Wait,
}

impl Ipam {
    pub(crate) fn view(&self, near: &Surroundings<'_>) -> IpamView {
        let mut owned: BTreeMap<Owner, u64> = BTreeMap::new();
        for (range, owner) in self.ring.iter().flat_map(|ring| ring.pieces()) {
            *owned.entry(owner).or_default() += range.size();
        }
        let ours = owned.get(&Owner::Peer(near.card.key)).copied().unwrap_or_default();
        let pending = self.pending.iter().map(|(ticket, pending)| PendingView {
            ticket: *ticket,
            container: pending.operation.container().map(str::to_owned),
            claimed: pending.operation.claimed(),
            wait: pending.wait.clone(),
        });
        IpamView {
            config: self.config.clone(),
            is_ready: self.ring.is_some(),
            owned,
            free: self.space.size(),
            active: ours.saturating_sub(self.space.size()),
            pending: pending.collect(),
            dead: self.certificates.iter().map(|(dead, certificate)| (*dead, certificate.by)).collect(),
            inheriting: self.inheriting(near),
            problems: self.problems.clone(),
        }
    }

    /// How many certificates, pieces, and parts of the ring's history are kept.
    pub(crate) fn remembered(&self) -> (usize, usize, usize) {
        let links = self.ring.iter().flat_map(|ring| ring.links()).count();
        let pieces = self.ring.iter().flat_map(|ring| ring.pieces()).count();
        let dead = self.certificates.len() + self.accusations.len() + self.newer.len();
        (dead, pieces, links + self.successions.len())
    }

    /// What `container` holds, and all containers when none is named.
    pub(crate) fn held(&self) -> BTreeMap<String, Vec<Cidr>> {
        self.containers().map(|(container, addresses)| (container.to_owned(), addresses.to_vec())).collect()
    }
}
