//! `setup docker`: Docker runs containers by our runtime, and what that takes is undone again.
//!
//! ```text
//!   daemon.json ─► changed, shown ─► written at once ─► SIGHUP to dockerd ─► `GET /info` names our runtime ─► done
//! ```
//!
//! What cannot be read is not changed. Without an engine that runs, the file is what it reads when it starts.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use weave_docker::Docker;
use weave_docker::setup::{Extent, RUNTIME, SOCKET, SetupError, installed, leads_to, removed};
use weave_router::config::DEFAULT_SOCKET;

use crate::args::{Control, DockerFiles, SetupDockerArgs};
use crate::client::Client;

/// How long the engine may take to read its settings again.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);
const RELOAD_INTERVAL: Duration = Duration::from_millis(50);
/// The longest settings that are read, octets.
const SETTINGS_MAX_BYTES: u64 = 1 << 20;

pub(crate) fn docker(args: &SetupDockerArgs, control: &Control) -> Result<()> {
    let before = read(&args.files.daemon_json)?;
    let extent = if args.all { Extent::All } else { Extent::Asking };
    let extent = (!args.undo).then_some(extent);
    let after = match extent {
        None => removed(&before),
        Some(extent) => installed(&before, &program(args)?, &arguments(control)?, extent),
    };
    change(&args.files, &before, after, extent)
}

/// Undoes what was set up for the daemon that is asked: it has left for good. Where Docker runs containers for another one,
/// or does nothing of the kind, nothing is changed.
pub(crate) fn leave(files: &DockerFiles, control: &Control) -> Result<()> {
    let Client::Unix(socket) = Client::of(control)? else { return Ok(()) };
    let before = read(&files.daemon_json)?;
    match leads_to(&before, &socket, Path::new(DEFAULT_SOCKET)) {
        Ok(true) => change(files, &before, removed(&before), None),
        // What cannot be read does not name us in a way that we could undo.
        Ok(false) | Err(_) => Ok(()),
    }
}

/// `extent` is what the settings say from then on; nothing when they do without us.
fn change(
    files: &DockerFiles,
    before: &[u8],
    after: Result<Vec<u8>, SetupError>,
    extent: Option<Extent>,
) -> Result<()> {
    let path = &files.daemon_json;
    let after = after.with_context(|| format!("the settings in {} are left alone", path.display()))?;
    if after == before {
        crate::print(&format!("{}: nothing to change\n", path.display()))?;
    } else {
        write(path, &after)?;
        crate::print(&difference(path, before, &after))?;
    }
    reload(files, extent)
}

/// Our runtime: as it was said, else beside this program.
fn program(args: &SetupDockerArgs) -> Result<PathBuf> {
    let beside = || -> Result<PathBuf> { Ok(std::env::current_exe()?.with_file_name("weave-rs-runc")) };
    let program = args.runtime.clone().map_or_else(beside, Ok)?;
    let program = program.canonicalize().with_context(|| format!("no runtime at {}", program.display()));
    program.context("install weave-rs-runc beside weave-rs, or say where it is by --runtime")
}

/// Where it finds a daemon that is not at the usual place.
fn arguments(control: &Control) -> Result<Vec<String>> {
    match Client::of(control)? {
        Client::Unix(socket) if socket == Path::new(DEFAULT_SOCKET) => Ok(Vec::new()),
        Client::Unix(socket) => Ok(vec![format!("{SOCKET}{}", socket.display())]),
        Client::Tcp(address) => bail!("containers are attached over the daemon's unix socket, not by {address}"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match fs::metadata(path) {
        Ok(found) if found.len() > SETTINGS_MAX_BYTES => bail!("{} is too long for settings", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        _ => fs::read(path).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Replaces the file at once, so that the engine reads the old settings or the new ones.
fn write(path: &Path, settings: &[u8]) -> Result<()> {
    let draft = path.with_extension("weave-rs");
    let written = || -> io::Result<()> {
        let mode = fs::metadata(path).map_or(0o644, |found| found.permissions().mode());
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&draft, settings)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(mode))?;
        fs::rename(&draft, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

/// The lines that have gone and those that have come.
fn difference(path: &Path, before: &[u8], after: &[u8]) -> String {
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let head = before.iter().zip(&after).take_while(same).count();
    let tail = before[head..].iter().rev().zip(after[head..].iter().rev()).take_while(same).count();
    let gone = before[head..before.len() - tail].iter().map(|line| format!("-{line}\n"));
    let come = after[head..after.len() - tail].iter().map(|line| format!("+{line}\n"));
    format!("{}:\n{}{}", path.display(), gone.collect::<String>(), come.collect::<String>())
}

/// Has the engine read its settings, and returns when it has.
fn reload(files: &DockerFiles, extent: Option<Extent>) -> Result<()> {
    let Some(engine) = engine(&files.pid_file) else {
        return crate::print("Docker does not run here: it takes this up when it starts\n");
    };
    kill_process(engine, Signal::HUP).context("cannot have Docker read its settings again")?;
    let docker = Docker::of_environment();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let has_read = || -> Result<bool> {
        let runtimes = runtime.block_on(docker.runtimes())?;
        let is_default = runtimes.default() == RUNTIME;
        Ok(match extent {
            None => !is_default && !runtimes.knows(RUNTIME),
            Some(extent) => runtimes.knows(RUNTIME) && is_default == (extent == Extent::All),
        })
    };
    let begin = Instant::now();
    while !has_read()? {
        if begin.elapsed() > RELOAD_TIMEOUT {
            bail!("Docker has not taken it up in {} s; see its log, or restart it", RELOAD_TIMEOUT.as_secs());
        }
        std::thread::sleep(RELOAD_INTERVAL);
    }
    crate::print(match extent {
        None => "Docker runs containers by its own runtime\n",
        Some(Extent::All) => "Docker runs containers by weave-rs\n",
        Some(Extent::Asking) => {
            "Docker runs those containers by weave-rs that ask for it: docker run --runtime weave-rs\n"
        }
    })
}

/// The process that the file names, if it is an engine.
fn engine(pid_file: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Pid::from_raw(pid).filter(|_| name.trim() == "dockerd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_shown_and_nothing_else() {
        let shown = difference(Path::new("/d"), b"{\n  \"a\": 1\n}\n", b"{\n  \"a\": 1,\n  \"b\": 2\n}\n");
        assert_eq!(shown, "/d:\n-  \"a\": 1\n+  \"a\": 1,\n+  \"b\": 2\n");
    }

    #[test]
    fn a_process_of_another_name_is_no_engine() {
        let file = std::env::temp_dir().join(format!("weave-rs-pid-{}", std::process::id()));
        fs::write(&file, std::process::id().to_string()).unwrap();
        assert_eq!(engine(&file), None);
        fs::remove_file(&file).unwrap();
        assert_eq!(engine(&file), None);
    }
}
