//! A state file that grows by one record at a time and never waits for the disk; rewritten when most of it is history.
//!
//! ```text
//!   0   8  `weave-rs`          record:  4  length of the payload, little endian
//!   8   2  version                      8  head of the BLAKE2s of file name, version, place and payload
//!  10   2  zero                         …  payload, postcard
//!  12   …  records; the first one names the boot of the machine in which the file was begun
//! ```
//!
//! Invariants:
//! - a record is in the kernel's hands when [`Journal::append`] returns: the death of the process takes nothing back;
//! - a last record that is cut short was being appended when the process died, so nothing relies on it: it is dropped;
//! - anything else that is wrong is an error naming the file, unless the machine was started anew since: then a power
//!   loss explains it, the containers whose addresses these were are gone, and what follows the damage is dropped.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;
use weave_mesh::identity::{Hash, digest};

use super::file::{Fault, FileError, Kind, MAGIC};

const HEADER_BYTES: usize = 12;
const LENGTH_BYTES: usize = 4;
const CHECKSUM_BYTES: usize = 8;
/// History that is kept beside twice what is alive before the file is rewritten.
const HISTORY_BYTES: u64 = 1 << 20;
/// The longest record, so that a damaged length is told from an append cut short: a path, an address, and room.
const RECORD_MAX_BYTES: usize = 8 * 1024;
/// A file larger than this was not written by us: a hundred million records.
const FILE_MAX_BYTES: u64 = 1 << 32;

/// The file, open for appending.
#[derive(Debug)]
pub struct Journal<T> {
    kind: &'static Kind,
    directory: PathBuf,
    boot: Hash,
    file: File,
    records: u64,
    bytes: u64,
    /// What of it was alive when it was rewritten last.
    alive_bytes: u64,
    of: PhantomData<fn(T)>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Every record in order; none when there is no file. `boot` tells this run of the machine from others.
    ///
    /// # Errors
    /// When the file is damaged otherwise than a death of process or machine explains.
    pub fn read(kind: &'static Kind, directory: &Path, boot: &Hash) -> Result<Vec<T>, FileError> {
        let path = directory.join(kind.name);
        let failed = |source| FileError::Io { action: "read", path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        decode(kind, &bytes, boot, &path)
    }

    /// Begins the file anew with what is alive, and is ready to append.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin(
        kind: &'static Kind,
        directory: &Path,
        boot: Hash,
        alive: impl Iterator<Item = T>,
    ) -> Result<Self, FileError> {
        let failed = |source| FileError::Io { action: "write", path: directory.join(kind.name), source };
        let (file, records, bytes) = write_anew(kind, directory, &boot, alive).map_err(failed)?;
        let directory = directory.to_owned();
        Ok(Self { kind, directory, boot, file, records, bytes, alive_bytes: bytes, of: PhantomData })
    }

    /// # Errors
    /// When the disk refuses; the file is then as it was.
    pub fn append(&mut self, record: &T) -> Result<(), FileError> {
        let path = || self.directory.join(self.kind.name);
        let failed = |source| FileError::Io { action: "append to", path: path(), source };
        let encoded = encode(self.kind, self.records, record).map_err(failed)?;
        if let Err(source) = self.file.write_all(&encoded) {
            // Half a record in the middle would make all that follows unreadable.
            let _ = self.file.set_len(self.bytes);
            return Err(failed(source));
        }
        self.records += 1;
        self.bytes += encoded.len() as u64;
        Ok(())
    }

    /// Whether most of the file is history.
    pub const fn is_overgrown(&self) -> bool {
        self.bytes > 2 * self.alive_bytes + HISTORY_BYTES
    }

    /// Leaves nothing in the file but `alive`.
    ///
    /// # Errors
    /// When the disk refuses; the file is then as it was.
    pub fn compact(&mut self, alive: impl Iterator<Item = T>) -> Result<(), FileError> {
        *self = Self::begin(self.kind, &self.directory, self.boot, alive)?;
        Ok(())
    }
}

/// The open file, how many records it has, and its length.
fn write_anew<T: Serialize>(
    kind: &Kind,
    directory: &Path,
    boot: &Hash,
    alive: impl Iterator<Item = T>,
) -> io::Result<(File, u64, u64)> {
    let mut bytes = Vec::from(header(kind));
    bytes.extend(encode(kind, 0, boot)?);
    let mut records = 1;
    for record in alive {
        bytes.extend(encode(kind, records, &record)?);
        records += 1;
    }
    let aside = directory.join(format!(".{}.new", kind.name));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&bytes)?;
    fs::rename(&aside, directory.join(kind.name))?;
    Ok((file, records, bytes.len() as u64))
}

fn header(kind: &Kind) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header[MAGIC.len()..MAGIC.len() + 2].copy_from_slice(&kind.version.to_le_bytes());
    header
}

fn encode<T: Serialize>(kind: &Kind, place: u64, record: &T) -> io::Result<Vec<u8>> {
    let payload = postcard::to_stdvec(record).map_err(io::Error::other)?;
    if payload.len() > RECORD_MAX_BYTES {
        return Err(io::Error::other(format!(
            "a record of {} octets is longer than {RECORD_MAX_BYTES}",
            payload.len()
        )));
    }
    let length = payload.len() as u32;
    Ok([&length.to_le_bytes()[..], &checksum(kind, place, &payload), &payload].concat())
}

fn checksum(kind: &Kind, place: u64, payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let place = place.to_le_bytes();
    let hash = digest("weave-rs journal", &[kind.name.as_bytes(), &kind.version.to_le_bytes(), &place, payload]);
    std::array::from_fn(|index| hash[index])
}

fn decode<T: DeserializeOwned>(kind: &Kind, bytes: &[u8], boot: &Hash, path: &Path) -> Result<Vec<T>, FileError> {
    let damaged = |fault| FileError::Damaged { path: path.to_owned(), fault, remedy: kind.without };
    // A power loss may leave a file without its bytes.
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let Some((head, mut rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Err(damaged(Fault::Torn)) };
    if !head.starts_with(MAGIC) || head[MAGIC.len() + 2..] != [0, 0] {
        return Err(damaged(Fault::Foreign));
    }
    if head != header(kind) {
        let found = u16::from_le_bytes([head[MAGIC.len()], head[MAGIC.len() + 1]]);
        let (path, expected) = (path.to_owned(), kind.version);
        return Err(FileError::OtherVersion { path, found, expected, remedy: kind.without });
    }
    let begun: Hash = take(kind, 0, &mut rest).map_err(damaged)?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        match take(kind, records.len() as u64 + 1, &mut rest) {
            Ok(record) => records.push(record),
            Err(fault) if fault == Fault::Torn || begun != *boot => {
                warn!(path = %path.display(), %fault, dropped = rest.len(), "the end of a state file is dropped");
                break;
            }
            Err(fault) => return Err(damaged(fault)),
        }
    }
    Ok(records)
}

/// Takes one record off the front of `rest`.
fn take<T: DeserializeOwned>(kind: &Kind, place: u64, rest: &mut &[u8]) -> Result<T, Fault> {
    let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(Fault::Torn)?;
    let (sum, after) = after.split_first_chunk::<CHECKSUM_BYTES>().ok_or(Fault::Torn)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > RECORD_MAX_BYTES {
        return Err(Fault::Corrupt);
    }
    let (payload, after) = after.split_at_checked(length).ok_or(Fault::Torn)?;
    if *sum != checksum(kind, place, payload) {
        return Err(Fault::Corrupt);
    }
    match postcard::take_from_bytes(payload) {
        Ok((record, [])) => {
            *rest = after;
            Ok(record)
        }
        Ok(_) | Err(_) => Err(Fault::Undecodable),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    static WORDS: Kind = Kind { name: "words", version: 1, without: "start without words" };
    const BOOT: Hash = [1; 32];
    const NEXT_BOOT: Hash = [2; 32];

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("weave-rs-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// A file with these words, and where each record ends.
    fn encoded(words: &[String]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::from(header(&WORDS));
        bytes.extend(encode(&WORDS, 0, &BOOT).unwrap());
        let mut ends = vec![bytes.len()];
        for (place, word) in words.iter().enumerate() {
            bytes.extend(encode(&WORDS, place as u64 + 1, word).unwrap());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn decoded(bytes: &[u8], boot: &Hash) -> Result<Vec<String>, FileError> {
        decode(&WORDS, bytes, boot, Path::new("/state/words"))
    }

    #[test]
    fn what_was_appended_is_read_back_and_compacting_leaves_what_is_alive() {
        let directory = directory("appended");
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(Journal::<String>::read(&WORDS, &directory, &BOOT).unwrap(), words(&[]));

        let mut journal = Journal::begin(&WORDS, &directory, BOOT, words(&["a"]).into_iter()).unwrap();
        for word in words(&["b", "c"]) {
            journal.append(&word).unwrap();
        }
        assert_eq!(Journal::<String>::read(&WORDS, &directory, &BOOT).unwrap(), words(&["a", "b", "c"]));
        journal.compact(words(&["c"]).into_iter()).unwrap();
        journal.append(&"d".to_owned()).unwrap();

        assert_eq!(Journal::<String>::read(&WORDS, &directory, &BOOT).unwrap(), words(&["c", "d"]));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_of_mostly_history_is_overgrown() {
        let directory = directory("overgrown");
        let mut journal = Journal::begin(&WORDS, &directory, BOOT, std::iter::empty()).unwrap();
        let word = "x".repeat(8_000);

        assert!(!journal.is_overgrown());
        while !journal.is_overgrown() {
            journal.append(&word).unwrap();
        }
        journal.compact(std::iter::once(word)).unwrap();

        assert!(!journal.is_overgrown());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_emptied_file_is_a_beginning_and_a_foreign_one_an_error_naming_it() {
        assert_eq!(decoded(b"", &BOOT).unwrap(), Vec::<String>::new());

        let error = decoded(b"#!/bin/sh echo hello", &BOOT).unwrap_err().to_string();

        assert!(error.contains("/state/words") && error.contains("start without words"), "{error}");
    }

    proptest! {
        #[test]
        fn an_append_cut_short_loses_that_record_and_no_other(words in prop::collection::vec(".{0,20}", 0..8), cut in any::<prop::sample::Index>()) {
            let (bytes, ends) = encoded(&words);
            let cut = ends[0] + cut.index(bytes.len() - ends[0] + 1);
            let whole = ends[1..].iter().filter(|end| **end <= cut).count();

            prop_assert_eq!(decoded(&bytes[..cut], &BOOT).unwrap(), &words[..whole]);
        }

        #[test]
        fn a_changed_bit_is_an_error_until_the_machine_starts_anew(words in prop::collection::vec(".{0,20}", 1..8), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let (mut bytes, ends) = encoded(&words);
            let index = ends[0] + at.index(bytes.len() - ends[0]);
            let damaged = ends[1..].iter().position(|end| index < *end).unwrap();
            bytes[index] ^= 1_u8 << bit;

            // A length that leads just past the end looks like an append cut short.
            if let Ok(read) = decoded(&bytes, &BOOT) {
                prop_assert_eq!(&read, &words[..damaged]);
            }
            prop_assert_eq!(decoded(&bytes, &NEXT_BOOT).unwrap(), &words[..damaged]);
        }

        #[test]
        fn bytes_that_are_no_journal_never_panic(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            prop_assert!(decoded(&bytes, &BOOT).is_err());
        }
    }
}
