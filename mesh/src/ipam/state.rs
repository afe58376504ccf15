//! What IPAM keeps across restarts.
//!
//! Two things with two rules: the ring and all that others rely on is one value, replaced whole and durable before
//! anybody is told; who holds which address is a log of changes, which must survive the daemon, not the host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::death::{Approvals, Certificate, Estate, Promise};
use super::formation::Voter;
use super::lodgers::Lodgers;
use super::note::Holds;
use super::ring::{Faith, Merged, Ring};
use super::{Change, Cidr, FirstRing, Ipam, Range, Surroundings, Transfer};
use crate::card::SignedCard;
use crate::identity::PeerKey;

/// How long what nobody relies on yet waits for more.
const PERSIST_DELAY: Duration = Duration::from_secs(2);

/// What was persisted, read back; empty at the first start.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The latest [`Persist::Ring`](crate::node::Persist::Ring).
    pub ring: Option<Vec<u8>>,
    /// Every [`Persist::Owned`](crate::node::Persist::Owned), oldest first.
    pub owned: Vec<Change>,
}

/// Bytes that are no state of this IPAM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("it does not decode")]
    Malformed,
    #[error(
        "it is of a ring over {stored}, and --ipalloc-range is {configured}; launch with the former range, or leave it for good by `weave-rs reset --force`, with the --state-dir of launch"
    )]
    OtherRange { stored: Range, configured: Cidr },
    #[error("it is not what its signers signed")]
    Unsound,
}

#[derive(Serialize, Deserialize)]
struct Image {
    first: Option<Arc<FirstRing>>,
    transfers: Vec<Arc<Transfer>>,
    links: Vec<Arc<Transfer>>,
    successions: BTreeMap<Estate, Approvals>,
    voter: Voter,
    certificates: Vec<Certificate>,
    promises: BTreeMap<PeerKey, Promise>,
    lodgers: BTreeMap<PeerKey, Holds>,
    told: BTreeSet<PeerKey>,
    accusations: Vec<Certificate>,
    newer: BTreeMap<PeerKey, (u64, SignedCard)>,
}

impl Ipam {
    /// What we and others rely on becomes durable before anything that this input makes us say: once, however much of it
    /// has changed.
    pub(super) const fn persist(&mut self) {
        self.persist_at = None;
        self.is_unsaved = true;
    }

    pub(super) fn image(&self) -> Vec<u8> {
        // A part of a ring would be taken for the whole in our next life.
        let ring = self.ring.as_ref().filter(|_| !self.is_newcomer());
        let image = Image {
            first: ring.map(|ring| Arc::clone(ring.first())),
            transfers: ring.map(Ring::transfers).unwrap_or_default(),
            links: ring.into_iter().flat_map(Ring::links).cloned().collect(),
            successions: self.successions.clone(),
            voter: self.formation.voter.clone(),
            certificates: self.certificates.values().cloned().collect(),
            promises: self.promises.clone(),
            lodgers: self.lodgers.holds.clone(),
            told: self.strays.told.clone(),
            accusations: self.accusations.values().cloned().collect(),
            newer: self.newer.clone(),
        };
        // Encoding into memory cannot fail: no type here refuses to be serialised.
        postcard::to_stdvec(&image).unwrap_or_default()
    }

    /// What would be heard again becomes durable soon.
    pub(super) fn persist_later(&mut self, near: &Surroundings<'_>) {
        self.persist_at.get_or_insert(near.now + PERSIST_DELAY);
    }

    pub(super) fn restore(&mut self, bytes: &[u8], near: &Surroundings<'_>) -> Result<(), StateError> {
        let image: Image = postcard::from_bytes(bytes).map_err(|_| StateError::Malformed)?;
        let mut certificates = image.certificates.iter().chain(&image.accusations);
        if certificates.any(|certificate| !certificate.is_sound(near.verifier)) {
            return Err(StateError::Unsound);
        }
        let by_dead = |certificates: Vec<Certificate>| {
            certificates.into_iter().map(|certificate| (certificate.dead, certificate)).collect()
        };
        (self.certificates, self.accusations) = (by_dead(image.certificates), by_dead(image.accusations));
        self.buried = self.certificates.keys().map(|dead| (*dead, near.now)).collect();
        self.newer = image.newer;
        self.promises = image.promises;
        self.lodgers = Lodgers::restore(image.lodgers);
        self.restore_strays(image.told);
        self.formation.voter = image.voter;
        self.successions = image.successions;
        let (transfers, links) = (&image.transfers, image.links);
        self.ring = image.first.map(|first| self.restore_ring(first, transfers, links, near)).transpose()?;
        Ok(())
    }

    fn restore_ring(
        &self,
        first: Arc<FirstRing>,
        transfers: &[Arc<Transfer>],
        links: Vec<Arc<Transfer>>,
        near: &Surroundings<'_>,
    ) -> Result<Ring, StateError> {
        let configured = self.config.range;
        if first.range != configured.range() {
            return Err(StateError::OtherRange { stored: first.range, configured });
        }
        if !first.is_sound(near.verifier) {
            return Err(StateError::Unsound);
        }
        let mut ring = Ring::new(first, near.mesh());
        for transfer in transfers {
            if let Merged::Unsound(_) = ring.merge(transfer, near.verifier, Faith::All) {
                return Err(StateError::Unsound);
            }
        }
        // Whoever is told them verifies them.
        links.into_iter().for_each(|link| ring.restore_link(link));
        Ok(ring)
    }
}
