//! Paths that take less than the hosts' own links, and change under the traffic.
//!
//! ```text
//!   h1 ──── switch ──── [R1] ── 700, or as set ── [R2] ──── h2        the routers say so by ICMP, or do not
//!                         └────────── ✂ ─────────── h3 where a relay has to carry
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_netns_tests::frame::link_local;
use weave_netns_tests::probe::{TcpStreamProbe, eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Fault, ThinLink, Topology};
use weave_netns_tests::weave::Launch;

const PASSWORD: &str = "correct horse battery";
/// What a link of 700 leaves: less IP 20, UDP 8, sleeve 32, Ethernet 14.
const SMALL: u32 = 626;
/// How long the daemon may take to notice that a path in use shrank: 0.7 s when the machine has nothing else to do.
const LOWERED: Duration = Duration::from_secs(5);
/// And that it healed: 1 s.
const RAISED: Duration = Duration::from_secs(10);
/// How long a stream may stand still meanwhile. TCP doubles its wait with every retransmission that is lost: as long
/// again as the path was unknown.
const STANDSTILL: Duration = Duration::from_secs(10);

#[test]
fn tcp_flows_at_once_over_a_small_path() -> Result<()> {
    for is_filtered in [false, true] {
        let (scene, _link) = pair(700, is_filtered, &Launch::new().password(PASSWORD))?;
        scene.wait_known()?;

        let begin = Instant::now();
        let stream = TcpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;
        eventually(STANDSTILL, "a megabyte there", || Ok(stream.received() > 1_000_000))?;
        let there = begin.elapsed();
        stream.finish()?;
        let back = TcpStreamProbe::start(&scene.containers[1], &scene.containers[0], scene.address(0))?;
        eventually(STANDSTILL, "a megabyte back", || Ok(back.received() > 1_000_000))?;
        back.finish()?;

        wait_mtu(&scene, SMALL, LOWERED)?;
        eprintln!("filtered: {is_filtered}; a megabyte from the first packet on took {there:?}");
    }
    Ok(())
}

#[test]
fn senders_are_told_what_fits_and_what_may_be_cut_is_cut() -> Result<()> {
    let (scene, _link) = pair(700, true, &Launch::new().password(PASSWORD))?;
    scene.wait_known()?;
    scene.ping_both_ways(0, 1)?;
    wait_mtu(&scene, SMALL, LOWERED)?;
    let ping = |options: &str, bytes: u32| {
        let (from, to) = (scene.containers[0].namespace(), scene.address(1));
        from.run(&format!("ping -n -c1 -W1.5 {options} -s {} {to}", bytes - 28))
    };

    let why = scene.weaves[0].run(&["why", scene.weaves[1].name()])?;
    ensure!(why.contains("mtu: 626: frames of 640 octets arrive") && why.contains("told by ICMP"), "{why}");
    ping("-M do", SMALL)?;
    wait_told(&["frag needed", &format!("mtu = {SMALL}")], || ping("-M do", 1_300))?;
    let route = scene.containers[0].namespace().run(&format!("ip route get {}", scene.address(1)))?;
    ensure!(route.contains(&format!("mtu {SMALL}")), "the kernel has not understood: {route}");

    scene.containers[0].namespace().run("ip route flush cache")?;
    ping("-M dont", 1_300)?;
    ping("-M dont", 5_000)?;
    Ok(())
}

#[test]
fn an_overlay_mtu_that_is_asked_for_is_kept_between_unequal_hosts() -> Result<()> {
    let scene = Scene::with(Topology::new()?, 2, |number, hosts| {
        let launch = Launch::new().password(PASSWORD);
        if number == 0 { launch.argument("--mtu=1200") } else { launch.peer(&hosts[0]) }
    })?;
    scene.wait_known()?;
    let inside = scene.containers[0].namespace().run("cat /sys/class/net/ethwe/mtu")?;
    ensure!(inside.trim() == "1200", "{inside}");

    scene.ping_both_ways(0, 1)?;
    wait_mtu(&scene, 1_200, LOWERED)?;
    eventually(LOWERED, "the larger host sends no more than the smaller one can deliver", || {
        Ok(scene.weaves[1].path_to(&scene.weaves[0])?.contains("mtu=1200"))
    })?;
    let ping = format!("ping -n -c1 -W1.5 -M do -s {} {}", 1_300 - 28, scene.address(0));
    wait_told(&["mtu = 1200"], || scene.containers[1].namespace().run(&ping))
}

#[test]
fn ipv6_crosses_a_path_smaller_than_it_allows() -> Result<()> {
    let (scene, _link) = pair(700, true, &Launch::new().password(PASSWORD))?;
    scene.wait_known()?;
    let target = link_local(scene.containers[1].mac()?);
    let ping = |bytes: u32| {
        let from = scene.containers[0].namespace();
        from.run(&format!("ping -6 -n -c1 -W1.5 -M do -s {} {target}%ethwe", bytes - 48))
    };
    ping(100)?;
    wait_mtu(&scene, SMALL, LOWERED)?;

    ping(1_280)?;
    wait_told(&["too big", "mtu=1280"], || ping(1_300))?;
    Ok(())
}

#[test]
fn a_stream_survives_a_path_that_shrinks_and_heals_in_silence() -> Result<()> {
    let (scene, link) = pair(1_500, true, &Launch::new().password(PASSWORD))?;
    scene.wait_known()?;
    let stream = TcpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;
    eventually(SETTLED, "the stream runs", || Ok(stream.received() > 1_000_000))?;
    ensure!(path(&scene)?.contains("mtu=1376"), "{}", path(&scene)?);

    link.set_mtu(700)?;
    let lowered = wait_mtu(&scene, SMALL, LOWERED)?;
    let before = stream.received();
    eventually(STANDSTILL, "it goes on over the small path", || Ok(stream.received() > before + 500_000))?;
    link.set_mtu(1_500)?;
    let raised = wait_mtu(&scene, 1_376, RAISED)?;
    let before = stream.received();
    eventually(STANDSTILL, "it goes on over the healed path", || Ok(stream.received() > before + 500_000))?;

    let gap = stream.finish()?.longest_gap;
    ensure!(gap < STANDSTILL, "the stream stood still for {gap:?}");
    eprintln!("lowered to the octet after {lowered:?}, raised after {raised:?}, longest gap {gap:?}");
    Ok(())
}

#[test]
fn a_relayed_path_is_measured_end_to_end() -> Result<()> {
    let net = Topology::new()?;
    let (a, b, (c, link)) = (net.host()?, net.host()?, net.host_behind_thin_link(700)?);
    link.filter_icmp()?;
    net.set_faults(&[Fault::Between(a.address(), c.address())])?;
    let launch = Launch::new().password(PASSWORD);
    let scene =
        Scene::on(
            net,
            vec![a, b, c],
            |number, hosts| {
                if number == 1 { launch.clone() } else { launch.clone().peer(&hosts[1]) }
            },
        )?;
    scene.wait_known()?;

    let stream = TcpStreamProbe::start(&scene.containers[0], &scene.containers[2], scene.address(2))?;
    eventually(SETTLED, "half a megabyte through the relay", || Ok(stream.received() > 500_000))?;
    let relayed = format!("mtu={}", SMALL - 48);
    eventually(LOWERED, "an envelope takes its share", || {
        Ok(scene.weaves[0].path_to(&scene.weaves[2])?.contains(&relayed))
    })
    .with_context(|| scene.weaves[0].run(&["status", "paths"]).unwrap_or_default())?;
    stream.finish()?;
    Ok(())
}

#[test]
fn a_fast_path_that_shrinks_gives_way_to_sleeve() -> Result<()> {
    let (scene, link) = pair(1_500, true, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let stream = TcpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;
    eventually(SETTLED, "the stream runs", || Ok(stream.received() > 1_000_000))?;

    link.set_mtu(700)?;
    let demoted = scene.weaves[0].wait_path(&scene.weaves[1], "sleeve", LOWERED)?;
    let lowered = wait_mtu(&scene, SMALL, LOWERED)?;
    let before = stream.received();
    let resumed = eventually(STANDSTILL, "it goes on by sleeve", || Ok(stream.received() > before + 500_000))?;
    link.set_mtu(1_500)?;
    let promoted = scene.weaves[0].wait_path(&scene.weaves[1], "fastdp", RAISED)?;
    eprintln!("demoted {demoted:?}, lowered {lowered:?}, resumed {resumed:?}, promoted {promoted:?}");

    stream.finish()?;
    Ok(())
}

/// Two hosts with a thin link between them.
fn pair(mtu: u32, is_filtered: bool, launch: &Launch) -> Result<(Scene, ThinLink)> {
    let net = Topology::new()?;
    let (near, (far, link)) = (net.host()?, net.host_behind_thin_link(mtu)?);
    if is_filtered {
        link.filter_icmp()?;
    }
    let scene =
        Scene::on(
            net,
            vec![near, far],
            |number, hosts| {
                if number == 0 { launch.clone() } else { launch.clone().peer(&hosts[0]) }
            },
        )?;
    Ok((scene, link))
}

/// Sends what is too long until the answer says `words`: that waits for the exact size.
fn wait_told(words: &[&str], send: impl Fn() -> Result<String>) -> Result<()> {
    eventually(SETTLED, &format!("the sender is told {words:?}"), || {
        let refused = send().err().context("it cannot pass")?;
        let told = format!("{refused:?}").to_lowercase();
        if words.iter().all(|word| told.contains(word)) { Ok(true) } else { Err(refused) }
    })?;
    Ok(())
}

/// The line of `status paths` at the first host about the second.
fn path(scene: &Scene) -> Result<String> {
    scene.weaves[0].path_to(&scene.weaves[1])
}

/// Waits until that line shows an MTU, and says how long it took.
fn wait_mtu(scene: &Scene, mtu: u32, deadline: Duration) -> Result<Duration> {
    let wanted = format!("mtu={mtu}");
    eventually(deadline, &format!("status paths shows {wanted}"), || {
        Ok(path(scene)?.split_whitespace().any(|word| word == wanted))
    })
    .with_context(|| path(scene).unwrap_or_default())
}
