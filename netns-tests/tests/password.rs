//! Who knows the password is in; who does not is told so, at both ends.
//!
//! ```text
//!   h1 (password X) ◄──── h2 (password Y)
//! ```

use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::{eventually, ping, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::Launch;

const OLD: &str = "correct horse battery";
const NEW: &str = "staple, correct this time";

#[test]
fn a_wrong_password_is_named_in_both_logs() -> Result<()> {
    let scene = meeting(&Launch::new().password(OLD), &Launch::new().password(NEW))?;

    for weave in &scene.weaves {
        eventually(SETTLED, &format!("{weave} logs that the passwords differ"), || {
            Ok(weave.log().lines().any(|line| line.contains("WARN") && line.to_lowercase().contains("password")))
        })?;
        assert!(!weave.log().contains(OLD) && !weave.log().contains(NEW), "a password is in the log");
    }

    assert!(ping(&scene.containers[0], scene.address(1)).is_err());
    let connections = scene.weaves[1].run(&["status", "connections"])?;
    assert!(connections.to_lowercase().contains("password"), "{connections:?}");
    Ok(())
}

#[test]
fn a_daemon_without_the_password_stays_outside() -> Result<()> {
    let scene = meeting(&Launch::new().password(OLD), &Launch::new())?;

    scene.weaves[1].wait_connection(&["password"], SETTLED)?;

    assert!(ping(&scene.containers[0], scene.address(1)).is_err());
    assert!(scene.weaves[1].log().contains("WARN"), "a mesh without a password says so loudly");
    Ok(())
}

#[test]
fn a_password_is_rotated_without_losing_anybody() -> Result<()> {
    let [old, both, swapped, new] = [&[OLD][..], &[OLD, NEW], &[NEW, OLD], &[NEW]]
        .map(|list| list.iter().fold(Launch::new(), |l, p| l.password(p)));
    let mut scene = meeting(&old, &old)?;
    ping_eventually(&scene.containers[0], scene.address(1), SETTLED)?;

    // Every neighbouring pair of steps meets once: one host moves ahead, then the other follows.
    for step in [both, swapped, new] {
        for index in [0, 1] {
            scene.weaves[index].stop()?;
            let peer = step.clone().peer(&scene.hosts[1 - index]);
            scene.weaves[index].set_launch(peer);
            scene.weaves[index].start()?;
            scene.weaves[0].wait_connection(&["established", " encrypted"], Duration::from_secs(30))?;
            ping_eventually(&scene.containers[0], scene.address(1), SETTLED)?;
        }
    }
    Ok(())
}

#[test]
fn two_meshes_of_different_names_do_not_mix() -> Result<()> {
    let scene = meeting(&Launch::new(), &Launch::new().argument("--mesh").argument("other"))?;

    scene.weaves[1].wait_connection(&["mesh"], SETTLED)?;

    assert!(ping(&scene.containers[0], scene.address(1)).is_err());
    assert!(scene.weaves[0].log().to_lowercase().contains("mesh"));
    Ok(())
}

/// Two hosts that launch differently; the second dials the first.
fn meeting(first: &Launch, second: &Launch) -> Result<Scene> {
    Scene::with(
        Topology::new()?,
        2,
        |number, hosts| {
            if number == 0 { first.clone() } else { second.clone().peer(&hosts[0]) }
        },
    )
}
