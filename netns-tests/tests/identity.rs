//! Who is who: names that collide, a state directory that was copied, an identity that outlives its name.
//!
//! ```text
//!   h1 (key K1, name N) ◄──── h2 (key K2, name N)        or h2 with a copy of h1's state
//! ```

use std::process::Command;

use anyhow::{Context, Result};
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Topology, run};
use weave_netns_tests::weave::{Launch, Weave};

#[test]
fn a_second_key_under_a_taken_name_is_refused_with_both_keys() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (net.host()?, net.host()?);
    let first = Weave::launch(&a, Launch::new())?;
    let second = Weave::launch(&b, Launch::new().name(first.name()).peer(&a))?;
    let keys = [key(&first)?, key(&second)?];

    eventually(SETTLED, "the newcomer is told, with both keys", || {
        let shorts = keys.each_ref().map(|key| &key[..16]);
        Ok(shorts.iter().all(|short| second.log().contains(short)))
    })?;

    assert!(first.run(&["status", "peers"])?.lines().filter(|line| !line.starts_with(' ')).count() == 1);
    Ok(())
}

#[test]
fn a_copied_state_directory_becomes_a_new_identity() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (net.host()?, net.host()?);
    let first = Weave::launch(&a, Launch::new())?;
    let mut second = Weave::prepare(&b, Launch::new().peer(&a))?;
    // As a cloned machine has it: only the other daemon tells them apart.
    std::fs::copy(a.namespace().machine_id(), b.namespace().machine_id())?;
    run(Command::new("cp").arg("-r").arg(first.state_directory()).arg(second.state_directory()))?;

    second.start()?;

    eventually(SETTLED, "both are members, under two keys", || {
        let peers = first.json(&["status", "peers"])?;
        Ok(peers.as_array().is_some_and(|peers| peers.len() == 2) && key(&first)? != key(&second)?)
    })?;
    assert!(second.log().contains("WARN"), "it says so: {}", second.log());
    Ok(())
}

#[test]
fn a_changed_name_renames_the_same_identity() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;
    let before = key(&weave)?;

    weave.stop()?;
    weave.set_launch(Launch::new().name("02:ff:00:00:00:01"));
    weave.start()?;

    assert_eq!(key(&weave)?, before);
    assert!(weave.run(&["status"])?.contains("02:ff:00:00:00:01"));
    Ok(())
}

fn key(weave: &Weave) -> Result<String> {
    let status = weave.json(&["status"])?;
    Ok(status["router"]["key"].as_str().context("status shows no key")?.to_owned())
}
