//! The virtio-net header that travels before each frame of a TAP device.
//!
//! ```text
//!   0 flags      1 GSO type      2 header length      4 GSO size
//!   6 checksum start     8 checksum offset     10 number of buffers (always 0 here)        16-bit fields, native order
//! ```

pub const HEADER_BYTES: usize = 12;

/// What the kernel says of a frame it hands over, or is told of one it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub checksum: Checksum,
    pub segmentation: Option<Segmentation>,
}

/// The state of the transport checksum within the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Finished: whoever cares may verify it.
    #[default]
    Present,
    /// Holds the sum over the pseudo-header only; to be computed from `start` on and stored `offset` bytes after it.
    Needed { start: u16, offset: u16 },
    /// Verified already. Never claimed by us: a frame that leaves by another device would carry whatever is there.
    Verified,
}

/// A super-frame that is to be cut into segments of `size` payload bytes behind `header_bytes` of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    pub kind: Gso,
    /// A hint only.
    pub header_bytes: u16,
    pub size: u16,
}

/// How a super-frame is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    Tcp4,
    /// CWR belongs to the first segment alone (RFC 3168).
    Tcp4Ecn,
    Tcp6,
    Tcp6Ecn,
    /// Datagrams of one size over either version of IP (Linux 6.2).
    Udp,
    /// What we have not asked for.
    Other(u8),
}

impl Gso {
    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            0 => return None,
            TCP4 => Self::Tcp4,
            TCP4_ECN => Self::Tcp4Ecn,
            TCP6 => Self::Tcp6,
            TCP6_ECN => Self::Tcp6Ecn,
            UDP => Self::Udp,
            other => Self::Other(other),
        })
    }

    const fn code(self) -> u8 {
        match self {
            Self::Tcp4 => TCP4,
            Self::Tcp4Ecn => TCP4_ECN,
            Self::Tcp6 => TCP6,
            Self::Tcp6Ecn => TCP6_ECN,
            Self::Udp => UDP,
            Self::Other(code) => code,
        }
    }
}

impl Header {
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Self {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let checksum = match bytes[0] {
            flags if flags & NEEDS_CHECKSUM != 0 => Checksum::Needed { start: field(6), offset: field(8) },
            flags if flags & DATA_VALID != 0 => Checksum::Verified,
            _ => Checksum::Present,
        };
        let segmentation = Gso::of(bytes[1]).map(|kind| Segmentation { kind, header_bytes: field(2), size: field(4) });
        Self { checksum, segmentation }
    }

    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: u16| bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        if let Some(segmentation) = self.segmentation {
            put(2, segmentation.header_bytes);
            put(4, segmentation.size);
        }
        if let Checksum::Needed { start, offset } = self.checksum {
            put(6, start);
            put(8, offset);
        }
        bytes[0] = match self.checksum {
            Checksum::Present => 0,
            Checksum::Needed { .. } => NEEDS_CHECKSUM,
            Checksum::Verified => DATA_VALID,
        };
        bytes[1] = self.segmentation.map_or(0, |segmentation| segmentation.kind.code());
        bytes
    }
}

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP: u8 = 5;
const ECN: u8 = 0x80;
const TCP4_ECN: u8 = TCP4 | ECN;
const TCP6_ECN: u8 = TCP6 | ECN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_frame_has_an_all_zero_header() {
        assert_eq!(Header::default().encode(), [0; HEADER_BYTES]);
    }

    #[test]
    fn every_header_survives_encoding() {
        let kinds = [None].into_iter().chain((1..=255).map(Gso::of));
        for segmentation in kinds.map(|kind| Some(Segmentation { kind: kind?, header_bytes: 66, size: 1310 })) {
            for checksum in [Checksum::Present, Checksum::Verified, Checksum::Needed { start: 34, offset: 16 }] {
                let header = Header { checksum, segmentation };
                assert_eq!(Header::decode(header.encode()), header);
            }
        }
    }
}
