//! A mesh falls in two and grows together again.
//!
//! ```text
//!   h1 ─── h2   ✂   h3          h3 is alone; h1 and h2 go on
//! ```

use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::{eventually, ping, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Fault;
use weave_netns_tests::weave::Launch;

/// A dead neighbour is noticed after three missed probes, three seconds apart.
const NOTICED: Duration = Duration::from_secs(20);
/// The connector's back-off has grown in the meantime.
const HEALED: Duration = Duration::from_secs(30);

#[test]
fn a_healed_partition_carries_traffic_and_what_was_attached_meanwhile() -> Result<()> {
    // Addresses are given by hand, and nobody is asked whether they are free.
    let scene = Scene::new(3, &Launch::new().argument("--ipalloc-range").argument(""))?;
    scene.wait_known()?;
    scene.ping_both_ways(0, 2)?;

    scene.net.set_faults(&[Fault::Isolated(scene.hosts[2].address())])?;
    assert!(ping(&scene.containers[0], scene.address(2)).is_err());
    scene.ping_both_ways(0, 1)?;
    eventually(NOTICED, "h1 has noticed", || {
        let connections = scene.weaves[0].run(&["status", "connections"])?;
        let gone = scene.hosts[2].address().to_string();
        Ok(!connections.lines().any(|line| line.contains(&gone) && line.contains("established")))
    })?;
    let late = scene.weaves[2].container(&scene.hosts[2], "10.32.0.33".parse()?)?;
    scene.net.set_faults(&[])?;

    ping_eventually(&scene.containers[0], scene.address(2), HEALED)?;
    ping_eventually(&scene.containers[1], scene.address(2), HEALED)?;
    ping_eventually(&late, scene.address(0), HEALED)?;
    ping_eventually(&scene.containers[0], std::net::Ipv4Addr::new(10, 32, 0, 33), SETTLED)?;
    Ok(())
}
