//! Letters: from one peer to another, wherever in the mesh it is, over the connections there are.
//!
//! ```text
//!   us ──► neighbour ──► … ──► addressee        each hop follows its own tree of shortest chains to the addressee
//! ```
//!
//! Nothing promises that a letter arrives; whoever needs an answer writes again. The signature is the author's and is
//! checked at every hop: nobody uses up what another may send.

use serde::{Deserialize, Serialize};

use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::name::MeshId;
use crate::verifier::Verifier;

/// The longest body, octets; with its envelope it fits in one message.
pub const LETTER_BYTES_MAX: usize = 56 * 1024;
/// How many connections a letter crosses at most: far more than a mesh is wide, few enough to end a loop of stale trees.
const HOPS_MAX: u8 = 32;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub from: PeerKey,
    pub to: PeerKey,
    /// How many more connections it may cross.
    hops: u8,
    pub body: Vec<u8>,
    signature: Signature,
}

impl Letter {
    pub fn sign(identity: &Identity, mesh: MeshId, to: PeerKey, body: Vec<u8>) -> Self {
        let from = identity.key();
        let signature = identity.sign(&letter_bytes(mesh, &from, &to, &body));
        Self { from, to, hops: HOPS_MAX, body, signature }
    }

    pub fn is_signed(&self, verifier: &Verifier) -> bool {
        let bytes = letter_bytes(verifier.mesh(), &self.from, &self.to, &self.body);
        verifier.is_signed(&self.from, &bytes, &self.signature)
    }

    /// The letter as it goes on, unless it has crossed too many connections.
    #[must_use]
    pub fn forwarded(self) -> Option<Self> {
        let hops = self.hops.checked_sub(1)?;
        Some(Self { hops, ..self })
    }

    pub(crate) const fn is_within_limits(&self) -> bool {
        self.body.len() <= LETTER_BYTES_MAX && self.hops <= HOPS_MAX
    }
}

fn letter_bytes(mesh: MeshId, from: &PeerKey, to: &PeerKey, body: &[u8]) -> Hash {
    digest("weave-rs letter", &[&mesh.0, &from.0, &to.0, body])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixtures::{Owner, verifier};

    #[test]
    fn a_letter_is_signed_by_its_sender_for_its_addressee() {
        let (one, other) = (Owner::new(1), Owner::new(2));
        let letter = Letter::sign(&one.identity, verifier().mesh(), other.key(), vec![1, 2]);

        assert!(letter.is_signed(&verifier()));
        assert!(letter.clone().forwarded().unwrap().is_signed(&verifier()));
        assert!(!Letter { to: one.key(), ..letter.clone() }.is_signed(&verifier()));
        assert!(!Letter { body: vec![1, 3], ..letter }.is_signed(&verifier()));
    }

    #[test]
    fn a_letter_that_goes_in_circles_ends() {
        let owner = Owner::new(1);
        let letter = Letter::sign(&owner.identity, verifier().mesh(), owner.key(), Vec::new());
        let forwarded = std::iter::successors(Some(letter), |letter| letter.clone().forwarded());
        assert_eq!(forwarded.count(), usize::from(HOPS_MAX) + 1);
    }
}
