//! Two hosts, from nothing to traffic.
//!
//! ```text
//!   h1 ──────── switch ──────── h2
//!   └ 10.32.0.1                 └ 10.32.0.2
//! ```

use anyhow::Result;
use weave_netns_tests::probe::{TcpStreamProbe, ping};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::weave::Launch;

const PASSWORD: &str = "correct horse battery";

#[test]
fn the_first_ping_between_strangers_is_answered() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;

    ping(&scene.containers[0], scene.address(1))?;

    scene.ping_both_ways(0, 1)
}

#[test]
fn the_first_ping_is_answered_under_a_password_too() -> Result<()> {
    let scene = Scene::new(2, &Launch::new().password(PASSWORD))?;
    scene.wait_known()?;

    ping(&scene.containers[0], scene.address(1))?;

    scene.ping_both_ways(0, 1)
}

#[test]
fn without_a_password_traffic_takes_the_fast_path() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;

    let stream = TcpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;
    scene.ping_both_ways(0, 1)?;
    let report = stream.finish()?;

    assert!(report.bytes > 1_000_000, "{report:?}");
    scene.weaves[1].wait_connection(&["established", "fastdp", "unencrypted", "mtu=1376"], SETTLED)?;
    Ok(())
}

#[test]
fn with_a_password_traffic_takes_the_sleeve_and_says_why() -> Result<()> {
    let scene = Scene::new(2, &Launch::new().password(PASSWORD))?;
    scene.wait_carrier("sleeve")?;

    let stream = TcpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;
    scene.ping_both_ways(0, 1)?;
    let report = stream.finish()?;

    assert!(report.bytes > 100_000, "{report:?}");
    scene.weaves[1].wait_connection(&["established", "sleeve", " encrypted"], SETTLED)?;
    let why = scene.weaves[0].run(&["why", scene.weaves[1].name()])?;
    assert!(why.contains("password") || why.contains("encrypt"), "{why:?}");
    Ok(())
}

#[test]
fn ipv6_link_local_traffic_crosses_the_overlay() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    let target = weave_netns_tests::frame::link_local(scene.containers[1].mac()?);

    scene.containers[0].namespace().run(&format!("ping -6 -n -c1 -W3 {target}%ethwe"))?;

    Ok(())
}

#[test]
fn a_detached_container_is_gone_and_the_rest_stays() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    scene.ping_both_ways(0, 1)?;
    let extra = scene.weaves[1].container(&scene.hosts[1], "10.32.0.77".parse()?)?;
    weave_netns_tests::probe::ping_eventually(
        &scene.containers[0],
        "10.32.0.77".parse::<std::net::Ipv4Addr>()?,
        SETTLED,
    )?;

    let printed = scene.weaves[1].run(&["detach", "10.32.0.77/12", &extra.target()])?;

    assert_eq!(printed.trim(), "10.32.0.77");
    assert!(ping(&scene.containers[0], "10.32.0.77".parse::<std::net::Ipv4Addr>()?).is_err());
    scene.ping_both_ways(0, 1)
}
