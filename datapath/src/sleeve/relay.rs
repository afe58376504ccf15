//! The envelope that carries a packet through a third peer.
//!
//! ```text
//!   A ──[ data header │ ENVELOPE │ packet for C, sealed by A for C │ tag ]──► B ──[ data header │ ENVELOPE │ same │ tag ]──► C
//!        └──────────── sealed in the session A–B ─────────────────┘           └────────── in the session B–C ─────────┘
//!
//!   0        1           2             9              16
//!   version  hops left   source (7)    destination (7)   packet: initiation, response, cookie or data
//! ```
//!
//! Invariants:
//! - a relay never holds the key of the packet inside;
//! - an envelope arrives in the session of the previous hop, which authenticates that hop, and never in another envelope;
//! - an envelope is passed on only over a session that goes direct, with one hop less left, within its sender's rate.

use std::fmt;

use weave_mesh::identity::PeerKey;
use weave_mesh::time::Instant;

use crate::sleeve::packet::DATA_HEADER_BYTES;
use crate::sleeve::rate::Bucket;
use crate::sleeve::seal::TAG_BYTES;

/// An envelope without what is in it.
pub const ENVELOPE_BYTES: usize = 16;
/// What one relayed packet costs more than a direct one.
pub const RELAY_OVERHEAD_BYTES: usize = DATA_HEADER_BYTES + ENVELOPE_BYTES + TAG_BYTES;
/// Sessions a packet may pass: a mesh of bounded degree has shorter chains.
pub const HOPS_MAX: u8 = 8;
/// Octets a second that are passed on for one sender, 1 Gbit/s.
const RATE_BYTES_PER_SECOND: u32 = 125_000_000;

const VERSION: u8 = 1;

/// The first octets of a peer's key, which name it inside envelopes. Two members with the same ones would be reached
/// by relay no more; neither could read what is meant for the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayId(pub [u8; 7]);

impl RelayId {
    pub fn of(key: &PeerKey) -> Self {
        let mut id = [0; 7];
        id.copy_from_slice(&key.0[..7]);
        Self(id)
    }
}

impl fmt::Debug for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Who sent a packet, to whom, and how much further it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub hops_left: u8,
    pub source: RelayId,
    pub destination: RelayId,
}

/// An envelope that is too short or of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an envelope of version {VERSION}")]
pub struct Malformed;

impl Envelope {
    pub fn encode(&self) -> [u8; ENVELOPE_BYTES] {
        let mut octets = [0; ENVELOPE_BYTES];
        octets[0] = VERSION;
        octets[1] = self.hops_left;
        octets[2..9].copy_from_slice(&self.source.0);
        octets[9..].copy_from_slice(&self.destination.0);
        octets
    }

    /// Splits an opened payload into envelope and packet.
    ///
    /// # Errors
    /// When it is too short or of another version.
    pub fn decode(payload: &mut [u8]) -> Result<(Self, &mut [u8]), Malformed> {
        let (octets, packet) = payload.split_first_chunk_mut::<ENVELOPE_BYTES>().ok_or(Malformed)?;
        if octets[0] != VERSION {
            return Err(Malformed);
        }
        let id = |from: usize| {
            let mut id = [0; 7];
            id.copy_from_slice(&octets[from..from + 7]);
            RelayId(id)
        };
        Ok((Self { hops_left: octets[1], source: id(2), destination: id(9) }, packet))
    }
}

/// What one previous hop may still hand us. Its own packets and those it passes on are counted apart: a relay in the
/// middle cannot be starved of its own traffic by what others send through it, and no name that a liar writes into an
/// envelope takes another sender's share.
#[derive(Clone, Debug)]
pub struct Allowance {
    own: Bucket,
    passed_on: Bucket,
}

impl Allowance {
    pub const fn new(now: Instant) -> Self {
        let full = Bucket::full(RATE_BYTES_PER_SECOND, now);
        Self { own: full, passed_on: full }
    }

    /// Whether `bytes` more from `source` may be passed on for `previous`.
    pub fn take(&mut self, previous: RelayId, source: RelayId, bytes: usize, now: Instant) -> bool {
        let bucket = if previous == source { &mut self.own } else { &mut self.passed_on };
        bucket.take(u32::try_from(bytes).unwrap_or(u32::MAX), RATE_BYTES_PER_SECOND, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_envelope_survives_its_bytes(hops_left: u8, source: [u8; 7], destination: [u8; 7], packet: Vec<u8>) {
            let envelope = Envelope { hops_left, source: RelayId(source), destination: RelayId(destination) };
            let mut payload = envelope.encode().to_vec();
            payload.extend_from_slice(&packet);

            prop_assert_eq!(Envelope::decode(&mut payload), Ok((envelope, &mut packet.clone()[..])));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Envelope::decode(&mut bytes);
        }
    }

    #[test]
    fn a_relay_costs_48_octets() {
        assert_eq!(RELAY_OVERHEAD_BYTES, 48);
    }

    #[test]
    fn what_others_send_through_a_relay_leaves_its_own_share() {
        let (relay, other) = (RelayId([1; 7]), RelayId([2; 7]));
        let mut allowance = Allowance::new(Instant::ZERO);

        assert!(allowance.take(relay, other, RATE_BYTES_PER_SECOND as usize, Instant::ZERO));
        assert!(!allowance.take(relay, other, 1, Instant::ZERO));
        assert!(allowance.take(relay, relay, 1_400, Instant::ZERO));
    }
}
