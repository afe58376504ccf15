//! Where a body ends: counted, never changed.
//!
//! ```text
//!   Size ─→ (Extension) ─→ SizeLf ─┬→ Data ─→ DataCr ─→ DataLf ─→ Size
//!                                  └→ TrailerStart ─→ (Trailer ─→ TrailerLf)* ─→ EndLf ─→ Over
//! ```
//!
//! Any octet that does not fit leads to Broken, from where no way leads on.

/// The most octets of one chunk's extension, or of all trailers, as nobody sends any.
const EXTRAS_MAX_BYTES: u32 = 16 * 1024;
/// The digits of a chunk's size.
const SIZE_MAX_DIGITS: u8 = 15;

/// How a body's end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(u64),
    Chunked,
    /// The connection is no longer one of messages.
    UntilClose,
}

/// A body that is not what its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of the body is malformed")]
pub(crate) struct ChunkError;

/// How much of a body has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Left(u64),
    Chunked(Chunk),
    Endless,
}

/// Where in a chunked body the next octet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Size { size: u64, digits: u8 },
    Extension { size: u64, octets: u32 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart { octets: u32 },
    Trailer { octets: u32 },
    TrailerLf { octets: u32 },
    EndLf,
    Over,
    Broken,
}

const NEXT_CHUNK: Chunk = Chunk::Size { size: 0, digits: 0 };

impl From<Body> for Measure {
    fn from(body: Body) -> Self {
        match body {
            Body::Length(length) => Self::Left(length),
            Body::Chunked => Self::Chunked(NEXT_CHUNK),
            Body::UntilClose => Self::Endless,
        }
    }
}

impl Measure {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Left(0) | Self::Chunked(Chunk::Over))
    }

    /// No more can be said of it.
    pub(crate) fn is_broken(&self) -> bool {
        *self == Self::Chunked(Chunk::Broken)
    }

    /// How many of these octets still belong to the body; `keep` gets those of them that are its content.
    pub(crate) fn take(&mut self, bytes: &[u8], mut keep: impl FnMut(&[u8])) -> Result<usize, ChunkError> {
        match self {
            Self::Endless => {
                keep(bytes);
                Ok(bytes.len())
            }
            Self::Left(left) => {
                let taken = within(bytes, *left);
                *left -= taken.len() as u64;
                keep(taken);
                Ok(taken.len())
            }
            Self::Chunked(chunk) => chunk.take(bytes, keep),
        }
    }
}

impl Chunk {
    fn take(&mut self, bytes: &[u8], mut keep: impl FnMut(&[u8])) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < bytes.len() && *self != Self::Over {
            if let Self::Data { left } = self {
                let taken = within(&bytes[at..], *left);
                *left -= taken.len() as u64;
                keep(taken);
                at += taken.len();
                if *left == 0 {
                    *self = Self::DataCr;
                }
            } else {
                *self = self.after(bytes[at]);
                at += 1;
            }
            if *self == Self::Broken {
                return Err(ChunkError);
            }
        }
        Ok(at)
    }

    /// Every octet but those of the content.
    fn after(self, octet: u8) -> Self {
        match (self, octet) {
            (Self::Size { size, digits }, _) if octet.is_ascii_hexdigit() && digits < SIZE_MAX_DIGITS => {
                let digit = char::from(octet).to_digit(16).unwrap_or_default();
                Self::Size { size: size * 16 + u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. }, b'\r') | (Self::Extension { size, .. }, b'\r') => Self::SizeLf { size },
            (Self::Size { size, digits: 1.. }, b';') => Self::Extension { size, octets: 0 },
            (Self::Extension { size, octets }, _) if is_extra(octet) && octets < EXTRAS_MAX_BYTES => {
                Self::Extension { size, octets: octets + 1 }
            }
            (Self::SizeLf { size: 0 }, b'\n') => Self::TrailerStart { octets: 0 },
            (Self::SizeLf { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => NEXT_CHUNK,
            (Self::TrailerStart { .. }, b'\r') => Self::EndLf,
            (Self::Trailer { octets }, b'\r') => Self::TrailerLf { octets },
            (Self::TrailerStart { octets } | Self::Trailer { octets }, _)
                if is_extra(octet) && octets < EXTRAS_MAX_BYTES =>
            {
                Self::Trailer { octets: octets + 1 }
            }
            (Self::TrailerLf { octets }, b'\n') => Self::TrailerStart { octets },
            (Self::EndLf, b'\n') => Self::Over,
            _ => Self::Broken,
        }
    }
}

fn is_extra(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7f)
}

fn within(bytes: &[u8], limit: u64) -> &[u8] {
    let length = usize::try_from(limit).map_or(bytes.len(), |limit| limit.min(bytes.len()));
    &bytes[..length]
}

#[cfg(test)]
mod tests;
