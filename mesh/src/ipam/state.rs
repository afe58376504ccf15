//! What IPAM keeps across restarts.
//!
//! Two things with two rules: the ring and all that others rely on is one value, replaced whole and durable before
//! anybody is told; who holds which address is a log of changes, which must survive the daemon, not the host.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Change;
use super::ring::Ring;
use super::{Action, Cidr, FirstRing, Ipam, Surroundings, Transfer};

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
    #[error("it is of a ring over {stored}, and --ipalloc-range is {configured}; run `weave-rs reset` to join another")]
    OtherRange { stored: super::Range, configured: Cidr },
    #[error("it is not what its signers signed")]
    Unsound,
}

#[derive(Serialize, Deserialize)]
struct Image {
    first: Option<Arc<FirstRing>>,
    transfers: Vec<Arc<Transfer>>,
}

impl Ipam {
    /// What we and others rely on becomes durable before whatever is put out next.
    pub(super) fn persist(&mut self) {
        let image = Image {
            first: self.ring.as_ref().map(|ring| Arc::clone(ring.first())),
            transfers: self.ring.as_ref().map(Ring::transfers).unwrap_or_default(),
        };
        // Encoding into memory cannot fail: no type here refuses to be serialised.
        self.actions.push_back(Action::PersistRing(postcard::to_stdvec(&image).unwrap_or_default()));
    }

    pub(super) fn restore(&mut self, bytes: &[u8], near: &Surroundings<'_>) -> Result<(), StateError> {
        let image: Image = postcard::from_bytes(bytes).map_err(|_| StateError::Malformed)?;
        let Some(first) = image.first else { return Ok(()) };
        let configured = self.config.range;
        if first.range != configured.range() {
            return Err(StateError::OtherRange { stored: first.range, configured });
        }
        if !first.is_sound(near.verifier) {
            return Err(StateError::Unsound);
        }
        let mut ring = Ring::new(first, near.mesh());
        for transfer in &image.transfers {
            if let super::ring::Merged::Unsound(_) = ring.merge(transfer, near.verifier) {
                return Err(StateError::Unsound);
            }
        }
        self.ring = Some(ring);
        Ok(())
    }
}
