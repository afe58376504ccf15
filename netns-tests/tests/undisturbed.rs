//! Those who stay do not notice those who come and go.
//!
//! ```text
//!   h1 ═══ numbered datagrams, both ways, all the time ═══ h2
//!    └ others are attached and detached, again and again ┘
//! ```

use std::net::Ipv4Addr;

use anyhow::Result;
use weave_netns_tests::probe::{UdpStreamProbe, at_once};
use weave_netns_tests::scene::Scene;
use weave_netns_tests::topology::Container;
use weave_netns_tests::weave::{Launch, Weave};

/// Those that stand on each host for the whole time: the more ports there are, the more a change could disturb.
const STANDING: u8 = 10;
/// Those that come and go on each host.
const PASSING: u8 = 5;
const ROUNDS: u8 = 4;
/// Streams each way.
const STREAMS: usize = 4;

#[test]
fn others_come_and_go_without_a_lost_packet() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let _standing = guests(&scene, 0, STANDING)?;
    let streams: Vec<_> = (0..STREAMS * 2).map(|number| stream(&scene, number % 2)).collect::<Result<_>>()?;
    let passing: Vec<[Container; 2]> = (0..PASSING).map(|_| pair(&scene)).collect::<Result<_>>()?;

    for round in 0..ROUNDS {
        at_once((0..).zip(&passing), |(number, pair)| visit(&scene.weaves, 100 + round, number, pair))?;
    }

    let lost: Vec<u64> = streams.into_iter().map(|stream| Ok(stream.finish()?.lost)).collect::<Result<_>>()?;
    assert_eq!(lost, [0; STREAMS * 2]);
    Ok(())
}

fn stream(scene: &Scene, from: usize) -> Result<UdpStreamProbe> {
    UdpStreamProbe::start(&scene.containers[from], &scene.containers[1 - from], scene.address(1 - from))
}

fn pair(scene: &Scene) -> Result<[Container; 2]> {
    Ok([scene.hosts[0].container()?, scene.hosts[1].container()?])
}

/// Containers that are attached on both hosts, and stay.
fn guests(scene: &Scene, group: u8, count: u8) -> Result<Vec<[Container; 2]>> {
    let guests: Vec<[Container; 2]> = (0..count).map(|_| pair(scene)).collect::<Result<_>>()?;
    at_once((0..).zip(&guests), |(number, pair)| attach(&scene.weaves, group, number, pair))?;
    Ok(guests)
}

fn attach(weaves: &[Weave], group: u8, number: u8, pair: &[Container; 2]) -> Result<()> {
    for (host, (weave, container)) in (1..).zip(weaves.iter().zip(pair)) {
        weave.attach(container, &format!("{}/12", Ipv4Addr::new(10, 40 + host, group, number + 1)))?;
    }
    Ok(())
}

fn visit(weaves: &[Weave], group: u8, number: u8, pair: &[Container; 2]) -> Result<()> {
    attach(weaves, group, number, pair)?;
    weaves.iter().zip(pair).try_for_each(|(weave, container)| weave.run(&["detach", &container.target()]).map(drop))
}
