//! A container of a real `dockerd`, attached by its name.
//!
//! ```text
//!   h1: dockerd (own socket, own data), container `web`        h2 ── 10.32.0.2
//! ```

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weave_netns_tests::probe::{eventually, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Host, Topology, run};
use weave_netns_tests::weave::{Launch, Weave};

#[test]
fn a_docker_container_is_attached_by_name() -> Result<()> {
    let net = Topology::new()?;
    let hosts = vec![net.host()?, net.host()?];
    let docker = Docker::start(&hosts[0])?;
    docker.import_busybox()?;
    docker.run_web()?;
    let socket = docker.socket();
    let scene = Scene::on(net, hosts, |number, hosts| match number {
        0 => Launch::new().environment("DOCKER_HOST", &socket),
        _ => Launch::new().peer(&hosts[0]),
    })?;

    assert_eq!(scene.weaves[0].run(&["attach", "10.32.0.80/12", "web"])?, "10.32.0.80\n");

    ping_eventually(&scene.containers[1], std::net::Ipv4Addr::new(10, 32, 0, 80), SETTLED)?;
    docker.run(&["exec", "web", "/bin/busybox", "ping", "-c1", "-W2", "10.32.0.2"])?;
    assert_eq!(scene.weaves[0].run(&["detach", "10.32.0.80/12", "web"])?, "10.32.0.80\n");
    let answer = scene.weaves[0].ask(&["attach", "10.32.0.81/12", "no-such"])?;
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.stderr.contains("no-such"), "{answer:?}");
    Ok(())
}

#[test]
fn a_container_keeps_its_address_over_a_restart_and_loses_it_when_it_is_removed() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let docker = Docker::start(&host)?;
    docker.import_busybox()?;
    docker.run_web()?;
    let mut weave = Weave::launch(&host, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;
    let address = weave.run(&["attach", "web"])?;

    docker.run(&["restart", "--time", "0", "web"])?;
    assert_eq!(weave.run(&["attach", "web"])?, address, "a restarted container has its address still");
    let other = host.container()?;
    assert_ne!(weave.run(&["attach", &other.target()])?, address);
    docker.run(&["rm", "--force", "web"])?;
    eventually(SETTLED, "the removed container's address is free", || {
        Ok(weave.run(&["status", "ipam"])?.contains("(1 active)"))
    })?;

    // And what happens while nobody listens is found out afterwards.
    docker.run_web()?;
    assert_eq!(weave.run(&["attach", "web"])?, address, "the lowest free address is given");
    weave.kill()?;
    docker.run(&["rm", "--force", "web"])?;
    weave.start()?;
    eventually(SETTLED, "the vanished container's address is free", || {
        Ok(weave.run(&["status", "ipam"])?.contains("(1 active)"))
    })?;
    Ok(())
}

/// A daemon of the test's own, in a host's namespace, with nothing shared.
struct Docker {
    child: Child,
    directory: PathBuf,
}

impl Docker {
    fn start(host: &Host) -> Result<Self> {
        // Not in the host's directory: dockerd outlives the hosts of a test that fails.
        let directory = std::env::temp_dir().join(format!("{}-docker", host.namespace().name()));
        std::fs::create_dir_all(&directory)?;
        let log = File::create(directory.join("log"))?;
        // Not `ip netns exec`: its own view of /sys would hide the control groups.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "nsenter"]);
        command.arg(format!("--net={}", host.namespace().path().display())).arg("dockerd");
        command.args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "vfs"]);
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(flag).arg(directory.join(name));
        }
        command.arg("--host").arg(format!("unix://{}", directory.join("sock").display()));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut docker = Self { child, directory };
        eventually(Duration::from_secs(60), "dockerd answers, or ends", || {
            Ok(docker.child.try_wait()?.is_some() || docker.run(&["version"]).is_ok())
        })?;
        ensure!(docker.child.try_wait()?.is_none(), "dockerd ended at once:\n{}", docker.log());
        Ok(docker)
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.directory.join("sock").display())
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        run(Command::new("docker").env("DOCKER_HOST", self.socket()).args(words)).with_context(|| self.log())
    }

    /// An image made on the spot, since no registry of images is needed for one static binary.
    fn import_busybox(&self) -> Result<()> {
        let root = self.directory.join("root");
        std::fs::create_dir_all(root.join("bin"))?;
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).context("busybox-static is not installed")?;
        let archive = self.directory.join("busybox.tar").display().to_string();
        run(Command::new("tar").args(["-C", &root.display().to_string(), "-cf", &archive, "."]))?;
        self.run(&["import", &archive, "busybox"])?;
        Ok(())
    }

    /// Starts the container `web`, which does nothing.
    fn run_web(&self) -> Result<()> {
        let none = ["run", "--detach", "--network", "none", "--name", "web"];
        let sleep = ["busybox", "/bin/busybox", "sleep", "600"];
        self.run(&[&none[..], &sleep].concat())?;
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--force", "web"]);
        // SIGTERM, so that it takes its containerd along.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let ended = eventually(Duration::from_secs(20), "dockerd stops", || Ok(self.child.try_wait()?.is_some()));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
