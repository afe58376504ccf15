//! Network namespaces: opening one, and doing work inside one on a thread of its own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstatfs, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// `NSFS_MAGIC` of linux/magic.h: the file system of namespaces (Linux 3.19).
const NSFS: i64 = 0x6e73_6673;

/// An open network namespace. Keeps it alive.
#[derive(Debug)]
pub struct Netns {
    file: File,
    inode: u64,
    device: u64,
}

impl Netns {
    /// Opens `/run/netns/NAME`, `/proc/PID/ns/net` or the like. Whatever else the path leads to is looked at and not
    /// opened: a FIFO would block, and some devices do something when they are.
    ///
    /// # Errors
    /// When there is no such file, or it is no namespace.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let found = open(path.as_ref(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if !is_namespace(&found)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no network namespace"));
        }
        let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        let metadata = file.metadata()?;
        Ok(Self { inode: metadata.ino(), device: metadata.dev(), file })
    }

    /// # Errors
    /// When there is no such process.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::open(format!("/proc/{pid}/ns/net"))
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Its number, unique while it lives.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, inode: self.inode, device: self.device })
    }

    /// Runs `work` inside this namespace, on a thread that ends with it: no other thread changes its namespace. The
    /// caller is blocked meanwhile.
    ///
    /// # Errors
    /// When the thread cannot be started or may not enter.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let inside = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            })?;
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

#[allow(clippy::useless_conversion, reason = "the field has another type on other architectures")]
fn is_namespace(file: &OwnedFd) -> io::Result<bool> {
    Ok(i64::from(fstatfs(file)?.f_type) == NSFS)
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl Eq for Netns {}

impl AsFd for Netns {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}
