//! A stranger on the link who asks for handshakes, thousands of times a second, from addresses that nobody has.
//!
//! ```text
//!   h1 ── 10.32.0.1  ◄── pings ──►  10.32.0.2 ── h2
//!   h3 (no daemon) ── forged first messages, from 192.168.48.100 to .249 ──► h1
//! ```

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use weave_mesh::identity::Knock;
use weave_netns_tests::scene::Scene;
use weave_netns_tests::stranger::{self, Flood};
use weave_netns_tests::topology::{Host, Namespace};
use weave_netns_tests::weave::Launch;

/// Enough to fill the socket's buffer with answers that find nobody, within the time of the pings.
const PER_SECOND: u32 = 12_000;
const PINGS: u32 = 300;

#[test]
fn a_stranger_who_has_opened_tcp_gets_no_answer_and_costs_no_ping() -> Result<()> {
    let scene = Scene::new(2, &Launch::new().password("correct horse battery"))?;
    scene.wait_carrier("sleeve")?;
    let stranger = scene.net.host()?;
    let noise_key = stranger::static_key(&stranger, scene.hosts[0].address())?;
    // What he does not know he has to guess.
    let flood = Flood::new(&stranger, &scene.hosts[0], &noise_key, &Knock([0; 16]))?;

    assert_pings_pass(&scene, &flood)?;

    assert_eq!(overloaded(&scene)?, 0, "the door was reached");
    assert_eq!(unresolved(&scene.hosts[0])?, 0, "somebody was answered");
    Ok(())
}

#[test]
fn where_anybody_may_join_a_flood_costs_no_ping_either() -> Result<()> {
    let scene = Scene::new(2, &Launch::new().argument("--no-fastdp"))?;
    scene.wait_carrier("sleeve")?;
    let stranger = scene.net.host()?;
    let card = stranger::visit(&stranger, scene.hosts[0].address())?;
    let flood = Flood::new(&stranger, &scene.hosts[0], &card.noise_key, &card.knock)?;

    assert_pings_pass(&scene, &flood)?;

    assert!(overloaded(&scene)? > 1_000, "the flood was no flood");
    Ok(())
}

/// At most one ping in a hundred is lost while the flood lasts.
fn assert_pings_pass(scene: &Scene, flood: &Flood) -> Result<()> {
    scene.ping_both_ways(0, 1)?;
    let (from, to) = (scene.containers[1].namespace(), scene.address(0));
    let (answered, sent) = flood.during(PER_SECOND, || pings(from, to))?;
    assert!(sent > PER_SECOND, "only {sent} datagrams were sent");
    assert!(answered >= PINGS - PINGS / 100, "{answered} of {PINGS} pings were answered, under {sent} datagrams");
    Ok(())
}

/// How many of a hundred pings a second are answered.
fn pings(from: &Namespace, to: Ipv4Addr) -> Result<u32> {
    let ping = format!("ping -n -q -i 0.01 -c {PINGS} -W 1.5 {to}");
    // Its exit code says whether any was answered.
    let said = from.run(&ping)?;
    let received = said.split(" received").next().and_then(|head| head.rsplit(' ').next());
    received.context("ping prints no count")?.parse().with_context(|| said.clone())
}

/// Handshakes that were refused for their number.
fn overloaded(scene: &Scene) -> Result<u64> {
    let report: serde_json::Value = serde_json::from_str(&scene.weaves[0].run(&["report"])?)?;
    let refused = &report["Counters"]["handshake without a cookie while too many arrive"];
    refused.as_u64().context("no such counter")
}

/// Addresses of nobody that the host has tried to reach.
fn unresolved(host: &Host) -> Result<usize> {
    let neighbours = host.namespace().run("ip -4 neigh show dev eth0")?;
    Ok(neighbours.lines().filter(|line| line.contains("INCOMPLETE") || line.contains("FAILED")).count())
}
