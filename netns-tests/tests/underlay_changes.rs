//! The network under the overlay changes while daemons run: addresses come, go and are replaced, in both families.
//!
//! ```text
//!   h1 ──── switch ──── h2        192.168.48.0/24, later 198.51.100.0/24 or fd00:48::/64 on the same wire
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::frame;
use weave_netns_tests::probe::{Capture, eventually, ping_eventually, throughout};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Host, Namespace, Topology};
use weave_netns_tests::weave::Launch;

const PASSWORD: &str = "correct horse battery";
/// Of nobody's trust.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// In which a frame of the fast path would have been sent.
const QUIET: Duration = Duration::from_secs(1);
/// Where the fast path is heard.
const VXLAN_PORT: [u8; 2] = 6784_u16.to_be_bytes();

#[test]
fn no_clear_frame_leaves_from_an_address_that_is_not_trusted() -> Result<()> {
    let scene = Scene::new(2, &trusting())?;
    scene.wait_carrier("fastdp")?;
    let capture = Capture::start(scene.net.switch(), "p2")?;
    let _traffic = Traffic::between(scene.containers[1].namespace(), scene.address(0))?;
    capture.wait("clear frames, so that silence means something", SETTLED, is_clear)?;

    readdress(&scene.hosts[1], &format!("{ELSEWHERE}/24"))?;
    scene.weaves[1].wait_path(&scene.weaves[0], "sleeve", SETTLED)?;
    ping_eventually(&scene.containers[1], scene.address(0), SETTLED)?;
    scene.weaves[0].wait_path(&scene.weaves[1], "sleeve", SETTLED)?;

    let trusted = [0, 1].map(|index| Some(scene.hosts[index].address()));
    assert_eq!(capture.count(|seen| is_clear(seen) && !trusted.contains(&source(seen))), 0, "clear frames");
    eventually(SETTLED, "heartbeats stop", || {
        capture.clear();
        Ok(throughout(QUIET, "no clear frame", || Ok(capture.count(is_clear) == 0)).is_ok())
    })?;
    let reason = scene.weaves[1].run(&["why", scene.weaves[0].name()])?;
    assert!(reason.contains("--trusted-subnets"), "{reason}");
    Ok(())
}

#[test]
fn who_comes_into_a_trusted_subnet_gets_the_fast_path() -> Result<()> {
    let net = Topology::new()?;
    let hosts = vec![net.host()?, net.host()?];
    readdress(&hosts[1], &format!("{ELSEWHERE}/24"))?;
    let scene = Scene::on(net, hosts, |number, hosts| match number {
        0 => trusting(),
        _ => trusting().peer(&hosts[0]),
    })?;
    scene.wait_carrier("sleeve")?;

    readdress(&scene.hosts[1], &format!("{}/24", scene.hosts[1].address()))?;

    scene.wait_carrier("fastdp")?;
    scene.ping_both_ways(0, 1)
}

#[test]
fn who_moves_within_the_mesh_is_on_the_fast_path_again() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;

    readdress(&scene.hosts[1], &format!("{ELSEWHERE}/24"))?;

    let entry = format!("dst {ELSEWHERE}");
    let knows = || Ok(scene.hosts[0].namespace().run("bridge fdb show dev weave-vx")?.contains(&entry));
    eventually(SETTLED, "h1 sends to the new address", knows)?;
    ping_eventually(&scene.containers[0], scene.address(1), SETTLED)?;
    scene.wait_carrier("fastdp")?;
    scene.ping_both_ways(0, 1)
}

/// Addresses are given by hand: hosts that have not met have no ring to wait for.
fn by_hand() -> Launch {
    Launch::new().argument("--ipalloc-range").argument("")
}

#[test]
fn a_host_that_had_no_address_is_reached_by_the_one_it_gets() -> Result<()> {
    let net = Topology::new()?;
    let hosts = vec![net.host()?, net.host()?];
    hosts[1].namespace().run("ip addr flush dev eth0")?;
    let scene = Scene::on(net, hosts, |number, hosts| match number {
        0 => by_hand(),
        _ => by_hand().peer(&hosts[0]),
    })?;

    readdress(&scene.hosts[1], &format!("{}/24", scene.hosts[1].address()))?;

    scene.wait_carrier("fastdp")?;
    scene.ping_both_ways(0, 1)
}

#[test]
fn hosts_that_had_no_address_meet_over_ipv6() -> Result<()> {
    let net = Topology::new()?;
    let hosts = vec![net.host()?, net.host()?];
    for host in &hosts {
        host.namespace().run("ip addr flush dev eth0")?;
    }
    let mut scene = Scene::on(net, hosts, |number, hosts| match number {
        0 => by_hand(),
        _ => by_hand().argument(&ipv6(&hosts[0]).to_string()),
    })?;

    for host in &scene.hosts {
        host.namespace().run(&format!("ip addr add {}/64 dev eth0 nodad", ipv6(host)))?;
    }

    scene.wait_carrier("fastdp")?;
    scene.ping_both_ways(0, 1)?;
    assert_restart_keeps_the_fast_path(&mut scene)
}

#[test]
fn ipv6_takes_the_place_of_ipv4() -> Result<()> {
    let mut scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    for host in &scene.hosts {
        host.namespace().run(&format!("ip addr add {}/64 dev eth0 nodad", ipv6(host)))?;
    }
    for weave in &scene.weaves {
        // Each has heard of the other's second address before the first one goes.
        weave.wait_log("underlay addresses changed", SETTLED)?;
    }
    scene.wait_carrier("fastdp")?;

    for host in &scene.hosts {
        host.namespace().run(&format!("ip addr del {}/24 dev eth0", host.address()))?;
    }

    for host in &scene.hosts {
        let entries = || Ok(host.namespace().run("bridge fdb show dev weave-vx")?.contains("dst fd00:48::"));
        eventually(SETTLED * 2, "the fast path goes over IPv6", entries)?;
    }
    ping_eventually(&scene.containers[0], scene.address(1), SETTLED)?;
    scene.wait_carrier("fastdp")?;
    scene.ping_both_ways(0, 1)?;
    assert_restart_keeps_the_fast_path(&mut scene)
}

fn assert_restart_keeps_the_fast_path(scene: &mut Scene) -> Result<()> {
    scene.weaves[1].stop()?;
    scene.weaves[1].start()?;

    scene.ping_both_ways(0, 1)?;
    scene.wait_carrier("fastdp")?;
    let log = scene.weaves[1].log();
    assert!(!log.contains("cannot bring kernel state up to plan"), "{log}");
    Ok(())
}

fn trusting() -> Launch {
    Launch::new().password(PASSWORD).argument("--trusted-subnets").argument("192.168.48.0/24")
}

/// Replaces the host's IPv4 address in one go; everything else stays on the link.
fn readdress(host: &Host, address: &str) -> Result<()> {
    let batch = format!(
        "addr flush dev eth0 scope global\naddr add {address} brd + dev eth0\nroute replace default dev eth0 src {}\n",
        address.split('/').next().unwrap_or(address)
    );
    host.namespace().pipe("ip -4 -batch -", &batch)?;
    Ok(())
}

fn ipv6(host: &Host) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x48, 0, 0, 0, 0, 0, host.number().into())
}

/// An IPv4 packet to the port of the fast path.
fn is_clear(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&frame::IPV4.to_be_bytes())
        && frame.get(23) == Some(&17)
        && frame.get(36..38) == Some(&VXLAN_PORT)
}

fn source(frame: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
    Some(octets.into())
}

/// Two hundred echo requests a second, until dropped.
struct Traffic(Child);

impl Traffic {
    fn between(from: &Namespace, to: Ipv4Addr) -> Result<Self> {
        let mut ping: Command = from.command("ping");
        ping.args(["-n", "-q", "-i", "0.005", &to.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(ping.spawn()?))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
