//! The daemon of one host: the real binary, started, asked, stopped, killed and started again.
//!
//! State, socket and log live in the host's directory; the log is printed when the test that owns the daemon fails.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process};

use crate::probe::eventually;
use crate::topology::{Container, Host, Namespace};

/// How `weave-rs launch` is called.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    arguments: Vec<String>,
    passwords: Vec<String>,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    name: Option<String>,
    sockets: Vec<(String, Arc<UnixListener>)>,
}

impl Launch {
    /// A mesh of one, without a password.
    pub fn new() -> Self {
        Self::default()
    }

    /// Dials this host.
    #[must_use]
    pub fn peer(self, host: &Host) -> Self {
        self.argument(&host.address().to_string())
    }

    /// One more argument, as it is.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// One more line of the password file; the first one dials.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.passwords.push(password.to_owned());
        self
    }

    /// Another name than the one of its host's number.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// By this program, which becomes the daemon.
    #[must_use]
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(ToString::to_string).collect();
        self
    }

    /// One more socket that is open before it starts, as systemd passes those of its socket units.
    #[must_use]
    pub fn socket(mut self, name: &str, listener: UnixListener) -> Self {
        self.sockets.push((name.to_owned(), Arc::new(listener)));
        self
    }

    /// Passes the sockets to the program that `command` becomes.
    fn pass_sockets(&self, command: &mut Command) -> Result<()> {
        let named: Vec<&str> = self.sockets.iter().map(|(name, _)| name.as_str()).collect();
        command.env("LISTEN_FDNAMES", named.join(":")).env("LISTEN_FDS", named.len().to_string());
        let mapping = |(child_fd, (_, listener)): (i32, &(String, Arc<UnixListener>))| {
            Ok(FdMapping { parent_fd: listener.as_ref().try_clone()?.into(), child_fd })
        };
        let mappings = (FIRST_SOCKET..).zip(&self.sockets).map(mapping).collect::<Result<_>>()?;
        command.fd_mappings(mappings)?;
        Ok(())
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Answer {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A daemon, running or not.
#[derive(Debug)]
pub struct Weave {
    namespace: String,
    host_path: PathBuf,
    directory: PathBuf,
    /// Of its host, unless the launch gives another.
    name: String,
    launch: Launch,
    child: Option<Child>,
    ready: UnixDatagram,
}

/// What systemd passes begins with this descriptor (sd_listen_fds(3)).
const FIRST_SOCKET: i32 = 3;
/// Becomes the program whose process they are for.
const RECEIVE_SOCKETS: [&str; 4] = ["sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"];
/// How long a client command may take, seconds: one that waits for what cannot come is to fail its test, not to hang it.
const COMMAND_MAX: &str = "200";
/// How long a daemon may take to call itself ready on a busy machine. Argon2 alone takes a good part of a second.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long SIGTERM may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl Weave {
    /// Starts the daemon of a host and waits until it is ready.
    pub fn launch(host: &Host, launch: Launch) -> Result<Self> {
        let mut weave = Self::prepare(host, launch)?;
        weave.start()?;
        Ok(weave)
    }

    /// A daemon that is not started yet.
    pub fn prepare(host: &Host, launch: Launch) -> Result<Self> {
        Self::prepare_in(host, host.directory().to_owned(), launch)
    }

    /// A second daemon of the host that is not started yet, whose state and socket are in a directory of their own; its
    /// ports and its bridge are the launch's to choose.
    pub fn prepare_second(host: &Host, launch: Launch) -> Result<Self> {
        let directory = host.directory().join("second");
        std::fs::create_dir_all(&directory)?;
        Self::prepare_in(host, directory, launch)
    }

    fn prepare_in(host: &Host, directory: PathBuf, launch: Launch) -> Result<Self> {
        let ready = UnixDatagram::bind(directory.join("notify"))?;
        ready.set_read_timeout(Some(READY_TIMEOUT))?;
        let name = format!("02:00:00:00:00:{:02x}", host.number());
        Ok(Self {
            namespace: host.namespace().name().to_owned(),
            host_path: host.namespace().path().to_owned(),
            directory,
            name,
            launch,
            child: None,
            ready,
        })
    }

    /// Starts it, waits until it says so, and returns how long that took.
    pub fn start(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        self.spawn()?;
        self.wait_ready()?;
        Ok(begin.elapsed())
    }

    /// Starts it, and does not wait.
    pub fn spawn(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{self}: already running");
        std::fs::write(self.directory.join("passwords"), self.launch.passwords.join("\n"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.namespace]);
        if !self.launch.sockets.is_empty() {
            self.launch.pass_sockets(&mut command)?;
            command.args(RECEIVE_SOCKETS);
        }
        command.args(&self.launch.wrapper).arg(binary()?).arg("launch").args(["--name", self.name()]);
        command.arg("--nickname").arg(format!("h{}", self.number()));
        command.arg("--state-dir").arg(self.directory.join("state"));
        command.arg("--socket").arg(self.socket());
        command.args(["--log-level", &std::env::var("WEAVE_TEST_LOG").unwrap_or_else(|_| "info".to_owned())]);
        if !self.launch.passwords.is_empty() {
            command.arg("--password-file").arg(self.directory.join("passwords"));
        }
        command.envs(self.launch.environment.iter().cloned());
        command.args(&self.launch.arguments).env("NOTIFY_SOCKET", self.directory.join("notify"));
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.child = Some(child.context("cannot start the daemon")?);
        Ok(())
    }

    /// Waits for `READY=1` of a spawned daemon.
    pub fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        self.ready.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut message = [0; 1024];
        while Instant::now() < deadline {
            if let Ok(length) = self.ready.recv(&mut message)
                && message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
            {
                return Ok(());
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                bail!("{self}: ended at once: {status}\n{}", self.log());
            }
        }
        bail!("{self}: not ready after {READY_TIMEOUT:?}\n{}", self.log())
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("not running")?;
        child.kill()?;
        child.wait()?;
        self.drain_notifications()
    }

    /// Lets the daemon do nothing until it is told to go on; its kernel does all that it did.
    pub fn halt(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Ends a halt.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(self.child.as_ref().context("not running")?), signal)?)
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let mut child = self.child.take().context("not running")?;
        let mut status = None;
        let stopped = eventually(STOP_TIMEOUT, "the daemon stops on SIGTERM", || {
            status = child.try_wait()?;
            Ok(status.is_some())
        });
        if stopped.is_err() {
            let _ = child.kill();
        }
        stopped?;
        self.drain_notifications()?;
        status.context("no exit status")
    }

    /// Waits for a daemon that should end by itself, and how it ended.
    pub fn wait_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let mut child = self.child.take().context("not running")?;
        let mut status = None;
        let ended = eventually(deadline, "the daemon ends by itself", || {
            status = child.try_wait()?;
            Ok(status.is_some())
        });
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended?;
        status.context("no exit status")
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The process id of a running daemon.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Changes how the next start is called.
    pub fn set_launch(&mut self, launch: Launch) {
        self.launch = launch;
    }

    /// A client command on this host, whatever comes of it.
    pub fn ask(&self, words: &[&str]) -> Result<Answer> {
        self.ask_with(&[], words)
    }

    /// The same with more variables in its environment.
    pub fn ask_with(&self, environment: &[(&str, &str)], words: &[&str]) -> Result<Answer> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "timeout", COMMAND_MAX]).arg(binary()?).args(words);
        command.envs(environment.iter().copied());
        let output = command.env("WEAVE_SOCKET", self.socket()).stdin(Stdio::null()).output()?;
        Ok(Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// A client command that must succeed; its output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.run_with(&[], words)
    }

    /// What a client command prints with `--json`.
    pub fn json(&self, words: &[&str]) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.run(&[words, &["--json"]].concat())?)?)
    }

    /// The same with more variables in its environment.
    pub fn run_with(&self, environment: &[(&str, &str)], words: &[&str]) -> Result<String> {
        let answer = self.ask_with(environment, words)?;
        ensure!(answer.code == 0, "{self}: weave-rs {}: {answer:?}", words.join(" "));
        Ok(answer.stdout)
    }

    /// A request to the control socket without a body; status code and body of the answer.
    pub fn http(&self, method: &str, path: &str) -> Result<(u16, String)> {
        let stream = UnixStream::connect(self.socket())?;
        exchange(stream, method, path)
    }

    /// Gives a container an address, such as `10.32.0.1/12`.
    pub fn attach(&self, container: &Container, address: &str) -> Result<()> {
        let printed = self.run(&["attach", address, &container.target()])?;
        let bare = address.split('/').next().unwrap_or(address);
        ensure!(printed.contains(bare), "{self}: attach printed {printed:?}, not {address}");
        Ok(())
    }

    /// A container of the host with an address of its own.
    pub fn container(&self, host: &Host, address: Ipv4Addr) -> Result<Container> {
        let container = host.container()?;
        self.attach(&container, &format!("{address}/12"))?;
        Ok(container)
    }

    /// The line of `status paths` about a peer; empty when there is none.
    pub fn path_to(&self, peer: &Self) -> Result<String> {
        let paths = self.run(&["status", "paths"])?;
        Ok(paths.lines().find(|line| line.contains(peer.name())).unwrap_or_default().to_owned())
    }

    /// Waits until the path to a peer uses a carrier: `fastdp` or `sleeve`. Returns how long that took.
    pub fn wait_path(&self, peer: &Self, carrier: &str, deadline: Duration) -> Result<Duration> {
        eventually(deadline, &format!("{self} reaches {peer} by {carrier}"), || {
            Ok(self.path_to(peer)?.split_whitespace().any(|word| word == carrier))
        })
        .with_context(|| self.run(&["status", "paths"]).unwrap_or_default())
    }

    /// Waits until `status connections` holds a line with all these words.
    pub fn wait_connection(&self, words: &[&str], deadline: Duration) -> Result<Duration> {
        eventually(deadline, &format!("{self} has a connection {words:?}"), || {
            let connections = self.run(&["status", "connections"])?;
            Ok(connections.lines().any(|line| words.iter().all(|word| line.contains(word))))
        })
        .with_context(|| self.run(&["status", "connections"]).unwrap_or_default())
    }

    /// Waits until no address is in use on this host.
    pub fn wait_unused(&self, deadline: Duration) -> Result<Duration> {
        let free = || Ok(self.run(&["status", "ipam"])?.contains("(0 active)"));
        eventually(deadline, &format!("{self}: no address is in use"), free)
    }

    /// Waits until the log holds a text.
    pub fn wait_log(&self, text: &str, deadline: Duration) -> Result<Duration> {
        eventually(deadline, &format!("{self} logs {text:?}"), || Ok(self.log().contains(text)))
    }

    /// All it has logged so far, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Its `--name`.
    pub fn name(&self) -> &str {
        self.launch.name.as_deref().unwrap_or(&self.name)
    }

    /// Where it keeps its state.
    pub fn state_directory(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("weave.sock")
    }

    /// The namespace of its host, as a file.
    pub fn host_path(&self) -> &Path {
        &self.host_path
    }

    /// The most memory that it ever had resident since it was started, KiB.
    pub fn peak_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().context("not running")?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    fn number(&self) -> u8 {
        u8::from_str_radix(&self.name[self.name.len() - 2..], 16).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn drain_notifications(&self) -> Result<()> {
        self.ready.set_nonblocking(true)?;
        while self.ready.recv(&mut [0; 1024]).is_ok() {}
        self.ready.set_nonblocking(false)?;
        Ok(())
    }
}

impl std::fmt::Display for Weave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "h{}", self.number())
    }
}

impl Drop for Weave {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() || std::env::var_os("WEAVE_TEST_KEEP_LOG").is_some() {
            eprintln!("---- log of {self} ----\n{}", self.log());
        }
    }
}

/// One request without a body, by a stream that is connected; status code and body of the answer.
pub fn exchange(mut stream: impl Read + Write, method: &str, path: &str) -> Result<(u16, String)> {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (header, body) = answer.split_once("\r\n\r\n").context("no body")?;
    let code = header.split(' ').nth(1).context("no status")?.parse()?;
    Ok((code, body.to_owned()))
}

/// A client command in a namespace without a daemon of its own.
pub fn client(namespace: &Namespace) -> Result<Command> {
    Ok(namespace.command(binary()?))
}

/// The binary under test.
pub fn binary() -> Result<PathBuf> {
    program("weave-rs")
}

/// A program of ours, beside the test's own target directory.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("no {name} near {}: build it first (cargo build --workspace --bins)", own.display()))
}
