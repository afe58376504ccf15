//! Identity: the Ed25519 key that *is* a peer, its X25519 companion for Noise, and the signatures others check.
//!
//! Invariants:
//! - a secret never leaves this module but through [`Identity::to_secret_bytes`] (for the state file) and
//!   [`Identity::noise_secret`] (for a handshake), and never appears in `Debug`;
//! - the scheme of a key is fixed for a process: the simulator's cheap scheme is never accepted by a daemon.

use std::fmt;

use blake2::digest::{FixedOutput, Update};
use blake2::{Blake2s256, Digest};
use ed25519_dalek::Signer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

/// A 32-byte hash.
pub type Hash = [u8; 32];

/// BLAKE2s-256 over a domain label and length-prefixed parts, so that no two lists of parts collide.
pub fn digest(domain: &str, parts: &[&[u8]]) -> Hash {
    let mut hasher = Blake2s256::new();
    for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
        Update::update(&mut hasher, &(part.len() as u64).to_le_bytes());
        Update::update(&mut hasher, part);
    }
    hasher.finalize_fixed().into()
}

/// The Ed25519 public key that identifies a peer for its lifetime, whatever its name or address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerKey(pub [u8; 32]);

impl fmt::Display for PeerKey {
    /// The first eight octets, enough to tell keys apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An X25519 public key, the static key of Noise handshakes.
pub type NoiseKey = [u8; 32];

/// What members alone know of a peer: it travels in cards only, and cards are shown to nobody who has not proved to be a
/// member. A Noise key is not that: who opens a TCP connection is told it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock(pub [u8; 16]);

impl fmt::Debug for Knock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Knock(..)")
    }
}

/// A signature by an identity key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        bytes.try_into().map(Self).map_err(|_| de::Error::invalid_length(bytes.len(), &"64 bytes"))
    }
}

/// How signatures are made and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Ed25519,
    /// A keyed hash that anyone could forge and no simulated peer does: thousands of simulated peers check millions of
    /// signatures. A daemon never uses it.
    Simulated,
}

impl Scheme {
    /// Whether `signature` over `message` was made by `key`.
    pub fn verify(self, key: &PeerKey, message: &[u8], signature: &Signature) -> bool {
        match self {
            Self::Ed25519 => ed25519_dalek::VerifyingKey::from_bytes(&key.0).is_ok_and(|public| {
                public.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
            }),
            Self::Simulated => simulated_signature(key, message) == *signature,
        }
    }
}

fn simulated_signature(key: &PeerKey, message: &[u8]) -> Signature {
    let hash = digest("simulated signature", &[&key.0, message]);
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&hash);
    Signature(signature)
}

/// A peer's own secret keys.
#[derive(Clone)]
pub struct Identity {
    scheme: Scheme,
    signing: Box<ed25519_dalek::SigningKey>,
    noise: x25519_dalek::StaticSecret,
    key: PeerKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Identity {
    /// From 64 secret bytes: 32 of Ed25519 seed, 32 of X25519 scalar.
    pub fn from_secret_bytes(scheme: Scheme, secret: &[u8; 64]) -> Self {
        let (mut seed, mut scalar) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        seed.copy_from_slice(&secret[..32]);
        scalar.copy_from_slice(&secret[32..]);
        let signing = Box::new(ed25519_dalek::SigningKey::from_bytes(&seed));
        let key = PeerKey(signing.verifying_key().to_bytes());
        Self { scheme, signing, noise: x25519_dalek::StaticSecret::from(*scalar), key }
    }

    /// The inverse of [`Self::from_secret_bytes`], for the state file.
    pub fn to_secret_bytes(&self) -> Zeroizing<[u8; 64]> {
        let mut secret = Zeroizing::new([0; 64]);
        secret[..32].copy_from_slice(self.signing.as_bytes());
        secret[32..].copy_from_slice(self.noise.as_bytes());
        secret
    }

    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub const fn key(&self) -> PeerKey {
        self.key
    }

    pub fn noise_key(&self) -> NoiseKey {
        x25519_dalek::PublicKey::from(&self.noise).to_bytes()
    }

    /// The same for the lifetime of the identity, so that a peer that remembers us can call before we have met again.
    pub fn knock(&self) -> Knock {
        let hash = digest("weave-rs knock", &[self.noise.as_bytes()]);
        Knock(std::array::from_fn(|at| hash[at]))
    }

    /// The X25519 secret, for a Noise handshake.
    pub fn noise_secret(&self) -> &[u8; 32] {
        self.noise.as_bytes()
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        match self.scheme {
            Scheme::Ed25519 => Signature(self.signing.sign(message).to_bytes()),
            Scheme::Simulated => simulated_signature(&self.key, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(scheme: Scheme, byte: u8) -> Identity {
        Identity::from_secret_bytes(scheme, &[byte; 64])
    }

    #[test]
    fn a_signature_holds_for_its_key_and_message_only() {
        for scheme in [Scheme::Ed25519, Scheme::Simulated] {
            let (alice, bob) = (identity(scheme, 1), identity(scheme, 2));
            let signature = alice.sign(b"hello");

            assert!(scheme.verify(&alice.key(), b"hello", &signature));
            assert!(!scheme.verify(&alice.key(), b"hellp", &signature));
            assert!(!scheme.verify(&bob.key(), b"hello", &signature));
        }
    }

    #[test]
    fn a_daemon_refuses_the_simulators_signatures() {
        let forger = identity(Scheme::Simulated, 1);

        assert!(!Scheme::Ed25519.verify(&forger.key(), b"hello", &forger.sign(b"hello")));
    }

    #[test]
    fn an_identity_survives_its_bytes_and_hides_them() {
        let alice = identity(Scheme::Ed25519, 7);

        let again = Identity::from_secret_bytes(Scheme::Ed25519, &alice.to_secret_bytes());

        assert_eq!((again.key(), again.noise_key()), (alice.key(), alice.noise_key()));
        assert!(!format!("{alice:?}").contains("07070707"));
    }
}
