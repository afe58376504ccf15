//! A daemon's books are lost, or older than the kernel's tables, while its containers run on.
//!
//! ```text
//!   h1 (kill -9, rm -rf state, launch) ──── h2
//!   └ c1, and the host itself exposed       └ c2
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use weave_netns_tests::probe::{eventually, ping_eventually};
use weave_netns_tests::scene::{SETTLED, mentions};
use weave_netns_tests::topology::{Container, Host, Topology, run};
use weave_netns_tests::weave::{Launch, Weave};

#[test]
fn lost_containers_are_found_before_anything_is_given_out_again() -> Result<()> {
    let net = Topology::new()?;
    let (one, two) = (net.host()?, net.host()?);
    let mut first = Weave::launch(&one, Launch::new().peer(&two))?;
    let second = Weave::launch(&two, Launch::new().peer(&one))?;
    first.wait_connection(&["established"], SETTLED)?;
    let (c1, c1_address) = attached(&first, &one)?;
    let (c2, c2_address) = attached(&second, &two)?;
    let host_address = address(&first.run(&["expose", "--wait", "30"])?)?;
    ping_eventually(&c2, c1_address, SETTLED)?;

    first.kill()?;
    fs::remove_dir_all(first.state_directory())?;
    first.start()?;

    let shown = first.run(&["ps"])?;
    assert!(mentions(&shown, c1_address) && mentions(&shown, host_address), "{shown}");
    ping_eventually(&c2, c1_address, SETTLED)?;
    ping_eventually(&c1, c2_address, SETTLED)?;
    ping_eventually(&c2, host_address, SETTLED)?;
    eventually(SETTLED, "its name is known elsewhere", || Ok(resolves(&second, &c1, c1_address)))?;

    // Whoever inherits what the lost identity owned hears of those who live there.
    second.run(&["rmpeer", "--wait", "150", first.name()])?;
    let mut given = BTreeSet::from([c1_address, c2_address, host_address]);
    for _ in 0..3 {
        for (weave, host) in [(&second, &two), (&first, &one)] {
            let (_container, address) = attached(weave, host)?;
            given.insert(address);
        }
    }
    assert!(given.len() >= 5, "the containers that came and went never had an address of those that stay: {given:?}");
    let taken = second.ask(&["attach", "--wait", "2", &format!("{c1_address}/12"), &two.container()?.target()])?;
    assert_ne!(taken.code, 0, "{taken:?}");
    Ok(())
}

#[test]
fn a_lost_ledger_is_written_anew_from_what_is_there() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;
    let (container, address) = attached(&weave, &host)?;
    let before = weave.run(&["ps"])?;

    weave.kill()?;
    fs::remove_file(weave.state_directory().join("attachments"))?;
    weave.start()?;

    assert_eq!(weave.run(&["ps"])?, before);
    assert!(resolves(&weave, &container, address));
    assert_eq!(weave.run(&["attach", &container.target()])?, format!("{address}\n"), "it is the same container");
    assert_eq!(weave.run(&["detach", &container.target()])?, format!("{address}\n"));
    Ok(())
}

#[test]
fn an_old_state_directory_gives_out_nothing_that_is_in_use() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;
    let (gone, early) = attached(&weave, &host)?;
    weave.stop()?;
    let (state, backup) = (weave.state_directory(), host.directory().join("backup"));
    copy(&state, &backup)?;
    weave.start()?;
    weave.run(&["detach", &gone.target()])?;
    // In the old books this address is another container's.
    let (_stays, same) = attached(&weave, &host)?;
    let exposed = address(&weave.run(&["expose"])?)?;
    assert_eq!(same, early);

    weave.kill()?;
    fs::remove_dir_all(&state)?;
    copy(&backup, &state)?;
    weave.start()?;

    let shown = weave.run(&["ps"])?;
    assert!(mentions(&shown, same) && mentions(&shown, exposed), "{shown}");
    let (_new, other) = attached(&weave, &host)?;
    assert!(![same, exposed].contains(&other), "{other} is in use");
    Ok(())
}

#[test]
fn a_container_from_before_names_were_served_has_its_name() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new().argument("--no-dns"))?;
    let (named, address) = attached(&weave, &host)?;
    let (nameless, _) = {
        let container = host.container()?;
        let printed = weave.run(&["attach", "--without-dns", &container.target()])?;
        (container, printed)
    };

    weave.stop()?;
    weave.set_launch(Launch::new());
    weave.start()?;

    assert!(resolves(&weave, &named, address));
    assert_eq!(weave.run(&["dns-lookup", &name(&nameless)])?, "", "who wanted none gets none");
    Ok(())
}

/// A new container of a host, and the address that it got.
fn attached(weave: &Weave, host: &Host) -> Result<(Container, Ipv4Addr)> {
    let container = host.container()?;
    let address = address(&weave.run(&["attach", "--wait", "30", &container.target()])?)?;
    Ok((container, address))
}

fn address(printed: &str) -> Result<Ipv4Addr> {
    printed.trim().parse().with_context(|| format!("no address: {printed:?}"))
}

fn name(container: &Container) -> String {
    format!("{}.weave.local", container.namespace().name())
}

fn resolves(weave: &Weave, container: &Container, address: Ipv4Addr) -> bool {
    weave.run(&["dns-lookup", &name(container)]).is_ok_and(|found| mentions(&found, address))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("-r").arg(from).arg(to)).map(drop)
}
