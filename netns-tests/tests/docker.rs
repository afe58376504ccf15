//! A container of a real `dockerd`, attached by its name.
//!
//! ```text
//!   h1: dockerd (own socket, own data), container `web`        h2 ── 10.32.0.2
//! ```

use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::docker::Docker;
use weave_netns_tests::probe::{eventually, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::{Launch, Weave};

/// How soon news of Docker arrive, and what the commands of a busy machine take.
const NOTICED: Duration = Duration::from_secs(4);

#[test]
fn a_docker_container_is_attached_by_name() -> Result<()> {
    let net = Topology::new()?;
    let hosts = vec![net.host()?, net.host()?];
    let docker = Docker::start_on(&hosts[0])?;
    docker.run_container("web")?;
    let socket = docker.socket();
    let scene = Scene::on(net, hosts, |number, hosts| match number {
        0 => Launch::new().environment("DOCKER_HOST", &socket),
        _ => Launch::new().peer(&hosts[0]),
    })?;

    assert_eq!(scene.weaves[0].run(&["attach", "10.32.0.80/12", "web"])?, "10.32.0.80\n");

    ping_eventually(&scene.containers[1], std::net::Ipv4Addr::new(10, 32, 0, 80), SETTLED)?;
    docker.exec("web", "ping -c1 -W2 10.32.0.2")?;
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
    let docker = Docker::start_on(&host)?;
    docker.run_container("web")?;
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
    docker.run_container("web")?;
    assert_eq!(weave.run(&["attach", "web"])?, address, "the lowest free address is given");
    weave.kill()?;
    docker.run(&["rm", "--force", "web"])?;
    weave.start()?;
    eventually(SETTLED, "the vanished container's address is free", || {
        Ok(weave.run(&["status", "ipam"])?.contains("(1 active)"))
    })?;
    Ok(())
}

#[test]
fn a_container_that_was_attached_by_hand_is_so_at_every_start_until_it_is_detached_or_removed() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let docker = Docker::start_on(&host)?;
    let mut weave = Weave::launch(&host, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;
    let has = |name: &str, address: &str| {
        let shown = docker.exec(name, "ip address show")?;
        Ok(shown.contains(&format!("inet {address}/")))
    };
    for name in ["web", "last"] {
        docker.run_container(name)?;
    }
    weave.run(&["attach", "10.99.0.7/24", "net:default", "web"])?;
    let address = weave.run(&["attach", "web"])?;
    let address = address.trim();
    weave.run(&["attach", "last"])?;

    docker.run(&["restart", "--time", "0", "web"])?;
    eventually(SETTLED, "it has both again", || Ok(has("web", "10.99.0.7")? && has("web", address)?))?;
    let name = weave.run(&["dns-lookup", "web"])?;
    assert!(name.contains(address), "{name}");

    // Also what happens while nobody listens, and however long it does not run.
    docker.run(&["stop", "--time", "0", "web"])?;
    weave.kill()?;
    docker.run(&["start", "web"])?;
    weave.start()?;
    eventually(SETTLED, "it has both once more", || Ok(has("web", "10.99.0.7")? && has("web", address)?))?;

    weave.run(&["detach", "10.99.0.7/24", "web"])?;
    docker.run(&["restart", "--time", "0", "web"])?;
    eventually(SETTLED, "it has the other one", || has("web", address))?;
    assert!(!has("web", "10.99.0.7")?);
    weave.run(&["detach", "web"])?;
    docker.run(&["restart", "--time", "0", "web"])?;
    docker.run(&["restart", "--time", "0", "last"])?;
    let last = weave.run(&["attach", "last"])?;
    eventually(SETTLED, "whoever started later is attached", || has("last", last.trim()))?;
    assert!(!docker.exec("web", "ip link")?.contains("ethwe"), "it was detached");

    weave.run(&["attach", "web"])?;
    docker.run(&["rm", "--force", "web"])?;
    eventually(SETTLED, "the removed container's address is free", || {
        Ok(weave.run(&["status", "ipam"])?.contains("(1 active)"))
    })?;
    Ok(())
}

#[test]
fn an_engine_that_starts_late_or_again_is_noticed_at_once() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut docker = Docker::prepare(&host)?;
    let weave = Weave::launch(&host, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;

    for _ in 0..2 {
        docker.start()?;
        docker.run_container("web")?;
        weave.run(&["attach", "web"])?;
        let active = || Ok(weave.run(&["status", "ipam"])?.contains("(1 active)"));
        eventually(NOTICED, "the address is in use", active)?;
        docker.run(&["rm", "--force", "web"])?;
        eventually(NOTICED, "the removed container's address is free", || Ok(!active()?))?;
        docker.stop()?;
    }
    Ok(())
}

#[test]
fn a_container_of_dockers_is_found_by_its_id_and_called_by_its_name_when_all_state_is_lost() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let docker = Docker::start_on(&host)?;
    docker.run_container("web")?;
    let mut weave = Weave::launch(&host, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;
    let address = weave.run(&["attach", "web"])?;
    let before = weave.run(&["ps"])?;

    weave.kill()?;
    std::fs::remove_dir_all(weave.state_directory())?;
    weave.start()?;

    assert_eq!(weave.run(&["ps"])?, before, "the same id, MAC and address");
    eventually(NOTICED, "its name is back", || Ok(weave.run(&["dns-lookup", "web.weave.local"])? == address))?;
    assert_ne!(weave.run(&["attach", &host.container()?.target()])?, address);
    assert_eq!(weave.run(&["attach", "web"])?, address, "it is the same container");
    docker.run(&["rm", "--force", "web"])?;
    eventually(SETTLED, "the removed container's address is free", || {
        Ok(weave.run(&["attach", &host.container()?.target()])? == address)
    })?;
    Ok(())
}

#[test]
fn the_address_of_a_container_that_does_not_run_is_given_to_whoever_asks_for_it() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let docker = Docker::start_on(&host)?;
    for name in ["one", "two", "three"] {
        docker.run_container(name)?;
    }
    let weave = Weave::launch(&host, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;
    let attach = |address: &str, name: &str| weave.ask(&["attach", address, name]);
    weave.run(&["attach", "10.2.1.44/24", "10.32.0.44/12", "one"])?;
    weave.run(&["attach", "10.32.0.45/12", "two"])?;
    let refused = attach("10.32.0.44/12", "three")?;
    assert_eq!(refused.code, 1, "a running container keeps its address: {refused:?}");

    docker.run(&["stop", "--time", "0", "one"])?;
    docker.run(&["rm", "--force", "two"])?;
    for address in ["10.2.1.44/24", "10.32.0.44/12", "10.32.0.45/12"] {
        let given = attach(address, "three")?;
        assert_eq!(given.code, 0, "{address}: {given:?}");
    }

    docker.run(&["start", "one"])?;
    let again = attach("10.32.0.44/12", "one")?;
    assert!(again.code == 1 && again.stderr.contains("10.32.0.44"), "it belongs to another now: {again:?}");
    let other = weave.run(&["attach", "one"])?;
    assert_ne!(other, "10.32.0.44\n");

    // What does not run can be detached, by name, by the beginning of its id, and when it is gone.
    let id = docker.run(&["inspect", "--format", "{{.Id}}", "one"])?;
    docker.run(&["stop", "--time", "0", "one"])?;
    assert_eq!(weave.run(&["detach", "one"])?, other);
    assert_eq!(weave.run(&["detach", &id[..12]])?, "\n", "twice is once");
    let container = host.container()?;
    let last = weave.run(&["attach", &container.target()])?;
    let target = container.target();
    drop(container);
    weave.run(&["attach", &format!("{}/12", last.trim()), "three"])?;
    assert_eq!(weave.ask(&["detach", &target])?.code, 0);
    Ok(())
}

/// Two containers in one namespace: one port, each with its own name, kept until the last is gone.
#[test]
fn containers_that_share_a_network_have_one_address_and_a_name_each() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let docker = Docker::start_on(&host)?;
    let mut weave = Weave::launch(&host, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;
    let share = |name: &str| {
        let side = ["run", "--detach", "--network", "container:base", "--name", name];
        docker.run(&[&side[..], &["busybox", "/bin/busybox", "sleep", "600"]].concat())
    };
    docker.run_container("base")?;
    share("side")?;
    let address = weave.run(&["attach", "base"])?;
    assert_eq!(weave.run(&["attach", "side"])?, address);
    let names = |weave: &Weave| -> Result<Vec<bool>> {
        let found = |name| Ok(weave.run(&["dns-lookup", name])?.contains(address.trim()));
        ["base", "side"].into_iter().map(found).collect()
    };
    eventually(SETTLED, "both names lead to it", || Ok(names(&weave)? == [true, true]))?;

    docker.run(&["rm", "--force", "base"])?;
    eventually(SETTLED, "the name of the one is gone, and not the other's", || Ok(names(&weave)? == [false, true]))?;
    weave.kill()?;
    weave.start()?;
    let next = host.container()?;
    assert_ne!(weave.run(&["attach", &next.target()])?, address, "the other one has it still");
    weave.run(&["expose"])?;
    assert_eq!(weave.run(&["attach", "side"])?, address);
    assert_eq!(names(&weave)?, [false, true]);

    docker.run(&["rm", "--force", "side"])?;
    eventually(SETTLED, "the address is free with the last of them", || {
        Ok(weave.run(&["status", "ipam"])?.contains("(2 active)"))
    })?;
    Ok(())
}
