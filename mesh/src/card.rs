//! A peer's card: who it is, signed by itself. Record 0 of its replicated set, and the payload of both handshakes.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::identity::{Hash, Identity, Knock, NoiseKey, PeerKey, Scheme, Signature, digest};
use crate::name::{MacAddr, MeshId, PeerName};

/// The longest encoded card, octets: signed (67 more) and sealed in a handshake message (64 more), it stays within 512.
pub const CARD_MAX_BYTES: usize = 380;
/// The longest nickname, octets.
pub const NICKNAME_MAX_BYTES: usize = 63;
/// How many underlay addresses a card lists.
pub const ADDRESSES_MAX: usize = 4;
/// How many trusted subnets a card lists.
pub const TRUSTED_SUBNETS_MAX: usize = 4;
/// The longest instance id, octets (EC2's have 19).
pub const INSTANCE_ID_MAX_BYTES: usize = 32;

/// An address and a prefix length in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subnet {
    pub address: IpAddr,
    pub prefix_len: u8,
}

impl Subnet {
    /// The first address of the subnet, with the same length.
    #[must_use]
    pub fn network(self) -> Self {
        let prefix_len = self.prefix_len;
        let address = match self.address {
            IpAddr::V4(address) => {
                let host_bits = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
                IpAddr::V4((address.to_bits() & !host_bits).into())
            }
            IpAddr::V6(address) => {
                let host_bits = u128::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
                IpAddr::V6((address.to_bits() & !host_bits).into())
            }
        };
        Self { address, prefix_len }
    }

    /// Whether `address` has the same prefix.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self { address, ..*self }.network() == self.network()
    }
}

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub mesh: MeshId,
    pub key: PeerKey,
    pub noise_key: NoiseKey,
    /// Opens the door for handshakes in datagrams.
    pub knock: Knock,
    pub name: PeerName,
    pub nickname: String,
    /// The MAC of its bridge; heartbeats of the fast path are sent to it.
    pub bridge_mac: MacAddr,
    /// Where it listens, control TCP and sleeve UDP alike; VXLAN is at the port above.
    pub port: u16,
    /// The addresses of its underlay with that port, as they are now. Best first. May be empty (NAT).
    pub addresses: Vec<SocketAddr>,
    /// Underlay subnets in which it accepts unsealed VXLAN although the mesh has a password.
    pub trusted_subnets: Vec<Subnet>,
    /// The EC2 instance id, empty elsewhere.
    pub instance_id: String,
    /// Hash of the machine id, so that a copied state directory is noticed.
    pub machine: Hash,
    /// `max(wall clock at start, persisted + 1)` in microseconds since 1970: grows with every start of this identity.
    pub incarnation: u64,
}

/// A card that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    #[error("card is {0} bytes long, more than {CARD_MAX_BYTES}")]
    TooLong(usize),
    #[error("card does not decode")]
    Malformed,
    #[error("card has a list or text over its limit")]
    OverLimit,
    #[error("card of {0} is not signed by its key")]
    BadSignature(PeerKey),
    #[error("card of {0} belongs to another mesh; compare --mesh")]
    OtherMesh(PeerKey),
}

/// An encoded card with its owner's signature, passed on by forwarders unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCard {
    encoded: Vec<u8>,
    signature: Signature,
}

impl SignedCard {
    /// # Errors
    /// When a list or text of `card` is over its limit; the daemon's configuration is checked with this.
    pub fn sign(card: &Card, identity: &Identity) -> Result<Self, CardError> {
        let encoded = postcard::to_stdvec(card).map_err(|_| CardError::Malformed)?;
        check_limits(card, encoded.len())?;
        let signature = identity.sign(&signed_bytes(&encoded));
        Ok(Self { encoded, signature })
    }

    /// The card, if it decodes, keeps the limits and is signed by the key that it names.
    ///
    /// # Errors
    /// Says which of these fails.
    pub fn verify(&self, scheme: Scheme) -> Result<Card, CardError> {
        if self.encoded.len() > CARD_MAX_BYTES {
            return Err(CardError::TooLong(self.encoded.len()));
        }
        let (card, rest): (Card, _) = postcard::take_from_bytes(&self.encoded).map_err(|_| CardError::Malformed)?;
        if !rest.is_empty() {
            return Err(CardError::Malformed);
        }
        check_limits(&card, self.encoded.len())?;
        if !scheme.verify(&card.key, &signed_bytes(&self.encoded), &self.signature) {
            return Err(CardError::BadSignature(card.key));
        }
        Ok(card)
    }

    /// How long the encoded card is, octets; checked before anything is kept.
    pub const fn encoded_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// Identifies card and signature together: a checked one need not be checked again.
    pub fn hash(&self) -> Hash {
        digest("weave-rs signed card", &[&self.encoded, &self.signature.0])
    }
}

fn signed_bytes(encoded: &[u8]) -> Hash {
    digest("weave-rs card", &[encoded])
}

fn check_limits(card: &Card, encoded_bytes: usize) -> Result<(), CardError> {
    if encoded_bytes > CARD_MAX_BYTES {
        return Err(CardError::TooLong(encoded_bytes));
    }
    let within = card.nickname.len() <= NICKNAME_MAX_BYTES
        && card.addresses.len() <= ADDRESSES_MAX
        && card.trusted_subnets.len() <= TRUSTED_SUBNETS_MAX
        && card.instance_id.len() <= INSTANCE_ID_MAX_BYTES;
    if within { Ok(()) } else { Err(CardError::OverLimit) }
}
