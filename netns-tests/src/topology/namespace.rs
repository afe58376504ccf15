//! One named network namespace: commands run in it, threads enter it, dropping removes it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, thread};

use anyhow::{Context, Result, bail};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::scratch::Scratch;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";
/// Where `ip netns exec` looks for files that a namespace has in the place of those in `/etc`.
const FILES: &str = "/etc/netns";

/// A network namespace with a name under `/run/netns`.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
}

impl Namespace {
    /// A new, empty namespace with loopback up.
    pub fn new(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let namespace = Self { name: name.to_owned(), path: Path::new(NAMES).join(name) };
        namespace.run("ip link set lo up")?;
        Ok(namespace)
    }

    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file under `/run/netns`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that commands inside see as `/etc/machine-id`; without it, that of the machine.
    pub fn machine_id(&self) -> PathBuf {
        Path::new(FILES).join(&self.name).join("machine-id")
    }

    /// Makes the namespace a machine of its own to the commands inside.
    pub fn set_machine_id(&self, id: &str) -> Result<()> {
        let path = self.machine_id();
        let written = fs::create_dir_all(Path::new(FILES).join(&self.name)).and_then(|()| fs::write(&path, id));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// A command that will run inside, with `/sys` showing this namespace. It replaces itself by the program, so the
    /// child's process id is the program's, and it dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command of space-separated words to its end; its standard output, or an error with what it complained of.
    pub fn run(&self, line: &str) -> Result<String> {
        self.pipe(line, "")
    }

    /// The same, fed with `input`.
    pub fn pipe(&self, line: &str, input: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command")?;
        feed(self.command(program).args(words), input)
    }

    /// Runs `work` on a thread inside the namespace. Sockets opened there stay there, whoever uses them.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = fs::File::open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context("cannot enter")?;
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .with_context(|| format!("in namespace {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(Path::new(FILES).join(&self.name));
    }
}

/// Runs a command to its end; its standard output, or an error that names the command and what it complained of.
pub fn run(command: &mut Command) -> Result<String> {
    feed(command, "")
}

fn feed(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is no error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command:?}: {}: {}{stdout}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Removes the namespaces and directories of test processes that are no more, say after a `SIGKILL`.
pub(super) fn sweep_the_dead() -> Result<()> {
    Scratch::sweep(is_of_the_dead);
    let Ok(names) = fs::read_dir(NAMES) else { return Ok(()) };
    for name in names {
        let name = name?.file_name().to_string_lossy().into_owned();
        if is_of_the_dead(&name) {
            // Somebody else may be sweeping too.
            let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
            let _ = fs::remove_dir_all(Path::new(FILES).join(&name));
        }
    }
    Ok(())
}

fn is_of_the_dead(name: &str) -> bool {
    let maker = name.strip_prefix("wt").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
    maker.is_some_and(|maker| !Path::new(&format!("/proc/{maker}")).exists())
}
