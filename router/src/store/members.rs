//! Every peer that this host has met, one file each.
//!
//! Sets change often and all of them can be learnt again, so they are written behind control's back: changes of one peer
//! while others are being written are written once, on a thread of their own. The file of a peer that is forgotten goes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weave_mesh::identity::PeerKey;
use weave_mesh::node::StoredMember;

use super::file::{Durability, FileError, Kind};

const MEMBER: Kind = Kind { name: "member", version: 1, without: "learn that peer anew" };

fn file_name(key: &PeerKey) -> String {
    key.0.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Everything in `directory`, as it was encoded.
///
/// # Errors
/// When a file is damaged.
pub(super) fn read(directory: &Path) -> Result<Vec<Vec<u8>>, FileError> {
    let failed = |source| FileError::Io { action: "read", path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut members = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // What a killed daemon was about to rename, or a power loss emptied.
        let is_aside = entry.file_name().as_encoded_bytes().starts_with(b".");
        let is_unfinished = is_aside || entry.metadata().map_err(failed)?.len() == 0;
        if !is_unfinished {
            members.extend(MEMBER.read_file(path)?);
        }
    }
    Ok(members)
}

/// Gathers changed members and writes them.
#[derive(Debug)]
pub struct MemberWriter {
    directory: Arc<PathBuf>,
    /// What is to be stored of a peer; nothing of one that is forgotten.
    changed: BTreeMap<PeerKey, Option<StoredMember>>,
}

impl MemberWriter {
    pub(super) fn open(directory: PathBuf) -> Result<Self, FileError> {
        match fs::create_dir(&directory) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(FileError::Io { action: "create", path: directory, source })
            }
            Ok(()) | Err(_) => Ok(Self { directory: Arc::new(directory), changed: BTreeMap::new() }),
        }
    }

    pub fn put(&mut self, member: StoredMember) {
        self.changed.insert(member.key, Some(member));
    }

    /// The peer's file goes.
    pub fn forget(&mut self, peer: PeerKey) {
        self.changed.insert(peer, None);
    }

    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Takes the changes along as work for a thread that may block.
    pub fn flush(&mut self) -> impl FnOnce() -> Result<(), FileError> + Send + 'static {
        let changed = std::mem::take(&mut self.changed);
        let directory = Arc::clone(&self.directory);
        let write = move |(key, member): (&PeerKey, &Option<StoredMember>)| match member {
            Some(member) => MEMBER.write_file(&directory, &file_name(key), &member.encode(), Durability::Process),
            None => remove(&directory.join(file_name(key))),
        };
        move || changed.iter().try_for_each(write)
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FileError::Io { action: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
