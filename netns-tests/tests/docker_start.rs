//! Containers of a real `dockerd` that are on the network before their first instruction, since Docker runs them by our
//! runtime.
//!
//! ```text
//!   h1: dockerd ─► containerd ─► weave-rs-runc ─► daemon         h2 ── 10.32.0.2
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::docker::Docker;
use weave_netns_tests::probe::{eventually, ping_eventually};
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Container, Host, Topology};
use weave_netns_tests::weave::{Launch, Weave};

/// So long a start waits for the daemon, seconds.
const START_TIMEOUT: u32 = 5;
/// Looks at once for all that a container needs, and fails at the first thing that is not there.
const LOOK: &str = "set -ex; ip link show ethwe | grep -q LOWER_UP; ip address show ethwe | grep -Eq 'inet 10.(3|4)'; \
                    ip route | grep -q '^224.0.0.0/4 dev ethwe'; ping -c1 -W5 10.32.0.2; \
                    hostname -i | grep -Eq '^10.(3|4)'; nslookup $(hostname)";

/// Two hosts; Docker on the first.
struct Stage {
    // In the order in which they end.
    docker: Docker,
    weaves: Vec<Weave>,
    other: Container,
    _hosts: [Host; 2],
    _net: Topology,
}

impl Stage {
    fn new() -> Result<Self> {
        let net = Topology::new()?;
        let hosts = [net.host()?, net.host()?];
        let mut docker = Docker::prepare(&hosts[0])?;
        let launch = Launch::new().environment("DOCKER_HOST", &docker.socket());
        let first = Weave::launch(&hosts[0], launch)?;
        docker.use_our_runtime(&first.socket(), START_TIMEOUT)?;
        docker.start()?;
        let second = Weave::launch(&hosts[1], Launch::new().peer(&hosts[0]))?;
        let other = hosts[1].container()?;
        second.run(&["attach", "10.32.0.2/12", &other.target()])?;
        Ok(Self { docker, weaves: vec![first, second], other, _hosts: hosts, _net: net })
    }

    /// A container of busybox: `docker run`'s options, and what its shell runs.
    fn run(&self, options: &[&str], script: &str) -> Result<String> {
        let shell = ["busybox", "/bin/busybox", "sh", "-c", script];
        self.docker.run(&[&["run"], options, &shell].concat())
    }
}

#[test]
fn everything_is_there_before_the_first_instruction() -> Result<()> {
    let stage = Stage::new()?;
    let starts = std::env::var("STARTS").map_or(Ok(10), |starts| starts.parse::<u32>())?;
    for number in 0..starts {
        let name = format!("web{number}");
        stage
            .run(&["--rm", "--network", "none", "--name", &name, "--hostname", &format!("{name}.weave.local")], LOOK)?;
    }
    stage.weaves[0].wait_unused(SETTLED)?;
    // A port is opened by the plan that is answered for, and not by a later look for what others have changed; that finds
    // the chain of a port that is gone, one step.
    let log = stage.weaves[0].log();
    let late: Vec<&str> =
        log.lines().filter(|line| line.contains("is repaired") && !line.ends_with("steps=1")).collect();
    assert!(late.is_empty(), "{late:?}");
    Ok(())
}

#[test]
fn every_start_is_like_the_first() -> Result<()> {
    let stage = Stage::new()?;
    let loops = format!("{LOOK}; echo well; exec sleep 600");
    stage.run(&["--detach", "--network", "none", "--name", "web", "--hostname", "web.weave.local"], &loops)?;
    let well = |times: usize| {
        eventually(SETTLED, "it has found everything", || {
            Ok(stage.docker.run(&["logs", "web"])?.lines().filter(|line| *line == "well").count() == times)
        })
    };
    well(1)?;
    let address = stage.weaves[1].run(&["dns-lookup", "web"])?;

    stage.docker.run(&["restart", "--time", "0", "web"])?;
    well(2)?;
    stage.docker.run(&["stop", "--time", "0", "web"])?;
    stage.docker.run(&["start", "web"])?;
    well(3)?;

    assert_eq!(stage.weaves[1].run(&["dns-lookup", "web"])?, address);
    Ok(())
}

#[test]
fn containers_that_are_not_to_be_attached_are_left_alone() -> Result<()> {
    let stage = Stage::new()?;
    let has_none = "! ip link show ethwe 2> /dev/null";
    stage.run(&["--rm", "--network", "none", "--env", "WEAVE_CIDR=none"], has_none)?;
    stage.run(&["--rm", "--network", "host"], has_none)?;
    stage.run(&["--detach", "--network", "none", "--name", "web"], "exec sleep 600")?;
    stage.run(&["--rm", "--network", "container:web"], "ip link show ethwe")?;
    assert_eq!(stage.weaves[0].run(&["ps"])?.lines().count(), 1 + 1, "the bridge, and web");
    Ok(())
}

#[test]
fn the_environment_says_which_addresses() -> Result<()> {
    let stage = Stage::new()?;
    let looks = "ip address show ethwe | grep -Ec 'inet 10.(99|3|4)'";
    let found = stage.run(&["--rm", "--network", "none", "--env", "WEAVE_CIDR=10.99.0.7/24 net:default"], looks)?;
    assert_eq!(found, "2\n");

    let refused = stage.run(&["--rm", "--network", "none", "--env", "WEAVE_CIDR=10.99.0.7"], looks);
    let why = format!("{:#}", refused.expect_err("no address"));
    assert!(why.contains("weave-rs: this container has no network") && why.contains("10.99.0.7"), "{why}");
    Ok(())
}

#[test]
fn an_image_without_anything_and_an_unprivileged_user_are_attached_and_told() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.docker.import_static("scratch")?;
    let options = ["--network", "none", "--read-only", "--user", "1000:1000", "--cap-drop", "ALL"];
    let safe = ["--security-opt", "no-new-privileges"];
    let address = ["scratch", "/busybox", "ip", "address", "show", "ethwe"];
    let seen = stage.docker.run(&[&["run", "--rm"][..], &options, &safe, &address].concat())?;
    assert!(seen.contains("inet 10."), "{seen}");

    stage.weaves[0].stop()?;
    let (code, _, told) = stage.docker.ask(&[&["run", "--rm"][..], &options, &safe, &address].concat())?;
    assert!(code == 125 && told.contains("weave-rs: this container has no network"), "{code}: {told}");
    Ok(())
}

#[test]
fn a_container_that_was_started_without_the_daemon_heals_when_it_is_back() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.weaves[0].kill()?;
    let script = format!("{LOOK}; echo well; exec sleep 600");
    let options = ["--detach", "--restart", "always", "--network", "none", "--name", "web"];
    stage.run(&[&options[..], &["--hostname", "web.weave.local"]].concat(), &script)?;
    eventually(Duration::from_secs(u64::from(4 * START_TIMEOUT)), "it says why", || {
        Ok(stage.docker.ask(&["logs", "web"])?.2.contains("does not run"))
    })?;
    // Everything else of Docker's works meanwhile.
    stage.run(&["--rm", "--network", "host"], "true")?;

    stage.weaves[0].start()?;

    eventually(2 * SETTLED, "it runs, with everything", || Ok(stage.docker.run(&["logs", "web"])?.contains("well")))?;
    Ok(())
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() -> Result<()> {
    let stage = Stage::new()?;
    let failed = stage.docker.run(&["run", "--network", "none", "--name", "bad", "busybox", "/no/such/program"]);
    ensure!(failed.is_err(), "there is no such program");
    stage.docker.run(&["rm", "--force", "bad"])?;
    stage.weaves[0].wait_unused(SETTLED)?;
    let left = stage.docker.run(&["ps", "--all", "--quiet"])?;
    assert_eq!(left, "");
    assert_eq!(stage.weaves[0].run(&["ps"])?.lines().count(), 1, "the bridge alone");
    Ok(())
}

#[test]
fn containers_of_two_hosts_meet_by_name() -> Result<()> {
    let stage = Stage::new()?;
    stage.run(&["--detach", "--network", "none", "--name", "web"], "exec sleep 600")?;
    let address = stage.weaves[1].run(&["dns-lookup", "web"])?;
    let address = address.trim().parse::<std::net::Ipv4Addr>().with_context(|| format!("no address: {address}"))?;
    ping_eventually(&stage.other, address, SETTLED)?;
    Ok(())
}

#[test]
fn docker_is_set_up_and_left_as_it_was() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let docker = Docker::start_on(&host)?;
    let weave = Weave::launch(&host, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;
    let has_network = |options: &[&str]| {
        let look = ["busybox", "/bin/busybox", "ip", "link", "show", "ethwe"];
        Ok::<_, anyhow::Error>(docker.ask(&[&["run", "--rm", "--network", "none"], options, &look].concat())?.0 == 0)
    };
    let set_up = |options: &[&str]| docker.set_up(&weave, options);

    let shown = set_up(&[])?;
    assert!(shown.contains("+  \"runtimes\": {") && shown.contains("--runtime weave-rs"), "{shown}");
    assert!(!has_network(&[])? && has_network(&["--runtime", "weave-rs"])?);
    set_up(&["--all"])?;
    assert!(has_network(&[])?);
    assert!(set_up(&["--all"])?.contains("nothing to change"));

    docker.run(&["create", "--network", "none", "--name", "old", "busybox", "/bin/busybox", "ip", "link"])?;
    set_up(&["--undo"])?;
    assert!(!has_network(&[])?);
    assert!(!docker.run(&["start", "--attach", "old"])?.contains("ethwe"), "it starts, by Docker's own runtime");
    Ok(())
}

#[test]
fn a_host_that_leaves_for_good_leaves_docker_as_it_was() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut docker = Docker::start_on(&host)?;
    let mut weave = Weave::launch(&host, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;
    docker.set_up(&weave, &["--all"])?;
    let look = ["busybox", "/bin/busybox", "sh", "-c", "ip link; exec sleep 600"];
    let always = ["run", "--detach", "--restart", "always", "--network", "none", "--name", "old"];
    docker.run(&[&always[..], &look].concat())?;
    let seen = |docker: &Docker| Ok::<_, anyhow::Error>(docker.run(&["logs", "old"])?.matches("ethwe").count());
    eventually(SETTLED, "it was on the network", || Ok(seen(&docker)? == 1))?;

    docker.changed_by(&weave, &["reset"])?;
    weave.wait_end(SETTLED)?;

    assert_eq!(docker.run(&["info", "--format", "{{.DefaultRuntime}}"])?, "runc\n");
    // By its policy, as the engine's settings are read again: without us, and without waiting for us.
    docker.stop()?;
    docker.start()?;
    eventually(SETTLED, "it runs", || Ok(docker.run(&["ps", "--quiet"])?.lines().count() == 1))?;
    docker.run(&["restart", "--time", "0", "old"])?;
    assert_eq!(seen(&docker)?, 1, "and nothing else is there for it");
    Ok(())
}

#[test]
fn clients_of_the_proxy_need_no_option() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let docker = Docker::start_on(&host)?;
    let socket = host.directory().join("docker.sock");
    let launch = Launch::new().environment("DOCKER_HOST", &docker.socket());
    let weave = Weave::launch(&host, launch.argument(&format!("--docker-proxy={}", socket.display())))?;
    let exported = weave.run(&["env", "--docker-proxy", &socket.display().to_string()])?;
    assert!(
        exported.starts_with(&format!("export DOCKER_HOST='unix://{}' ORIG_DOCKER_HOST=", socket.display())),
        "{exported}"
    );
    let through = docker.through(&socket);
    let look = "set -ex; ip link show ethwe; hostname -f | grep ^web.weave.local; nslookup web; cat";
    let run = ["run", "--rm", "--network", "none", "--name", "web", "-i", "busybox", "/bin/busybox", "sh", "-c", look];

    let refused = through.ask(&run)?;
    assert!(refused.2.contains("run `weave-rs setup docker`"), "{refused:?}");

    docker.set_up(&weave, &[])?;
    let answer = through.ask_with_input(&run, b"to and fro")?;
    assert!(answer.0 == 0 && answer.1.ends_with("to and fro"), "{answer:?}");

    docker.set_up(&weave, &["--undo"])?;
    eventually(SETTLED, "the proxy has heard of it", || {
        Ok(through.ask_with_input(&run, b"")?.2.contains("run `weave-rs setup docker`"))
    })?;
    assert_eq!(through.run(&["ps", "--all", "--quiet"])?, "");
    Ok(())
}
