//! One seed, one history.

use std::time::Duration;

use weave_mesh::sim::{Fault, HostId, Network, Options, World};

fn history(seed: u64) -> (u64, u64) {
    let network = Network { loss: 0.05, ..Network::default() };
    let mut world = World::new(Options { peers: 8, seed, network, ..Options::default() });
    world.schedule(Duration::from_secs(10), Fault::Kill(HostId(3)));
    world.schedule(Duration::from_secs(12), Fault::Start(HostId(3)));
    world.run_for(Duration::from_secs(40));
    (world.trace().hash(), world.traffic().payload_bytes)
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(history(1), history(1));
    assert_ne!(history(1).0, history(2).0);
}

#[test]
fn a_node_alone_does_the_same_over_its_recorded_inputs() {
    let mut world = World::new(Options { peers: 8, seed: 3, record: Some(HostId(2)), ..Options::default() });
    world.schedule(Duration::from_secs(10), Fault::Kill(HostId(3)));
    world.run_for(Duration::from_secs(40));

    let recording = world.recording().expect("host 2 was recorded");

    assert!(recording.inputs.len() > 100);
    assert_eq!(recording.replay().unwrap(), recording.outputs);
}
