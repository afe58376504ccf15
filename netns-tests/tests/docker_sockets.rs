//! Sockets of proxy and plugin that a service manager holds: who asks while there is no daemon is answered by the next one.
//!
//! ```text
//!   docker run ─► socket of the proxy  ┐ open, with or   ┌ daemon, killed
//!   dockerd ────► socket of the plugin ┘ without         └ daemon, started again
//! ```

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::docker::{Docker, Driver};
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Topology, run};
use weave_netns_tests::weave::{Launch, Weave};

/// So long a start waits for the daemon, seconds.
const START_TIMEOUT: u32 = 30;

/// How many have connected to a socket and were not let in yet.
fn waiting(socket: &Path) -> Result<usize> {
    let listed = run(Command::new("ss").args(["-xlH", "src"]).arg(socket))?;
    let queued = listed.split_whitespace().nth(2).context(listed.clone())?;
    Ok(queued.parse()?)
}

/// What shows the address that a container has of us.
fn show_address(device: &str) -> [&str; 7] {
    ["busybox", "/bin/busybox", "ip", "-4", "address", "show", device]
}

#[test]
fn whoever_asks_while_there_is_no_daemon_is_answered_by_the_next_one() -> Result<()> {
    let net = Topology::new()?;
    let host = &net.host()?;
    let (driver, mut docker) = (Driver::of(host), Docker::prepare(host)?);
    let proxy: PathBuf = host.directory().join("docker.sock");
    driver.make_room()?;
    let launch = Launch::new()
        .environment("DOCKER_HOST", &docker.socket())
        .socket("docker-proxy", UnixListener::bind(&proxy)?)
        .socket("docker-plugin", UnixListener::bind(driver.socket())?);
    let mut weave = Weave::launch(host, launch)?;
    docker.use_our_runtime(&weave.socket(), START_TIMEOUT)?;
    docker.start()?;
    docker.run(&["network", "create", "--driver", driver.name(), "--ipam-driver", driver.name(), "net"])?;

    weave.kill()?;
    let (by_proxy, by_plugin) = thread::scope(|scope| -> Result<_> {
        let by_proxy = scope.spawn(|| {
            docker.through(&proxy).run(&[&["run", "--rm", "--network", "none"][..], &show_address("ethwe")].concat())
        });
        let by_plugin =
            scope.spawn(|| docker.run(&[&["run", "--rm", "--network", "net"][..], &show_address("ethwe0")].concat()));
        eventually(SETTLED, "both wait", || Ok(waiting(&proxy)? > 0 && waiting(&driver.socket())? > 0))?;
        weave.start()?;
        Ok((by_proxy.join(), by_plugin.join()))
    })?;

    for shown in [by_proxy, by_plugin] {
        let shown = shown.ok().context("a client panicked")??;
        ensure!(shown.contains("inet 10.32."), "{shown}");
    }
    weave.stop()?;
    UnixStream::connect(&proxy).context("it is not ours to remove")?;
    UnixStream::connect(driver.socket()).context("nor is this one")?;
    Ok(())
}

#[test]
fn sockets_that_nobody_knows_what_for_are_refused() -> Result<()> {
    let net = Topology::new()?;
    let host = &net.host()?;
    let path = host.directory().join("docker.sock");
    let given = |name: &str| -> Result<Launch> {
        let _ = std::fs::remove_file(&path);
        Ok(Launch::new().socket(name, UnixListener::bind(&path)?))
    };
    let elsewhere = given("docker-proxy")?.argument("--docker-proxy=/nowhere/docker.sock");
    let two = given("docker-proxy")?.socket("docker-proxy", UnixListener::bind(host.directory().join("other.sock"))?);
    let mut weave = Weave::prepare(host, Launch::new())?;
    for (launch, reason) in [
        (given("telnet")?, "called `telnet`: FileDescriptorName= is docker-proxy or docker-plugin"),
        (elsewhere, "--docker-proxy=/nowhere/docker.sock, and a socket at"),
        (two, "there are two sockets called `docker-proxy`"),
    ] {
        weave.set_launch(launch);
        let error = weave.start().err().with_context(|| format!("it started: {reason}"))?.to_string();
        ensure!(error.contains(reason), "{error}");
    }
    Ok(())
}
