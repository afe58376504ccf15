//! A container is on the network before its first instruction: the program that Docker runs in the place of `runc`.
//!
//! ```text
//!   dockerd ─► containerd ─► containerd-shim-runc-v2 ─► weave-rs-runc create …     prepare.rs: asks the daemon, edits the bundle
//!                                                        └─► runc create ─► weave-rs-runc hook    hook.rs: the daemon attaches
//!                                                       weave-rs-runc start …      hosts.rs: /etc/hosts
//!                                                        └─► runc start            the container's own program
//!   any other command ─────────────────────────────────► runc
//! ```
//!
//! Called `containerd-shim-weave-v1` it is that runtime of engines from 23 on, which find it in `PATH`: it puts itself first
//! there under the name `runc`, and becomes containerd's own shim.
//!
//! Invariants:
//! - nothing of ours makes a start fail when it can be helped: Docker never restarts a container whose start failed, but does one
//!   whose program exits. So without an address the container runs a program that says why and exits with 125;
//! - a bundle that is not understood goes to runc as it is.
#![forbid(unsafe_code)]

mod bundle;
mod command;
mod daemon;
mod excuse;
mod hook;
mod hosts;
mod prepare;
mod shim;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use self::command::{Invocation, Stage};

fn main() -> ExitCode {
    match run(std::env::args_os().collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Docker shows the end of a hook's standard error, and containerd its shim's.
            eprintln!("weave-rs: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<OsString>) -> Result<()> {
    let own_name = arguments.first().map(PathBuf::from).unwrap_or_default();
    if own_name.file_name().is_some_and(|name| name == shim::NAME) {
        return shim::become_containerds(&arguments[1..]);
    }
    let invocation = Invocation::parse(&arguments[1..]);
    match &invocation.stage {
        Stage::Hook => return hook::run(&invocation.options),
        Stage::Create { bundle, id } => report(prepare::create(bundle, id, &invocation.options)),
        Stage::Start { root, id } => report(hosts::start(root, id)),
        Stage::Other => {}
    }
    become_runc(&invocation)
}

/// What goes wrong in our part is said, and runc goes on without it.
fn report(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("weave-rs: {error:#}");
    }
}

fn become_runc(invocation: &Invocation) -> Result<()> {
    let own = std::env::current_exe().context("cannot find out where this program is")?;
    let next = match &invocation.options.next {
        Some(next) => next.clone(),
        None => real_runc(&own).context("there is no other `runc` in PATH")?,
    };
    let error = Command::new(&next).args(&invocation.passed).exec();
    Err(error).with_context(|| format!("cannot run {}", next.display()))
}

/// The first `runc` in `PATH` that is not this program.
fn real_runc(own: &Path) -> Option<PathBuf> {
    let own = own.canonicalize().ok();
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let candidates = std::env::split_paths(&path).map(|folder| folder.join("runc"));
    let is_other = |candidate: &PathBuf| candidate.canonicalize().is_ok_and(|real| Some(real) != own);
    candidates.into_iter().find(|candidate| is_other(candidate))
}

/// Where containerd's children look for programs when nothing is set.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
