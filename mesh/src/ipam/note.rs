//! What one peer writes to another about addresses; the body of a letter.
//!
//! ```text
//!   a ring      Prepare ──► Promise | Refuse | Exists       Accept ──► Accepted | Refuse       Wanted (of an observer)
//!               AskRole ──► Observes
//!   space       Request ──► Granted | Denied
//!   a death     Ask ──► Consent… | Occupied | Newer         Withdraw             Accused (to the accused)
//!               Approve ──► Approved
//!   strays      Holds ──► HoldsHeard             TellHolds ──► Holds
//!   leaving     HandOver ──► HandOverHeard
//! ```
//!
//! Invariants:
//! - [`Note::decode`] never panics, and allocates in proportion to the bytes it is given;
//! - a decoded note keeps every limit below; a note that we make fits in a letter.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::death::{Approval, Certificate, Estate};
use super::formation::{Ballot, NEED_KNOWN_MAX, Need};
use super::{FirstRing, Range, Transfer};
use crate::card::{CARD_MAX_BYTES, SignedCard};
use crate::identity::{Hash, PeerKey};
use crate::letter::LETTER_BYTES_MAX;

/// How many transfers one note carries.
pub(super) const TRANSFERS_MAX: usize = 200;
/// How many peers one part of a consent names.
pub(super) const KNOWN_MAX: usize = 256;
/// How many addresses one note lists.
pub(super) const ADDRESSES_MAX: usize = 8_192;
/// Into how many parts a consent is divided: enough for the largest ring.
pub(super) const CONSENT_PARTS_MAX: u16 = 128;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    Prepare {
        ballot: Ballot,
        need: Need,
    },
    Promise {
        ballot: Ballot,
        accepted: Option<(Ballot, Arc<FirstRing>)>,
        need: Need,
    },
    /// The ballot is below what was promised.
    Refuse {
        promised: Ballot,
    },
    /// The ring exists already.
    Exists {
        first: Arc<FirstRing>,
    },
    Accept {
        ballot: Ballot,
        first: Arc<FirstRing>,
    },
    Accepted {
        ballot: Ballot,
    },
    /// One who takes no part in making the ring wants it.
    Wanted,
    /// "Give me some of what you own there."
    Request {
        id: u64,
        window: Range,
    },
    Granted {
        id: u64,
        transfers: Vec<Arc<Transfer>>,
    },
    /// Nothing to give there; of a single address, whether a container has it. With what the asker may not know.
    Denied {
        id: u64,
        is_held: bool,
        transfers: Vec<Arc<Transfer>>,
    },
    /// "Consent that I take over what the dead peer owned."
    Ask {
        certificate: Certificate,
        id: u64,
        ring: Hash,
        members: Hash,
    },
    Consent(Consent),
    /// Promised to this heir, in that asking of its.
    Occupied {
        dead: PeerKey,
        heir: PeerKey,
        id: u64,
    },
    /// The asker gave up that asking, if it ever was its: the promise is void.
    Withdraw {
        dead: PeerKey,
        id: u64,
    },
    /// "Do you approve that the estate goes there?"
    Approve {
        estate: Estate,
        certificate: Option<Certificate>,
    },
    Approved {
        estate: Estate,
        approval: Approval,
    },
    /// Every address that containers of mine hold and I do not own.
    Holds(Holds),
    HoldsHeard {
        number: HoldsNumber,
    },
    /// "Tell me what your containers hold": the peer on that machine before is dead.
    TellHolds,
    HandOver {
        id: u64,
        transfers: Vec<Arc<Transfer>>,
    },
    HandOverHeard {
        id: u64,
    },
    /// "Whom you call dead has shown this card since."
    Newer {
        card: SignedCard,
    },
    /// "Somebody calls you dead."
    Accused {
        certificate: Certificate,
    },
    /// "Do you vote on the first ring?" Who does says nothing.
    AskRole,
    Observes,
}

/// Tells an older list of addresses from a newer one: incarnation, counter.
pub(super) type HoldsNumber = (u64, u64);

/// A list of addresses that a peer's containers hold and it does not own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    pub number: HoldsNumber,
    pub addresses: Vec<u32>,
}

/// One part of a consent: what the asker must know before it may take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    pub dead: PeerKey,
    pub id: u64,
    pub part: u16,
    pub parts: u16,
    /// The ring, unless it is the asker's own.
    pub transfers: Vec<Arc<Transfer>>,
    /// Who is to be asked, too, unless the asker knows as many.
    pub known: Vec<PeerKey>,
    pub holds: Holds,
    /// For others, who judge the take-over; none while the dead one owns nothing in the sender's ring.
    pub approval: Option<Approval>,
}

impl Note {
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Encoding into memory cannot fail: no type here refuses to be serialised.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// The note that `bytes` are, if they are one and it keeps the limits.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LETTER_BYTES_MAX {
            return None;
        }
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((note, [])) if note.is_within_limits() => Some(note),
            Ok(_) | Err(_) => None,
        }
    }

    fn is_within_limits(&self) -> bool {
        match self {
            Self::Prepare { need, .. } => need.known.len() <= NEED_KNOWN_MAX,
            Self::Promise { accepted, need, .. } => {
                need.known.len() <= NEED_KNOWN_MAX
                    && accepted.as_ref().is_none_or(|(_, first)| first.is_within_limits())
            }
            Self::Exists { first } | Self::Accept { first, .. } => first.is_within_limits(),
            Self::Request { window, .. } => window.first <= window.last,
            Self::Granted { transfers, .. } | Self::Denied { transfers, .. } | Self::HandOver { transfers, .. } => {
                transfers.len() <= TRANSFERS_MAX
            }
            Self::Consent(consent) => {
                consent.parts <= CONSENT_PARTS_MAX
                    && consent.part < consent.parts
                    && consent.transfers.len() <= TRANSFERS_MAX
                    && consent.known.len() <= KNOWN_MAX
                    && consent.holds.addresses.len() <= ADDRESSES_MAX
            }
            Self::Holds(holds) => holds.addresses.len() <= ADDRESSES_MAX,
            Self::Ask { certificate, .. } | Self::Accused { certificate } => certificate.is_within_limits(),
            Self::Approve { certificate, .. } => certificate.as_ref().is_none_or(Certificate::is_within_limits),
            Self::Newer { card } => card.encoded_bytes() <= CARD_MAX_BYTES,
            Self::Refuse { .. } | Self::Accepted { .. } | Self::Wanted | Self::Occupied { .. } => true,
            Self::Withdraw { .. } | Self::HoldsHeard { .. } | Self::TellHolds | Self::HandOverHeard { .. } => true,
            Self::AskRole | Self::Observes | Self::Approved { .. } => true,
        }
    }
}
