//! `containerd-shim-weave-v1`, what engines from 23 on look for in `PATH` when a container asks for the runtime
//! `io.containerd.weave.v1`: containerd's own shim, with this program in the place of `runc`.
//!
//! ```text
//!   LIBEXEC/weave-rs-runc      this program      LIBEXEC/runc ─► weave-rs-runc      PATH = LIBEXEC:…
//! ```

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::DEFAULT_PATH;

pub(crate) const NAME: &str = "containerd-shim-weave-v1";
/// What it becomes.
const CONTAINERDS: &str = "containerd-shim-runc-v2";

pub(crate) fn become_containerds(arguments: &[OsString]) -> Result<()> {
    let own = std::env::current_exe().context("cannot find out where this program is")?;
    let folder = own.parent().map(PathBuf::from).unwrap_or_default();
    let rest = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let path = std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&rest)))?;
    let error = Command::new(CONTAINERDS).args(arguments).env("PATH", path).exec();
    Err(error).with_context(|| format!("cannot run {CONTAINERDS}"))
}
