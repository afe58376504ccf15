//! Heartbeats of the fast path: Ethernet frames that take the way that containers' frames take.
//!
//! ```text
//!   Engine ──► VXLAN device ──► underlay ──► peer's VXLAN device ──► peer's bridge ──► packet socket ──► its Engine
//!
//!   0 bridge MAC of the peer   6 own bridge MAC   12 ethertype
//!   14 version   15 probe or answer   16 length of the frame   18 mesh id (16)   34 receiver index   38 nonce (8)
//!   46 MAC over everything before it, under a key of the session (16)            62 zeros up to the length
//! ```
//!
//! A probe is as long as the overlay's MTU allows, so its answer proves that full-size frames arrive; the answer is
//! short, since the other end proves the other direction with probes of its own.

use subtle::ConstantTimeEq;
use weave_mesh::name::{MacAddr, MeshId};

use crate::ethernet::HEADER_BYTES as ETHERNET_BYTES;
use crate::sleeve::cookie::mac;
use crate::sleeve::packet::{Index, MAC_BYTES};

/// IEEE 802 local experimental ethertype 1.
pub const ETHERTYPE: u16 = 0x88b5;
/// A heartbeat without padding: an answer.
pub const HEARTBEAT_BYTES: usize = MAC_AT + MAC_BYTES;

const VERSION: u8 = 1;
const MAC_AT: usize = ETHERNET_BYTES + 32;

/// What a heartbeat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Probe,
    Answer,
}

/// A heartbeat's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub destination: MacAddr,
    pub source: MacAddr,
    pub kind: Kind,
    pub mesh: MeshId,
    /// The session whose key it is made with, named by its receiver.
    pub receiver: Index,
    pub nonce: u64,
}

/// A frame that is no heartbeat of this version, or shorter or longer than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a heartbeat of version {VERSION}")]
pub struct Malformed;

/// The longest frame of an overlay with this MTU.
pub fn frame_bytes(mtu: u16) -> usize {
    (usize::from(mtu) + ETHERNET_BYTES).max(HEARTBEAT_BYTES)
}

impl Heartbeat {
    /// Fills `frame`, at least [`HEARTBEAT_BYTES`] long.
    pub fn encode(&self, key: &[u8; 32], frame: &mut [u8]) {
        let len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
        frame.fill(0);
        frame[..6].copy_from_slice(&self.destination.0);
        frame[6..12].copy_from_slice(&self.source.0);
        frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
        frame[14] = VERSION;
        frame[15] = matches!(self.kind, Kind::Answer).into();
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        frame[18..34].copy_from_slice(&self.mesh.0);
        frame[34..38].copy_from_slice(&self.receiver.0.to_be_bytes());
        frame[38..46].copy_from_slice(&self.nonce.to_be_bytes());
        let authenticator = mac(key, &[&frame[..MAC_AT]]);
        frame[MAC_AT..HEARTBEAT_BYTES].copy_from_slice(&authenticator);
    }

    /// Reads the fields; nothing is authenticated yet.
    ///
    /// # Errors
    /// When ethertype, version, kind or length are wrong.
    pub fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        let head: &[u8; HEARTBEAT_BYTES] = frame.first_chunk().ok_or(Malformed)?;
        let is_ours = u16::from_be_bytes(field(head, 12)) == ETHERTYPE && head[14] == VERSION;
        if !is_ours || usize::from(u16::from_be_bytes(field(head, 16))) != frame.len() {
            return Err(Malformed);
        }
        let kind = match head[15] {
            0 => Kind::Probe,
            1 => Kind::Answer,
            _ => return Err(Malformed),
        };
        Ok(Self {
            destination: MacAddr(field(head, 0)),
            source: MacAddr(field(head, 6)),
            kind,
            mesh: MeshId(field(head, 18)),
            receiver: Index(u32::from_be_bytes(field(head, 34))),
            nonce: u64::from_be_bytes(field(head, 38)),
        })
    }

    /// Whether a frame that decodes was made with `key`.
    pub fn is_authentic(key: &[u8; 32], frame: &[u8]) -> bool {
        let Some(authenticator) = frame.get(MAC_AT..HEARTBEAT_BYTES) else { return false };
        mac(key, &[&frame[..MAC_AT]]).ct_eq(authenticator).into()
    }
}

/// The `N` octets at a constant place inside the header.
fn field<const N: usize>(head: &[u8; HEARTBEAT_BYTES], at: usize) -> [u8; N] {
    let mut octets = [0; N];
    octets.copy_from_slice(&head[at..at + N]);
    octets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heartbeat(kind: Kind) -> Heartbeat {
        Heartbeat {
            destination: MacAddr([2, 0, 0, 0, 0, 2]),
            source: MacAddr([2, 0, 0, 0, 0, 1]),
            kind,
            mesh: MeshId::of("weave"),
            receiver: Index(7),
            nonce: 42,
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (Heartbeat::decode(&bytes), Heartbeat::is_authentic(&[0; 32], &bytes));
        }

        #[test]
        fn a_heartbeat_survives_its_bytes(mtu in 0u16..9_001, answer: bool) {
            let heartbeat = heartbeat(if answer { Kind::Answer } else { Kind::Probe });
            let mut frame = vec![0xff; frame_bytes(mtu)];
            heartbeat.encode(&[1; 32], &mut frame);

            prop_assert_eq!(Heartbeat::decode(&frame), Ok(heartbeat));
            prop_assert!(Heartbeat::is_authentic(&[1; 32], &frame));
            prop_assert!(!Heartbeat::is_authentic(&[2; 32], &frame));
        }
    }

    #[test]
    fn a_truncated_or_altered_heartbeat_does_not_count() {
        let mut frame = vec![0; frame_bytes(1_376)];
        heartbeat(Kind::Probe).encode(&[1; 32], &mut frame);

        assert_eq!(Heartbeat::decode(&frame[..frame.len() - 1]), Err(Malformed));
        for at in 0..MAC_AT {
            let mut altered = frame.clone();
            altered[at] ^= 1;
            assert!(!Heartbeat::is_authentic(&[1; 32], &altered));
        }
    }
}
