//! The first ring of a mesh: how the range is divided before anybody gives anything away.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Owner, range_bytes};
use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::ipam::Range;
use crate::name::{MeshId, PeerName};
use crate::verifier::Verifier;

/// Among how many owners the first ring is divided at most; whoever comes later asks for space.
pub const SHARES_MAX: usize = 256;

/// How the first ring came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A quorum agreed on what the proposer signed.
    Agreed { owners: Vec<PeerKey>, proposer: PeerKey, signature: Signature },
    /// The operator named the owners everywhere alike.
    Seeds(Vec<PeerName>),
}

/// The first ring of a mesh. Its hash identifies the ring for ever: another one is another ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstRing {
    pub range: Range,
    pub origin: Origin,
}

impl FirstRing {
    /// Divided among `owners`, as many of them as there are shares.
    pub(in crate::ipam) fn propose(range: Range, owners: BTreeSet<PeerKey>, mesh: MeshId, identity: &Identity) -> Self {
        let room = usize::try_from(range.size()).unwrap_or(usize::MAX).min(SHARES_MAX);
        let owners: Vec<PeerKey> = owners.into_iter().take(room).collect();
        let proposer = identity.key();
        let signature = identity.sign(&agreed_bytes(mesh, range, &owners, &proposer));
        Self { range, origin: Origin::Agreed { owners, proposer, signature } }
    }

    pub(in crate::ipam) fn of_seeds(range: Range, seeds: &[PeerName]) -> Self {
        let names: BTreeSet<PeerName> = seeds.iter().copied().collect();
        Self { range, origin: Origin::Seeds(names.into_iter().take(SHARES_MAX).collect()) }
    }

    pub fn id(&self, mesh: MeshId) -> Hash {
        match &self.origin {
            Origin::Agreed { owners, proposer, .. } => agreed_bytes(mesh, self.range, owners, proposer),
            Origin::Seeds(names) => {
                let names: Vec<u8> = names.iter().flat_map(|name| name.0).collect();
                digest("weave-rs ring of seeds", &[&mesh.0, &range_bytes(self.range), &names])
            }
        }
    }

    pub(in crate::ipam) fn is_within_limits(&self) -> bool {
        let shares = self.owners().len();
        self.range.first <= self.range.last && (1..=SHARES_MAX).contains(&shares) && shares as u64 <= self.range.size()
    }

    /// Whether its lists are in order and it is signed by its proposer.
    pub(in crate::ipam) fn is_sound(&self, verifier: &Verifier) -> bool {
        let is_ordered = self.owners().windows(2).all(|pair| pair[0] < pair[1]);
        let is_signed = match &self.origin {
            Origin::Agreed { proposer, signature, .. } => {
                verifier.is_signed(proposer, &self.id(verifier.mesh()), signature)
            }
            Origin::Seeds(_) => true,
        };
        self.is_within_limits() && is_ordered && is_signed
    }

    pub(in crate::ipam) fn owners(&self) -> Vec<Owner> {
        match &self.origin {
            Origin::Agreed { owners, .. } => owners.iter().copied().map(Owner::Peer).collect(),
            Origin::Seeds(names) => names.iter().copied().map(Owner::Named).collect(),
        }
    }

    /// Halved again and again, so that shares are blocks: of three owners the first has a half, the others a quarter.
    pub(super) fn shares(&self) -> Vec<(Range, Owner)> {
        let mut shares = Vec::new();
        split(self.range, &self.owners(), &mut shares);
        shares
    }
}

fn split(range: Range, owners: &[Owner], shares: &mut Vec<(Range, Owner)>) {
    match owners {
        [] => {}
        [owner] => shares.push((range, *owner)),
        _ => {
            let middle = range.first + (range.last - range.first) / 2;
            let (one, other) = owners.split_at(owners.len() / 2);
            split(Range { last: middle, ..range }, one, shares);
            split(Range { first: middle + 1, ..range }, other, shares);
        }
    }
}

fn agreed_bytes(mesh: MeshId, range: Range, owners: &[PeerKey], proposer: &PeerKey) -> Hash {
    let owners: Vec<u8> = owners.iter().flat_map(|owner| owner.0).collect();
    digest("weave-rs first ring", &[&mesh.0, &range_bytes(range), &owners, &proposer.0])
}
