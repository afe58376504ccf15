//! Broadcast and multicast reach every container exactly once, whatever carries them.
//!
//! ```text
//!   h1 ── 10.32.0.1 (sends), 10.32.0.11
//!   h2 ── 10.32.0.2          h3 ── 10.32.0.3
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::frame::{self, BROADCAST, Mac};
use weave_netns_tests::probe::{Capture, PacketSocket, eventually, throughout};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Container, Fault};
use weave_netns_tests::weave::Launch;

#[test]
fn floods_arrive_exactly_once_over_the_fast_path() -> Result<()> {
    let scene = Scene::new(3, &Launch::new())?;
    scene.wait_carrier("fastdp")?;

    assert_floods_arrive_once(&scene)
}

#[test]
fn floods_arrive_exactly_once_over_sleeve() -> Result<()> {
    let scene = Scene::new(3, &Launch::new().password("correct horse battery"))?;
    scene.wait_carrier("sleeve")?;

    assert_floods_arrive_once(&scene)
}

#[test]
fn a_querier_and_a_demotion_starve_nobody() -> Result<()> {
    let scene = Scene::new(3, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    // A snooping bridge would now send groups only where a router or a member was heard.
    let querier = PacketSocket::open(scene.containers[1].namespace(), "ethwe")?;
    let mac = scene.containers[1].mac()?;
    querier.send(&frame::igmp_query(mac, scene.address(1)))?;
    querier.send(&frame::mld_query(mac, frame::link_local(mac)))?;

    assert_floods_arrive_once(&scene)?;

    scene.net.set_faults(&[Fault::UdpPortBetween(scene.hosts[0].address(), scene.hosts[1].address(), 6784)])?;
    scene.weaves[0].wait_path(&scene.weaves[1], "sleeve", SETTLED)?;
    scene.weaves[1].wait_path(&scene.weaves[0], "sleeve", SETTLED)?;
    querier.send(&frame::igmp_query(mac, scene.address(1)))?;
    querier.send(&frame::mld_query(mac, frame::link_local(mac)))?;
    assert_floods_arrive_once(&scene)
}

/// How many frames of each kind.
const ROUNDS: u8 = 10;
/// In which a second copy would have come.
const QUIET: Duration = Duration::from_millis(500);

/// The container of the first host sends each kind of frame to all; everybody else gets each one once.
fn assert_floods_arrive_once(scene: &Scene) -> Result<()> {
    let beside = scene.weaves[0].container(&scene.hosts[0], Ipv4Addr::new(10, 32, 0, 11))?;
    let listeners: Vec<&Container> = scene.containers[1..].iter().chain([&beside]).collect();
    let captures = listeners.iter().map(|to| Capture::start(to.namespace(), "ethwe")).collect::<Result<Vec<_>>>()?;
    let sender = PacketSocket::open(scene.containers[0].namespace(), "ethwe")?;
    let mac = scene.containers[0].mac()?;

    let frames: Vec<_> = (0..ROUNDS).flat_map(|round| frames_for_all(mac, scene.address(0), round)).collect();
    for frame in &frames {
        sender.send(frame)?;
    }

    let copies = |capture: &Capture, frame: &[u8]| capture.count(|seen| seen == frame);
    for (capture, to) in captures.iter().zip(&listeners) {
        for frame in &frames {
            eventually(SETTLED, &format!("{to} gets {frame:02x?}"), || Ok(copies(capture, frame) > 0))?;
        }
    }
    throughout(QUIET, "one copy each", || {
        Ok(captures.iter().all(|capture| frames.iter().all(|frame| copies(capture, frame) == 1)))
    })?;
    scene.weaves[0].run(&["detach", "10.32.0.11/12", &beside.target()])?;
    Ok(())
}

/// A broadcast, an IPv4 multicast and an IPv6 multicast, each unlike those of other rounds.
fn frames_for_all(mac: Mac, address: Ipv4Addr, round: u8) -> Vec<Vec<u8>> {
    let payload = [round; 40];
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let group6 = "ff15::123".parse().unwrap_or(std::net::Ipv6Addr::LOCALHOST);
    let echo = [&[128, 0, 0, 0, 0, round][..], &payload].concat();
    vec![
        frame::ethernet(BROADCAST, mac, frame::IPV4, &frame::udp((address, 9), (Ipv4Addr::BROADCAST, 9), &payload)),
        frame::ethernet([1, 0, 0x5e, 1, 2, 3], mac, frame::IPV4, &frame::udp((address, 9), (group, 9), &payload)),
        frame::ethernet(
            [0x33, 0x33, 0, 0, 1, 0x23],
            mac,
            frame::IPV6,
            &frame::icmpv6(frame::link_local(mac), group6, 5, &[], &echo),
        ),
    ]
}
