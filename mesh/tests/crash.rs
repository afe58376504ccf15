//! Daemons and hosts that die, and what they find when they come back.

use std::time::Duration;

use weave_mesh::sim::{Fault, Fidelity, HostId, Options, World};

const MINUTE: Duration = Duration::from_secs(60);
const VICTIM: HostId = HostId(2);

fn settled(peers: usize, seed: u64) -> World {
    let mut world = World::new(Options { peers, seed, ..Options::default() });
    world.settle(MINUTE).expect("a quiet start");
    world
}

#[test]
fn a_killed_daemon_comes_back_as_itself() {
    let mut world = settled(6, 1);
    let key = world.key(VICTIM);

    world.apply(Fault::Kill(VICTIM));
    world.run_for(Duration::from_secs(1));
    world.apply(Fault::Start(VICTIM));

    world.settle(Duration::from_secs(10)).unwrap();
    assert_eq!(world.key(VICTIM), key);
}

#[test]
fn a_silent_host_is_missed_within_fifteen_seconds() {
    let mut world = settled(8, 2);
    let key = world.key(VICTIM).expect("a live host");

    world.apply(Fault::PowerLoss(VICTIM));

    let is_missed = |world: &World| world.live().all(|host| !world.node(host).expect("live").is_reachable(&key));
    assert!(world.run_until(Duration::from_secs(15), is_missed).is_some());
    world.run_for(Duration::from_secs(125));
    world.settle(MINUTE).unwrap();
}

#[test]
fn a_host_that_lost_its_state_is_a_new_peer_and_the_old_one_is_dropped() {
    let mut world = settled(5, 3);
    let key = world.key(VICTIM);

    world.apply(Fault::Kill(VICTIM));
    world.apply(Fault::LoseDisk(VICTIM));
    world.apply(Fault::Start(VICTIM));

    world.settle(MINUTE).unwrap();
    assert_ne!(world.key(VICTIM), key);
    world.run_for(3 * MINUTE);
    world.settle(MINUTE).unwrap();
}

#[test]
fn a_clock_set_back_does_not_make_a_peer_older() {
    let mut world = settled(5, 4);
    let key = world.key(VICTIM);

    for seconds in [-3_600, -86_400, 3_600, -3_600] {
        world.apply(Fault::Kill(VICTIM));
        world.apply(Fault::SetClock(VICTIM, seconds));
        world.apply(Fault::Start(VICTIM));
        world.apply(Fault::Attach(VICTIM, 3));
        world.settle(Duration::from_secs(20)).unwrap();
    }

    assert_eq!(world.key(VICTIM), key);
}

#[test]
fn an_old_copy_of_the_state_does_not_make_a_peer_older() {
    let mut world = settled(5, 5);
    // The last host keeps the copy and stays down.
    let keeper = world.add_host();
    world.apply(Fault::CopyMachine { from: VICTIM, to: keeper });
    world.apply(Fault::SetClock(VICTIM, 86_400));
    world.apply(Fault::Kill(VICTIM));
    world.apply(Fault::Start(VICTIM));
    world.settle(MINUTE).unwrap();

    world.apply(Fault::Kill(VICTIM));
    world.apply(Fault::SetClock(VICTIM, 0));
    world.apply(Fault::CopyMachine { from: keeper, to: VICTIM });
    world.apply(Fault::Start(VICTIM));

    world.settle(MINUTE).unwrap();
}

#[test]
fn a_daemon_that_dies_anywhere_in_its_work_comes_back() {
    let mut world = settled(5, 6);
    for outputs in 0..40 {
        world.apply(Fault::KillAfter(VICTIM, outputs));
        world.apply(Fault::Attach(VICTIM, outputs % 7));
        world.run_for(Duration::from_secs(8));
        world.apply(Fault::Kill(VICTIM));
        world.apply(Fault::Start(VICTIM));
        // The next death comes while it is still joining.
        world.run_for(Duration::from_millis(u64::from(outputs) * 50));
    }

    world.settle(2 * MINUTE).unwrap();
}

#[test]
fn the_only_seed_restarts_and_finds_everyone_again() {
    let mut world = settled(6, 7);

    world.apply(Fault::Kill(HostId(0)));
    world.run_for(2 * MINUTE);
    world.apply(Fault::Start(HostId(0)));

    world.settle(MINUTE).unwrap();
}

#[test]
fn all_hosts_lose_power_at_once_and_come_back() {
    let mut world = settled(8, 8);
    for host in (0..8).map(HostId) {
        world.apply(Fault::PowerLoss(host));
    }
    world.run_for(MINUTE);
    for host in (0..8).map(HostId) {
        world.schedule(Duration::from_millis(300 * host.0 as u64), Fault::Start(host));
    }
    world.run_for(Duration::from_secs(3));

    world.settle(MINUTE).unwrap();
}

#[test]
fn all_hosts_lose_power_at_once_and_come_back_without_the_one_that_they_were_told_of() {
    for (peers, limit) in [(3, 5), (30, 20)] {
        let mut world = settled(peers, 8);
        for host in (0..peers).map(HostId) {
            world.apply(Fault::PowerLoss(host));
        }
        world.run_for(MINUTE);
        for host in (1..peers).map(HostId) {
            world.schedule(Duration::from_millis(300 * host.0 as u64), Fault::Start(host));
        }
        world.run_for(Duration::from_millis(300 * peers as u64));

        let has_met = |world: &World| (1..peers).all(|host| world.reached_by(HostId(host)) == peers - 2);
        assert!(world.run_until(Duration::from_secs(limit), has_met).is_some(), "{peers} peers");
    }
}

/// The only seed loses its power for a second, so many milliseconds after everybody started.
fn interrupted(fidelity: Fidelity, millis: u64) -> World {
    let start_within = Duration::ZERO;
    let mut world = World::new(Options { peers: 3, seed: millis, fidelity, start_within, ..Options::default() });
    world.run_for(Duration::from_millis(millis));
    world.apply(Fault::PowerLoss(HostId(0)));
    world.run_for(Duration::from_secs(1));
    world.apply(Fault::Start(HostId(0)));
    world
}

#[test]
fn a_host_that_lost_its_power_amid_a_handshake_is_found_again() {
    for fidelity in [Fidelity::Messages, Fidelity::Streams] {
        for millis in 1..60 {
            let mut world = interrupted(fidelity, millis);

            let at = world.run_until(MINUTE, World::is_converged);
            assert!(at.is_some(), "{fidelity:?}: lost after {millis} ms");
        }
    }
}

#[test]
fn a_peer_that_says_goodbye_is_forgotten_at_once() {
    let mut world = settled(6, 9);

    world.apply(Fault::Leave(VICTIM));
    world.run_for(Duration::from_secs(3));

    // Nothing is held: a mesh at rest knows the MACs of live containers only.
    world.settle(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_peer_that_left_may_join_again() {
    let mut world = settled(4, 10);

    world.apply(Fault::Leave(VICTIM));
    world.run_for(Duration::from_secs(5));
    world.apply(Fault::Start(VICTIM));

    world.settle(MINUTE).unwrap();
}
