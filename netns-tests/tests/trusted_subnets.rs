//! A password, and a network between two hosts that both call trusted, or only one.
//!
//! ```text
//!   h1 ──── 192.168.48.0/24 ──── h2
//! ```

use anyhow::Result;
use weave_netns_tests::scene::Scene;
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::Launch;

const PASSWORD: &str = "correct horse battery";

#[test]
fn between_subnets_that_both_trust_the_fast_path_is_used() -> Result<()> {
    let scene = Scene::new(2, &trusting())?;

    scene.wait_carrier("fastdp")?;

    scene.ping_both_ways(0, 1)?;
    let path = scene.weaves[0].path_to(&scene.weaves[1])?;
    assert!(path.contains("unencrypted"), "what is not sealed is not called encrypted: {path}");
    Ok(())
}

#[test]
fn trust_of_one_side_is_not_enough() -> Result<()> {
    let scene = Scene::with(Topology::new()?, 2, |number, hosts| match number {
        0 => trusting(),
        _ => Launch::new().password(PASSWORD).peer(&hosts[0]),
    })?;

    scene.wait_carrier("sleeve")?;

    scene.ping_both_ways(0, 1)?;
    let path = scene.weaves[0].path_to(&scene.weaves[1])?;
    assert!(path.contains(" encrypted"), "{path}");
    Ok(())
}

fn trusting() -> Launch {
    Launch::new().password(PASSWORD).argument("--trusted-subnets").argument("192.168.48.0/24")
}
