//! A range goes from one owner to the next: the only change that a ring knows.

use serde::{Deserialize, Serialize};

use super::range_bytes;
use crate::identity::{Hash, PeerKey, Signature, digest};
use crate::ipam::Range;
use crate::name::PeerName;
use crate::verifier::Verifier;

/// By what right a transfer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Right {
    /// Its owner gives it away.
    Grant { from: PeerKey },
    /// Its owner is certified dead, and everybody else consented.
    TakeOver { from: PeerKey },
    /// It was reserved for the name of this peer.
    Bind { name: PeerName },
}

/// The next owner of a range, signed by whoever made it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub range: Range,
    /// Higher than every version before at its addresses.
    pub version: u32,
    pub right: Right,
    pub to: PeerKey,
    pub(super) signature: Signature,
}

impl Transfer {
    pub(super) fn bytes(ring: &Hash, range: Range, version: u32, right: &Right, to: &PeerKey) -> Hash {
        // Encoding into memory cannot fail: the type does not refuse to be serialised.
        let right = postcard::to_stdvec(right).unwrap_or_default();
        digest("weave-rs transfer", &[ring, &range_bytes(range), &version.to_le_bytes(), &right, &to.0])
    }

    pub const fn signer(&self) -> PeerKey {
        match self.right {
            Right::Grant { from } => from,
            Right::TakeOver { .. } | Right::Bind { .. } => self.to,
        }
    }

    pub(super) fn is_signed(&self, ring: &Hash, verifier: &Verifier) -> bool {
        let bytes = Self::bytes(ring, self.range, self.version, &self.right, &self.to);
        verifier.is_signed(&self.signer(), &bytes, &self.signature)
    }

    /// Which transfer it is, among those of a ring.
    pub(super) const fn key(&self) -> (u32, u32) {
        (self.range.first, self.version)
    }
}
