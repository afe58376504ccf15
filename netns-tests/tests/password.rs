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
use weave_netns_tests::weave::{Launch, Weave};

const OLD: &str = "correct horse battery";
const NEW: &str = "staple, correct this time";

#[test]
fn a_wrong_password_is_named_in_both_logs() -> Result<()> {
    let scene = strangers(&Launch::new().password(OLD), &Launch::new().password(NEW))?;

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
    let scene = strangers(&Launch::new().password(OLD), &Launch::new())?;

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
    let scene = strangers(&Launch::new(), &Launch::new().argument("--mesh").argument("other"))?;

    scene.weaves[1].wait_connection(&["mesh"], SETTLED)?;

    assert!(ping(&scene.containers[0], scene.address(1)).is_err());
    assert!(scene.weaves[0].log().to_lowercase().contains("mesh"));
    Ok(())
}

#[test]
fn a_password_on_the_command_line_works_and_is_warned_of() -> Result<()> {
    let option = |password: &str| Launch::new().argument(&format!("--password={password}"));
    let scene = meeting(&option(OLD), &option(OLD))?;

    scene.weaves[0].wait_connection(&["established", " encrypted"], SETTLED)?;

    for weave in &scene.weaves {
        let log = weave.log();
        assert_eq!(log.lines().filter(|line| line.contains("WARN") && line.contains("--password")).count(), 1, "{log}");
        assert!(!log.contains(OLD), "a password is in the log");
    }
    Ok(())
}

#[test]
fn a_file_that_an_editor_has_marked_is_refused_by_its_line() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let file = host.directory().join("marked");
    for (contents, line) in [
        ("\u{feff}correct horse battery\n", "line 1"),
        ("# new\ncorrect horse battery\n", "line 1"),
        ("correct horse battery\nstaple, correct this time \n", "line 2"),
    ] {
        std::fs::write(&file, contents)?;
        let mut daemon = Weave::prepare(&host, Launch::new().argument(&format!("--password-file={}", file.display())))?;

        daemon.spawn()?;

        assert!(!daemon.wait_end(SETTLED)?.success());
        let log = daemon.log();
        assert!(log.contains(line) && !log.contains("horse"), "{log}");
        std::fs::remove_file(host.directory().join("notify"))?;
    }
    Ok(())
}

/// The same, when they will not meet: addresses are given by hand, since no ring can be agreed on.
fn strangers(first: &Launch, second: &Launch) -> Result<Scene> {
    let by_hand = |launch: &Launch| launch.clone().argument("--ipalloc-range").argument("");
    meeting(&by_hand(first), &by_hand(second))
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
