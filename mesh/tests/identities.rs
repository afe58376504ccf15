//! Keys and names that turn up twice.

use std::collections::BTreeSet;
use std::time::Duration;

use weave_mesh::name::PeerName;
use weave_mesh::sim::{Fault, HostId, Options, World};

const MINUTE: Duration = Duration::from_secs(60);
const NAME: PeerName = PeerName([2, 0, 0, 0, 0, 0x77]);
const ORIGINAL: HostId = HostId(1);

fn settled(peers: usize, seed: u64) -> World {
    let mut world = World::new(Options { peers, seed, ..Options::default() });
    world.settle(MINUTE).expect("a quiet start");
    world
}

fn name(world: &World, host: HostId) -> PeerName {
    world.node(host).expect("a live host").view().card.name
}

#[test]
fn a_state_directory_copied_to_another_machine_is_set_aside() {
    let mut world = settled(4, 1);
    let copy = world.add_host();

    world.apply(Fault::CopyDisk { from: ORIGINAL, to: copy });
    world.apply(Fault::Start(copy));

    world.settle(MINUTE).unwrap();
    assert_ne!(world.key(copy), world.key(ORIGINAL));
}

#[test]
fn of_two_copies_of_one_machine_the_one_that_started_later_becomes_new() {
    let mut world = settled(4, 2);
    let key = world.key(ORIGINAL);
    let copy = world.add_host();

    world.apply(Fault::CopyMachine { from: ORIGINAL, to: copy });
    world.apply(Fault::Start(copy));

    // Both stay up, with different keys; checked at rest too.
    world.run_for(MINUTE);
    world.settle(2 * MINUTE).unwrap();
    assert_eq!(world.key(ORIGINAL), key);
    assert_ne!(world.key(copy), key);
}

#[test]
fn copies_that_meet_after_a_partition_come_apart() {
    let mut world = settled(6, 3);
    let copy = world.add_host();
    world.apply(Fault::CopyMachine { from: ORIGINAL, to: copy });
    let there: BTreeSet<HostId> = [HostId(4), HostId(5), copy].into();
    world.set_targets(copy, &[HostId(4)]);

    world.apply(Fault::Partition(vec![(0..4).map(HostId).collect(), there]));
    world.run_for(Duration::from_secs(20));
    world.apply(Fault::Start(copy));
    world.run_for(Duration::from_secs(20));
    world.apply(Fault::Heal);

    world.run_for(MINUTE);
    world.settle(3 * MINUTE).unwrap();
    assert_ne!(world.key(copy), world.key(ORIGINAL));
}

#[test]
fn a_newcomer_with_a_name_in_use_is_refused_and_keeps_trying() {
    let mut world = World::new(Options { peers: 4, seed: 4, ..Options::default() });
    world.apply(Fault::SetName(ORIGINAL, NAME));
    world.settle(MINUTE).unwrap();
    let newcomer = world.add_host();
    world.apply(Fault::SetName(newcomer, NAME));

    world.apply(Fault::Start(newcomer));
    world.run_for(MINUTE);
    assert_eq!(world.reached_by(newcomer), 0);
    world.verdict().unwrap();

    // The name becomes free.
    world.apply(Fault::Leave(ORIGINAL));
    world.run_until(7 * MINUTE, |world| world.reached_by(newcomer) == 3).expect("the newcomer is let in");
    assert_eq!(name(&world, newcomer), NAME);
}

#[test]
fn two_peers_named_alike_that_meet_after_a_partition_are_told_apart_by_their_keys() {
    for seed in 5..9 {
        let mut world = World::new(Options { peers: 6, seed, seeds: 0, ..Options::default() });
        let (a, b) = (HostId(1), HostId(4));
        for host in [a, b] {
            world.apply(Fault::SetName(host, NAME));
        }
        for (host, target) in [(1, 0), (2, 0), (4, 3), (5, 3)] {
            world.set_targets(HostId(host), &[HostId(target)]);
        }
        world.run_for(Duration::from_secs(20));
        assert_eq!((name(&world, a), name(&world, b)), (NAME, NAME));

        // Peers of the two halves meet, not the two themselves.
        world.apply(Fault::Connect { host: HostId(2), to: HostId(5) });

        world.settle(2 * MINUTE).unwrap();
        let (lower, higher) = if world.key(a) < world.key(b) { (a, b) } else { (b, a) };
        assert_eq!(name(&world, lower), NAME);
        let key = world.key(higher).expect("a live host");
        assert_eq!(name(&world, higher), PeerName::derived_from(&key.0));
    }
}

#[test]
fn a_renamed_peer_keeps_its_key() {
    let mut world = settled(4, 9);
    let key = world.key(ORIGINAL);

    world.apply(Fault::Kill(ORIGINAL));
    world.apply(Fault::SetName(ORIGINAL, NAME));
    world.apply(Fault::Start(ORIGINAL));

    world.settle(MINUTE).unwrap();
    assert_eq!((world.key(ORIGINAL), name(&world, ORIGINAL)), (key, NAME));
}

#[test]
fn a_liar_takes_nobodys_identity_and_cuts_nobody_off() {
    for seed in 10..14 {
        let mut world = settled(6, seed);
        let liar = HostId(2);
        let keys: Vec<_> = world.live().map(|host| world.key(host)).collect();

        for second in 0..60 {
            world.schedule(Duration::from_secs(second), Fault::Lie(liar));
        }
        world.run_for(MINUTE);

        world.settle(2 * MINUTE).unwrap();
        assert_eq!(world.live().map(|host| world.key(host)).collect::<Vec<_>>(), keys);
        for host in world.live().filter(|host| *host != liar) {
            assert_eq!(world.reached_by(host), 5);
        }
    }
}
