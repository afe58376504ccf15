//! Noise for machines: `snow` with randomness that the machine's own seeded generator supplies.
//!
//! The primitives are `snow`'s defaults; only the source of ephemeral keys differs, so that a handshake replays exactly
//! under a seed. A daemon seeds its machines from the operating system.

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, RngCore, SeedableRng};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};

/// A pre-shared key derived from one password; all zeros when the mesh has none.
pub type Psk = [u8; 32];

struct SeededResolver {
    seed: [u8; 32],
}

struct SeededRandom(ChaCha20Rng);

impl RngCore for SeededRandom {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.try_fill_bytes(bytes)
    }
}

impl CryptoRng for SeededRandom {}

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoResolver for SeededResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededRandom(ChaCha20Rng::from_seed(self.seed))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// A builder for one handshake whose ephemeral keys come from `rng`.
///
/// ```text
/// builder("Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s", &mut rng)   TCP connections
/// builder("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s", &mut rng)   sleeve sessions
/// ```
///
/// # Errors
/// When `pattern` is no Noise protocol name that `snow` was built with.
pub fn builder<'a>(pattern: &str, rng: &mut impl RngCore) -> Result<snow::Builder<'a>, snow::Error> {
    let params: NoiseParams = pattern.parse()?;
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    Ok(snow::Builder::with_resolver(params, Box::new(SeededResolver { seed })))
}
