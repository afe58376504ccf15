//! A container that lies, and a stranger on the underlay.
//!
//! ```text
//!   h1 ── 10.32.0.1 (victim)        h2 ── 10.32.0.2 (remote)
//!    └─── 10.32.0.66 (hostile)
//!   h3 (no daemon, or no member: clear VXLAN to h1:6784)
//! ```

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use weave_netns_tests::frame::{self, BROADCAST, Mac, ROUTER_ALERT, link_local};
use weave_netns_tests::probe::{Capture, PacketSocket, throughout};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Container, Namespace};
use weave_netns_tests::weave::Launch;

const HOSTILE: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 66);
/// In which a forgery would have arrived.
const QUIET: Duration = Duration::from_millis(700);

#[test]
fn no_forgery_is_delivered_and_nobody_is_cut_off() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    assert_forgeries_fail(&scene)
}

#[test]
fn no_forgery_is_delivered_over_sleeve_either() -> Result<()> {
    let scene = Scene::new(2, &Launch::new().password("correct horse battery"))?;
    scene.wait_carrier("sleeve")?;
    assert_forgeries_fail(&scene)
}

#[test]
fn clear_vxlan_from_a_stranger_is_dropped() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let stranger = scene.net.host()?;
    let vni = vxlan_network(scene.hosts[0].namespace())?;
    let capture = Capture::start(scene.containers[0].namespace(), "ethwe")?;
    let payload = |mark: u8| frame::udp((scene.address(1), 9), (Ipv4Addr::BROADCAST, 9), &[mark; 40]);
    let inner = |mark: u8| frame::ethernet(BROADCAST, [2, 9, 9, 9, 9, mark], frame::IPV4, &payload(mark));

    send_vxlan(scene.hosts[1].namespace(), scene.hosts[0].address(), vni, &inner(1))?;
    capture.wait("a member's frame, so that silence means something", SETTLED, |seen| seen == inner(1))?;
    send_vxlan(stranger.namespace(), scene.hosts[0].address(), vni, &inner(2))?;

    throughout(QUIET, "the stranger is not heard", || Ok(capture.count(|seen| seen == inner(2)) == 0))?;
    let rules = scene.hosts[0].namespace().run("nft list chain inet weave-rs-weave fastpath")?;
    assert!(rules.contains("counter packets 1 "), "its datagram is counted: {rules}");
    Ok(())
}

#[test]
fn with_a_password_clear_vxlan_is_dropped_from_members_too() -> Result<()> {
    let scene = Scene::new(2, &Launch::new().password("correct horse battery"))?;
    scene.wait_carrier("sleeve")?;
    let capture = Capture::start(scene.containers[0].namespace(), "ethwe")?;
    let links = scene.hosts[0].namespace().run("ip -o link")?;
    assert!(!links.contains("weave-vx"), "no trusted pair, no VXLAN device: {links}");

    for vni in [0, 1, 42] {
        let payload = frame::udp((scene.address(1), 9), (Ipv4Addr::BROADCAST, 9), &[9; 40]);
        let inner = frame::ethernet(BROADCAST, [2, 9, 9, 9, 9, 9], frame::IPV4, &payload);
        send_vxlan(scene.hosts[1].namespace(), scene.hosts[0].address(), vni, &inner)?;
    }

    throughout(QUIET, "nothing is heard", || Ok(capture.count(|seen| seen.ends_with(&[9; 40])) == 0))?;
    scene.ping_both_ways(0, 1)
}

fn assert_forgeries_fail(scene: &Scene) -> Result<()> {
    let hostile = scene.weaves[0].container(&scene.hosts[0], HOSTILE)?;
    scene.ping_both_ways(0, 1)?;
    let socket = PacketSocket::open(hostile.namespace(), "ethwe")?;
    let [victim, remote] = [&scene.containers[0], &scene.containers[1]];
    let captures = [Capture::start(victim.namespace(), "ethwe")?, Capture::start(remote.namespace(), "ethwe")?];
    let macs = Macs { own: hostile.mac()?, victim: victim.mac()?, remote: remote.mac()? };
    let own = frame::udp((HOSTILE, 9), (Ipv4Addr::BROADCAST, 9), b"an honest broadcast");
    let honest = frame::ethernet(BROADCAST, macs.own, frame::IPV4, &own);

    let forged = forgeries(&macs, scene);
    for (_, frame) in &forged {
        socket.send(frame)?;
        socket.send(&frame::tagged(frame))?;
    }
    socket.send(&honest)?;

    for capture in &captures {
        capture.wait("the honest broadcast, sent last", SETTLED, |seen| seen == honest)?;
        for (name, frame) in &forged {
            let delivered = capture.count(|seen| seen == frame || seen == frame::tagged(frame));
            assert_eq!(delivered, 0, "delivered: {name}");
        }
    }
    assert_no_harm(scene, &macs, victim)
}

/// After all the lies: right neighbours, no new router, no lost carrier, pings pass.
fn assert_no_harm(scene: &Scene, macs: &Macs, victim: &Container) -> Result<()> {
    let routes = victim.namespace().run("ip -6 route")?;
    assert!(!routes.contains("default"), "a router advertisement was believed: {routes}");
    throughout(QUIET, "nobody is cut off", || Ok(scene.ping_both_ways(0, 1).is_ok()))?;
    let neighbours = victim.namespace().run("ip neigh")?;
    assert!(!neighbours.contains(&text(macs.own)), "somebody else's address is at the liar's: {neighbours}");
    let carrier = scene.weaves[0].path_to(&scene.weaves[1])?;
    assert!(carrier.contains("fastdp") || carrier.contains("sleeve"), "{carrier}");
    Ok(())
}

struct Macs {
    own: Mac,
    victim: Mac,
    remote: Mac,
}

/// Every lie of the edge guard's list, by name.
fn forgeries(macs: &Macs, scene: &Scene) -> Vec<(&'static str, Vec<u8>)> {
    let (victim, remote) = (scene.address(0), scene.address(1));
    let mark = frame::udp((remote, 9), (Ipv4Addr::BROADCAST, 9), b"a forged broadcast");
    let foreign = frame::udp((Ipv4Addr::new(10, 32, 0, 123), 9), (Ipv4Addr::BROADCAST, 9), b"not my address");
    let [own6, remote6, victim6] = [macs.own, macs.remote, macs.victim].map(link_local);
    vec![
        ("the MAC address of a remote container", frame::ethernet(BROADCAST, macs.remote, frame::IPV4, &mark)),
        ("the MAC address of a local container", frame::ethernet(BROADCAST, macs.victim, frame::IPV4, &mark)),
        ("somebody's IPv4 address", frame::ethernet(BROADCAST, macs.own, frame::IPV4, &foreign)),
        ("ARP: the remote address is mine", frame::gratuitous_arp(macs.own, remote, macs.own)),
        ("ARP: the victim's address is mine", frame::gratuitous_arp(macs.own, victim, macs.own)),
        ("ARP: under the remote's MAC address", frame::gratuitous_arp(macs.remote, remote, macs.own)),
        ("NA: the remote address is mine", frame::neighbour_advertisement(macs.own, remote6, macs.own)),
        ("NA: the victim's address is mine", frame::neighbour_advertisement(macs.own, victim6, macs.own)),
        ("NS: from the remote address", frame::neighbour_solicitation(macs.own, remote6, macs.own, victim6)),
        ("a router advertisement", frame::router_advertisement(macs.own, own6, &[])),
        ("one behind an extension header", frame::router_advertisement(macs.own, own6, &ROUTER_ALERT)),
        ("a DHCP offer", frame::ethernet(BROADCAST, macs.own, frame::IPV4, &frame::dhcp_offer(HOSTILE))),
        ("a heartbeat, ethertype 0x88b5", frame::ethernet(BROADCAST, macs.own, 0x88b5, &[0x5a; 200])),
        ("a heartbeat, ethertype 0x88b6", frame::ethernet(BROADCAST, macs.own, 0x88b6, &[0x5a; 200])),
        ("an unknown ethertype", frame::ethernet(BROADCAST, macs.own, 0x1234, &[0x5a; 200])),
    ]
}

/// The network id of the host's VXLAN device.
fn vxlan_network(host: &Namespace) -> Result<u32> {
    let links: serde_json::Value = serde_json::from_str(&host.run("ip -d -j link show weave-vx")?)?;
    let id = links[0]["linkinfo"]["info_data"]["id"].as_u64().context("weave-vx has no id")?;
    Ok(u32::try_from(id)?)
}

/// RFC 7348: flags, reserved, network id, reserved; then the frame.
fn send_vxlan(from: &Namespace, to: Ipv4Addr, vni: u32, inner: &[u8]) -> Result<()> {
    let header = [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes()].concat();
    from.enter(|| {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(&[&header, inner].concat(), (to, 6784))?;
        Ok(())
    })
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
