//! Meshes that are cut apart and joined again.

use std::collections::BTreeSet;
use std::time::Duration;

use weave_mesh::connector::Discovery;
use weave_mesh::sim::{Fault, HostId, Options, World};

const MINUTE: Duration = Duration::from_secs(60);

fn groups(of: &[&[usize]]) -> Fault {
    Fault::Partition(of.iter().map(|group| group.iter().copied().map(HostId).collect()).collect())
}

/// How many MACs of containers of `owner` a host knows.
fn macs_known(world: &World, host: usize, owner: usize) -> usize {
    let key = world.key(HostId(owner)).expect("a live owner");
    let view = world.node(HostId(host)).expect("a live host").view();
    view.claims.macs.iter().filter(|(mac, claimant)| **claimant == key && mac.0[0] == 0x0a).count()
}

#[test]
fn three_parts_change_by_themselves_and_agree_when_joined() {
    let mut world = World::new(Options { peers: 12, seed: 1, ..Options::default() });
    world.settle(MINUTE).unwrap();

    world.apply(groups(&[&[0, 1, 2, 3], &[4, 5, 6, 7], &[8, 9, 10, 11]]));
    for host in [0, 5, 9].map(HostId) {
        world.apply(Fault::Attach(host, 7));
    }
    world.settle(MINUTE).unwrap();
    assert_eq!((macs_known(&world, 1, 0), macs_known(&world, 4, 0)), (7, 1));
    world.apply(Fault::Heal);

    let healed = world.settle(MINUTE).unwrap();
    assert!(healed <= Duration::from_secs(20), "{healed:?}");
    assert_eq!(macs_known(&world, 4, 0), 7);
}

#[test]
fn what_is_cut_off_is_held_for_two_minutes_and_then_dropped() {
    let mut world = World::new(Options { peers: 4, seed: 2, ..Options::default() });
    world.settle(MINUTE).unwrap();

    world.apply(groups(&[&[0, 1], &[2, 3]]));
    world.run_for(Duration::from_secs(115));
    assert_eq!(macs_known(&world, 0, 3), 1);
    world.run_for(Duration::from_secs(30));

    assert_eq!(macs_known(&world, 0, 3), 0);
    world.apply(Fault::Heal);
    world.settle(7 * MINUTE).unwrap();
    assert_eq!(macs_known(&world, 0, 3), 1);
}

#[test]
fn two_peers_without_a_path_know_each_other_through_a_third() {
    let mut world = World::new(Options { peers: 3, seed: 3, seeds: 2, ..Options::default() });
    world.apply(Fault::Cut(HostId(0), HostId(2)));

    world.settle(MINUTE).unwrap();
    // Both have a sleeve session with the third, and none with each other.
    let keys: Vec<_> = (0..3).map(|host| world.key(HostId(host)).expect("a live host")).collect();
    world.set_direct_sessions(HostId(0), BTreeSet::from([keys[1]]));
    world.set_direct_sessions(HostId(1), BTreeSet::from([keys[0], keys[2]]));
    world.set_direct_sessions(HostId(2), BTreeSet::from([keys[1]]));
    world.run_for(Duration::from_secs(2));

    let view = world.node(HostId(0)).expect("a live host").view();
    assert_eq!(view.relays.get(&keys[2]), Some(&vec![keys[1]]));
}

#[test]
fn without_discovery_a_chain_stays_a_chain_and_everyone_knows_everyone() {
    let options = Options { peers: 4, seed: 4, discovery: Discovery::Off, ..Options::default() };
    let mut world = World::new(options);
    for host in 1..4 {
        world.set_targets(HostId(host), &[HostId(host - 1)]);
    }

    world.settle(MINUTE).unwrap();

    let counts: Vec<_> = (0..4).map(|host| world.node(HostId(host)).expect("a live host").connection_count()).collect();
    assert_eq!(counts, [1, 2, 2, 1]);
}

#[test]
fn a_forgotten_seed_stays_connected_and_a_connected_stranger_joins() {
    let mut world = World::new(Options { peers: 3, seed: 5, seeds: 0, ..Options::default() });
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.reached_by(HostId(0)), 0);

    for host in [1, 2].map(HostId) {
        world.apply(Fault::Connect { host, to: HostId(0) });
    }
    world.settle(MINUTE).unwrap();
    world.apply(Fault::Forget { host: HostId(1), target: HostId(0) });

    world.run_for(MINUTE);
    world.settle(MINUTE).unwrap();
    assert_eq!(world.reached_by(HostId(0)), 2);
}

#[test]
fn two_that_forgot_each_other_meet_no_more_until_one_is_told_to() {
    let (one, other) = (HostId(0), HostId(1));
    let mut world = World::new(Options { peers: 2, seed: 6, ..Options::default() });
    world.settle(MINUTE).unwrap();
    world.set_targets(other, &[]);

    world.apply(Fault::Forget { host: one, target: other });
    world.apply(Fault::Forget { host: other, target: one });
    for host in [one, other] {
        world.apply(Fault::Kill(host));
        world.apply(Fault::Start(host));
    }

    world.run_for(10 * MINUTE);
    assert_eq!([one, other].map(|host| world.reached_by(host)), [0, 0]);
    world.apply(Fault::Connect { host: one, to: other });
    world.settle(MINUTE).unwrap();
}

#[test]
fn parts_that_were_apart_for_hours_meet_without_the_host_that_they_were_told_of() {
    let mut world = World::new(Options { peers: 4, seed: 9, ..Options::default() });
    world.settle(MINUTE).unwrap();

    world.apply(Fault::PowerLoss(HostId(0)));
    world.apply(groups(&[&[1], &[2, 3]]));
    world.run_for(150 * MINUTE);
    world.apply(Fault::Heal);

    assert!(world.run_until(10 * MINUTE, |world| world.reached_by(HostId(1)) == 2).is_some());
}

#[test]
fn parts_that_flap_agree_in_the_end() {
    for seed in 10..14 {
        let mut world = World::new(Options { peers: 10, seed, seeds: 2, ..Options::default() });
        for round in 0..8 {
            let split: [&[usize]; 2] = if round % 2 == 0 { [&[0, 2, 4], &[1, 3]] } else { [&[0], &[5, 6, 7]] };
            world.schedule(Duration::from_secs(3 + 6 * round), groups(&split));
            world.schedule(Duration::from_secs(6 + 6 * round), Fault::Heal);
            world.schedule(Duration::from_secs(4 + 6 * round), Fault::Attach(HostId(round as usize), round as u32));
        }
        world.run_for(MINUTE);

        world.settle(2 * MINUTE).unwrap();
    }
}
