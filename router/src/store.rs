//! The state directory: what must survive a restart, one file each, under a lock.
//!
//! ```text
//! /var/lib/weave-rs/
//!   lock              held while a daemon runs; the kernel lets go of it when the daemon dies
//!   identity          secret keys, persisted name, and the machine they belong to
//!   incarnation       the last one used
//!   sleeve-timestamp  below which every handshake timestamp that was ever sent lies
//!   targets           what `connect` and `forget` left
//!   attachments       containers on this host
//!   members           last signed set and addresses of every peer
//!   set-aside-N/      all of the above, found to belong to another machine at Unix time N
//! ```
//!
//! A file that is damaged or foreign is an error naming it, never a fresh start.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand_core::{OsRng, RngCore};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use weave_mesh::identity::{Identity, Scheme};
use weave_mesh::name::PeerName;
use weave_mesh::time::UnixTime;
use zeroize::{Zeroize, Zeroizing};

pub use self::file::{FileError, Kind};
pub use self::machine::Machine;

mod file;
mod machine;

const LOCK: &str = "lock";
const IDENTITY: Kind = Kind { name: "identity", version: 1, without: "start as a new peer" };
const INCARNATION: Kind = Kind { name: "incarnation", version: 1, without: "trust this host's clock instead" };
const SLEEVE_TIMESTAMP: Kind =
    Kind { name: "sleeve-timestamp", version: 1, without: "trust this host's clock instead" };
const TARGETS: Kind = Kind { name: "targets", version: 1, without: "start with the peers given to launch only" };
const ATTACHMENTS: Kind = Kind { name: "attachments", version: 1, without: "attach every container again" };
const MEMBERS: Kind = Kind { name: "members", version: 1, without: "learn the other peers anew" };

/// Why the state directory is unusable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot use state directory {}: {source}; check --state-dir", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("state directory {} is in use by the weave-rs with pid {pid}; stop that one or give another --state-dir", path.display())]
    InUse { path: PathBuf, pid: String },
}

#[derive(Serialize, Deserialize)]
struct IdentityFile {
    signing: [u8; 32],
    noise: [u8; 32],
    name: Option<PeerName>,
    machine: Machine,
}

impl Drop for IdentityFile {
    fn drop(&mut self) {
        self.signing.zeroize();
        self.noise.zeroize();
    }
}

impl IdentityFile {
    fn generate(machine: Machine) -> Self {
        let mut file = Self { signing: [0; 32], noise: [0; 32], name: None, machine };
        OsRng.fill_bytes(&mut file.signing);
        OsRng.fill_bytes(&mut file.noise);
        file
    }

    fn identity(&self) -> Identity {
        let mut secret = Zeroizing::new([0; 64]);
        secret[..32].copy_from_slice(&self.signing);
        secret[32..].copy_from_slice(&self.noise);
        Identity::from_secret_bytes(Scheme::Ed25519, &secret)
    }
}

/// Who this host is, from the state directory.
#[derive(Debug)]
pub struct Selfhood {
    pub identity: Identity,
    pub name: PeerName,
    pub machine: Machine,
    /// Higher than every one this identity has used.
    pub incarnation: u64,
}

/// The state directory, locked.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: File,
    /// Where another machine's state was moved to, if it was.
    set_aside: Option<PathBuf>,
}

impl Store {
    /// Creates the directory where it is missing, locks it, and sets aside what belongs to another machine.
    ///
    /// # Errors
    /// When it cannot be used, another daemon uses it, or its identity file is damaged.
    pub fn open(directory: &Path, machine: &Machine, wall: UnixTime) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Directory { path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let lock = lock(directory)?;
        let mut store = Self { directory: directory.to_owned(), _lock: lock, set_aside: None };
        let found: Option<IdentityFile> = IDENTITY.read(directory)?;
        if found.is_some_and(|file| !file.machine.is_same(machine)) {
            store.set_aside(wall).map_err(unusable)?;
        }
        Ok(store)
    }

    /// Moves every state file into a directory of its own. For a copied directory and for a cloned identity.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_aside(&mut self, wall: UnixTime) -> io::Result<&Path> {
        let aside = self.directory.join(format!("set-aside-{}", wall.0 / 1_000_000));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&aside)?;
        // The identity goes last: until it is gone, the next start finds the mismatch again and finishes the move.
        for kind in [&MEMBERS, &ATTACHMENTS, &TARGETS, &SLEEVE_TIMESTAMP, &INCARNATION, &IDENTITY] {
            match fs::rename(self.directory.join(kind.name), aside.join(kind.name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(self.set_aside.insert(aside))
    }

    /// Where another machine's state went when the directory was opened.
    pub fn moved_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// The identity, made when there is none, with a fresh incarnation that is on disk when this returns. `name`
    /// overrides the persisted one and is kept.
    ///
    /// # Errors
    /// When a file is damaged or cannot be written.
    pub fn selfhood(&self, name: Option<PeerName>, machine: Machine, wall: UnixTime) -> Result<Selfhood, StoreError> {
        let (mut file, is_new) = match IDENTITY.read::<IdentityFile>(&self.directory)? {
            Some(file) => (file, false),
            None => (IdentityFile::generate(machine.clone()), true),
        };
        if is_new || name.is_some_and(|name| file.name != Some(name)) {
            file.name = name.or(file.name);
            IDENTITY.write(&self.directory, &file)?;
        }
        let identity = file.identity();
        let name = file.name.unwrap_or_else(|| PeerName::derived_from(&identity.key().0));
        let last: u64 = INCARNATION.read(&self.directory)?.unwrap_or(0);
        let incarnation = wall.0.max(last.saturating_add(1));
        self.write_incarnation(incarnation)?;
        Ok(Selfhood { identity, name, machine, incarnation })
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_incarnation(&self, incarnation: u64) -> Result<(), FileError> {
        INCARNATION.write(&self.directory, &incarnation)
    }
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let unusable = |source| StoreError::Directory { path: directory.to_owned(), source };
    let path = directory.join(LOCK);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(unusable)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        return Err(StoreError::InUse { path: directory.to_owned(), pid: pid.trim().to_owned() });
    }
    file.set_len(0).map_err(unusable)?;
    writeln!(file, "{}", std::process::id()).map_err(unusable)?;
    Ok(file)
}
