//! Checks cards and signatures, and remembers the cards it has found good: the same card comes with every handshake and
//! every whole set of its owner.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::card::{Card, CardError, SignedCard};
use crate::identity::{Hash, PeerKey, Scheme, Signature};
use crate::name::MeshId;

/// How many good cards are remembered; an older one costs another check.
const REMEMBERED_MAX: usize = 256;

#[derive(Debug)]
pub struct Verifier {
    scheme: Scheme,
    mesh: MeshId,
    good: BTreeMap<Hash, Arc<Card>>,
    /// The hashes in `good`, oldest first.
    order: VecDeque<Hash>,
}

impl Verifier {
    pub const fn new(scheme: Scheme, mesh: MeshId) -> Self {
        Self { scheme, mesh, good: BTreeMap::new(), order: VecDeque::new() }
    }

    pub const fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The card, if it is good and of this mesh.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&mut self, signed: &SignedCard) -> Result<Arc<Card>, CardError> {
        let hash = signed.hash();
        if let Some(card) = self.good.get(&hash) {
            return Ok(Arc::clone(card));
        }
        let card = Arc::new(signed.verify(self.scheme)?);
        if card.mesh != self.mesh {
            return Err(CardError::OtherMesh(card.key));
        }
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.good.remove(&oldest);
        }
        self.good.insert(hash, Arc::clone(&card));
        self.order.push_back(hash);
        Ok(card)
    }

    /// The card, likewise, for those who may not remember anything.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(&self, signed: &SignedCard) -> Result<Arc<Card>, CardError> {
        if let Some(card) = self.good.get(&signed.hash()) {
            return Ok(Arc::clone(card));
        }
        let card = signed.verify(self.scheme)?;
        if card.mesh == self.mesh { Ok(Arc::new(card)) } else { Err(CardError::OtherMesh(card.key)) }
    }

    pub fn is_signed(&self, key: &PeerKey, message: &[u8], signature: &Signature) -> bool {
        self.scheme.verify(key, message, signature)
    }
}
