//! Two messages that give two peers fresh keys: Noise `IKpsk2_25519_ChaChaPoly_BLAKE2s`.
//!
//! ```text
//!   initiator                                                            responder
//!      │── e, es, s, ss, { card, timestamp, ciphers } ──────────────────────►│  who is it, is it new, is it a member?
//!      │◄── e, ee, se, psk (the responder's first), { card, cipher } ────────│  keys, not used before the initiator was heard
//!      │── first sealed packet ──────────────────────────────────────────────►│  the initiator has the psk: session up
//! ```
//!
//! Data keys are not Noise's own: HKDF binds them to the cipher that the responder picked (`seal.rs`).
//!
//! Invariants:
//! - nothing of the payloads is believed before its card was verified and names the static key of the handshake;
//! - an answer that does not open leaves the initiator as it was, waiting for the genuine one.

use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use snow::HandshakeState;
use weave_mesh::card::SignedCard;
use weave_mesh::identity::{Identity, NoiseKey};
use weave_mesh::noise::{self, Psk};
use zeroize::Zeroizing;

use crate::sleeve::packet::NOISE_BYTES_MAX;
use crate::sleeve::seal::Cipher;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"weave-rs sleeve v1";
/// Where `psk2` sits in the pattern.
const PSK_LOCATION: usize = 2;
/// Ciphers that one side may list.
const CIPHERS_MAX: usize = 8;

/// What we bring to every handshake.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    pub identity: &'a Identity,
    pub card: &'a SignedCard,
    /// Best first.
    pub ciphers: &'a [Cipher],
}

#[derive(Serialize, Deserialize)]
struct InitiationPayload {
    card: SignedCard,
    timestamp: u64,
    ciphers: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct ResponsePayload {
    card: SignedCard,
    cipher: u8,
}

/// A handshake that came to nothing; no state has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("message was altered or is meant for somebody else")]
    Forged,
    #[error("answer opens under none of our passwords")]
    WrongPassword,
    #[error("payload does not decode")]
    Malformed,
    #[error("no cipher in common")]
    NoCommonCipher,
}

/// What both ends hold when the handshake is done.
#[derive(Debug)]
pub struct Agreement {
    pub cipher: Cipher,
    pub send: Zeroizing<[u8; 32]>,
    pub receive: Zeroizing<[u8; 32]>,
    /// The other end's; to be verified by the caller.
    pub card: SignedCard,
}

/// A first message under way.
#[derive(Debug)]
pub struct Initiator {
    noise: HandshakeState,
    offered: Vec<Cipher>,
}

impl Initiator {
    /// The first message to the owner of `responder`, and what waits for the answer.
    ///
    /// # Errors
    /// When the card is too long, which its own limits rule out.
    pub fn start(
        local: Local<'_>,
        responder: &NoiseKey,
        timestamp: u64,
        rng: &mut impl RngCore,
    ) -> Result<(Self, Vec<u8>), Error> {
        let mut noise = builder(local.identity, rng)
            .and_then(|builder| builder.remote_public_key(responder))
            .and_then(snow::Builder::build_initiator)
            .map_err(|_| Error::Malformed)?;
        let ciphers = local.ciphers.iter().take(CIPHERS_MAX).map(|cipher| cipher.code()).collect();
        let payload = InitiationPayload { card: local.card.clone(), timestamp, ciphers };
        let message = write(&mut noise, &payload)?;
        Ok((Self { noise, offered: local.ciphers.to_vec() }, message))
    }

    /// Reads the answer, trying each of our passwords; an error leaves this as it was.
    ///
    /// # Errors
    /// When no password opens it, or what it opens to is not understood.
    pub fn finish(&mut self, psks: &[Psk], message: &[u8]) -> Result<Agreement, Error> {
        let mut payload = [0; NOISE_BYTES_MAX];
        let opened = psks.iter().find_map(|psk| {
            self.noise.set_psk(PSK_LOCATION, psk).ok()?;
            self.noise.read_message(message, &mut payload).ok()
        });
        let len = opened.ok_or(Error::WrongPassword)?;
        let ResponsePayload { card, cipher } = parse(&payload[..len])?;
        let cipher =
            self.offered.iter().copied().find(|offered| offered.code() == cipher).ok_or(Error::NoCommonCipher)?;
        let (send, receive) = self.noise.dangerously_get_raw_split();
        Ok(Agreement { cipher, send: Zeroizing::new(send), receive: Zeroizing::new(receive), card })
    }
}

/// A first message that was read and not answered yet.
#[derive(Debug)]
pub struct Asked {
    noise: HandshakeState,
    /// The static key that the sender has proved to own.
    pub remote: NoiseKey,
    /// To be verified by the caller.
    pub card: SignedCard,
    pub timestamp: u64,
    ciphers: Vec<u8>,
}

impl Asked {
    /// Reads a first message.
    ///
    /// # Errors
    /// When it is not for us, was altered or does not decode.
    pub fn read(local: Local<'_>, message: &[u8], rng: &mut impl RngCore) -> Result<Self, Error> {
        let mut noise =
            builder(local.identity, rng).and_then(snow::Builder::build_responder).map_err(|_| Error::Malformed)?;
        let mut payload = [0; NOISE_BYTES_MAX];
        if message.len() > NOISE_BYTES_MAX {
            return Err(Error::Malformed);
        }
        let len = noise.read_message(message, &mut payload).map_err(|_| Error::Forged)?;
        let remote = noise.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(Error::Forged)?;
        let InitiationPayload { card, timestamp, ciphers } = parse(&payload[..len])?;
        if ciphers.len() > CIPHERS_MAX {
            return Err(Error::Malformed);
        }
        Ok(Self { noise, remote, card, timestamp, ciphers })
    }

    /// The answer under `psk`, with the first of our ciphers that the sender has too.
    ///
    /// # Errors
    /// When there is none.
    pub fn answer(mut self, local: Local<'_>, psk: &Psk) -> Result<(Vec<u8>, Agreement), Error> {
        let common = |cipher: &&Cipher| self.ciphers.contains(&cipher.code());
        let cipher = *local.ciphers.iter().find(common).ok_or(Error::NoCommonCipher)?;
        self.noise.set_psk(PSK_LOCATION, psk).map_err(|_| Error::Malformed)?;
        let payload = ResponsePayload { card: local.card.clone(), cipher: cipher.code() };
        let message = write(&mut self.noise, &payload)?;
        let (receive, send) = self.noise.dangerously_get_raw_split();
        let card = self.card;
        Ok((message, Agreement { cipher, send: Zeroizing::new(send), receive: Zeroizing::new(receive), card }))
    }
}

fn builder<'a>(identity: &'a Identity, rng: &mut impl RngCore) -> Result<snow::Builder<'a>, snow::Error> {
    noise::builder(PATTERN, rng)?.prologue(PROLOGUE)?.local_private_key(identity.noise_secret())
}

fn write(noise: &mut HandshakeState, payload: &impl Serialize) -> Result<Vec<u8>, Error> {
    let payload = postcard::to_stdvec(payload).map_err(|_| Error::Malformed)?;
    let mut message = vec![0; NOISE_BYTES_MAX];
    let len = noise.write_message(&payload, &mut message).map_err(|_| Error::Malformed)?;
    message.truncate(len);
    Ok(message)
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(payload) {
        Ok((parsed, [])) => Ok(parsed),
        _ => Err(Error::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use weave_mesh::card::Card;
    use weave_mesh::identity::Scheme;
    use weave_mesh::name::{MacAddr, MeshId, PeerName};

    use super::*;

    const BOTH: &[Cipher] = &[Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];
    const CHACHA: &[Cipher] = &[Cipher::ChaCha20Poly1305];

    struct Host {
        identity: Identity,
        card: SignedCard,
        ciphers: &'static [Cipher],
        rng: ChaCha20Rng,
    }

    impl Host {
        fn new(byte: u8, ciphers: &'static [Cipher]) -> Self {
            let identity = Identity::from_secret_bytes(Scheme::Ed25519, &[byte; 64]);
            let card = Card {
                mesh: MeshId::of("weave"),
                key: identity.key(),
                noise_key: identity.noise_key(),
                knock: identity.knock(),
                name: PeerName::derived_from(&identity.key().0),
                nickname: "host".to_owned(),
                bridge_mac: MacAddr([2, 0, 0, 0, 0, byte]),
                port: 6783,
                addresses: vec!["192.0.2.1:6783".parse().unwrap(); 4],
                trusted_subnets: Vec::new(),
                instance_id: String::new(),
                machine: [0; 32],
                incarnation: 1,
            };
            let card = SignedCard::sign(&card, &identity).unwrap();
            Self { identity, card, ciphers, rng: ChaCha20Rng::seed_from_u64(byte.into()) }
        }

        fn local(&self) -> Local<'_> {
            Local { identity: &self.identity, card: &self.card, ciphers: self.ciphers }
        }

        fn start(&self, to: &Self) -> (Initiator, Vec<u8>) {
            Initiator::start(self.local(), &to.identity.noise_key(), 42, &mut self.rng.clone()).unwrap()
        }

        fn read(&self, message: &[u8]) -> Result<Asked, Error> {
            Asked::read(self.local(), message, &mut self.rng.clone())
        }
    }

    fn shake(alice: &Host, bob: &Host, bobs: Psk, alices: &[Psk]) -> Result<(Agreement, Agreement), Error> {
        let (mut initiator, first) = alice.start(bob);
        let (second, at_bob) = bob.read(&first)?.answer(bob.local(), &bobs)?;
        Ok((initiator.finish(alices, &second)?, at_bob))
    }

    #[test]
    fn both_ends_hold_the_same_keys_crosswise() {
        let (alice, bob) = (Host::new(1, BOTH), Host::new(2, BOTH));

        let (at_alice, at_bob) = shake(&alice, &bob, [9; 32], &[[9; 32]]).unwrap();

        assert_eq!((&at_alice.send, &at_alice.receive), (&at_bob.receive, &at_bob.send));
        assert_ne!(at_alice.send, at_alice.receive);
        assert_eq!((at_alice.card, at_bob.card), (bob.card, alice.card));
    }

    #[test]
    fn the_responder_learns_who_asks_and_when() {
        let (alice, bob) = (Host::new(1, BOTH), Host::new(2, BOTH));

        let asked = bob.read(&alice.start(&bob).1).unwrap();

        assert_eq!((asked.remote, asked.timestamp), (alice.identity.noise_key(), 42));
        assert_eq!(asked.card, alice.card);
    }

    #[test]
    fn aes_is_used_only_where_both_ends_have_it() {
        let cipher = |alice, bob| {
            let agreed = shake(&Host::new(1, alice), &Host::new(2, bob), [0; 32], &[[0; 32]]).unwrap();
            assert_eq!(agreed.0.cipher, agreed.1.cipher);
            agreed.0.cipher
        };

        assert_eq!(cipher(BOTH, BOTH), Cipher::Aes256Gcm);
        assert_eq!(cipher(BOTH, CHACHA), Cipher::ChaCha20Poly1305);
        assert_eq!(cipher(CHACHA, BOTH), Cipher::ChaCha20Poly1305);
        let none = shake(&Host::new(1, CHACHA), &Host::new(2, &[Cipher::Aes256Gcm]), [0; 32], &[[0; 32]]);
        assert_eq!(none.unwrap_err(), Error::NoCommonCipher);
    }

    #[test]
    fn any_of_the_initiators_passwords_opens_the_answer() {
        let (alice, bob) = (Host::new(1, BOTH), Host::new(2, BOTH));

        assert!(shake(&alice, &bob, [2; 32], &[[1; 32], [2; 32]]).is_ok());
        assert_eq!(shake(&alice, &bob, [3; 32], &[[1; 32], [2; 32]]).unwrap_err(), Error::WrongPassword);
    }

    #[test]
    fn a_forged_answer_does_not_spoil_the_genuine_one() {
        let (alice, bob) = (Host::new(1, BOTH), Host::new(2, BOTH));
        let (mut initiator, first) = alice.start(&bob);
        let (genuine, _) = bob.read(&first).unwrap().answer(bob.local(), &[0; 32]).unwrap();

        for at in [0, 40, genuine.len() - 1] {
            let mut forged = genuine.clone();
            forged[at] ^= 1;
            assert_eq!(initiator.finish(&[[0; 32]], &forged).unwrap_err(), Error::WrongPassword);
        }

        assert!(initiator.finish(&[[0; 32]], &genuine).is_ok());
    }

    #[test]
    fn a_message_for_another_host_or_altered_does_not_open() {
        let (alice, bob, carol) = (Host::new(1, BOTH), Host::new(2, BOTH), Host::new(3, BOTH));
        let (_, message) = alice.start(&bob);

        assert_eq!(carol.read(&message).unwrap_err(), Error::Forged);
        assert_eq!(bob.read(&[0; NOISE_BYTES_MAX + 1]).unwrap_err(), Error::Malformed);
        for at in (0..message.len()).step_by(7) {
            let mut altered = message.clone();
            altered[at] ^= 1;
            assert!(bob.read(&altered).is_err());
            assert!(bob.read(&message[..at]).is_err());
        }
    }
}
