//! Many peers that start in the same second.

use std::time::Duration;

use weave_mesh::sim::{Fidelity, Options, Scenario, World};

#[test]
fn thirty_peers_know_each_other_within_eight_seconds_and_five_megabytes() {
    let mut world = World::new(Options { peers: 30, seed: 1, seeds: 1, ..Options::default() });

    let at = world.run_until(Duration::from_secs(8), World::is_converged);

    assert!(at.is_some(), "not within 8 s; {} bytes", world.traffic().wire_bytes);
    assert!(world.traffic().wire_bytes <= 5_000_000, "{} bytes", world.traffic().wire_bytes);
    world.settle(Duration::from_secs(60)).unwrap();
}

/// Chance takes the two ways of simulating apart; where as many messages were sent, they must have cost the same.
#[test]
fn counted_messages_cost_what_real_streams_cost() {
    let traffic = |fidelity, seed| {
        let mut world = World::new(Options { peers: 16, seed, fidelity, ..Options::default() });
        world.settle(Duration::from_secs(60)).unwrap();
        (world.traffic().messages as f64, world.traffic().payload_bytes as f64)
    };
    let pairs = (1..=8).map(|seed| (traffic(Fidelity::Messages, seed), traffic(Fidelity::Streams, seed)));

    let alike: Vec<f64> = pairs
        .filter(|((counted, _), (real, _))| (counted / real - 1.0).abs() < 0.05)
        .map(|((_, counted), (_, real))| counted / real)
        .collect();

    assert!(alike.len() >= 2, "{alike:?}");
    assert!(alike.iter().all(|ratio| (0.9..1.1).contains(ratio)), "{alike:?}");
}

#[test]
fn two_hundred_peers_keep_few_connections_and_little_gossip() {
    let report = Scenario { peers: 200, seed: 7, loss_percent: 0, splits: Vec::new() }.run(|| None);

    assert!(report.is_good(), "{report}");
    assert!(report.converged.is_some_and(|time| time <= Duration::from_secs(30)), "{report}");
    assert!(report.idle_bytes_per_second <= 10_000, "{report}");
    assert!(report.connections.2 <= 24, "{report}");
    assert!(report.joined.is_some_and(|time| time <= Duration::from_secs(5)), "{report}");
    assert!(report.died.is_some_and(|time| time <= Duration::from_secs(15)), "{report}");
}

#[test]
fn a_scenario_with_loss_and_partitions_holds() {
    let splits = vec!["10-40".parse().unwrap(), "60-90/3".parse().unwrap()];

    let report = Scenario { peers: 20, seed: 3, loss_percent: 5, splits }.run(|| None);

    assert!(report.is_good(), "{report}");
}
