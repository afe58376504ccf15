//! What the owner of a key has signed: the only thing that is believed about it, whoever shows it.

use serde::{Deserialize, Serialize};

use super::Goodbye;
use crate::card::{CARD_MAX_BYTES, SignedCard};
use crate::identity::PeerKey;
use crate::verifier::Verifier;

/// Shown to a peer that seems to have forgotten a later life of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Testimony {
    /// It lived, at the incarnation of this card.
    Card(SignedCard),
    /// It left for good: nothing of this incarnation or an earlier one is believed any more.
    Goodbye(Goodbye),
}

impl Testimony {
    /// The least incarnation of `key` that is believed by whoever has seen this; none when `key` did not sign it.
    pub fn floor(&self, key: &PeerKey, verifier: &mut Verifier) -> Option<u64> {
        match self {
            Self::Card(signed) => {
                let card = verifier.check(signed).ok().filter(|card| card.key == *key)?;
                Some(card.incarnation)
            }
            Self::Goodbye(goodbye) => {
                let is_its_own = goodbye.owner == *key && goodbye.is_signed(verifier);
                is_its_own.then_some(goodbye.incarnation.saturating_add(1))
            }
        }
    }

    pub(super) const fn is_within_limits(&self) -> bool {
        match self {
            Self::Card(signed) => signed.encoded_bytes() <= CARD_MAX_BYTES,
            Self::Goodbye(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixtures::{Owner, verifier};

    #[test]
    fn only_what_the_key_signed_proves_anything_about_it() {
        let (owner, other) = (Owner::new(1), Owner::new(2));
        let card = Testimony::Card(owner.signed_card());
        let goodbye = Testimony::Goodbye(Goodbye::sign(&owner.identity, owner.card.mesh, 7));
        let forged =
            Testimony::Goodbye(Goodbye { incarnation: 8, ..Goodbye::sign(&owner.identity, owner.card.mesh, 7) });

        assert_eq!(card.floor(&owner.key(), &mut verifier()), Some(1));
        assert_eq!(goodbye.floor(&owner.key(), &mut verifier()), Some(8));
        assert_eq!(forged.floor(&owner.key(), &mut verifier()), None);
        assert_eq!(card.floor(&other.key(), &mut verifier()), None);
        assert_eq!(goodbye.floor(&other.key(), &mut verifier()), None);
    }
}
