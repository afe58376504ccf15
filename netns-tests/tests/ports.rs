//! Peers that listen at different ports: each is sent VXLAN at the port above its own.
//!
//! ```text
//!   h1 --port 7000 ◄──── h2 (6783)        h3 --port 7000
//! ```

use std::net::Ipv4Addr;

use anyhow::Result;
use weave_netns_tests::frame::{self, BROADCAST};
use weave_netns_tests::probe::{Capture, PacketSocket, throughout};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::Launch;

#[test]
fn hosts_with_one_and_with_different_ports_use_the_fast_path() -> Result<()> {
    let scene = Scene::with(Topology::new()?, 3, |number, hosts| {
        let first = hosts[0].address();
        match number {
            0 => Launch::new().argument("--port").argument("7000"),
            1 => Launch::new().argument(&format!("{first}:7000")),
            _ => Launch::new().argument("--port").argument("7000").argument(&first.to_string()),
        }
    })?;

    scene.wait_carrier("fastdp")?;

    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        scene.ping_both_ways(one, other)?;
    }
    for from in 0..3 {
        assert_a_broadcast_arrives_once(&scene, from)?;
    }
    Ok(())
}

/// To both other containers.
fn assert_a_broadcast_arrives_once(scene: &Scene, from: usize) -> Result<()> {
    let others = scene.containers.iter().enumerate().filter(|(number, _)| *number != from);
    let captures = others.map(|(_, to)| Capture::start(to.namespace(), "ethwe")).collect::<Result<Vec<_>>>()?;
    let mac = scene.containers[from].mac()?;
    let packet = frame::udp((scene.address(from), 9), (Ipv4Addr::BROADCAST, 9), &[from as u8; 40]);
    let broadcast = frame::ethernet(BROADCAST, mac, frame::IPV4, &packet);

    PacketSocket::open(scene.containers[from].namespace(), "ethwe")?.send(&broadcast)?;

    for capture in &captures {
        capture.wait("the broadcast", SETTLED, |seen| seen == broadcast)?;
    }
    throughout(std::time::Duration::from_millis(300), "one copy each", || {
        Ok(captures.iter().all(|capture| capture.count(|seen| seen == broadcast) == 1))
    })
}
