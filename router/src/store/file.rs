//! One file of the state directory: versioned, checksummed, replaced as a whole.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `weave-rs` |
//! | 8 | 2 | version of the payload, little endian |
//! | 10 | 2 | zero |
//! | 12 | 4 | length of the payload, little endian |
//! | 16 | 32 | BLAKE2s of the file's name, the version and the payload |
//! | 48 | … | payload, postcard |
//!
//! Invariants:
//! - a reader sees the old file or the new one, never a mixture: write aside, rename, with an fsync before and after
//!   where a power loss must not take it back;
//! - the checksum covers the name, so that one state file cannot be taken for another.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use weave_mesh::identity::{Hash, digest};

pub(super) const MAGIC: &[u8; 8] = b"weave-rs";
const HEADER_BYTES: usize = 48;
/// A state file larger than this was not written by us: the largest holds the signed sets of every member.
const FILE_MAX_BYTES: u64 = 1 << 30;

/// A state file that cannot be read or written; always names the file and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot {action} {}: {source}; check that --state-dir is on a writable disk and owned by root", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("state file {} {fault}; restore it from a backup, or move it away to {}", path.display(), remedy)]
    Damaged { path: PathBuf, fault: Fault, remedy: &'static str },
    #[error(
        "state file {} has version {found}, and this weave-rs reads {expected}; \
         run the release that wrote it, or move it away to {remedy}", path.display()
    )]
    OtherVersion { path: PathBuf, found: u16, expected: u16, remedy: &'static str },
}

/// What is wrong with a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("was not written by weave-rs")]
    Foreign,
    #[error("is torn: it ends early or has trailing bytes")]
    Torn,
    #[error("is corrupt: its checksum does not match")]
    Corrupt,
    #[error("does not decode although its checksum matches")]
    Undecodable,
}

/// A kind of state file.
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    pub version: u16,
    /// What moving the file away amounts to, completing "move it away to …".
    pub without: &'static str,
}

impl Kind {
    /// The decoded file in `directory`, or `None` when there is none.
    ///
    /// # Errors
    /// When it exists and cannot be used.
    pub fn read<T: DeserializeOwned>(&self, directory: &Path) -> Result<Option<T>, FileError> {
        self.read_file(directory.join(self.name))
    }

    /// The decoded file at `path`: one of many of its kind.
    ///
    /// # Errors
    /// When it exists and cannot be used.
    pub fn read_file<T: DeserializeOwned>(&self, path: PathBuf) -> Result<Option<T>, FileError> {
        let failed = |source| FileError::Io { action: "read", path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        self.decode(&bytes, &path).map(Some)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8], path: &Path) -> Result<T, FileError> {
        let damaged = |fault| FileError::Damaged { path: path.to_owned(), fault, remedy: self.without };
        let (version, payload) = self.open(bytes).map_err(damaged)?;
        if version != self.version {
            let (found, expected) = (version, self.version);
            return Err(FileError::OtherVersion { path: path.to_owned(), found, expected, remedy: self.without });
        }
        match postcard::take_from_bytes(payload) {
            Ok((value, [])) => Ok(value),
            Ok(_) | Err(_) => Err(damaged(Fault::Undecodable)),
        }
    }

    /// Version and payload of a whole file.
    fn open<'a>(&self, bytes: &'a [u8]) -> Result<(u16, &'a [u8]), Fault> {
        if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
            return Err(Fault::Foreign);
        }
        let (header, payload) = bytes.split_at_checked(HEADER_BYTES).ok_or(Fault::Torn)?;
        let version = u16::from_le_bytes([header[8], header[9]]);
        let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        if payload.len() != length as usize {
            return Err(Fault::Torn);
        }
        if header[10..12] != [0, 0] || header[16..] != self.checksum(version, payload) {
            return Err(Fault::Corrupt);
        }
        Ok((version, payload))
    }

    fn encode(&self, payload: &[u8]) -> zeroize::Zeroizing<Vec<u8>> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(HEADER_BYTES + payload.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.checksum(self.version, payload));
        bytes.extend_from_slice(payload);
        bytes
    }

    fn checksum(&self, version: u16, payload: &[u8]) -> Hash {
        digest("weave-rs state file", &[self.name.as_bytes(), &version.to_le_bytes(), payload])
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When the disk refuses; the old file is then still whole.
    pub fn write<T: Serialize>(&self, directory: &Path, value: &T, durability: Durability) -> Result<(), FileError> {
        self.write_file(directory, self.name, value, durability)
    }

    /// Replaces the file called `name`: one of many of its kind.
    ///
    /// # Errors
    /// When the disk refuses; the old file is then still whole.
    pub fn write_file<T: Serialize>(
        &self,
        directory: &Path,
        name: &str,
        value: &T,
        durability: Durability,
    ) -> Result<(), FileError> {
        let path = directory.join(name);
        let failed = |source| FileError::Io { action: "write", path: path.clone(), source };
        let payload =
            postcard::to_stdvec(value).map(zeroize::Zeroizing::new).map_err(|error| failed(io::Error::other(error)))?;
        replace(directory, name, &self.encode(&payload), durability).map_err(failed)
    }
}

/// What a written file survives when the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process. The disk follows in its own time, and a power loss before may leave the file empty.
    Process,
    /// A power loss, at the price of waiting for the disk: on a busy one for seconds.
    PowerLoss,
}

fn replace(directory: &Path, name: &str, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let aside = directory.join(format!(".{name}.new"));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    if durability == Durability::PowerLoss {
        file.sync_all()?;
    }
    fs::rename(&aside, directory.join(name))?;
    match durability {
        Durability::PowerLoss => File::open(directory)?.sync_all(),
        Durability::Process => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NUMBERS: Kind = Kind { name: "numbers", version: 1, without: "start without numbers" };

    fn decode(bytes: &[u8]) -> Result<Vec<u32>, FileError> {
        NUMBERS.decode(bytes, Path::new("/state/numbers"))
    }

    fn encoded(numbers: &[u32]) -> Vec<u8> {
        NUMBERS.encode(&postcard::to_stdvec(numbers).unwrap()).to_vec()
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_state_file_never_panic_and_never_pass(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn a_file_torn_anywhere_is_an_error(numbers in prop::collection::vec(any::<u32>(), 1..20), cut in 0.0..1.0_f64) {
            let whole = encoded(&numbers);
            let kept = (whole.len() as f64 * cut) as usize;

            prop_assert!(decode(&whole[..kept]).is_err());
            prop_assert_eq!(decode(&whole).unwrap(), numbers);
        }

        #[test]
        fn one_changed_bit_is_an_error(numbers in prop::collection::vec(any::<u32>(), 0..20), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let mut bytes = encoded(&numbers);
            let index = at.index(bytes.len());
            bytes[index] ^= 1_u8 << bit;

            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn an_error_names_the_file_and_the_remedy() {
        let error = decode(b"#!/bin/sh").unwrap_err().to_string();

        assert!(error.contains("/state/numbers") && error.contains("start without numbers"), "{error}");
    }

    #[test]
    fn a_file_of_another_kind_or_version_is_refused() {
        let other_name = Kind { name: "letters", ..NUMBERS };
        let other_version = Kind { version: 2, ..NUMBERS };
        let bytes = encoded(&[1]);
        let path = Path::new("/state/x");

        let mistaken = other_name.decode::<Vec<u32>>(&bytes, path);
        let newer = other_version.decode::<Vec<u32>>(&other_version.encode(&[]), path);
        let older = other_version.decode::<Vec<u32>>(&bytes, path);

        assert!(matches!(mistaken, Err(FileError::Damaged { fault: Fault::Corrupt, .. })));
        assert!(matches!(newer, Err(FileError::Damaged { fault: Fault::Undecodable, .. })));
        assert!(matches!(older, Err(FileError::OtherVersion { found: 1, expected: 2, .. })));
    }
}
