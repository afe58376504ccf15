//! The first seven bytes of a connection, as Weave Net sends them; both ends send theirs at once.
//!
//! ```text
//!  0      5     6     7
//!  | weave | min | max |      version spoken = min(both max), if neither end's min is above it
//! ```

use std::fmt;

use super::Error;

/// What the header begins with.
const MAGIC: &[u8; 5] = b"weave";
/// Octets of a header.
pub(super) const HEADER_BYTES: usize = 7;

/// A range of protocol versions. 1 and 2 are Weave Net's own, 3 is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: u8,
    pub max: u8,
}

impl Versions {
    pub const OURS: Self = Self { min: 3, max: 3 };

    pub(super) fn header(self) -> [u8; HEADER_BYTES] {
        let [w, e, a, v, e2] = *MAGIC;
        [w, e, a, v, e2, self.min, self.max]
    }

    /// Parses as much of a header as has come; `None` when more is needed.
    pub(super) fn parse(received: &[u8]) -> Result<Option<Self>, Error> {
        let known = received.len().min(MAGIC.len());
        if received[..known] != MAGIC[..known] {
            return Err(Error::NotWeave);
        }
        Ok(received.get(MAGIC.len()..HEADER_BYTES).map(|versions| Self { min: versions[0], max: versions[1] }))
    }

    /// The version that both ends speak.
    pub(super) fn common(self, theirs: Self) -> Result<u8, Error> {
        let version = self.max.min(theirs.max);
        let is_common = version >= self.min.max(theirs.min);
        if is_common { Ok(version) } else { Err(Error::Version { ours: self, theirs }) }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.min) } else { write!(f, "{}..{}", self.min, self.max) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_weaves_own() {
        assert_eq!(Versions::OURS.header(), *b"weave\x03\x03");
        assert_eq!(Versions::parse(b"weave\x01\x02"), Ok(Some(Versions { min: 1, max: 2 })));
    }

    #[test]
    fn a_foreign_protocol_is_refused_at_its_first_wrong_byte() {
        assert_eq!(Versions::parse(b"wea"), Ok(None));
        assert_eq!(Versions::parse(b"GET"), Err(Error::NotWeave));
        assert_eq!(Versions::parse(b"weavy"), Err(Error::NotWeave));
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let common = |ours: (u8, u8), theirs: (u8, u8)| {
            Versions { min: ours.0, max: ours.1 }.common(Versions { min: theirs.0, max: theirs.1 })
        };

        assert_eq!(common((2, 3), (1, 2)), Ok(2));
        assert_eq!(common((3, 3), (3, 9)), Ok(3));
        let error = common((3, 3), (1, 2)).unwrap_err();
        assert!(error.to_string().contains("speaks protocol 1..2, this peer speaks 3"));
        assert!(common((3, 3), (9, 1)).is_err());
    }
}
