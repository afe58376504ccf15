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
