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
    pub kind: u8,
    pub header_bytes: u16,
    pub size: u16,
}

impl Header {
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Self {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let checksum = match bytes[0] {
            flags if flags & NEEDS_CHECKSUM != 0 => Checksum::Needed { start: field(6), offset: field(8) },
            flags if flags & DATA_VALID != 0 => Checksum::Verified,
            _ => Checksum::Present,
        };
        let segmentation =
            (bytes[1] != GSO_NONE).then(|| Segmentation { kind: bytes[1], header_bytes: field(2), size: field(4) });
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
        bytes[1] = self.segmentation.map_or(GSO_NONE, |segmentation| segmentation.kind);
        bytes
    }
}

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_frame_has_an_all_zero_header() {
        assert_eq!(Header::default().encode(), [0; HEADER_BYTES]);
    }

    #[test]
    fn every_header_survives_encoding() {
        let segmentation = Some(Segmentation { kind: 4, header_bytes: 66, size: 1310 });
        for checksum in [Checksum::Present, Checksum::Verified, Checksum::Needed { start: 34, offset: 16 }] {
            for segmentation in [None, segmentation] {
                let header = Header { checksum, segmentation };
                assert_eq!(Header::decode(header.encode()), header);
            }
        }
    }
}
