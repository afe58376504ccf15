//! The bytes of a sleeve datagram. Numbers are big-endian; version is 1.
//!
//! ```text
//!              0        1        2   3   4            8             12
//!  initiation  1        version  0   0   sender       Noise message 1 …            mac1 (16)  mac2 (16)
//!  response    2        version  0   0   sender       receiver      Noise message 2 …  mac1 (16)  mac2 (16)
//!  cookie      3        version  0   0   receiver     nonce (24) …  sealed cookie (16 + 16)
//!  data        4        payload  0   0   receiver     counter (8)   sealed payload …   tag (16)
//!
//!  payload of data:  0 Ethernet frame    1 envelope (relay.rs)    2 probe: nonce (8)    3 answer: nonce (8)
//!                    4 Ethernet frame whose TCP or UDP checksum is the pseudo-header's sum
//!                    5 size probe: nonce (8), padding …           6 size answer: nonce (8), octets of the probe (2)
//!                    7 canary, 8 report (canary/question.rs)
//! ```
//!
//! `sender` is an index its owner chose for the session to come, `receiver` the one that the addressee chose: nobody
//! needs to look at addresses to find a session, and nobody else learns whose it is.

/// In front of every sealed payload, and authenticated with it.
pub const DATA_HEADER_BYTES: usize = 16;
/// One of the two authenticators that end a handshake message.
pub const MAC_BYTES: usize = 16;
/// What a cookie reply's key is derived from, fresh for each.
pub const COOKIE_NONCE_BYTES: usize = 24;
/// A cookie reply.
pub const COOKIE_REPLY_BYTES: usize = 8 + COOKIE_NONCE_BYTES + SEALED_COOKIE_BYTES;
/// A probe or answer before it is sealed.
pub const NONCE_BYTES: usize = 8;
/// An answer to a size probe before it is sealed. No probe is shorter, so that no answer is longer than its probe.
pub const SIZE_ANSWER_BYTES: usize = NONCE_BYTES + 2;

/// The longest Noise message of a handshake: keys and tags around a card of 400 octets and its signature. A longer one
/// is refused before any of it is hashed.
pub const NOISE_BYTES_MAX: usize = 1_024;

const SEALED_COOKIE_BYTES: usize = 32;
const INITIATION_HEADER_BYTES: usize = 8;
const RESPONSE_HEADER_BYTES: usize = 12;
const VERSION: u8 = 1;

/// Names a session (or one being made) within the host that chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Index(pub u32);

/// What the sealed part of a data packet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    Frame,
    Envelope,
    Probe,
    Answer,
    /// A frame whose transport checksum is left to the receiver (`Sum::Left`).
    UnsummedFrame,
    SizeProbe,
    SizeAnswer,
    Canary,
    Report,
}

/// A decoded datagram; nothing in it is authenticated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Initiation { sender: Index, noise: &'a [u8], macs: Macs<'a> },
    Response { sender: Index, receiver: Index, noise: &'a [u8], macs: Macs<'a> },
    Cookie { receiver: Index, nonce: &'a [u8; COOKIE_NONCE_BYTES], sealed: &'a [u8; SEALED_COOKIE_BYTES] },
    Data(DataHeader),
}

/// The end of a handshake message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macs<'a> {
    /// What `mac1` is over.
    pub before_mac1: &'a [u8],
    pub mac1: &'a [u8; MAC_BYTES],
    /// What `mac2` is over.
    pub before_mac2: &'a [u8],
    pub mac2: &'a [u8; MAC_BYTES],
}

/// The first 16 octets of a data packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    pub payload: Payload,
    pub receiver: Index,
    pub counter: u64,
}

/// Bytes that are no sleeve packet of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a sleeve packet of version {VERSION}")]
pub struct Malformed;

/// Reads the fields of one datagram.
///
/// # Errors
/// When type, version, reserved octets or length are wrong.
pub fn decode(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (&[kind, detail, 0, 0, a, b, c, d], rest) = bytes.split_first_chunk().ok_or(Malformed)? else {
        return Err(Malformed);
    };
    let index = Index(u32::from_be_bytes([a, b, c, d]));
    match (kind, detail) {
        (1, VERSION) => {
            let (noise, macs) = split_macs(bytes, INITIATION_HEADER_BYTES)?;
            Ok(Packet::Initiation { sender: index, noise, macs })
        }
        (2, VERSION) => {
            let (receiver, _) = rest.split_first_chunk().ok_or(Malformed)?;
            let receiver = Index(u32::from_be_bytes(*receiver));
            let (noise, macs) = split_macs(bytes, RESPONSE_HEADER_BYTES)?;
            Ok(Packet::Response { sender: index, receiver, noise, macs })
        }
        (3, VERSION) => {
            let (nonce, sealed) = rest.split_first_chunk().ok_or(Malformed)?;
            Ok(Packet::Cookie { receiver: index, nonce, sealed: sealed.try_into().map_err(|_| Malformed)? })
        }
        (4, detail) => {
            let (counter, _) = rest.split_first_chunk().ok_or(Malformed)?;
            let payload = Payload::from_code(detail).ok_or(Malformed)?;
            Ok(Packet::Data(DataHeader { payload, receiver: index, counter: u64::from_be_bytes(*counter) }))
        }
        _ => Err(Malformed),
    }
}

fn split_macs(bytes: &[u8], header_bytes: usize) -> Result<(&[u8], Macs<'_>), Malformed> {
    let (before_mac2, mac2) = bytes.split_last_chunk().ok_or(Malformed)?;
    let (before_mac1, mac1) = before_mac2.split_last_chunk().ok_or(Malformed)?;
    let noise = before_mac1.get(header_bytes..).filter(|noise| noise.len() <= NOISE_BYTES_MAX).ok_or(Malformed)?;
    Ok((noise, Macs { before_mac1, mac1, before_mac2, mac2 }))
}

impl Payload {
    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Frame),
            1 => Some(Self::Envelope),
            2 => Some(Self::Probe),
            3 => Some(Self::Answer),
            4 => Some(Self::UnsummedFrame),
            5 => Some(Self::SizeProbe),
            6 => Some(Self::SizeAnswer),
            7 => Some(Self::Canary),
            8 => Some(Self::Report),
            _ => None,
        }
    }

    /// Carries what containers send, and comes in numbers.
    pub const fn is_traffic(self) -> bool {
        matches!(self, Self::Frame | Self::UnsummedFrame | Self::Envelope)
    }

    const fn code(self) -> u8 {
        match self {
            Self::Frame => 0,
            Self::Envelope => 1,
            Self::Probe => 2,
            Self::Answer => 3,
            Self::UnsummedFrame => 4,
            Self::SizeProbe => 5,
            Self::SizeAnswer => 6,
            Self::Canary => 7,
            Self::Report => 8,
        }
    }
}

impl DataHeader {
    pub fn encode(self) -> [u8; DATA_HEADER_BYTES] {
        let mut header = [0; DATA_HEADER_BYTES];
        header[..2].copy_from_slice(&[4, self.payload.code()]);
        header[4..8].copy_from_slice(&self.receiver.0.to_be_bytes());
        header[8..].copy_from_slice(&self.counter.to_be_bytes());
        header
    }
}

/// An initiation without its two authenticators.
pub fn encode_initiation(sender: Index, noise: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(INITIATION_HEADER_BYTES + noise.len() + 2 * MAC_BYTES);
    message.extend_from_slice(&[1, VERSION, 0, 0]);
    message.extend_from_slice(&sender.0.to_be_bytes());
    message.extend_from_slice(noise);
    message
}

/// A response without its two authenticators.
pub fn encode_response(sender: Index, receiver: Index, noise: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(RESPONSE_HEADER_BYTES + noise.len() + 2 * MAC_BYTES);
    message.extend_from_slice(&[2, VERSION, 0, 0]);
    message.extend_from_slice(&sender.0.to_be_bytes());
    message.extend_from_slice(&receiver.0.to_be_bytes());
    message.extend_from_slice(noise);
    message
}

pub fn encode_cookie(
    receiver: Index,
    nonce: &[u8; COOKIE_NONCE_BYTES],
    sealed: &[u8; SEALED_COOKIE_BYTES],
) -> [u8; COOKIE_REPLY_BYTES] {
    let mut message = [0; COOKIE_REPLY_BYTES];
    message[..2].copy_from_slice(&[3, VERSION]);
    message[4..8].copy_from_slice(&receiver.0.to_be_bytes());
    message[8..8 + COOKIE_NONCE_BYTES].copy_from_slice(nonce);
    message[8 + COOKIE_NONCE_BYTES..].copy_from_slice(sealed);
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_data_header_survives_its_bytes(code in 0u8..9, receiver: u32, counter: u64) {
            let payload = Payload::from_code(code).expect("a known code");
            let header = DataHeader { payload, receiver: Index(receiver), counter };
            let bytes = header.encode();
            prop_assert_eq!(decode(&bytes), Ok(Packet::Data(header)));
        }

        #[test]
        fn handshake_messages_survive_their_bytes(
            sender: u32, receiver: u32, noise in proptest::collection::vec(any::<u8>(), 0..300), macs: [u8; 32],
        ) {
            let (sender, receiver) = (Index(sender), Index(receiver));

            let mut initiation = encode_initiation(sender, &noise);
            initiation.extend_from_slice(&macs);
            let Ok(Packet::Initiation { sender: got, noise: inner, macs: ends }) = decode(&initiation) else {
                return Err(TestCaseError::fail("no initiation"));
            };
            prop_assert_eq!((got, inner, &ends.mac1[..], &ends.mac2[..]), (sender, &noise[..], &macs[..16], &macs[16..]));

            let mut response = encode_response(sender, receiver, &noise);
            response.extend_from_slice(&macs);
            let Ok(Packet::Response { sender: a, receiver: b, noise: inner, macs: ends }) = decode(&response) else {
                return Err(TestCaseError::fail("no response"));
            };
            prop_assert_eq!((a, b, inner, ends.before_mac2.len()), (sender, receiver, &noise[..], response.len() - 16));
        }

        #[test]
        fn a_cookie_survives_its_bytes(receiver: u32, nonce: [u8; 24], sealed: [u8; 32]) {
            let message = encode_cookie(Index(receiver), &nonce, &sealed);
            prop_assert_eq!(
                decode(&message),
                Ok(Packet::Cookie { receiver: Index(receiver), nonce: &nonce, sealed: &sealed })
            );
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut message = encode_initiation(Index(1), &[0; 100]);
        message.extend_from_slice(&[0; 32]);
        message[1] = 2;

        assert_eq!(decode(&message), Err(Malformed));
    }

    #[test]
    fn a_handshake_longer_than_any_is_refused_unread() {
        let initiation = |noise: usize| [encode_initiation(Index(1), &vec![0; noise]), vec![0; 32]].concat();

        assert!(decode(&initiation(NOISE_BYTES_MAX)).is_ok());
        assert_eq!(decode(&initiation(NOISE_BYTES_MAX + 1)), Err(Malformed));
    }
}
