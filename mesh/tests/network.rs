//! Bad networks: loss, resets, long and uneven delays.

use std::time::Duration;

use weave_mesh::identity::Scheme;
use weave_mesh::sim::{Fault, HostId, Network, Options, World};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_tenth_of_all_segments_lost_slows_and_stops_nothing() {
    let network = Network { loss: 0.1, ..Network::default() };
    let mut world = World::new(Options { peers: 10, seed: 1, network, ..Options::default() });

    world.settle(MINUTE).unwrap();
    world.apply(Fault::Attach(HostId(3), 20));

    let took = world.settle(MINUTE).unwrap();
    assert!(took <= Duration::from_secs(15), "{took:?}");
}

#[test]
fn streams_that_break_all_the_time_still_carry_everything() {
    let network = Network { reset: 0.02, ..Network::default() };
    let mut world = World::new(Options { peers: 6, seed: 2, network, ..Options::default() });
    for host in 0..6 {
        world.schedule(Duration::from_secs(20 + host), Fault::Attach(HostId(host as usize), 5));
    }
    world.run_for(MINUTE);

    assert!(world.run_until(5 * MINUTE, World::is_settled).is_some());
    world.verdict().unwrap();
}

#[test]
fn news_that_overtakes_other_news_confuses_nobody() {
    let latency = Duration::from_millis(1)..=Duration::from_millis(600);
    let network = Network { latency, ..Network::default() };
    let mut world = World::new(Options { peers: 12, seed: 3, network, ..Options::default() });
    for change in 0..60 {
        let host = HostId((change % 12) as usize);
        world.schedule(Duration::from_millis(8_000 + 130 * change), Fault::Attach(host, 1 + change as u32 % 5));
    }
    world.run_for(MINUTE / 3);

    world.settle(MINUTE).unwrap();
}

#[test]
fn real_signatures_hold_where_simulated_ones_do() {
    let mut world = World::new(Options { peers: 5, seed: 4, scheme: Scheme::Ed25519, ..Options::default() });

    world.settle(MINUTE).unwrap();
    world.apply(Fault::Kill(HostId(2)));
    world.run_for(Duration::from_secs(5));
    world.apply(Fault::Start(HostId(2)));

    world.settle(MINUTE).unwrap();
}

#[test]
fn a_narrow_uplink_is_enough() {
    let network = Network { uplink: 125_000, ..Network::default() };
    let mut world = World::new(Options { peers: 20, seed: 5, network, ..Options::default() });

    let took = world.settle(MINUTE).unwrap();
    assert!(took <= Duration::from_secs(20), "{took:?}");
}
