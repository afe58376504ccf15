//! A process in the middle of a way: our daemon or somebody else's.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use weave_netns_tests::probe::eventually;
use weave_netns_tests::topology::Host;
use weave_netns_tests::weave::Weave;

/// Ends when dropped.
#[derive(Debug)]
pub(crate) enum Daemon {
    Ours(Box<Weave>),
    Rival(Rival),
}

/// Somebody else's daemon, in the foreground, with its log in the directory of its host.
#[derive(Debug)]
pub(crate) struct Rival {
    child: Child,
    log: PathBuf,
}

/// How long one may take to remove what it left in the file system.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

impl Daemon {
    /// Starts `command`, made by the namespace of `host`.
    pub(crate) fn start(host: &Host, command: &mut Command) -> Result<Self> {
        let log = host.directory().join("rival.log");
        let file = File::create(&log)?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Self::Rival(Rival { child: child.with_context(|| format!("cannot start {command:?}"))?, log }))
    }

    /// `None` when ours has ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Ours(weave) => weave.pid(),
            Self::Rival(rival) => Some(rival.child.id()),
        }
    }

    /// What ours says of its paths: by which carrier, and how trains leave.
    pub(crate) fn paths(&self) -> Result<String> {
        match self {
            Self::Ours(weave) => weave.run(&["status", "paths"]),
            Self::Rival(_) => Ok(String::new()),
        }
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        match self {
            Self::Ours(weave) => weave.log(),
            Self::Rival(rival) => fs::read_to_string(&rival.log).unwrap_or_default(),
        }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let ended = eventually(STOP_TIMEOUT, "a rival ends", || Ok(self.child.try_wait()?.is_some()));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
