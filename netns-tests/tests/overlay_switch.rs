//! The fast path closes, and opens again.
//!
//! ```text
//!   h1 ──── switch ──── h2       the switch drops UDP 6784, then no longer
//!        6783 ✓  6784 ✂
//! ```

use std::time::{Duration, Instant};

use anyhow::Result;
use weave_netns_tests::probe::{TcpStreamProbe, UdpStreamProbe, eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Fault;
use weave_netns_tests::weave::Launch;

/// What DESIGN promises for leaving a fast path that is gone.
const DEMOTION: Duration = Duration::from_secs(1);
/// And for coming back.
const PROMOTION: Duration = Duration::from_secs(5);

#[test]
fn a_blocked_fast_path_falls_to_sleeve_within_a_second_and_returns_within_five() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let stream = TcpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;
    let numbers = UdpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;

    scene.net.set_faults(&[Fault::UdpPort(6784)])?;
    scene.wait_carrier("sleeve")?;
    let reason = scene.weaves[0].path_to(&scene.weaves[1])?;
    let before = stream.received();
    eventually(SETTLED, "the stream goes on over sleeve", || Ok(stream.received() > before + 100_000))?;

    let healed = Instant::now();
    scene.net.set_faults(&[])?;
    scene.weaves[0].wait_path(&scene.weaves[1], "fastdp", PROMOTION)?;
    scene.weaves[1].wait_path(&scene.weaves[0], "fastdp", PROMOTION.saturating_sub(healed.elapsed()))?;

    let gap = numbers.finish()?.longest_gap;
    assert!(gap <= DEMOTION, "traffic stood still for {gap:?}");
    stream.finish()?;
    let told = ["fast", "heartbeat", "probe", "vxlan"].iter().any(|word| reason.to_lowercase().contains(word));
    assert!(told, "`status paths` gives no reason: {reason:?}");
    Ok(())
}

#[test]
fn a_promotion_loses_no_packet() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    let there = UdpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;
    let back = UdpStreamProbe::start(&scene.containers[1], &scene.containers[0], scene.address(0))?;

    scene.wait_carrier("fastdp")?;

    for report in [there.finish()?, back.finish()?] {
        assert_eq!((report.lost, report.doubled), (0, 0), "{report:?}");
    }
    Ok(())
}

#[test]
fn only_the_blocked_pair_is_demoted() -> Result<()> {
    let scene = Scene::new(3, &Launch::new())?;
    scene.wait_carrier("fastdp")?;

    scene.net.set_faults(&[Fault::UdpPortBetween(scene.hosts[0].address(), scene.hosts[1].address(), 6784)])?;

    scene.weaves[0].wait_path(&scene.weaves[1], "sleeve", SETTLED)?;
    scene.weaves[1].wait_path(&scene.weaves[0], "sleeve", SETTLED)?;
    assert!(scene.weaves[0].path_to(&scene.weaves[2])?.contains("fastdp"));
    assert!(scene.weaves[1].path_to(&scene.weaves[2])?.contains("fastdp"));
    scene.ping_both_ways(0, 1)?;
    scene.ping_both_ways(0, 2)
}

#[test]
fn a_path_that_loses_everything_is_no_reason_to_change_carrier() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let numbers = UdpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;

    scene.net.set_faults(&[Fault::Between(scene.hosts[0].address(), scene.hosts[1].address())])?;
    weave_netns_tests::probe::throughout(Duration::from_secs(2), "the carrier stays", || {
        Ok(scene.weaves[0].path_to(&scene.weaves[1])?.contains("fastdp"))
    })?;
    scene.net.set_faults(&[])?;

    scene.ping_both_ways(0, 1)?;
    numbers.finish()?;
    Ok(())
}
