//! What other hands do to the kernel's tables: a port plugged without us, a table flushed behind us.
//!
//! ```text
//!   h1 ── 10.32.0.1            h2 ── 10.32.0.2
//!    └─── 10.32.0.50 (veth plugged into `weave` by hand)
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::{eventually, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::weave::Launch;

/// "Re-applied within seconds after somebody flushes it."
const MENDED: Duration = Duration::from_secs(8);

#[test]
fn a_veth_plugged_by_hand_becomes_an_endpoint() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    let container = scene.hosts[0].container()?;
    let (host, inside) = (scene.hosts[0].namespace(), container.namespace());
    host.run(&format!("ip link add plugged type veth peer name eth9 netns {}", inside.name()))?;
    host.run("ip link set plugged master weave up")?;
    inside.run("ip addr add 10.32.0.50/12 dev eth9")?;
    inside.run("ip link set eth9 up")?;

    ping_eventually(&container, scene.address(1), SETTLED)?;
    ping_eventually(&scene.containers[1], Ipv4Addr::new(10, 32, 0, 50), SETTLED)?;

    let mac = inside.run("cat /sys/class/net/eth9/address")?;
    eventually(SETTLED, "h2 lists it", || Ok(scene.weaves[1].run(&["status", "endpoints"])?.contains(mac.trim())))?;
    Ok(())
}

#[test]
fn a_flushed_forwarding_database_heals() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let host = scene.hosts[0].namespace();
    let remote = scene.containers[1].namespace().run("cat /sys/class/net/ethwe/address")?;
    let entries = |table: &str| -> Result<usize> {
        let shown = host.run("bridge fdb show dev weave-vx")?;
        Ok(shown.lines().filter(|line| line.starts_with(remote.trim()) && line.contains(table)).count())
    };
    assert_eq!((entries("master weave")?, entries("dst")?), (1, 1));

    for table in ["master weave", "dst 192.168.48.2"] {
        let how = if table.starts_with("dst") { "self" } else { "master" };
        host.run(&format!("bridge fdb del {} dev weave-vx {how}", remote.trim()))?;
    }
    host.run("ip neigh flush dev weave nud permanent")?;

    eventually(MENDED, "both entries are back", || Ok(entries("master weave")? == 1 && entries("dst")? == 1))?;
    ping_eventually(&scene.containers[0], scene.address(1), MENDED)?;
    Ok(())
}

#[test]
fn a_flushed_flood_list_and_guard_heal() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let host = scene.hosts[0].namespace();
    let flood = || Ok(host.run("bridge fdb show dev weave-vx")?.contains("00:00:00:00:00:00 dst 192.168.48.2"));
    assert!(flood()?);
    let rules = host.run("nft list ruleset")?.lines().count();

    host.run("bridge fdb del 00:00:00:00:00:00 dev weave-vx dst 192.168.48.2 self")?;
    host.run("nft flush ruleset")?;

    eventually(MENDED, "the flood entry is back", flood)?;
    eventually(Duration::from_secs(70), "the guard is back", || {
        Ok(host.run("nft list ruleset")?.lines().count() == rules)
    })?;
    Ok(())
}
