//! A daemon is ended on purpose: by `stop`, which leaves what the kernel carries, and by `reset`, which leaves nothing.
//!
//! ```text
//!   h1 ─── h2         h1 alone         h1 without a daemon
//! ```

use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::{SETTLED, Scene, mentions};
use weave_netns_tests::topology::{Host, Topology};
use weave_netns_tests::weave::{Launch, Weave};

/// What a service manager is told not to start again.
const DISMISSED: i32 = 10;
/// Nobody is there to be waited for; the rest is a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

#[test]
fn the_unit_does_not_start_what_was_ended_on_purpose() {
    let unit = include_str!("../../deploy/systemd/weave-rs.service");
    assert!(unit.lines().any(|line| line == format!("RestartPreventExitStatus={DISMISSED}")), "{unit}");
}

#[test]
fn reset_leaves_nothing_behind() -> Result<()> {
    let mut scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;

    scene.weaves[1].run(&["reset", "--force"])?;

    assert_eq!(scene.weaves[1].wait_end(AT_ONCE)?.code(), Some(DISMISSED), "it is not to be started again");
    assert_nothing_left(&scene.hosts[1], &scene.weaves[1])?;
    assert!(scene.containers[1].namespace().run("ip link show ethwe").is_err());
    eventually(SETTLED, "the goodbye is heard", || {
        Ok(!mentions(&scene.weaves[0].run(&["status", "endpoints"])?, scene.address(1)))
    })?;
    Ok(())
}

#[test]
fn a_host_alone_is_reset_at_once() -> Result<()> {
    let net = Topology::new()?;
    let without_addresses = || Launch::new().argument("--ipalloc-range").argument("");
    for (launch, words) in [
        (Launch::new(), &["status"][..]),
        (Launch::new(), &["prime"]),
        (without_addresses(), &["status"]),
        (Launch::new(), &["expose"]),
    ] {
        let host = net.host()?;
        let mut weave = Weave::launch(&host, launch)?;
        weave.run(words)?;

        weave.run(&["reset"])?;

        assert_eq!(weave.wait_end(AT_ONCE)?.code(), Some(DISMISSED), "after {words:?}");
        assert_nothing_left(&host, &weave)?;
    }
    Ok(())
}

#[test]
fn a_stopped_daemon_is_gone_and_its_tables_are_not() -> Result<()> {
    let mut scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;

    scene.weaves[1].run(&["stop"])?;

    assert!(!scene.weaves[1].is_running(), "it is gone when the command returns");
    assert_eq!(scene.weaves[1].wait_end(AT_ONCE)?.code(), Some(DISMISSED), "it is not to be started again");
    scene.ping_both_ways(0, 1)?;
    let again = scene.weaves[1].ask(&["stop"])?;
    assert_eq!(again.code, 1, "{again:?}");
    scene.weaves[1].start()?;
    scene.wait_known()
}

#[test]
fn a_reset_without_a_daemon_removes_what_it_is_told_to_and_nothing_else() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;
    weave.container(&host, [10, 32, 0, 1].into())?;
    let (right, wrong) = (weave.state_directory(), host.directory().join("wrong"));
    let (right, wrong) = (right.display().to_string(), wrong.display().to_string());

    let running = weave.ask(&["reset", "--force", "--state-dir", &wrong])?;
    assert_eq!((running.code, running.stderr.contains(&wrong)), (1, true), "{running:?}");
    weave.kill()?;
    let gone = weave.ask(&["reset", "--force", "--state-dir", &wrong])?;
    assert_eq!((gone.code, gone.stderr.contains(&wrong)), (1, true), "{gone:?}");
    assert!(host.namespace().run("ip -o link")?.contains("weave"), "nothing was removed");
    let asked = weave.ask(&["reset", "--state-dir", &right])?;
    assert_eq!((asked.code, asked.stderr.contains("--force")), (1, true), "{asked:?}");

    weave.run(&["reset", "--force", "--state-dir", &right])?;

    assert_nothing_left(&host, &weave)
}

#[test]
fn a_range_that_has_changed_is_taken_after_the_reset_that_the_error_advises() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;
    weave.run(&["prime"])?;
    weave.stop()?;
    let other = || Launch::new().argument("--ipalloc-range").argument("10.60.0.0/16");
    weave.set_launch(other());
    assert!(weave.start().is_err(), "the state is of another range");

    weave.run(&["reset", "--force", "--state-dir", &weave.state_directory().display().to_string()])?;

    weave.start()?;
    assert_eq!(weave.run(&["attach", &host.container()?.target()])?, "10.60.0.1\n");
    Ok(())
}

fn assert_nothing_left(host: &Host, weave: &Weave) -> Result<()> {
    let links = host.namespace().run("ip -o link")?;
    assert!(!links.contains("weave"), "{links}");
    let rules = host.namespace().run("nft list ruleset")?;
    assert!(!rules.contains("weave"), "{rules}");
    assert!(!weave.state_directory().exists(), "the state directory is gone");
    Ok(())
}
