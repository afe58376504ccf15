//! What an heir takes over, and everybody's signature under it.
//!
//! ```text
//!   estate     the dead, the heir, the heir's asking        named by every take-over
//!   approval   a signature over ring, estate, incarnation   of everybody who consents
//! ```
//!
//! Invariant: an approval is of one estate in one ring; it says nothing about which addresses that are, since these follow
//! from the ring.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::verifier::Verifier;

/// How many approvals one part carries.
const APPROVALS_MAX: usize = 64;

/// Which dead peer's estate goes to whom, in which asking of the heir's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Estate {
    pub dead: PeerKey,
    pub heir: PeerKey,
    pub id: u64,
}

/// "I believe that it is dead, up to this incarnation, and that its estate goes to this heir."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub incarnation: u64,
    signature: Signature,
}

/// By their signers.
pub(in crate::ipam) type Approvals = BTreeMap<PeerKey, Approval>;

/// An estate, and who approves; or a part of that, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    pub estate: Estate,
    pub approvals: BTreeMap<PeerKey, Approval>,
}

impl Estate {
    fn bytes(&self, ring: &Hash, incarnation: u64) -> Hash {
        let Self { dead, heir, id } = self;
        digest("weave-rs succession", &[ring, &dead.0, &heir.0, &id.to_le_bytes(), &incarnation.to_le_bytes()])
    }

    /// Approves, in the ring that is called so.
    pub fn approve(&self, ring: &Hash, incarnation: u64, identity: &Identity) -> Approval {
        Approval { incarnation, signature: identity.sign(&self.bytes(ring, incarnation)) }
    }

    pub(super) fn is_approved(&self, ring: &Hash, by: &PeerKey, approval: &Approval, verifier: &Verifier) -> bool {
        verifier.is_signed(by, &self.bytes(ring, approval.incarnation), &approval.signature)
    }
}

impl Succession {
    pub(in crate::ipam) fn is_within_limits(&self) -> bool {
        self.approvals.len() <= APPROVALS_MAX
    }
}

/// A succession in parts, as it travels.
pub(super) fn parts(estate: Estate, approvals: &Approvals) -> Vec<Succession> {
    let approvals: Vec<_> = approvals.iter().map(|(by, approval)| (*by, *approval)).collect();
    let part = |part: &[(PeerKey, Approval)]| Succession { estate, approvals: part.iter().copied().collect() };
    match approvals.as_slice() {
        [] => vec![part(&[])],
        all => all.chunks(APPROVALS_MAX).map(part).collect(),
    }
}
