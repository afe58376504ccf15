//! The state directory: what must survive a restart, under a lock.
//!
//! ```text
//! /var/lib/weave-rs/
//!   lock              held while a daemon runs; the kernel lets go of it when the daemon dies
//!   identity          secret keys, persisted name, and the machine they belong to
//!   incarnation       the last one used
//!   sleeve-timestamp  above every handshake timestamp that was ever sent
//!   targets           what `launch`, `connect` and `forget` left
//!   attachments       containers on this host
//!   remembered        containers of Docker's that were attached by hand
//!   networks          Docker's networks that are not as usual
//!   exposure          addresses of this host on the overlay
//!   ring              which peer owns which addresses, and what this one has promised about that
//!   addresses         which container holds which address, as a journal
//!   members/KEY       last signed set and address of each peer
//!   set-aside-N/      all of the above, found to belong to another machine at Unix time N
//! ```
//!
//! A file that is damaged or foreign is an error naming it, never a fresh start. Only identity, incarnation and ring wait
//! for the disk: after a power loss no container holds an address, and the clock has passed every handshake timestamp.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand_core::{OsRng, RngCore};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use weave_mesh::connector::Wishes;
use weave_mesh::identity::{Identity, Scheme};
use weave_mesh::ipam::{self, Change, Cidr};
use weave_mesh::name::PeerName;
use weave_mesh::node::Restored;
use weave_mesh::time::UnixTime;
use zeroize::{Zeroize, Zeroizing};

pub use self::file::{Durability, FileError, Kind};
pub use self::journal::Journal;
pub use self::machine::Machine;
pub use self::members::MemberWriter;
use crate::attach::{Ledger, Networks, Remembered};
use crate::expose::Exposure;
use crate::naming::HostNames;

mod file;
mod journal;
mod machine;
mod members;

const LOCK: &str = "lock";
const MEMBERS: &str = "members";
const IDENTITY: Kind = Kind { name: "identity", version: 1, without: "start as a new peer" };
const INCARNATION: Kind = Kind { name: "incarnation", version: 1, without: "trust this host's clock instead" };
const SLEEVE_TIMESTAMP: Kind =
    Kind { name: "sleeve-timestamp", version: 1, without: "trust this host's clock instead" };
const TARGETS: Kind = Kind { name: "targets", version: 2, without: "start with the peers given to launch only" };
const HOST_NAMES: Kind = Kind { name: "names", version: 1, without: "add the names again" };
const ATTACHMENTS: Kind = Kind { name: "attachments", version: 4, without: "attach every container again" };
const REMEMBERED: Kind = Kind { name: "remembered", version: 1, without: "attach by hand what starts again" };
const NETWORKS: Kind = Kind { name: "networks", version: 1, without: "route multicast by all of Docker's networks" };
const EXPOSURE: Kind = Kind { name: "exposure", version: 2, without: "expose the host again" };
const RING: Kind = Kind { name: "ring", version: 1, without: "join without addresses of its own" };
const ADDRESSES: Kind = Kind { name: "addresses", version: 1, without: "forget which stopped container had which" };

/// Everything but the lock. The identity is moved last: until it is gone, the next start finds the mismatch again and
/// finishes the move.
const STATE: [&str; 12] = [
    MEMBERS,
    HOST_NAMES.name,
    ATTACHMENTS.name,
    REMEMBERED.name,
    NETWORKS.name,
    EXPOSURE.name,
    ADDRESSES.name,
    RING.name,
    TARGETS.name,
    SLEEVE_TIMESTAMP.name,
    INCARNATION.name,
    IDENTITY.name,
];
const SET_ASIDE_PREFIX: &str = "set-aside-";

/// Why the state directory is unusable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot use state directory {}: {source}; check --state-dir", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("state directory {} is in use by another weave-rs; stop that one or give another --state-dir", .0.display())]
    InUse(PathBuf),
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

/// Who this host is.
#[derive(Debug)]
pub struct Selfhood {
    pub identity: Identity,
    pub name: PeerName,
}

/// The state directory, locked.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: File,
}

impl Store {
    /// Creates the directory where it is missing, and locks it.
    ///
    /// # Errors
    /// When it cannot be used or another daemon uses it.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Directory { path: directory.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let lock = lock(directory)?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    /// Whether the directory was written on another machine than `machine`: it was copied.
    ///
    /// # Errors
    /// When the identity file is damaged.
    pub fn is_foreign(&self, machine: &Machine) -> Result<bool, FileError> {
        Ok(self.machine()?.is_some_and(|found| !found.is_same(machine)))
    }

    /// The machine that the state was written on, if there is any.
    ///
    /// # Errors
    /// When the identity file is damaged.
    pub fn machine(&self) -> Result<Option<Machine>, FileError> {
        let found: Option<IdentityFile> = IDENTITY.read(&self.directory)?;
        Ok(found.map(|file| file.machine.clone()))
    }

    /// Moves all state into a directory of its own, whose path is the answer: the next start is a new identity's.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_aside(&self, wall: UnixTime) -> Result<PathBuf, StoreError> {
        let unusable = |source| StoreError::Directory { path: self.directory.clone(), source };
        let aside = self.directory.join(format!("{SET_ASIDE_PREFIX}{}", wall.0 / 1_000_000));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&aside).map_err(unusable)?;
        for name in STATE {
            match fs::rename(self.directory.join(name), aside.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(aside)
    }

    /// The identity, made when there is none. `name` overrides the persisted one and is kept.
    ///
    /// # Errors
    /// When its file is damaged or cannot be written.
    pub fn selfhood(&self, name: Option<PeerName>, machine: &Machine) -> Result<Selfhood, FileError> {
        let (mut file, is_new) = match IDENTITY.read::<IdentityFile>(&self.directory)? {
            Some(file) => (file, false),
            None => (IdentityFile::generate(machine.clone()), true),
        };
        if is_new || name.is_some_and(|name| file.name != Some(name)) {
            file.name = name.or(file.name);
            IDENTITY.write(&self.directory, &file, Durability::PowerLoss)?;
        }
        let identity = file.identity();
        let name = file.name.unwrap_or_else(|| PeerName::derived_from(&identity.key().0));
        Ok(Selfhood { identity, name })
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_name(&self, name: PeerName) -> Result<(), FileError> {
        let Some(mut file) = IDENTITY.read::<IdentityFile>(&self.directory)? else { return Ok(()) };
        file.name = Some(name);
        IDENTITY.write(&self.directory, &file, Durability::PowerLoss)
    }

    /// What the mesh machine starts with.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn restored(&self) -> Result<Restored, FileError> {
        let incarnation = INCARNATION.read(&self.directory)?.unwrap_or(0);
        let ring = RING.read(&self.directory)?;
        let owned = Journal::read(&ADDRESSES, &self.directory, &machine::boot())?;
        let members = members::read(&self.directory.join(MEMBERS))?;
        let forgotten = self.wishes()?.forgotten;
        Ok(Restored { incarnation, members, forgotten, ipam: ipam::Restored { ring, owned } })
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_incarnation(&self, incarnation: u64) -> Result<(), FileError> {
        INCARNATION.write(&self.directory, &incarnation, Durability::PowerLoss)
    }

    /// Zero when none was reserved.
    ///
    /// # Errors
    /// When its file is damaged.
    pub fn sleeve_timestamp(&self) -> Result<u64, FileError> {
        Ok(SLEEVE_TIMESTAMP.read(&self.directory)?.unwrap_or(0))
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_sleeve_timestamp(&self, timestamp: u64) -> Result<(), FileError> {
        SLEEVE_TIMESTAMP.write(&self.directory, &timestamp, Durability::Process)
    }

    /// Whom the last daemon here was to dial, and not to dial.
    ///
    /// # Errors
    /// When their file is damaged.
    pub fn wishes(&self) -> Result<Wishes, FileError> {
        Ok(TARGETS.read(&self.directory)?.unwrap_or_default())
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_wishes(&self, wishes: &Wishes) -> Result<(), FileError> {
        TARGETS.write(&self.directory, wishes, Durability::Process)
    }

    /// # Errors
    /// When its file is damaged.
    pub fn ledger(&self) -> Result<Ledger, FileError> {
        Ok(ATTACHMENTS.read(&self.directory)?.unwrap_or_default())
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_ledger(&self, ledger: &Ledger) -> Result<(), FileError> {
        ATTACHMENTS.write(&self.directory, ledger, Durability::Process)
    }

    /// # Errors
    /// When their file is damaged.
    pub fn remembered(&self) -> Result<Remembered, FileError> {
        Ok(REMEMBERED.read(&self.directory)?.unwrap_or_default())
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_remembered(&self, remembered: &Remembered) -> Result<(), FileError> {
        REMEMBERED.write(&self.directory, remembered, Durability::Process)
    }

    /// # Errors
    /// When their file is damaged.
    pub fn networks(&self) -> Result<Networks, FileError> {
        Ok(NETWORKS.read(&self.directory)?.unwrap_or_default())
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_networks(&self, networks: &Networks) -> Result<(), FileError> {
        NETWORKS.write(&self.directory, networks, Durability::Process)
    }

    /// # Errors
    /// When its file is damaged.
    pub fn exposure(&self) -> Result<Exposure, FileError> {
        Ok(EXPOSURE.read(&self.directory)?.unwrap_or_default())
    }

    /// # Errors
    /// When their file is damaged.
    pub fn host_names(&self) -> Result<HostNames, FileError> {
        Ok(HOST_NAMES.read(&self.directory)?.unwrap_or_default())
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_exposure(&self, exposure: &Exposure) -> Result<(), FileError> {
        EXPOSURE.write(&self.directory, exposure, Durability::Process)
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_ring(&self, ring: &[u8]) -> Result<(), FileError> {
        RING.write(&self.directory, &ring, Durability::PowerLoss)
    }

    /// The journal of addresses, begun anew with those that are `held`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn address_journal(&self, held: BTreeMap<String, Vec<Cidr>>) -> Result<AddressJournal, FileError> {
        Journal::begin(&ADDRESSES, &self.directory, machine::boot(), AddressJournal::changes(held))
    }

    /// # Errors
    /// When the disk refuses.
    pub fn write_host_names(&self, names: &HostNames) -> Result<(), FileError> {
        HOST_NAMES.write(&self.directory, names, Durability::Process)
    }

    /// # Errors
    /// When the directory cannot be made.
    pub fn member_writer(&self) -> Result<MemberWriter, FileError> {
        MemberWriter::open(self.directory.join(MEMBERS))
    }
}

/// Which container holds which address.
pub type AddressJournal = Journal<Change>;

impl AddressJournal {
    /// What makes `held` of nothing.
    pub fn changes(held: BTreeMap<String, Vec<Cidr>>) -> impl Iterator<Item = Change> {
        held.into_iter().flat_map(|(container, addresses)| {
            addresses.into_iter().map(move |address| Change::Take { container: container.clone(), address })
        })
    }
}

/// Whether a daemon has kept its state in a directory, or left some of it there.
///
/// # Errors
/// When it exists and cannot be read.
pub fn is_state(directory: &Path) -> Result<bool, StoreError> {
    let unusable = |source| StoreError::Directory { path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.any(|entry| entry.is_ok_and(|entry| is_telling(&entry.file_name())))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unusable(error)),
    }
}

impl Store {
    /// Removes what the daemon wrote; the directory itself too, if nothing else is in it and it is no mount point.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(self) -> Result<(), StoreError> {
        let unusable = |source| StoreError::Directory { path: self.directory.clone(), source };
        let entries =
            fs::read_dir(&self.directory).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(unusable)?;
        let is_ours = |entry: &DirEntry| entry.file_name().to_str().is_some_and(is_ours);
        // What tells that there is state goes last: a removal that was cut short can be repeated.
        let (last, first): (Vec<_>, Vec<_>) =
            entries.into_iter().filter(is_ours).partition(|entry| is_telling(&entry.file_name()));
        for entry in first.into_iter().chain(last) {
            let is_directory = entry.file_type().map_err(unusable)?.is_dir();
            let removed = if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            removed.map_err(unusable)?;
        }
        // What else is in it stays.
        let _ = fs::remove_dir(&self.directory);
        Ok(())
    }
}

/// Whether a file of this name in a state directory was written by a daemon, finished or not.
fn is_ours(name: &str) -> bool {
    let name = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new")).unwrap_or(name);
    name == LOCK || STATE.contains(&name) || name.starts_with(SET_ASIDE_PREFIX)
}

/// Whether a file of this name, unlike `names` or `lock`, is nobody else's.
fn is_telling(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name == IDENTITY.name || name.starts_with(SET_ASIDE_PREFIX))
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let unusable = |source| StoreError::Directory { path: directory.to_owned(), source };
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(directory.join(LOCK)).map_err(unusable)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(directory.to_owned())),
        Err(error) => Err(unusable(error.into())),
    }
}

#[cfg(test)]
mod tests;
