//! A real `dockerd` of a test's own, in a host's namespace, with nothing shared.
//!
//! It runs one image, made on the spot: no registry of images is needed for one static binary. Its containers do nothing.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::probe::eventually;
use crate::topology::{Host, Scratch, run};
use crate::weave::Weave;

mod site;

pub use site::Site;

/// How long dockerd may take to start or to stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names the root file system of another engine than this machine's: `make test-engines` makes them.
const ENGINE_ROOT: &str = "WEAVE_ENGINE_ROOT";
/// Runs what follows in that root, with what the tests make and build where they have it, and our daemon's socket where
/// it usually is. What others unmount must go here, too: a copy would keep their containers' namespaces. It is the root of
/// the mount namespace, and not only of the process: what the engine executes in a container gets the former.
const IN_ROOT: &str = "set -e; root=$1; built=$2; socket=$3; shift 3
    mount --bind \"$root\" \"$root\"
    mount -t tmpfs weave-rs-tests \"$root/run\"
    for path in /proc /sys /dev /tmp /run/docker/plugins \"$built\"; do
        mkdir -p \"$path\" \"$root$path\"; mount --rbind \"$path\" \"$root$path\"
    done
    mkdir \"$root/run/weave-rs\"; ln -s \"${socket:-/nowhere}\" \"$root/run/weave-rs/weave-rs.sock\"
    mkdir \"$root/run/outside\"; cd \"$root\"; pivot_root . run/outside; umount -l /run/outside
    exec \"$@\"";
/// Where engines look for their plugins: all of them at the same place, so each host's has a name of its own.
const PLUGINS: &str = "/run/docker/plugins";

/// The network driver that a host's daemon serves.
#[derive(Debug)]
pub struct Driver {
    name: String,
}

impl Driver {
    /// Not served yet.
    pub fn of(host: &Host) -> Self {
        Self { name: host.namespace().name().to_owned() }
    }

    /// What engines call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has `launch` serve it.
    pub fn argument(&self) -> String {
        format!("--docker-plugin={}", self.socket().display())
    }

    /// Makes the directory where it is served.
    pub fn make_room(&self) -> Result<()> {
        Ok(std::fs::create_dir_all(PLUGINS)?)
    }

    /// Where it is served.
    pub fn socket(&self) -> PathBuf {
        Path::new(PLUGINS).join(format!("{}.sock", self.name))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A daemon that was killed leaves it.
        let _ = std::fs::remove_file(self.socket());
    }
}

/// The daemon, running or not.
#[derive(Debug)]
pub struct Docker {
    netns: PathBuf,
    directory: Scratch,
    /// Our daemon's socket, if it finds our runtime by itself.
    found: Option<PathBuf>,
    child: Option<Child>,
}

impl Docker {
    /// Runs, and has an image.
    pub fn start_on(host: &Host) -> Result<Self> {
        let mut docker = Self::prepare(host)?;
        docker.start()?;
        Ok(docker)
    }

    /// Does not run yet.
    pub fn prepare(host: &Host) -> Result<Self> {
        // Not in the host's directory: dockerd outlives the hosts of a test that fails.
        let directory = Scratch::new(&format!("{}-docker", host.namespace().name()))?;
        std::fs::write(directory.join("daemon.json"), "{}")?;
        Ok(Self { netns: host.namespace().path().to_owned(), directory, found: None, child: None })
    }

    /// Runs all its containers by our runtime, which asks the daemon at `socket` and waits for it so many seconds.
    pub fn use_our_runtime(&self, socket: &Path, timeout: u32) -> Result<()> {
        let program = crate::weave::program("weave-rs-runc")?;
        let arguments = [format!("--weave-socket={}", socket.display()), format!("--weave-timeout={timeout}")];
        let runtime = json!({ "path": program, "runtimeArgs": arguments });
        let settings = json!({ "default-runtime": "weave-rs", "runtimes": { "weave-rs": runtime } });
        Ok(std::fs::write(self.directory.join("daemon.json"), settings.to_string())?)
    }

    /// Lets it find our runtime in its `PATH`, as engines from 23 on do (in another root than this machine's).
    pub fn find_our_runtime(&mut self, socket: &Path) -> Result<()> {
        let (installed, found) = (self.directory.join("libexec"), self.directory.join("bin"));
        std::fs::create_dir(&installed)?;
        std::fs::create_dir(&found)?;
        std::fs::copy(crate::weave::program("weave-rs-runc")?, installed.join("weave-rs-runc"))?;
        symlink("weave-rs-runc", installed.join("runc"))?;
        symlink(installed.join("weave-rs-runc"), found.join("containerd-shim-weave-v1"))?;
        self.found = Some(socket.to_owned());
        Ok(())
    }

    /// Has `weave-rs setup docker` change its settings.
    pub fn set_up(&self, weave: &Weave, options: &[&str]) -> Result<String> {
        self.changed_by(weave, &[&["setup", "docker"], options].concat())
    }

    /// Has this command of weave-rs change its settings.
    pub fn changed_by(&self, weave: &Weave, command: &[&str]) -> Result<String> {
        let file = |name: &str| self.directory.join(name).display().to_string();
        let (settings, process) = (file("daemon.json"), file("pid"));
        let here = ["--daemon-json", &settings, "--pid-file", &process];
        weave.run_with(&[("DOCKER_HOST", &self.socket())], &[command, &here].concat())
    }

    /// Starts it, and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.directory.join("log"))?;
        // Not `ip netns exec`: its own view of /sys would hide the control groups.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "nsenter"]).arg(format!("--net={}", self.netns.display()));
        if let Some(root) = std::env::var_os(ENGINE_ROOT) {
            let built = crate::weave::program("weave-rs-runc")?;
            command.args(["unshare", "--mount", "--propagation", "slave", "sh", "-c", IN_ROOT, "sh"]).arg(root);
            command.arg(built.parent().context("it lies in a directory")?).arg(self.found.clone().unwrap_or_default());
        }
        if self.found.is_some() {
            let path = std::env::var("PATH")?;
            command.env("PATH", format!("{}:{path}", self.directory.join("bin").display()));
        }
        command.arg("dockerd");
        command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "vfs"]);
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(flag).arg(self.directory.join(name));
        }
        command.arg("--host").arg(self.socket()).arg("--config-file").arg(self.directory.join("daemon.json"));
        let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let answers = eventually(PATIENCE, "dockerd answers, or ends", || {
            Ok(child.try_wait()?.is_some() || self.run(&["version"]).is_ok())
        });
        let has_ended = child.try_wait()?.is_some();
        self.child = Some(child);
        answers?;
        ensure!(!has_ended, "dockerd ended at once:\n{}", self.log());
        self.import_busybox()
    }

    /// Stops it, and its containers with it.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // SIGTERM, so that it takes its containerd along.
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        let ended = eventually(PATIENCE, "dockerd stops", || Ok(child.try_wait()?.is_some()));
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended.map(drop)
    }

    /// What `DOCKER_HOST` is to be.
    pub fn socket(&self) -> String {
        format!("unix://{}", self.directory.join("sock").display())
    }

    /// Runs a command of the client.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.client().run(words).with_context(|| self.log())
    }

    /// Starts a container of this name without a network of Docker's own.
    pub fn run_container(&self, name: &str) -> Result<()> {
        let none = ["run", "--detach", "--network", "none", "--name", name];
        let sleep = ["busybox", "/bin/busybox", "sleep", "600"];
        self.run(&[&none[..], &sleep].concat())?;
        Ok(())
    }

    /// Removes containers, running or not.
    pub fn remove(&self, names: &[String]) -> Result<()> {
        let names = names.iter().map(String::as_str);
        self.run(&["rm", "--force"].into_iter().chain(names).collect::<Vec<_>>()).map(drop)
    }

    /// Runs a command in a container.
    pub fn exec(&self, name: &str, command: &str) -> Result<String> {
        let words: Vec<&str> = ["exec", name, "/bin/busybox"].into_iter().chain(command.split(' ')).collect();
        self.run(&words)
    }

    /// Runs a command of the client that may fail: exit code, output, errors.
    pub fn ask(&self, words: &[&str]) -> Result<(i32, String, String)> {
        self.client().ask(words)
    }

    fn client(&self) -> DockerClient {
        self.through(&self.directory.join("sock"))
    }

    /// Its client, by way of another socket.
    pub fn through(&self, socket: &Path) -> DockerClient {
        DockerClient { host: format!("unix://{}", socket.display()) }
    }

    /// An image of this name with `/busybox`, and nothing else.
    pub fn import_static(&self, name: &str) -> Result<()> {
        self.import(name, "busybox")
    }

    fn import_busybox(&self) -> Result<()> {
        self.import("busybox", "bin/busybox")
    }

    fn import(&self, name: &str, path: &str) -> Result<()> {
        let busybox = Path::new("/bin/busybox");
        ensure!(busybox.exists(), "busybox-static is not installed");
        self.import_files(name, &[(busybox.to_owned(), path.to_owned())])
    }

    /// An image of this name with a program of this workspace at its root, and the libraries that it was linked to.
    pub fn import_program(&self, name: &str, program: &str) -> Result<()> {
        let path = crate::weave::program(program)?;
        let linked = run(Command::new("ldd").arg(&path))?;
        let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
        let libraries = libraries.map(|library| (PathBuf::from(library), library.to_owned()));
        let files: Vec<_> = libraries.chain([(path, program.to_owned())]).collect();
        self.import_files(name, &files)
    }

    /// An image of this name with copies of files, and where in it they lie.
    fn import_files(&self, name: &str, files: &[(PathBuf, String)]) -> Result<()> {
        let root = self.directory.join(&format!("root-{name}"));
        for (from, to) in files {
            let copy = root.join(to.trim_start_matches('/'));
            std::fs::create_dir_all(copy.parent().context("it lies in the root")?)?;
            std::fs::copy(from, &copy)?;
        }
        let archive = self.directory.join(&format!("{name}.tar")).display().to_string();
        run(Command::new("tar").args(["-C", &root.display().to_string(), "-cf", &archive, "."]))?;
        self.run(&["import", &archive, name])?;
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

/// The client, `docker`.
#[derive(Debug)]
pub struct DockerClient {
    host: String,
}

impl DockerClient {
    /// Runs a command that may fail: exit code, output, errors.
    pub fn ask(&self, words: &[&str]) -> Result<(i32, String, String)> {
        self.ask_with_input(words, b"")
    }

    /// The same with something to read, which it may answer as it comes.
    pub fn ask_with_input(&self, words: &[&str], input: &[u8]) -> Result<(i32, String, String)> {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", &self.host).args(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("it reads")?;
        let output = thread::scope(|scope| {
            // One that does not read has ended, and says why.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output()
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    /// Runs a command that must succeed; its output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (code, output, errors) = self.ask(words)?;
        ensure!(code == 0, "docker {}: {errors}", words.join(" "));
        Ok(output)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Ok(containers) = self.run(&["ps", "--all", "--quiet"]) {
            for container in containers.split_whitespace() {
                let _ = self.run(&["rm", "--force", container]);
            }
        }
        let _ = self.stop();
    }
}
