//! Clients that others wrote: Compose, with projects that know nothing of us and such that name our driver, and docker-py by
//! way of the proxy.
//!
//! ```text
//!   docker-compose ─► dockerd :h1 ─► weave-rs-runc, plugin ─► daemon ═══ daemon ◄─ … ◄─ dockerd :h2 ◄─ docker-compose
//!   docker-py ──────► proxy ──┘
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::docker::Site;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Topology, run};
use weave_netns_tests::weave::{Launch, program};

/// So long a start waits for the daemon, seconds.
const START_TIMEOUT: u32 = 10;
/// What docker-py's users do, each of it checked.
const BASICS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/basics.py");

/// No container of a site is on the network.
fn wait_unused(site: &Site) -> Result<()> {
    site.weave.wait_unused(SETTLED)?;
    eventually(SETTLED, "no container is shown", || Ok(site.weave.run(&["ps"])?.lines().count() == 1))
        .with_context(|| site.weave.run(&["ps"]).unwrap_or_default())
        .map(drop)
}

/// A project of Compose in a directory of its own.
struct Project<'a> {
    directory: PathBuf,
    site: &'a Site,
}

impl<'a> Project<'a> {
    fn new(site: &'a Site, name: &str, text: &str) -> Result<Self> {
        let directory = site.host.directory().join(name);
        std::fs::create_dir(&directory)?;
        std::fs::write(directory.join("compose.yaml"), text)?;
        Ok(Self { directory, site })
    }

    /// Of one service of this name, on a network of our driver.
    fn on_ours(site: &'a Site, name: &str) -> Result<Self> {
        let driver = site.driver.name();
        let networks = format!("networks:\n  default:\n    driver: {driver}\n    ipam:\n      driver: {driver}\n");
        let resolves = ["dns: 169.254.65.53", "dns_search: weave.local"];
        Self::new(site, name, &services(&[name], &resolves, &networks))
    }

    fn compose(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(installed("docker-compose")?);
        command.current_dir(&self.directory).env("DOCKER_HOST", self.site.docker.socket()).args(words);
        run(&mut command).with_context(|| self.site.weave.log())
    }

    /// Runs a command in the first container of a service until it succeeds.
    fn succeeds(&self, service: &str, script: &str) -> Result<()> {
        let shell = ["exec", "-T", service, "/bin/busybox", "sh", "-c", script];
        let mut last = String::new();
        eventually(SETTLED, &format!("in {service}: {script}"), || {
            last = self.compose(&shell).map_or_else(|error| error.to_string(), |_| String::new());
            Ok(last.is_empty())
        })
        .with_context(|| last)
        .map(drop)
    }
}

/// A program of what `make test` installs from PyPI.
fn installed(name: &str) -> Result<PathBuf> {
    program(&Path::new("clients/bin").join(name).display().to_string()).context("`make test-clients` installs it")
}

/// Services that do nothing, of which each has these settings, and what the whole project has besides.
fn services(names: &[&str], settings: &[&str], networks: &str) -> String {
    let lines = ["image: busybox", "command: /bin/busybox sleep 600", "stop_grace_period: 0s"];
    let body: String = lines.iter().chain(settings).map(|line| format!("    {line}\n")).collect();
    let services: String = names.iter().map(|name| format!("  {name}:\n{body}")).collect();
    format!("services:\n{services}{networks}")
}

#[test]
fn a_project_that_knows_nothing_of_us_keeps_dockers_names() -> Result<()> {
    let net = Topology::new()?;
    let site = Site::new(net.host()?, Launch::new(), START_TIMEOUT)?;
    let project = Project::new(&site, "plain", &services(&["web", "db"], &[], ""))?;

    project.compose(&["up", "--detach"])?;
    project.succeeds("web", "ping -c1 -W2 db && ! ip link show ethwe")?;
    project.compose(&["down"])?;

    // Who asks for an address has it beside the project's own network.
    let asks = ["environment: {WEAVE_CIDR: 10.32.0.77/12}"];
    let asking = Project::new(&site, "asking", &services(&["web"], &asks, ""))?;
    asking.compose(&["up", "--detach"])?;
    asking.succeeds("web", "ip address show ethwe | grep 'inet 10.32.0.77/12' && ip link show eth0")?;
    asking.compose(&["restart"])?;
    asking.succeeds("web", "ip address show ethwe | grep 'inet 10.32.0.77/12'")?;
    asking.compose(&["down"])?;
    wait_unused(&site)
}

#[test]
fn projects_of_two_hosts_meet_on_a_network_of_our_driver() -> Result<()> {
    let net = Topology::new()?;
    let hosts = [net.host()?, net.host()?];
    let second = Launch::new().peer(&hosts[0]);
    let [first_host, second_host] = hosts;
    let (one, two) =
        (Site::new(first_host, Launch::new(), START_TIMEOUT)?, Site::new(second_host, second, START_TIMEOUT)?);
    let (front, back) = (Project::on_ours(&one, "front")?, Project::on_ours(&two, "back")?);
    let addresses =
        |site: &Site, name: &str| -> Result<usize> { Ok(site.weave.run(&["dns-lookup", name])?.lines().count()) };
    let wait_addresses = |name: &str, count: usize| {
        eventually(SETTLED, &format!("{name} leads to {count}"), || Ok(addresses(&one, name)? == count))?;
        eventually(SETTLED, &format!("{name} leads to {count}"), || Ok(addresses(&two, name)? == count))
    };

    front.compose(&["up", "--detach"])?;
    back.compose(&["up", "--detach"])?;
    front.succeeds("front", "ping -c1 -W2 back.weave.local")?;
    back.succeeds("back", "ping -c1 -W2 front.weave.local")?;
    back.compose(&["up", "--detach", "--scale", "back=3"])?;
    wait_addresses("back", 3)?;
    back.compose(&["up", "--detach", "--scale", "back=1"])?;
    wait_addresses("back", 1)?;

    front.compose(&["down"])?;
    back.compose(&["down"])?;
    for (site, name) in [(&one, "front"), (&two, "back")] {
        wait_unused(site)?;
        wait_addresses(name, 0)?;
    }
    Ok(())
}

#[test]
fn what_docker_py_does_goes_through_the_proxy() -> Result<()> {
    let net = Topology::new()?;
    let site = Site::new(net.host()?, Launch::new(), START_TIMEOUT)?;

    let mut command = Command::new(installed("python")?);
    command.arg(BASICS).env("DOCKER_HOST", format!("unix://{}", site.proxy.display()));
    let said = run(&mut command).with_context(|| site.weave.log())?;

    ensure!(said.trim() == "all of it works", "{said}");
    wait_unused(&site)
}
