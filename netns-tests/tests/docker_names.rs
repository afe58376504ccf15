//! What containers of a real `dockerd` are called, which of them are on the network by themselves, and what `status` says
//! of that.
//!
//! ```text
//!   h1: dockerd ─► weave-rs-runc ─► daemon, launched with options         h2: asks for names
//! ```

use anyhow::{Context, Result};
use weave_netns_tests::docker::{Docker, DockerClient};
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Host, Topology};
use weave_netns_tests::weave::{Launch, Weave};

/// So long a start waits for the daemon, seconds.
const START_TIMEOUT: u32 = 5;
const ECS: &str = "com.amazonaws.ecs.container-name";
/// Names that are made of a label.
const BY_ROLE: [&str; 3] = ["--hostname-from-label=role", "--hostname-match=^aws-(.*)$", "--hostname-replacement=$1"];

/// Two hosts; Docker on the first runs all containers by our runtime.
struct Stage {
    // In the order in which they end.
    docker: Docker,
    weaves: [Weave; 2],
    hosts: [Host; 2],
    _net: Topology,
}

impl Stage {
    fn new(options: &[&str]) -> Result<Self> {
        let net = Topology::new()?;
        let hosts = [net.host()?, net.host()?];
        let mut docker = Docker::prepare(&hosts[0])?;
        let proxy = format!("--docker-proxy={}", hosts[0].directory().join("docker.sock").display());
        let launch = Launch::new().environment("DOCKER_HOST", &docker.socket()).argument(&proxy);
        let first = Weave::launch(&hosts[0], options.iter().fold(launch, |launch, option| launch.argument(option)))?;
        docker.use_our_runtime(&first.socket(), START_TIMEOUT)?;
        docker.start()?;
        let second = Weave::launch(&hosts[1], Launch::new().peer(&hosts[0]))?;
        Ok(Self { docker, weaves: [first, second], hosts, _net: net })
    }

    /// Starts a container with these options of `docker run`.
    fn start(&self, name: &str, options: &[&str]) -> Result<()> {
        let run = ["run", "--detach", "--network", "none", "--name", name];
        let sleep = ["busybox", "/bin/busybox", "sleep", "600"];
        self.docker.run(&[&run, options, &sleep].concat())?;
        Ok(())
    }

    /// Docker's client, by way of the proxy.
    fn through(&self) -> DockerClient {
        self.docker.through(&self.hosts[0].directory().join("docker.sock"))
    }

    /// To how many addresses a name leads on the other host.
    fn found(&self, name: &str) -> Result<usize> {
        Ok(self.weaves[1].run(&["dns-lookup", name])?.lines().count())
    }

    fn is_found(&self, name: &str) -> Result<()> {
        eventually(SETTLED, name, || Ok(self.found(name)? == 1)).map(drop)
    }
}

#[test]
fn containers_are_called_by_a_label_or_as_in_their_task() -> Result<()> {
    let stage = Stage::new(&BY_ROLE)?;
    stage.start("x1", &["--label", "role=aws-api"])?;
    stage.is_found("api")?;
    stage.start("ecs-task-1-httpserver-ab", &["--label", &format!("{ECS}=httpserver")])?;
    stage.is_found("httpserver")?;
    stage.start("ecs-task-1-internal-cd", &["--label", &format!("{ECS}=~internal~ecs-emptyvolume-source")])?;
    assert!(!stage.docker.exec("ecs-task-1-internal-cd", "ip link")?.contains("ethwe"), "it is the agent's");
    stage.start("x3", &["--label", "role=api2", "--hostname", "own.weave.local"])?;
    stage.is_found("own")?;
    stage.start("x4", &["--runtime", "runc", "--label", "role=aws-hand"])?;
    stage.weaves[0].run(&["attach", "x4"])?;
    stage.is_found("hand")?;
    for name in ["x1", "ecs-task-1-httpserver-ab", "api2", "x4"] {
        assert_eq!(stage.found(name)?, 0, "{name}");
    }

    // What it calls itself is the same, and told to it by whoever made it.
    let run = ["run", "--rm", "--network", "none", "--label", "role=aws-told", "--name", "x5"];
    let name = stage.through().run(&[&run[..], &["busybox", "/bin/busybox", "hostname", "-f"]].concat())?;
    assert_eq!(name, "told.weave.local\n");
    Ok(())
}

#[test]
fn a_container_without_a_usable_name_is_told_of() -> Result<()> {
    let stage = Stage::new(&[])?;
    stage.start(&"a".repeat(64), &[])?;
    let shown = stage.weaves[0].run(&["status"])?;
    assert!(shown.contains("has no name in weave.local") && shown.contains("1 to 63"), "{shown}");

    let name = "b".repeat(64);
    let run = ["run", "--rm", "--network", "none", "--name", &name, "busybox", "/bin/busybox", "true"];
    let (code, _, told) = stage.through().ask(&run)?;
    assert!(code == 0 && told.contains("more than 63 octets"), "{code}: {told}");
    Ok(())
}

#[test]
fn without_addresses_by_default_containers_ask_for_them() -> Result<()> {
    let stage = Stage::new(&["--no-default-ipalloc"])?;
    stage.start("idle", &[])?;
    stage.start("web", &["--env", "WEAVE_CIDR=net:default"])?;

    stage.is_found("web")?;
    assert!(stage.docker.exec("web", "ip link")?.contains("ethwe"));
    assert!(!stage.docker.exec("idle", "ip link")?.contains("ethwe"));
    Ok(())
}

#[test]
fn names_files_and_multicast_can_be_left_to_docker() -> Result<()> {
    let stage = Stage::new(&["--without-dns", "--no-rewrite-hosts", "--no-multicast-route"])?;
    stage.start("web", &[])?;

    let seen = |command: &str| stage.docker.exec("web", command);
    assert!(seen("ip link")?.contains("ethwe"));
    assert!(!seen("cat /etc/hosts")?.contains("weave-rs"), "its hosts");
    assert!(!seen("cat /etc/resolv.conf")?.contains("169.254.65.53"), "its resolver");
    assert!(!seen("ip route")?.contains("224.0.0.0/4"), "its multicast");
    assert_eq!(stage.weaves[0].run(&["dns-lookup", "web"])?, "");
    Ok(())
}

#[test]
fn a_container_has_its_name_again_when_its_engine_has_booted() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    stage.start("web", &["--restart", "always"])?;
    stage.is_found("web")?;

    stage.docker.stop()?;
    eventually(SETTLED, "its name is gone", || Ok(stage.found("web")? == 0))?;
    stage.docker.start()?;

    stage.is_found("web")
}

/// Two containers of one name, of which each is well as long as it has no file `/sick`.
fn start_checked(stage: &Stage) -> Result<()> {
    // Where every engine has it: one in another root has no busybox of its own.
    let shell = stage.hosts[0].directory().join("sh");
    std::fs::copy("/bin/busybox", &shell)?;
    let volume = format!("{}:/bin/sh:ro", shell.display());
    let checked = ["--label", "role=web", "--volume", &volume, "--health-interval", "1s"];
    let check = ["--health-retries", "1", "--health-cmd", "/bin/busybox test ! -e /sick"];
    ["one", "two"].into_iter().try_for_each(|name| stage.start(name, &[&checked[..], &check].concat()))
}

#[test]
fn a_container_that_is_not_well_gives_way_to_others_of_its_name() -> Result<()> {
    let stage = Stage::new(&BY_ROLE)?;
    start_checked(&stage)?;
    let address = |name: &str| -> Result<String> {
        let shown = stage.docker.exec(name, "ip -o -4 address show ethwe")?;
        let word = shown.split_whitespace().find(|word| word.contains('/')).context("it has an address")?;
        Ok(word.split('/').next().unwrap_or_default().to_owned())
    };
    let (one, two) = (address("one")?, address("two")?);
    let answered = |what: &str, expected: &[&str]| {
        let mut expected: Vec<_> = expected.to_vec();
        expected.sort_unstable();
        for weave in &stage.weaves {
            eventually(2 * SETTLED, what, || {
                let found = weave.run(&["dns-lookup", "web"])?;
                let mut found: Vec<_> = found.lines().collect();
                found.sort_unstable();
                Ok(found == expected)
            })?;
        }
        Ok::<_, anyhow::Error>(())
    };
    answered("both are well", &[&one, &two])?;

    stage.docker.exec("one", "touch /sick")?;
    answered("the other one is better", &[&two])?;
    stage.docker.exec("two", "touch /sick")?;
    answered("neither is", &[&one, &two])?;
    let by_hand = ["10.77.0.1", "-h", "web.weave.local"];
    stage.weaves[0].run(&[&["dns-add"], &by_hand[..]].concat())?;
    answered("one was given by hand", &["10.77.0.1"])?;
    stage.weaves[0].run(&[&["dns-remove"], &by_hand[..]].concat())?;
    answered("it was taken away", &[&one, &two])?;
    stage.docker.exec("one", "rm /sick")?;
    answered("the one is well again", &[&one])?;
    stage.docker.run(&["rm", "--force", "one"])?;
    answered("there is no other", &[&two])
}

#[test]
fn nobody_gives_way_where_all_are_to_be_answered() -> Result<()> {
    let stage = Stage::new(&[&BY_ROLE[..], &["--dns-all"]].concat())?;
    start_checked(&stage)?;
    stage.start("last", &["--runtime", "runc"])?;
    stage.weaves[0].run(&["attach", "last"])?;
    stage.docker.exec("one", "touch /sick")?;
    eventually(SETTLED, "Docker has noticed", || {
        Ok(stage.docker.run(&["inspect", "--format", "{{.State.Health.Status}}", "one"])? == "unhealthy\n")
    })?;

    // News come in their order: whoever is attached again now was started after that.
    stage.docker.run(&["restart", "--time", "0", "last"])?;
    eventually(SETTLED, "the last news has come", || Ok(stage.docker.exec("last", "ip link")?.contains("ethwe")))?;

    assert_eq!(stage.found("web")?, 2);
    Ok(())
}

#[test]
fn status_tells_of_engine_ways_and_what_failed() -> Result<()> {
    let mut stage = Stage::new(&[])?;
    let told = |stage: &Stage, text: &str| {
        eventually(SETTLED, text, || Ok(stage.weaves[0].run(&["status"])?.contains(text))).map(drop)
    };
    told(&stage, "Runtime: of all containers")?;
    told(&stage, "(API 1.")?;
    told(&stage, "docker.sock\n         Starts: 0 waiting, 0 failed")?;
    assert!(stage.start("bad", &["--env", "WEAVE_CIDR=10.99.0.7"]).is_ok(), "it runs, and says why it has no network");
    told(&stage, "0 waiting, 1 failed")?;
    told(&stage, "Z bad (")?;
    told(&stage, "): WEAVE_CIDR: `10.99.0.7` is no address")?;

    let json = stage.weaves[0].json(&["status"])?;
    assert_eq!(json["docker"]["engine"]["runtime"], "all");
    assert_eq!(json["docker"]["failures"].as_array().map(Vec::len), Some(1));
    let (_, page) = stage.weaves[0].http("GET", "/metrics")?;
    assert!(
        page.contains("weave_docker_engine{version=") && page.contains("weave_docker_failed_starts_total 1"),
        "{page}"
    );

    stage.docker.stop()?;
    told(&stage, "none answers at")
}
