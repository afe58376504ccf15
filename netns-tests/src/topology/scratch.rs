//! Where the daemons of a test keep their state: in memory, since fifty of them replace files faster than a disk that
//! others use can take, and a test is to wait for none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::run;

/// A directory that goes with this value.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// `name` starts with the id of this process, as namespaces do.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let scratch = Self { path };
        run(Command::new("mount").args(["-t", "tmpfs", "weave-rs-tests"]).arg(&scratch.path))?;
        // What an engine mounts below, and unmounts, is so in every mount namespace: a copy of the mount of a container's
        // namespace would keep that alive.
        run(Command::new("mount").arg("--make-shared").arg(&scratch.path))?;
        Ok(scratch)
    }

    /// A path within it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes the directories of test processes that are no more, by what `is_dead` says of a name.
    pub(super) fn sweep(is_dead: impl Fn(&str) -> bool) {
        let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        let dead = entries.filter(|entry| is_dead(&entry.file_name().to_string_lossy()));
        dead.for_each(|entry| remove(&entry.path()));
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Whatever is mounted there and below goes when its last user does.
fn remove(path: &Path) {
    let _ = Command::new("umount").args(["--recursive", "--lazy"]).arg(path).stderr(Stdio::null()).status();
    let _ = fs::remove_dir_all(path);
}
