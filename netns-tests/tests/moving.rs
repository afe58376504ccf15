//! An address leaves one host and appears on another, with another MAC address.
//!
//! ```text
//!   h1 ── 10.32.0.1 (keeps pinging .99)
//!   h2 ── 10.32.0.99  ──moves──►  h3 ── 10.32.0.99
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::{eventually, ping, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::weave::Launch;

const MOVING: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 99);
/// An endpoint change is published after at most 50 ms; the rest is the test's own commands on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn an_address_that_moves_is_reachable_at_once() -> Result<()> {
    let scene = Scene::new(3, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let before = scene.weaves[1].container(&scene.hosts[1], MOVING)?;
    ping_eventually(&scene.containers[0], MOVING, SETTLED)?;

    scene.weaves[1].run(&["detach", "10.32.0.99/12", &before.target()])?;
    let after = scene.weaves[2].container(&scene.hosts[2], MOVING)?;

    ping_eventually(&scene.containers[0], MOVING, AT_ONCE)?;
    ping(&after, scene.address(0))?;
    assert_ne!(before.target(), after.target());
    Ok(())
}

#[test]
fn an_address_that_moves_before_its_first_place_was_heard_of_is_reachable_at_once() -> Result<()> {
    let scene = Scene::new(3, &Launch::new().argument("--ipalloc-range").argument(""))?;
    scene.wait_carrier("fastdp")?;

    // The kernel carries question and answer; when the daemon hears of the address, it has moved on already.
    scene.weaves[0].halt()?;
    let before = scene.weaves[1].container(&scene.hosts[1], MOVING)?;
    let mac = before.namespace().run("cat /sys/class/net/ethwe/address")?;
    eventually(SETTLED, "its first MAC is learnt", || {
        let _ = scene.containers[0].namespace().run(&format!("ping -n -c1 -W0.1 {MOVING}"));
        Ok(scene.containers[0].namespace().run(&format!("ip neigh show {MOVING}"))?.contains(mac.trim()))
    })?;
    scene.weaves[1].run(&["detach", "10.32.0.99/12", &before.target()])?;
    let _after = scene.weaves[2].container(&scene.hosts[2], MOVING)?;
    scene.weaves[0].go_on()?;

    ping_eventually(&scene.containers[0], MOVING, AT_ONCE)?;
    Ok(())
}

#[test]
fn of_two_claims_to_an_address_the_later_one_wins_everywhere() -> Result<()> {
    let scene = Scene::new(3, &Launch::new().argument("--ipalloc-range").argument(""))?;
    scene.wait_carrier("fastdp")?;
    let _crashed = scene.weaves[1].container(&scene.hosts[1], MOVING)?;
    ping_eventually(&scene.containers[0], MOVING, SETTLED)?;

    let replacement = scene.weaves[2].container(&scene.hosts[2], MOVING)?;

    let mac = scene.weaves[0].run(&["status", "endpoints"])?;
    ping_eventually(&replacement, scene.address(0), AT_ONCE)?;
    ping_eventually(&scene.containers[0], MOVING, AT_ONCE)?;
    let neighbour = scene.containers[0].namespace().run(&format!("ip neigh show {MOVING}"))?;
    let expected = replacement.namespace().run("cat /sys/class/net/ethwe/address")?;
    assert!(neighbour.contains(expected.trim()), "{neighbour} is not {expected} in {mac}");
    scene.weaves[1].wait_log("10.32.0.99", SETTLED)?;
    Ok(())
}
