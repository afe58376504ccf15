//! A range goes from one owner to the next: the only change that a ring knows.
//!
//! ```text
//!   version   epoch 0, count 0 ── given away ──► 0, 1 ── given away ──► 0, 2
//!                                                  └── its owner died, taken over ──► 1, 0
//! ```
//!
//! Invariant: an owner may raise the count as it likes, which concerns what it owns; the epoch rises by one with a
//! succession, and is above everything that the dead one gave away unheard.

use serde::{Deserialize, Serialize};

use super::range_bytes;
use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::ipam::{Estate, Range};
use crate::name::PeerName;
use crate::verifier::Verifier;

/// How often an address has changed hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// How often it was taken over from the dead.
    pub epoch: u32,
    /// How often it was given away since.
    pub count: u32,
}

impl Version {
    /// That of what is given away next; none when an owner has run the count to its end, and keeps what it has.
    pub(in crate::ipam) fn given(self) -> Option<Self> {
        self.count.checked_add(1).map(|count| Self { count, ..self })
    }

    /// That of what is taken over.
    pub(in crate::ipam) fn taken_over(self) -> Option<Self> {
        self.epoch.checked_add(1).map(|epoch| Self { epoch, count: 0 })
    }
}

/// By what right a transfer is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Right {
    /// Its owner gives it away.
    Grant { from: PeerKey },
    /// Its owner is dead, and everybody else approved in this asking of the heir's: see [`Succession`](crate::ipam::Succession).
    TakeOver { from: PeerKey, id: u64 },
    /// It was reserved for the name of this peer.
    Bind { name: PeerName },
}

/// The next owner of a range, signed by whoever made it so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub range: Range,
    /// Higher than every version before at its addresses.
    pub version: Version,
    pub right: Right,
    pub to: PeerKey,
    pub(super) signature: Signature,
}

impl Transfer {
    /// Of the ring that is called so.
    pub fn sign(ring: &Hash, range: Range, version: Version, right: Right, to: PeerKey, identity: &Identity) -> Self {
        let signature = identity.sign(&Self::bytes(ring, range, version, &right, &to));
        Self { range, version, right, to, signature }
    }

    fn bytes(ring: &Hash, range: Range, version: Version, right: &Right, to: &PeerKey) -> Hash {
        // Encoding into memory cannot fail: the types do not refuse to be serialised.
        let said = postcard::to_stdvec(&(version, right)).unwrap_or_default();
        digest("weave-rs transfer", &[ring, &range_bytes(range), &said, &to.0])
    }

    pub const fn signer(&self) -> PeerKey {
        match self.right {
            Right::Grant { from } => from,
            Right::TakeOver { .. } | Right::Bind { .. } => self.to,
        }
    }

    /// Whose it was before; of a share that was reserved for a name nobody's.
    pub(super) const fn giver(&self) -> Option<PeerKey> {
        match self.right {
            Right::Grant { from } | Right::TakeOver { from, .. } => Some(from),
            Right::Bind { .. } => None,
        }
    }

    pub(in crate::ipam) fn is_grant_of(&self, owner: &PeerKey) -> bool {
        matches!(self.right, Right::Grant { from } if from == *owner)
    }

    /// The estate that is taken over, if it is one.
    pub(in crate::ipam) const fn estate(&self) -> Option<Estate> {
        match self.right {
            Right::TakeOver { from, id } => Some(Estate { dead: from, heir: self.to, id }),
            Right::Grant { .. } | Right::Bind { .. } => None,
        }
    }

    pub(super) fn is_signed(&self, ring: &Hash, verifier: &Verifier) -> bool {
        let bytes = Self::bytes(ring, self.range, self.version, &self.right, &self.to);
        verifier.is_signed(&self.signer(), &bytes, &self.signature)
    }

    /// Which transfer it is, among those of a ring.
    pub(super) const fn key(&self) -> (u32, Version) {
        (self.range.first, self.version)
    }
}
