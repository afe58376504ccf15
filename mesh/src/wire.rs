//! What peers say to each other once a connection is sealed: one enum, `postcard`, hard limits.
//!
//! ```text
//!   Open ◄──► Open                both ends accept the connection; the hash starts a comparison of stores
//!   Probe                         every 3 s, when there is nothing else to prove that we live
//!   Offers ──► Asks ──► Delta | Part…          so that each set reaches each peer once
//!   Summary ──► Buckets ──► Versions ──► Offers, Asks, …        every 30 s: what got lost is found
//!   RingState ──► RingNews        who owns which addresses: told when it changes, compared every 30 s
//!   Letter                        from one peer to another over several connections
//!   Refusal, then the connection is closed;  Goodbye is passed on to everyone once
//! ```
//!
//! Invariants:
//! - [`Message::decode`] never panics, and allocates in proportion to the bytes it is given;
//! - a decoded message keeps every limit below;
//! - a message that a peer of this version makes is at most [`MESSAGE_BYTES_MAX`] long.

mod testimony;

use std::net::SocketAddr;
use std::sync::Arc;

use postcard::ser_flavors::Size;
use serde::{Deserialize, Serialize};

use crate::card::ADDRESSES_MAX;
use crate::identity::{Hash, Identity, PeerKey, Signature, digest};
use crate::ipam::{RingNews, RingState};
use crate::letter::Letter;
use crate::name::{MeshId, PeerName};
use crate::store::{Delta, PARTS_MAX, Part, Record, Tag, Version};
use crate::verifier::Verifier;

pub use self::testimony::Testimony;

/// The longest message, octets; it fits in one Noise message.
pub const MESSAGE_BYTES_MAX: usize = 60 * 1024;
/// How many offers or asks one message holds.
pub const OFFERS_MAX: usize = 1_024;
/// How many peers a referral names.
pub const CONTACTS_MAX: usize = 12;
/// Into how many buckets two stores are divided to compare them.
pub const COMPARED_BUCKETS: usize = 64;

/// Everything that one peer says to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// This end accepts the connection; the hash is as in [`Self::Summary`].
    Open(Summary),
    Probe,
    Offers(Vec<Offer>),
    Asks(Vec<Ask>),
    Delta(Arc<Delta>),
    Part(Arc<Part>),
    Summary(Summary),
    Buckets(Buckets),
    Versions(Versions),
    Refusal(Refusal),
    Goodbye(Goodbye),
    RingState(RingState),
    RingNews(RingNews),
    Letter(Letter),
}

/// "I have this version of this set."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub owner: Tag,
    pub version: Version,
}

/// "Send me this set."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub owner: Tag,
    /// The version to which a delta may be applied.
    pub base: Option<Version>,
    /// The first octets of the hash of the card that we have.
    pub card: Option<[u8; 8]>,
}

/// A hash over owner and version of every set in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary(pub [u8; 16]);

/// The same, by bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets(pub Vec<[u8; 8]>);

/// Every version in the buckets of `buckets` (bit n is bucket n). The receiver asks for what it lacks and offers what
/// the sender lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub buckets: u64,
    pub offers: Vec<Offer>,
}

/// A peer and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    pub key: PeerKey,
    pub addresses: Vec<SocketAddr>,
}

/// Why a connection is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    #[error("connected to itself")]
    Itself,
    #[error(
        "peer name {name} belongs to key {holder}, and the peer with key {newcomer} claims it too; give one of them another --name"
    )]
    NameCollision { name: PeerName, holder: PeerKey, newcomer: PeerKey },
    #[error("another connection to the same peer was kept")]
    Duplicate,
    #[error("it has as many connections as it keeps, and named {} other peers instead", .contacts.len())]
    Referral { contacts: Vec<Contact> },
    #[error("its connection limit is reached")]
    ConnectionLimit,
    #[error("it has more connections than it needs")]
    Surplus,
    #[error("two live daemons have the key {key}: was the state directory copied?")]
    DuplicateIdentity { key: PeerKey },
    /// The receiver's key is known with a later incarnation: of a twin, or of an earlier life. Its own signature is the
    /// proof.
    #[error("its key has signed a later incarnation; it goes on above that")]
    Outlived { proof: Testimony },
}

/// "I leave for good": hold nothing of mine. Signed, since others pass it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    pub owner: PeerKey,
    pub incarnation: u64,
    signature: Signature,
}

impl Goodbye {
    pub fn sign(identity: &Identity, mesh: MeshId, incarnation: u64) -> Self {
        let owner = identity.key();
        Self { owner, incarnation, signature: identity.sign(&goodbye_bytes(mesh, &owner, incarnation)) }
    }

    pub fn is_signed(&self, verifier: &Verifier) -> bool {
        let message = goodbye_bytes(verifier.mesh(), &self.owner, self.incarnation);
        verifier.is_signed(&self.owner, &message, &self.signature)
    }
}

fn goodbye_bytes(mesh: MeshId, owner: &PeerKey, incarnation: u64) -> Hash {
    digest("weave-rs goodbye", &[&mesh.0, &owner.0, &incarnation.to_le_bytes()])
}

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("message is {0} bytes long, more than {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
    #[error("message does not decode")]
    Malformed,
    #[error("message has a list or text over its limit")]
    OverLimit,
}

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        // Encoding into memory cannot fail: no type here refuses to be serialised.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// How long [`Self::encode`] makes it, octets.
    pub fn encoded_bytes(&self) -> usize {
        postcard::serialize_with_flavor(self, Size::default()).unwrap_or_default()
    }

    /// # Errors
    /// When `bytes` are not exactly one message that keeps the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        match postcard::take_from_bytes(bytes) {
            Ok((message, [])) if Self::is_within_limits(&message) => Ok(message),
            Ok((_, [])) => Err(DecodeError::OverLimit),
            Ok(_) | Err(_) => Err(DecodeError::Malformed),
        }
    }

    fn is_within_limits(&self) -> bool {
        let are_within = |records: &[Record]| records.iter().all(Record::is_within_limits);
        match self {
            Self::Open(_) | Self::Probe | Self::Summary(_) | Self::Goodbye(_) | Self::RingState(_) => true,
            Self::RingNews(news) => news.is_within_limits(),
            Self::Letter(letter) => letter.is_within_limits(),
            Self::Offers(offers) => offers.len() <= OFFERS_MAX,
            Self::Asks(asks) => asks.len() <= OFFERS_MAX,
            Self::Delta(delta) => are_within(&delta.put),
            Self::Part(part) => part.count <= PARTS_MAX && part.index < part.count && are_within(&part.records),
            Self::Buckets(buckets) => buckets.0.len() == COMPARED_BUCKETS,
            Self::Versions(versions) => versions.offers.len() <= OFFERS_MAX,
            Self::Refusal(Refusal::Referral { contacts }) => {
                contacts.len() <= CONTACTS_MAX
                    && contacts.iter().all(|contact| contact.addresses.len() <= ADDRESSES_MAX)
            }
            Self::Refusal(Refusal::Outlived { proof }) => proof.is_within_limits(),
            Self::Refusal(_) => true,
        }
    }
}

#[cfg(test)]
mod tests;
