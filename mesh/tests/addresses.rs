//! Addresses on whole meshes: formed, asked for, taken over, through every fault; no address is ever held twice.

#![allow(clippy::disallowed_methods, reason = "the machines are pure; this test is told how long to go on")]

use std::time::Duration;

use weave_mesh::ipam::{Config, Init, Wait};
use weave_mesh::members::HOLD;
use weave_mesh::sim::{Fault, Fidelity, HostId, Options, World};

/// How many seeded histories; `SEEDS` in the environment says otherwise, `SEED` runs one alone.
fn seeds(quick: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(quick),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn config(range: &str, init: Init) -> Config {
    let range = range.parse().expect("a range");
    Config { range, default_subnet: range, init }
}

fn options(peers: usize, seed: u64, seeds: usize, range: &str) -> Options {
    let ipam = Some(config(range, Init::Consensus(None)));
    Options { peers, seed, seeds, endpoints: 0, fidelity: Fidelity::Messages, ipam, ..Options::default() }
}

/// A mesh in which every host has run one container.
fn populated(peers: usize, seed: u64) -> World {
    let mut world = World::new(options(peers, seed, 1, "10.32.0.0/12"));
    for host in (0..peers).map(HostId) {
        world.schedule(Duration::from_secs(1), Fault::RunContainer(host));
    }
    world.settle(MINUTE).expect("a quiet start");
    let at = world.run_until(MINUTE, |world| world.addressed_containers() == peers);
    assert!(at.is_some(), "{} wait", world.waiting_containers());
    world
}

/// Two that vote, of which the second was given only one that does not; who was given whom is not symmetric.
fn around_an_observer(seed: u64, init: Init) -> World {
    let [first, observer, second] = [0, 1, 2].map(HostId);
    let mut options = options(3, seed, 0, "10.32.0.0/12");
    options.ipam = options.ipam.map(|config| Config { init, ..config });
    let mut world = World::new(options);
    world.set_init(observer, Init::Observer);
    world.set_targets(observer, &[first]);
    world.set_targets(second, &[observer]);
    world
}

/// What every live host believes, to read when something failed.
fn explain(world: &World) -> String {
    let line = |host: HostId| {
        let (node, key) = (world.node(host)?, world.key(host)?);
        Some(format!("{} {key}: {:?}", host.0, node.ipam_view()?))
    };
    let last = world.trace().recent().map(ToString::to_string);
    world.live().filter_map(line).chain(last).collect::<Vec<_>>().join("\n")
}

fn assert_good(world: &World) {
    if let Err(broken) = world.verdict() {
        panic!("{broken:?}");
    }
}

#[test]
fn who_was_given_only_an_observer_votes_with_the_others_it_was_told_of() {
    for seed in 0..5 {
        let mut world = around_an_observer(seed, Init::Consensus(Some(2)));
        for host in [0, 2, 1].map(HostId) {
            world.schedule(Duration::from_secs(2 + host.0 as u64), Fault::RunContainer(host));
        }

        let at = world.run_until(Duration::from_secs(20), |world| world.addressed_containers() == 3);
        assert!(at.is_some(), "seed {seed}\n{}", explain(&world));
        assert_good(&world);
    }
}

#[test]
fn who_was_given_only_an_observer_and_no_number_waits_and_makes_no_ring_of_its_own() {
    let mut world = around_an_observer(1, Init::Consensus(None));
    world.set_targets(HostId(0), &[HostId(1)]);
    for host in [0, 2].map(HostId) {
        world.schedule(Duration::from_secs(2), Fault::RunContainer(host));
    }

    world.run_for(MINUTE);

    assert_eq!(world.addressed_containers(), 0);
    for host in [0, 2].map(HostId) {
        let view = world.node(host).and_then(|node| node.ipam_view()).expect("it runs");
        assert!(!view.is_ready && view.pending.iter().all(|pending| pending.wait == Wait::Electors), "{view:?}");
    }
}

#[test]
fn every_host_has_an_address_of_its_own() {
    let mut world = populated(5, 1);
    let at = world.run_until(MINUTE, World::is_all_space_usable);
    assert!(at.is_some());
    assert_good(&world);
}

/// The hosts in the order of their keys.
fn by_key(world: &World) -> Vec<HostId> {
    let mut hosts: Vec<HostId> = world.live().collect();
    hosts.sort_by_key(|host| world.key(*host));
    hosts
}

#[test]
fn who_promised_is_freed_when_the_dead_turns_out_to_have_left_nothing() {
    let mut world = populated(4, 2);
    let [dead, heir, grantee, promised] = by_key(&world)[..] else { panic!("four hosts") };
    world.apply(Fault::Partition(vec![[dead, grantee].into(), [heir, promised].into()]));
    world.run_for(Duration::from_secs(20));

    // The grantee alone hears that it was given everything; the others find the dead one an owner.
    world.apply(Fault::HandOver(dead));
    world.run_for(Duration::from_secs(1));
    world.apply(Fault::Destroy(dead));
    world.apply(Fault::RemovePeer { at: heir, dead });
    world.run_for(HOLD);
    world.apply(Fault::Heal);

    let at = world.run_until(MINUTE, World::is_all_space_usable);
    assert_good(&world);
    assert!(at.is_some(), "not all space is usable\n{}", explain(&world));
}

/// The daemon of `host` comes back without its state; its containers run on.
fn lose_state(world: &mut World, host: HostId) {
    world.apply(Fault::Kill(host));
    world.run_for(Duration::from_secs(1));
    world.apply(Fault::LoseDisk(host));
    world.apply(Fault::Start(host));
    let at = world.run_until(HOLD + 2 * MINUTE, World::is_all_space_usable);
    assert!(at.is_some(), "not all space is usable\n{}", explain(world));
}

/// Whom anybody believes dead.
fn believed_dead(world: &World) -> usize {
    world.live().filter_map(|host| world.node(host)?.ipam_view()).map(|view| view.dead.len()).sum()
}

#[test]
fn clones_of_one_image_are_never_taken_for_each_others_successors() {
    for seed in 0..10 {
        let options = Options { are_clones: true, ..options(3, seed, 1, "10.32.0.0/12") };
        let mut world = World::new(options);
        world.tell_everyone_the_seeds();
        (0..3).map(HostId).for_each(|host| world.schedule(Duration::from_secs(2), Fault::RunContainer(host)));
        world.run_for(Duration::from_secs(40));
        let (alone, others) = ([HostId(1)].into(), [HostId(0), HostId(2)].into());

        world.apply(Fault::Partition(vec![alone, others]));
        world.apply(Fault::Kill(HostId(1)));
        world.apply(Fault::Start(HostId(1)));
        world.run_for(2 * HOLD);
        (0..2).map(HostId).for_each(|host| world.apply(Fault::RunContainer(host)));
        world.run_for(Duration::from_secs(10));
        world.apply(Fault::Heal);

        let at = world.run_until(10 * MINUTE, |world| world.is_converged() && world.is_all_space_usable());
        assert_good(&world);
        assert_eq!((at.is_some(), believed_dead(&world), world.addressed_containers()), (true, 0, 5), "seed {seed}");
    }
}

#[test]
fn what_containers_hold_stays_held_when_their_host_loses_its_state_twice() {
    for seed in 0..10 {
        let mut world = World::new(options(3, seed, 1, "10.32.0.0/28"));
        world.tell_everyone_the_seeds();
        world.run_for(MINUTE);
        // More than there are addresses: others wait for any that comes free.
        for host in (0..8).flat_map(|_| (0..3).map(HostId)) {
            world.apply(Fault::RunContainer(host));
        }
        world.run_for(Duration::from_secs(10));

        lose_state(&mut world, HostId(2));
        lose_state(&mut world, HostId(2));

        assert_good(&world);
    }
}

#[test]
fn thirty_peers_that_boot_at_once_have_addresses_in_two_seconds() {
    for seed in seeds(40) {
        let options = options(30, seed, 3, "10.32.0.0/12");
        let mut world = World::new(options);
        world.tell_everyone_the_seeds();
        for host in (0..30).map(HostId) {
            world.apply(Fault::RunContainer(host));
        }
        let at = world.run_until(Duration::from_secs(2), |world| world.addressed_containers() == 30);
        assert!(at.is_some(), "seed {seed}: {} wait\n{}", world.waiting_containers(), explain(&world));
        assert_good(&world);
    }
}

#[test]
fn a_liar_takes_nobodys_addresses_and_the_dead_are_inherited_all_the_same() {
    for seed in seeds(6) {
        let mut world = populated(6, seed);
        let (liar, dead, at) = (HostId(2), HostId(4), HostId(1));
        let owned = |world: &World, host| world.node(host).and_then(|node| node.ipam_view()).map(|view| view.owned);
        world.run_for(MINUTE);
        let before = owned(&world, at);
        for second in 0..400 {
            world.schedule(Duration::from_secs(second), Fault::Lie(liar));
        }
        world.run_for(2 * HOLD);
        for host in world.live().filter(|host| *host != liar) {
            assert_eq!(owned(&world, host), before, "seed {seed}, host {}", host.0);
        }

        world.apply(Fault::Destroy(dead));
        world.run_for(Duration::from_secs(20));
        world.apply(Fault::RemovePeer { at, dead });
        let at = world.run_until(5 * MINUTE, World::is_all_space_usable);
        assert!(at.is_some(), "seed {seed}: {}", explain(&world));
        assert_good(&world);
    }
}

#[test]
fn random_histories_never_give_an_address_to_two() {
    for seed in seeds(150) {
        let peers = 3 + seed as usize % 6;
        let mut world = World::new(options(peers, seed, 1, "10.32.0.0/26"));
        world.live_through(80, 1);
        let at = world.run_until(5 * MINUTE, World::is_all_space_usable);
        assert_good(&world);
        assert!(at.is_some(), "seed {seed}: not all space is usable\n{}", explain(&world));
    }
}

#[test]
fn a_disturbed_first_boot_makes_one_ring() {
    for seed in seeds(150) {
        let mut world = World::new(options(4 + seed as usize % 4, seed, 3, "10.32.0.0/26"));
        world.be_born();
        assert_good(&world);
        let at = world.run_until(MINUTE, |world| world.waiting_containers() == 0 && world.is_all_space_usable());
        assert_good(&world);
        assert!(at.is_some(), "seed {seed}: {} wait\n{}", world.waiting_containers(), explain(&world));
    }
}
