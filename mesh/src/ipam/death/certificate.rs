//! "This identity is dead for ever", signed by whoever says so.

use serde::{Deserialize, Serialize};

use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::name::MeshId;
use crate::verifier::Verifier;

/// "This identity is dead for ever."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub dead: PeerKey,
    pub by: PeerKey,
    /// The identity that lives on its machine now, if that is how it is known.
    pub successor: Option<PeerKey>,
    signature: Signature,
}

impl Certificate {
    pub(in crate::ipam) fn sign(identity: &Identity, mesh: MeshId, dead: PeerKey, successor: Option<PeerKey>) -> Self {
        let by = identity.key();
        Self { dead, by, successor, signature: identity.sign(&Self::bytes(mesh, &dead, &by, successor)) }
    }

    fn bytes(mesh: MeshId, dead: &PeerKey, by: &PeerKey, successor: Option<PeerKey>) -> Hash {
        let successor = successor.map(|key| key.0);
        let successor = successor.as_ref().map_or(&[][..], |key| key);
        digest("weave-rs death", &[&mesh.0, &dead.0, &by.0, successor])
    }

    pub(in crate::ipam) fn is_signed(&self, verifier: &Verifier) -> bool {
        let bytes = Self::bytes(verifier.mesh(), &self.dead, &self.by, self.successor);
        verifier.is_signed(&self.by, &bytes, &self.signature)
    }
}
