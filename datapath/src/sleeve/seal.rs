//! Sealing and opening one packet in place: the data path's ciphers behind one small type.
//!
//! Invariants:
//! - a key seals each counter once: [`SealingKey`] is used only by a session, which counts up and never back;
//! - the header in front of the payload is authenticated with it;
//! - nothing here allocates after the key was made.

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::Zeroizing;

/// What sealing adds to a payload.
pub const TAG_BYTES: usize = 16;

/// A cipher for data packets, agreed on in each handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Cipher {
    /// What this machine is good at, best first: AES only where the processor has instructions for it.
    pub fn of_this_machine() -> Vec<Self> {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        let aes = std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let aes = std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
        #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
        let aes = false;
        if aes { vec![Self::Aes256Gcm, Self::ChaCha20Poly1305] } else { vec![Self::ChaCha20Poly1305] }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "AES-256-GCM",
            Self::ChaCha20Poly1305 => "ChaCha20-Poly1305",
        }
    }

    /// Its number in handshakes; lists may hold numbers that only newer versions know.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    /// A key of this cipher from a secret that several uses share: HKDF-SHA256, the cipher's name as its info.
    fn key_from(self, secret: &[u8; 32]) -> LessSafeKey {
        let key = derive(secret, self.name());
        let algorithm = match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        LessSafeKey::new(UnboundKey::new(algorithm, &*key).expect("both ciphers take 32 bytes of key"))
    }
}

/// HKDF-SHA256 of `secret` for the use named by `label`.
pub(crate) fn derive(secret: &[u8; 32], label: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let info = [label.as_bytes()];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"weave-rs sleeve v1")
        .extract(secret)
        .expand(&info, hkdf::HKDF_SHA256)
        .and_then(|material| material.fill(&mut *key))
        .expect("HKDF-SHA256 gives 32 bytes");
    key
}

/// A packet that was not sealed with this key, counter and header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet is not sealed with this session's key")]
pub struct Forged;

/// Seals packets that we send in one session.
#[derive(Debug)]
pub struct SealingKey(LessSafeKey);

impl SealingKey {
    pub fn new(cipher: Cipher, secret: &[u8; 32]) -> Self {
        Self(cipher.key_from(secret))
    }

    /// Encrypts `payload` in place and returns the tag over it and `header`.
    pub fn seal(&self, counter: u64, header: &[u8], payload: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::from(header), payload)
            .expect("a packet is far below the ciphers' length limit");
        let mut octets = [0; TAG_BYTES];
        octets.copy_from_slice(tag.as_ref());
        octets
    }
}

/// Opens packets that the other end sealed in one session.
#[derive(Debug)]
pub struct OpeningKey(LessSafeKey);

impl OpeningKey {
    pub fn new(cipher: Cipher, secret: &[u8; 32]) -> Self {
        Self(cipher.key_from(secret))
    }

    /// Decrypts `sealed`, payload and tag, in place.
    ///
    /// # Errors
    /// When the tag does not fit; `sealed` holds nothing of use then.
    pub fn open<'a>(&self, counter: u64, header: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], Forged> {
        self.0.open_in_place(nonce(counter), Aad::from(header), sealed).map_err(|_| Forged)
    }
}

/// The counter as a nonce, in the place where Noise puts it for ChaCha20-Poly1305.
fn nonce(counter: u64) -> Nonce {
    let mut octets = [0; 12];
    octets[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(octets)
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{AeadInPlace, KeyInit};
    use chacha20poly1305::{ChaCha20Poly1305, Key};
    use proptest::prelude::*;

    use super::*;

    const CIPHERS: [Cipher; 2] = [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];

    proptest! {
        #[test]
        fn sealing_agrees_with_an_independent_implementation(
            secret: [u8; 32], counter: u64, header: [u8; 16], payload in proptest::collection::vec(any::<u8>(), 0..2_000),
        ) {
            let mut ours = payload.clone();
            let tag = SealingKey::new(Cipher::ChaCha20Poly1305, &secret).seal(counter, &header, &mut ours);

            let key = derive(&secret, Cipher::ChaCha20Poly1305.name());
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_le_bytes());
            let mut theirs = payload;
            let reference = ChaCha20Poly1305::new(Key::from_slice(&*key))
                .encrypt_in_place_detached(&nonce.into(), &header, &mut theirs)
                .expect("within limits");

            prop_assert_eq!(ours, theirs);
            prop_assert_eq!(&tag[..], reference.as_slice());
        }

        #[test]
        fn what_is_sealed_opens_and_what_was_touched_does_not(
            secret: [u8; 32], counter: u64, header: [u8; 16],
            payload in proptest::collection::vec(any::<u8>(), 0..200), flip: prop::sample::Index,
        ) {
            for cipher in CIPHERS {
                let (sealing, opening) = (SealingKey::new(cipher, &secret), OpeningKey::new(cipher, &secret));
                let mut sealed = payload.clone();
                let tag = sealing.seal(counter, &header, &mut sealed);
                sealed.extend_from_slice(&tag);

                let mut touched = sealed.clone();
                let at = flip.index(touched.len());
                touched[at] ^= 1;
                prop_assert!(opening.open(counter, &header, &mut touched).is_err());
                prop_assert!(opening.open(counter ^ 1, &header, &mut sealed.clone()).is_err());
                prop_assert_eq!(opening.open(counter, &header, &mut sealed), Ok(&mut payload.clone()[..]));
            }
        }
    }

    #[test]
    fn each_cipher_has_a_key_of_its_own() {
        assert_ne!(derive(&[1; 32], Cipher::Aes256Gcm.name()), derive(&[1; 32], Cipher::ChaCha20Poly1305.name()));
    }
}
