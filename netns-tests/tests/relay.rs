//! Three hosts of which the outer two cannot reach each other at all.
//!
//! ```text
//!   h1 (A) ──────── h2 (B) ──────── h3 (C)
//!     └───────────── ✂ ──────────────┘      B relays what it cannot read
//! ```

use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::{Capture, TcpStreamProbe, eventually, ping, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Fault, Topology};
use weave_netns_tests::weave::Launch;

const PASSWORD: &str = "correct horse battery";

#[test]
fn a_relay_carries_frames_that_it_cannot_read() -> Result<()> {
    let scene = apart(&Launch::new().password(PASSWORD))?;
    scene.wait_known()?;
    let [at_source, at_relay] = [
        Capture::start(scene.containers[0].namespace(), "ethwe")?,
        Capture::start(scene.hosts[1].namespace(), "eth0")?,
    ];
    ping_eventually(&scene.containers[0], scene.address(2), SETTLED)?;

    let before = scene.net.bytes_on_the_wire()?;
    let stream = TcpStreamProbe::start(&scene.containers[0], &scene.containers[2], scene.address(2))?;
    eventually(SETTLED, "half a megabyte through the relay", || Ok(stream.received() > 500_000))?;
    stream.finish()?;
    // Once to the relay, and once from it.
    assert!(scene.net.bytes_on_the_wire()? - before > 1_000_000, "the relay did carry it");

    let plaintext: Vec<u8> = (0..64).collect();
    assert!(at_source.contains(&plaintext), "the container did send it");
    // On a busy machine not all of them are.
    assert!(at_relay.count(|frame| frame.len() > 1_000) > 30, "what it carried was captured");
    assert!(!at_relay.contains(&plaintext), "the relay saw plaintext");
    Ok(())
}

#[test]
fn a_relay_serves_a_mesh_without_discovery() -> Result<()> {
    let scene = apart(&Launch::new().password(PASSWORD).argument("--no-discovery"))?;
    scene.wait_known()?;

    ping_eventually(&scene.containers[0], scene.address(2), SETTLED)?;
    scene.ping_both_ways(2, 0)?;

    let connections = scene.weaves[0].run(&["status", "connections"])?;
    let stranger = scene.hosts[2].address().to_string();
    assert!(!connections.contains(&stranger), "A was not told to look for C: {connections}");
    Ok(())
}

#[test]
fn a_relay_serves_a_mesh_without_a_password() -> Result<()> {
    let scene = apart(&Launch::new())?;
    scene.wait_known()?;

    ping_eventually(&scene.containers[0], scene.address(2), SETTLED)?;

    let path = scene.weaves[0].path_to(&scene.weaves[2])?;
    assert!(path.contains("sleeve"), "no fast path leads through a relay: {path}");
    Ok(())
}

#[test]
fn a_direct_path_replaces_the_relay_when_the_firewall_opens() -> Result<()> {
    let scene = apart(&Launch::new())?;
    scene.wait_known()?;
    ping_eventually(&scene.containers[0], scene.address(2), SETTLED)?;

    scene.net.set_faults(&[])?;

    eventually(Duration::from_secs(30), "A reaches C by the fast path", || {
        ping(&scene.containers[0], scene.address(2))?;
        Ok(scene.weaves[0].path_to(&scene.weaves[2])?.contains("fastdp"))
    })?;
    Ok(())
}

/// A and C cannot exchange a packet; both dial B.
fn apart(launch: &Launch) -> Result<Scene> {
    let net = Topology::new()?;
    let hosts = (0..3).map(|_| net.host()).collect::<Result<Vec<_>>>()?;
    net.set_faults(&[Fault::Between(hosts[0].address(), hosts[2].address())])?;
    Scene::on(net, hosts, |number, hosts| if number == 1 { launch.clone() } else { launch.clone().peer(&hosts[1]) })
}
