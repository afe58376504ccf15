//! "This identity is dead for ever", signed by whoever says so: an accusation, which its host may believe or not.
//!
//! ```text
//!   certificate ┬ the accused's own card ── up to which incarnation of it the accuser knows, proven by the accused
//!               ├ reason                 ── an operator's `rmpeer`, its own goodbye, a later identity of its instance, the cloud's list
//!               └ signature of the accuser
//! ```
//!
//! Invariants:
//! - a certificate says nothing about an incarnation that the accused has not signed, so nobody can run its number up;
//! - any card of a higher incarnation voids it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::card::{CARD_MAX_BYTES, Card, SignedCard};
use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::name::MeshId;
use crate::verifier::Verifier;
use crate::wire::Goodbye;

/// Why an identity is said to be dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// `rmpeer`. The identity that seems to live on its host now, if there is one: it is asked what containers hold there.
    Operator { successor: Option<PeerKey> },
    /// It said itself that it leaves for good.
    Goodbye(Goodbye),
    /// This later identity shows the same instance id.
    Outlived { successor: PeerKey },
    /// The cloud says that its machine is no more.
    Terminated,
}

/// "This identity is dead for ever."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub dead: PeerKey,
    /// Up to this one; 0 when only the ring knows the accused.
    pub incarnation: u64,
    pub by: PeerKey,
    pub reason: Reason,
    /// The accused's own, which proves the incarnation; a goodbye proves it by itself.
    card: Option<SignedCard>,
    signature: Signature,
}

/// What a host knows of one it accuses: the newest card, with its incarnation.
pub(super) type Newest = Option<(u64, SignedCard)>;

impl Certificate {
    /// `newest` is the accused's newest card that is known, with its incarnation.
    pub fn sign(
        identity: &Identity,
        mesh: MeshId,
        dead: PeerKey,
        reason: Reason,
        newest: Option<(u64, SignedCard)>,
    ) -> Self {
        let (known, card) = newest.map_or((0, None), |(incarnation, card)| (incarnation, Some(card)));
        let (incarnation, card) = match &reason {
            Reason::Goodbye(goodbye) => (goodbye.incarnation, None),
            Reason::Operator { .. } | Reason::Outlived { .. } | Reason::Terminated => (known, card),
        };
        let by = identity.key();
        let signature = identity.sign(&Self::bytes(mesh, &dead, incarnation, &by, &reason));
        Self { dead, incarnation, by, reason, card, signature }
    }

    fn bytes(mesh: MeshId, dead: &PeerKey, incarnation: u64, by: &PeerKey, reason: &Reason) -> Hash {
        // Encoding into memory cannot fail: the type does not refuse to be serialised.
        let reason = postcard::to_stdvec(reason).unwrap_or_default();
        digest("weave-rs death", &[&mesh.0, &dead.0, &incarnation.to_le_bytes(), &by.0, &reason])
    }

    /// The same, as the word of another: whoever is told it may never have met who said it first.
    pub(in crate::ipam) fn repeated(&self, identity: &Identity, mesh: MeshId) -> Self {
        let newest = self.card.clone().map(|card| (self.incarnation, card));
        Self::sign(identity, mesh, self.dead, self.reason.clone(), newest)
    }

    pub(in crate::ipam) const fn successor(&self) -> Option<PeerKey> {
        match self.reason {
            Reason::Operator { successor } => successor,
            Reason::Outlived { successor } => Some(successor),
            Reason::Goodbye(_) | Reason::Terminated => None,
        }
    }

    /// The accused's card, when it is one of its own.
    pub(super) fn shown_card(&self, verifier: &Verifier) -> Option<Arc<Card>> {
        let card = verifier.read(self.card.as_ref()?).ok()?;
        (card.key == self.dead).then_some(card)
    }

    pub(in crate::ipam) const fn is_goodbye(&self) -> bool {
        matches!(self.reason, Reason::Goodbye(_))
    }

    pub(in crate::ipam) fn is_within_limits(&self) -> bool {
        self.card.as_ref().is_none_or(|card| card.encoded_bytes() <= CARD_MAX_BYTES)
    }

    /// Whether the accuser signed it, and the accused the incarnation.
    pub(in crate::ipam) fn is_sound(&self, verifier: &Verifier) -> bool {
        let is_shown = match (&self.reason, &self.card) {
            (Reason::Goodbye(goodbye), None) => {
                (goodbye.owner, goodbye.incarnation) == (self.dead, self.incarnation) && goodbye.is_signed(verifier)
            }
            (Reason::Goodbye(_), Some(_)) => false,
            (_, Some(_)) => self.shown_card(verifier).is_some_and(|card| card.incarnation == self.incarnation),
            (_, None) => self.incarnation == 0,
        };
        let bytes = Self::bytes(verifier.mesh(), &self.dead, self.incarnation, &self.by, &self.reason);
        is_shown && verifier.is_signed(&self.by, &bytes, &self.signature)
    }
}
