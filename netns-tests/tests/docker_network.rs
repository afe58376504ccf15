//! Networks that Docker's users make: `docker network create --driver …`, with real engines on two hosts.
//!
//! ```text
//!   h1: dockerd ─► /run/docker/plugins/NAME.sock ─► daemon ═══════ daemon ◄─ … ◄─ dockerd :h2
//!        └ web  10.32.0.N                                                         └ db  10.32.0.M
//! ```

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_netns_tests::docker::{Docker, Driver};
use weave_netns_tests::probe::{at_once, eventually, ping_eventually};
use weave_netns_tests::scene::{SETTLED, mentions};
use weave_netns_tests::topology::{Host, Topology};
use weave_netns_tests::weave::{Launch, Weave};

/// How long an engine goes on asking a plugin that does not answer, for one request, with what a busy machine needs beyond.
const GIVEN_UP: Duration = Duration::from_secs(25);
/// An address that nobody has is given up so long after it was found out.
const GRACE: Duration = Duration::from_secs(30);

/// One host with an engine.
struct Site {
    // In the order in which they end: an engine takes its containers off the network.
    docker: Docker,
    weave: Weave,
    driver: Driver,
    host: Host,
}

impl Site {
    fn new(host: Host, launch: Launch) -> Result<Self> {
        let (driver, docker) = (Driver::of(&host), Docker::prepare(&host)?);
        let launch = launch.environment("DOCKER_HOST", &docker.socket()).argument(&driver.argument());
        let weave = Weave::launch(&host, launch)?;
        let mut site = Self { docker, weave, driver, host };
        site.docker.start()?;
        Ok(site)
    }

    /// `docker network create` with both of our drivers: exit code, output, errors.
    fn ask_for_network(&self, options: &[&str], name: &str) -> Result<(i32, String, String)> {
        let drivers = ["network", "create", "--driver", self.driver.name(), "--ipam-driver", self.driver.name()];
        self.docker.ask(&[&drivers[..], options, &[name]].concat())
    }

    fn make_network(&self, options: &[&str], name: &str) -> Result<()> {
        let (code, _, errors) = self.ask_for_network(options, name)?;
        ensure!(code == 0, "{errors}\n{}", self.weave.log());
        Ok(())
    }

    /// A container that does nothing on a network, or what came of it.
    fn ask_for_container(&self, network: &str, name: &str, options: &[&str]) -> Result<(i32, String, String)> {
        let run = ["run", "--detach", "--network", network, "--name", name, "--dns", "169.254.65.53"];
        self.docker.ask(&[&run[..], options, &["busybox", "/bin/busybox", "sleep", "600"]].concat())
    }

    /// The address that it has.
    fn run(&self, network: &str, name: &str, options: &[&str]) -> Result<Ipv4Addr> {
        let (code, _, errors) = self.ask_for_container(network, name, options)?;
        ensure!(code == 0, "{errors}\n{}", self.weave.log());
        self.address(network, name)
    }

    fn address(&self, network: &str, name: &str) -> Result<Ipv4Addr> {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let address = self.docker.run(&["inspect", "--format", &format, name])?;
        address.trim().parse().with_context(|| format!("no address: {address}"))
    }

    fn ping(&self, from: &str, to: &str) -> Result<()> {
        eventually(SETTLED, &format!("{from} reaches {to}"), || {
            Ok(self.docker.exec(from, &format!("ping -c1 -W2 {to}")).is_ok())
        })?;
        Ok(())
    }

    /// Waits until a name leads to this and nothing else.
    fn wait_name(&self, name: &str, address: Option<Ipv4Addr>) -> Result<()> {
        let expected = address.map(|address| format!("{address}\n")).unwrap_or_default();
        eventually(SETTLED, &format!("{name} leads to {address:?}"), || {
            Ok(self.weave.run(&["dns-lookup", name])? == expected)
        })?;
        Ok(())
    }

    /// Waits until so many addresses are in use, and as many ports; without any nobody is shown.
    fn wait_in_use(&self, count: usize, patience: Duration) -> Result<()> {
        eventually(patience, &format!("{count} addresses are in use"), || {
            let ports = self.host.namespace().run("ip -o link show")?.matches(": vethwep").count();
            let held = self.weave.run(&["status", "ipam"])?.contains(&format!("({count} active)"));
            let shown = self.weave.run(&["ps"])?.lines().count() - 1;
            Ok(held && ports == count && (shown == 0) == (count == 0))
        })
        .with_context(|| self.weave.run(&["status", "ipam"]).unwrap_or_default())
        .map(drop)
    }
}

/// What came of `work`, which takes no longer than this; the figures of docs/docker.md.
fn took<T>(what: &str, most: Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let result = work()?;
    let elapsed = begin.elapsed();
    eprintln!("{what} took {elapsed:.1?}");
    ensure!(elapsed < most, "{what} took {elapsed:?}");
    Ok(result)
}

/// Two hosts of one mesh.
struct Stage {
    sites: [Site; 2],
    _net: Topology,
}

impl Stage {
    fn new() -> Result<Self> {
        let net = Topology::new()?;
        let hosts = [net.host()?, net.host()?];
        let second = Launch::new().peer(&hosts[0]);
        let [first_host, second_host] = hosts;
        let sites = [Site::new(first_host, Launch::new())?, Site::new(second_host, second)?];
        Ok(Self { sites, _net: net })
    }
}

#[test]
fn containers_of_two_hosts_meet_by_address_and_by_name() -> Result<()> {
    let Stage { sites: [one, two], _net } = &Stage::new()?;
    for site in [one, two] {
        site.make_network(&[], "net")?;
    }
    let web = one.run("net", "web", &["--network-alias", "front", "--cap-add", "NET_ADMIN"])?;
    let db = two.run("net", "db", &[])?;
    assert_ne!(web, db);

    one.ping("web", &db.to_string())?;
    two.ping("db", &web.to_string())?;
    for (name, address) in [("web", web), ("front", web), ("db", db)] {
        one.wait_name(name, Some(address))?;
        two.wait_name(name, Some(address))?;
    }
    one.ping("web", "db.weave.local")?;
    two.ping("db", "front.weave.local")?;
    // Nobody speaks for another.
    one.docker.exec("web", "ip address add 10.32.99.99/12 dev ethwe0")?;
    assert!(one.docker.exec("web", &format!("ping -c1 -W2 -I 10.32.99.99 {db}")).is_err());
    // One that was attached by hand is on the same network.
    let attached = one.host.container()?;
    let address = one.weave.run(&["attach", &attached.target()])?;
    ping_eventually(&attached, db, SETTLED)?;
    two.ping("db", address.trim())?;
    let id = one.docker.run(&["inspect", "--format", "{{.Id}}", "web"])?;
    let shown = one.weave.run(&["ps"])?;
    assert!(shown.lines().any(|line| line.starts_with(&id[..12]) && mentions(line, web)), "{shown}");

    one.weave.run(&["detach", &attached.target()])?;
    for (site, name) in [(one, "web"), (two, "db")] {
        site.docker.run(&["rm", "--force", name])?;
        site.wait_in_use(0, SETTLED)?;
        site.docker.run(&["network", "rm", "net"])?;
    }
    for name in ["web", "front", "db"] {
        one.wait_name(name, None)?;
    }
    Ok(())
}

#[test]
fn a_network_has_the_addresses_that_were_asked_for() -> Result<()> {
    let Stage { sites: [one, two], _net } = &Stage::new()?;
    let part = ["--subnet", "10.40.0.0/16", "--ip-range", "10.40.7.0/24"];
    one.make_network(&part, "part")?;
    two.make_network(&["--subnet", "10.40.0.0/16"], "whole")?;

    let given = one.run("part", "given", &[])?;
    assert_eq!(given.octets()[..3], [10, 40, 7]);
    let chosen = two.run("whole", "chosen", &["--ip", "10.40.9.9"])?;
    assert_eq!(chosen, Ipv4Addr::new(10, 40, 9, 9));
    one.ping("given", "10.40.9.9")?;
    let mask = one.docker.exec("given", "ip address show ethwe0")?;
    assert!(mask.contains(&format!("{given}/16")), "{mask}");

    let (code, _, taken) = one.ask_for_container("part", "taken", &["--ip", "10.40.9.9"])?;
    assert!(code != 0 && taken.contains("10.40.9.9"), "it is on the other host: {taken}");
    let (code, _, twice) = two.ask_for_container("whole", "twice", &["--ip", "10.40.9.9"])?;
    assert!(code != 0 && twice.contains("10.40.9.9"), "{twice}");
    for name in ["taken", "twice", "given", "chosen"] {
        let _ = one.docker.ask(&["rm", "--force", name])?;
        let _ = two.docker.ask(&["rm", "--force", name])?;
    }
    for site in [one, two] {
        site.wait_in_use(0, SETTLED)?;
    }
    Ok(())
}

#[test]
fn what_a_network_cannot_have_is_a_sentence() -> Result<()> {
    let Stage { sites: [one, _], _net } = &Stage::new()?;
    let refused = |options: &[&str]| {
        let (code, _, errors) = one.ask_for_network(options, "bad")?;
        ensure!(code != 0, "{options:?} were taken");
        Ok(errors)
    };
    one.make_network(&[], "net")?;

    for (options, sentence) in [
        (&[][..], "the default subnet 10.32.0.0/12 is taken"),
        (
            &["--subnet", "10.40.0.0/16", "--ipv6", "--subnet", "fd00::/64"],
            "there is no IPv6 on networks of weave-rs yet",
        ),
        (&["--subnet", "172.30.0.0/16"], "172.30.0.0/16 does not lie in --ipalloc-range 10.32.0.0/12"),
        (&["--subnet", "10.40.0.0/16", "--gateway", "10.40.0.1"], "have no gateway"),
        (&["--subnet", "10.40.0.0/16", "--opt", "works.weave.multicast=maybe"], "and not `maybe`"),
    ] {
        let errors = refused(options)?;
        assert!(errors.contains(sentence), "{options:?}: {errors}");
    }
    let docker = one.docker.ask(&["network", "create", "--driver", one.driver.name(), "bad"])?;
    assert!(docker.0 != 0 && docker.2.contains("--ipam-driver"), "{docker:?}");

    one.docker.run(&["network", "rm", "net"])?;
    // An engine that is given what the host has a route to asks for another, for ever; newer ones do not look.
    one.weave.run(&["expose"])?;
    match one.ask_for_network(&[], "bad")? {
        (0, ..) => drop(one.docker.run(&["network", "rm", "bad"])?),
        (_, _, errors) => assert!(errors.contains("the host has a route to it"), "{errors}"),
    }
    one.weave.run(&["hide"])?;
    one.make_network(&[], "again")
}

#[test]
fn a_container_that_runs_comes_to_a_network_and_leaves_it() -> Result<()> {
    let Stage { sites: [one, two], _net } = &Stage::new()?;
    // Docker lets no container be on two networks that overlap.
    one.make_network(&["--subnet", "10.33.0.0/16"], "net")?;
    one.make_network(&["--subnet", "10.40.0.0/16", "--opt", "works.weave.multicast=false"], "quiet")?;
    two.make_network(&["--subnet", "10.33.0.0/16"], "net")?;
    let db = two.run("net", "db", &[])?;
    one.docker.run_container("web")?;
    one.docker.run(&["network", "disconnect", "none", "web"])?;
    let routes = || one.docker.exec("web", "ip route");

    one.docker.run(&["network", "connect", "--alias", "front", "net", "web"])?;
    let web = one.address("net", "web")?;
    one.ping("web", &db.to_string())?;
    two.wait_name("front", Some(web))?;
    assert!(routes()?.contains("224.0.0.0/4 dev ethwe"), "{}", routes()?);
    one.docker.run(&["network", "connect", "quiet", "web"])?;
    one.wait_in_use(2, SETTLED)?;
    one.docker.run(&["network", "disconnect", "net", "web"])?;

    two.wait_name("front", None)?;
    two.wait_name("web", Some(one.address("quiet", "web")?))?;
    assert!(!routes()?.contains("224.0.0.0/4"), "{}", routes()?);
    one.wait_in_use(1, SETTLED)?;
    Ok(())
}

#[test]
fn many_containers_come_and_go_at_once() -> Result<()> {
    let net = Topology::new()?;
    let site = &Site::new(net.host()?, Launch::new())?;
    site.make_network(&[], "net")?;
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();

    let addresses = at_once(&names, |name| site.run("net", name, &[]))?;
    let addresses: BTreeSet<Ipv4Addr> = addresses.into_iter().collect();
    assert_eq!(addresses.len(), names.len(), "each has an address of its own");
    for (name, address) in
        names.iter().map(|name| Ok((name, site.address("net", name)?))).collect::<Result<Vec<_>>>()?
    {
        site.wait_name(name, Some(address))?;
    }

    let all: Vec<&str> = ["rm", "--force"].into_iter().chain(names.iter().map(String::as_str)).collect();
    site.docker.run(&all)?;
    site.wait_in_use(0, SETTLED)
}

#[test]
fn a_daemon_that_is_killed_loses_nothing() -> Result<()> {
    let Stage { sites: [mut one, two], _net } = Stage::new()?;
    one.make_network(&["--opt", "works.weave.multicast=false"], "net")?;
    two.make_network(&[], "net")?;
    let web = one.run("net", "web", &["--network-alias", "front"])?;
    let db = two.run("net", "db", &[])?;
    one.wait_name("front", Some(web))?;
    one.ping("web", &db.to_string())?;
    let before = one.weave.run(&["ps"])?;

    one.weave.kill()?;
    one.docker.exec("web", &format!("ping -c1 -W5 {db}"))?;
    one.weave.start()?;

    assert_eq!(one.weave.run(&["ps"])?, before, "the same container, MAC and address");
    one.wait_name("front", Some(web))?;
    two.ping("db", &web.to_string())?;
    assert_ne!(one.run("net", "next", &[])?, web, "its address is held");
    assert!(!one.docker.exec("next", "ip route")?.contains("224.0.0.0/4"), "the network is as it was made");
    for name in ["web", "next"] {
        one.docker.run(&["rm", "--force", name])?;
    }
    one.wait_in_use(0, SETTLED)?;
    Ok(())
}

#[test]
fn a_container_keeps_its_address_when_all_state_is_lost() -> Result<()> {
    let net = Topology::new()?;
    let mut site = Site::new(net.host()?, Launch::new())?;
    site.make_network(&[], "net")?;
    let web = site.run("net", "web", &["--network-alias", "front"])?;
    site.wait_name("front", Some(web))?;
    let before = site.weave.run(&["ps"])?;

    site.weave.kill()?;
    std::fs::remove_dir_all(site.weave.state_directory())?;
    site.weave.start()?;

    site.wait_name("front", Some(web))?;
    assert_eq!(site.weave.run(&["ps"])?, before, "the same id, MAC and address");
    let next = site.run("net", "next", &[])?;
    assert_ne!(next, web);
    site.ping("next", &web.to_string())?;
    for name in ["web", "next"] {
        site.docker.run(&["rm", "--force", name])?;
    }
    site.wait_in_use(0, SETTLED)
}

#[test]
fn an_engine_that_starts_again_comes_back_to_its_networks() -> Result<()> {
    let Stage { sites: [mut one, two], _net } = Stage::new()?;
    one.make_network(&[], "net")?;
    two.make_network(&[], "net")?;
    let db = two.run("net", "db", &[])?;
    one.run("net", "web", &["--restart", "always"])?;

    one.docker.stop()?;
    one.wait_in_use(0, SETTLED)?;
    one.docker.start()?;

    eventually(SETTLED, "it runs again", || Ok(one.docker.exec("web", "true").is_ok()))?;
    one.ping("web", &db.to_string())?;
    one.wait_in_use(1, SETTLED)
}

#[test]
fn without_the_daemon_docker_works_and_says_what_does_not() -> Result<()> {
    let Stage { sites: [mut one, _], _net } = Stage::new()?;
    one.make_network(&[], "net")?;
    one.make_network(&["--subnet", "10.40.0.0/16"], "empty")?;
    took("docker run with the daemon", GIVEN_UP, || one.run("net", "web", &[]))?;
    one.run("net", "other", &[])?;
    one.run("net", "brief", &[])?;
    took("docker rm --force with the daemon", GIVEN_UP, || one.docker.run(&["rm", "--force", "brief"]))?;
    one.wait_in_use(2, SETTLED)?;

    one.weave.kill()?;
    one.docker.run_container("alone")?;
    let refused = took("docker run", GIVEN_UP, || one.ask_for_container("net", "late", &[]))?;
    assert!(refused.0 != 0 && refused.2.contains("connection refused"), "{refused:?}");
    let removals =
        [("docker rm --force", vec!["rm", "--force", "web"]), ("docker network rm", vec!["network", "rm", "empty"])];
    at_once(removals, |(what, words)| took(what, 3 * GIVEN_UP, || one.docker.run(&words)))?;

    one.weave.start()?;
    one.wait_in_use(1, GRACE + SETTLED)?;
    one.docker.run(&["rm", "--force", "other"])?;
    one.wait_in_use(0, SETTLED)?;
    one.docker.run(&["network", "rm", "net"])?;
    Ok(())
}

#[test]
fn a_mesh_that_is_not_ready_answers_with_what_it_waits_for() -> Result<()> {
    let net = Topology::new()?;
    let site = Site::new(net.host()?, Launch::new().argument("--ipalloc-init=consensus=3"))?;
    site.make_network(&[], "net")?;

    let (code, _, errors) = site.ask_for_container("net", "web", &[])?;

    assert!(code != 0 && errors.contains("of waiting for"), "{errors}");
    Ok(())
}
