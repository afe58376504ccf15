//! What a container says to many: within a budget, and to its own subnet.
//!
//! ```text
//!   h1 ─┬─ 10.32.0.1                      h2 ── 10.32.0.2
//!       └─ 10.32.0.66 (shouts)
//!   h1 ─┬─ 10.2.1.1/24                    h2 ─┬─ 10.2.1.2/24
//!       └─ 10.2.2.1/24                        └─ 10.2.2.2/24
//! ```

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use weave_netns_tests::frame::{self, BROADCAST, Mac};
use weave_netns_tests::probe::{Capture, PacketSocket, ping, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Container;
use weave_netns_tests::weave::Launch;

const SHOUTER: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 66);
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 1, 2, 3), 9);
const GROUP_MAC: Mac = [1, 0, 0x5e, 1, 2, 3];
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
/// How many frames a second a port may send to many, and how many at once.
const RATE: f64 = 2_000.0;
const BURST: f64 = 4_000.0;

#[test]
fn a_container_that_shouts_starves_no_neighbour() -> Result<()> {
    let scene = Scene::new(2, &Launch::new().password("correct horse battery"))?;
    scene.wait_carrier("sleeve")?;
    let shouter = scene.weaves[0].container(&scene.hosts[0], SHOUTER)?;
    ping_eventually(&shouter, scene.address(1), SETTLED)?;
    let socket = PacketSocket::open(shouter.namespace(), "ethwe")?;
    let shout = frame::ethernet(
        GROUP_MAC,
        shouter.mac()?,
        frame::IPV4,
        &frame::udp((SHOUTER, 9), GROUP, b"everybody listen to me"),
    );
    let capture = Capture::start(scene.containers[1].namespace(), "ethwe")?;
    let (done, begin) = (AtomicBool::new(false), Instant::now());

    let (shouted, answered) = std::thread::scope(|scope| {
        let shouting = scope.spawn(|| {
            let mut shouted = 0_u32;
            while !done.load(Ordering::Relaxed) {
                shouted += u32::from(socket.send(&shout).is_ok());
            }
            shouted
        });
        let ping = format!("ping -n -q -c40 -i0.05 -W1 {}", scene.address(1));
        let pings = scene.containers[0].namespace().run(&ping);
        done.store(true, Ordering::Relaxed);
        (shouting.join().unwrap_or_default(), pings)
    });

    let heard = capture.count(|seen| seen == shout);
    let budget = RATE.mul_add(begin.elapsed().as_secs_f64(), 2.0 * BURST);
    assert!(heard > 0 && (heard as f64) < budget, "{heard} of {shouted} were heard");
    assert!(f64::from(shouted) > 2.0 * budget, "no storm: {shouted}");
    let answered = answered?;
    assert!(answered.contains(" 0% packet loss"), "{answered}");
    let ruleset = scene.hosts[0].namespace().run("nft list table netdev weave-rs-weave")?;
    let counted = ruleset.lines().filter(|line| line.contains("pkttype") && line.contains("limit rate over 2000"));
    assert!(counted.filter(|line| !line.contains("counter packets 0 ")).count() == 1, "{ruleset}");
    Ok(())
}

/// What one of `subnet` says to all, in all ways.
fn shouts(from: &Container, own: Ipv4Addr) -> Result<Vec<Vec<u8>>> {
    let mac = from.mac()?;
    let echo = [&[128, 0, 0, 0, 0, 1, 0, 1][..], &own.octets()].concat();
    let all_nodes = "ff02::1".parse()?;
    Ok(vec![
        frame::gratuitous_arp(mac, own, mac),
        frame::ethernet(
            ALL_NODES_MAC,
            mac,
            frame::IPV6,
            &frame::icmpv6(frame::link_local(mac), all_nodes, 255, &[], &echo),
        ),
        frame::ethernet(GROUP_MAC, mac, frame::IPV4, &frame::udp((own, 9), GROUP, b"to a group of many of us")),
        frame::ethernet(
            BROADCAST,
            mac,
            frame::IPV4,
            &frame::udp((own, 9), (Ipv4Addr::BROADCAST, 9), b"to everybody who is here"),
        ),
    ])
}

#[test]
fn containers_of_another_subnet_hear_nothing_of_ours() -> Result<()> {
    for launch in [Launch::new(), Launch::new().password("correct horse battery")] {
        let scene = Scene::new(2, &launch)?;
        scene.wait_known()?;
        let mut placed = Vec::new();
        for (host, own) in [(0, [10, 2, 1, 1]), (1, [10, 2, 1, 2]), (0, [10, 2, 2, 1]), (1, [10, 2, 2, 2])] {
            let (container, own) = (scene.hosts[host].container()?, Ipv4Addr::from(own));
            scene.weaves[host].attach(&container, &format!("{own}/24"))?;
            placed.push((container, own));
        }
        ping_eventually(&placed[0].0, placed[1].1, SETTLED)?;
        ping_eventually(&placed[2].0, placed[3].1, SETTLED)?;
        let captures = placed.iter().map(|(container, _)| Capture::start(container.namespace(), "ethwe"));
        let captures = captures.collect::<Result<Vec<_>>>()?;

        for (at, (container, own)) in placed.iter().enumerate() {
            let (said, near) = (shouts(container, *own)?, at ^ 1);
            let socket = PacketSocket::open(container.namespace(), "ethwe")?;
            said.iter().try_for_each(|frame| socket.send(frame))?;
            captures[near].wait("the last, in its own subnet", SETTLED, |seen| seen == said[3])?;
            // Sent behind it over the same path, by one whom the far containers hear.
            ping(&placed[at ^ 2].0, placed[at ^ 3].1)?;
            for far in [at ^ 2, at ^ 3] {
                assert_eq!(
                    captures[far].count(|seen| said.iter().any(|frame| seen.starts_with(frame))),
                    0,
                    "{at} at {far}"
                );
            }
            // Bridges that answer ARP themselves let no gratuitous one through, so of that there is nothing to hear.
            let to_group = captures[near].count(|seen| seen.starts_with(&said[2]));
            assert_eq!(to_group, 1, "what {at} said to its group, at {near}");
        }
    }
    Ok(())
}

#[test]
fn where_all_are_in_one_subnet_nobody_pays_for_it() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    let chains = |host: usize| scene.hosts[host].namespace().run("nft list chains netdev");
    assert!(!chains(0)?.contains("-out"), "{}", chains(0)?);
    assert!(!chains(1)?.contains("-out"), "{}", chains(1)?);
    Ok(())
}
