//! Hosts that come and go for years: nothing is left of those that are gone, and no address is ever held twice.

#![allow(clippy::disallowed_methods, reason = "the machines are pure; this test is told how long to go on")]

use std::time::Duration;

use weave_mesh::ipam::{Config, Init};
use weave_mesh::members::HOLD;
use weave_mesh::sim::{Census, Fault, Fidelity, HostId, Options, World};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

const WIDE: &str = "10.32.0.0/16";
/// So few addresses that those of the dead are needed.
const NARROW: &str = "10.32.0.0/25";

/// What the environment says: how many replacements, and of which seed.
fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

fn world(peers: usize, seed: u64, range: &str) -> World {
    let range = range.parse().expect("a range");
    let ipam = Some(Config { range, default_subnet: range, init: Init::Consensus(None) });
    let mut world = World::new(Options {
        peers,
        seed,
        seeds: 3,
        endpoints: 0,
        fidelity: Fidelity::Messages,
        ipam,
        ..Options::default()
    });
    world.tell_everyone_the_seeds();
    for host in (0..peers).map(HostId) {
        world.schedule(Duration::from_secs(1), Fault::RunContainer(host));
    }
    world.run_for(MINUTE);
    world
}

/// A fleet whose hosts are replaced by others.
struct Fleet {
    world: World,
    /// Oldest first.
    live: Vec<HostId>,
    replaced: usize,
}

impl Fleet {
    fn new(peers: usize, seed: u64, range: &str) -> Self {
        let world = world(peers, seed, range);
        let live = world.live().collect();
        Self { world, live, replaced: 0 }
    }

    /// The oldest so many hosts go, every other with a goodbye, and as many come. Two days pass. What is remembered at most.
    fn replace(&mut self, hosts: usize) -> Census {
        let gone: Vec<HostId> = self.live.drain(..hosts).collect();
        let at = self.live[0];
        let leaving: Vec<HostId> = gone.iter().copied().step_by(2).collect();
        leaving.iter().for_each(|host| self.world.apply(Fault::HandOver(*host)));
        self.world.run_for(Duration::from_secs(2));
        for host in leaving {
            self.world.apply(Fault::Leave(host));
            self.world.apply(Fault::Destroy(host));
        }
        let killed: Vec<HostId> = gone.iter().copied().skip(1).step_by(2).collect();
        killed.iter().for_each(|host| self.world.apply(Fault::Destroy(*host)));
        self.world.run_for(Duration::from_secs(12));
        self.world.skip(HOLD);
        killed.iter().for_each(|dead| self.world.apply(Fault::RemovePeer { at, dead: *dead }));
        self.world.run_for(Duration::from_secs(5));
        self.come(hosts);
        self.replaced += hosts;
        let census = self.world.largest_census();
        self.world.skip(2 * DAY);
        self.world.run_for(Duration::from_secs(10));
        census
    }

    fn come(&mut self, hosts: usize) {
        let seeds: Vec<HostId> = self.live.iter().rev().take(3).copied().collect();
        for _ in 0..hosts {
            let host = self.world.add_host();
            self.world.set_targets(host, &seeds);
            self.world.apply(Fault::Start(host));
            self.world.apply(Fault::RunContainer(host));
            self.live.push(host);
        }
        // The others start and stop containers, too.
        for host in self.live.clone().into_iter().step_by(3) {
            self.world.apply(Fault::RunContainer(host));
            self.world.apply(Fault::StopContainer(host, 0));
        }
        let at = self.world.run_until(2 * MINUTE, |world| world.waiting_containers() == 0 && world.is_converged());
        assert!(at.is_some(), "after {} replacements {} wait", self.replaced, self.world.waiting_containers());
    }

    /// What is remembered at most during so many replacements, and the octets that go over the network meanwhile.
    fn live_through(&mut self, batches: usize, hosts: usize) -> (Census, u64) {
        let before = self.world.traffic().payload_bytes;
        let census = (0..batches).fold(Census::default(), |most, _| most.or_more(self.replace(hosts)));
        (census, self.world.traffic().payload_bytes - before)
    }
}

/// Octets an hour when nothing happens.
fn idle_bytes(world: &mut World) -> u64 {
    let before = world.traffic().payload_bytes;
    world.run_for(5 * MINUTE);
    12 * (world.traffic().payload_bytes - before)
}

fn assert_no_more(what: &str, first: u64, last: u64) {
    assert!(last * 10 <= first * 12, "{what}: {first} at first, {last} in the end");
}

#[test]
fn after_years_of_replacements_nothing_is_left_of_the_dead() {
    let replacements = number("REPLACEMENTS").unwrap_or(450);
    let mut fleet = Fleet::new(20, number("SEED").unwrap_or(1) as u64, WIDE);
    fleet.live_through(10, 10);
    let (first, first_bytes) = fleet.live_through(10, 10);
    let first_idle = idle_bytes(&mut fleet.world);
    fleet.live_through(replacements.saturating_sub(fleet.replaced + 100) / 10, 10);
    let (last, last_bytes) = fleet.live_through(10, 10);
    let last_idle = idle_bytes(&mut fleet.world);
    println!("{first:?}, {first_bytes} octets, {first_idle} an hour at rest");
    println!("{last:?}, {last_bytes} octets, {last_idle} an hour at rest");

    assert!(fleet.world.verdict().is_ok(), "{:?}", fleet.world.violations());
    assert!(fleet.world.is_all_space_usable());
    let rest = fleet.world.largest_census();
    assert_eq!((rest.members, rest.stored_members, rest.certificates), (19, 19, 0));
    assert_no_more("members", first.members as u64, last.members as u64);
    assert_no_more("certificates", first.certificates as u64, last.certificates as u64);
    assert_no_more("members on the disk", first.stored_members as u64, last.stored_members as u64);
    assert_no_more("octets on the disk", first.stored_bytes as u64, last.stored_bytes as u64);
    // How many there are at one time is chance.
    assert!(
        last.pieces <= 2 * first.pieces,
        "pieces of the ring: {} at first, {} in the end",
        first.pieces,
        last.pieces
    );
    assert_no_more("history", first.history as u64, last.history as u64);
    assert_no_more("octets of replacing", first_bytes, last_bytes);
    assert_no_more("octets an hour at rest", first_idle, last_idle);
}

/// What every live host believes, to read when something failed.
fn explain(world: &World) -> String {
    let line = |host: HostId| Some(format!("{} {}: {:?}", host.0, world.key(host)?, world.node(host)?.ipam_view()?));
    let last = world.trace().recent().map(ToString::to_string);
    world.live().filter_map(line).chain(last).collect::<Vec<_>>().join("\n")
}

/// Everybody runs containers at once, and in the end all have addresses and agree about the ring.
fn assert_all_get_addresses(world: &mut World, seed: u64) {
    for host in world.live().collect::<Vec<_>>() {
        (0..3).for_each(|_| world.apply(Fault::RunContainer(host)));
    }
    let at = world.run_until(15 * MINUTE, |world| {
        world.waiting_containers() == 0 && world.is_converged() && world.is_all_space_usable()
    });
    assert!(world.verdict().is_ok(), "seed {seed}: {:?}", world.violations());
    assert!(at.is_some(), "seed {seed}: {} wait\n{}", world.waiting_containers(), explain(world));
}

#[test]
fn who_comes_back_with_its_old_state_after_all_have_forgotten_it_gives_out_nothing_of_what_it_had() {
    for seed in 0..8 {
        let mut fleet = Fleet::new(8, seed, NARROW);
        let away = fleet.live.pop().expect("eight hosts");
        let key = fleet.world.key(away).expect("it runs");
        fleet.world.apply(Fault::PowerLoss(away));
        fleet.world.run_for(Duration::from_secs(15));
        fleet.world.skip(HOLD);
        fleet.world.remove_peer(fleet.live[0], key);
        fleet.world.run_for(Duration::from_secs(15));
        // In half of the histories all others are replaced meanwhile, so that nobody knows of it, nor it of them.
        let rounds = if seed % 2 == 0 { 0 } else { 3 };
        (0..rounds).for_each(|_| {
            fleet.replace(4);
        });
        fleet.world.skip(3 * DAY);
        fleet.world.run_for(MINUTE);
        let Fleet { mut world, live, .. } = fleet;
        for host in &live {
            (0..9).for_each(|_| world.apply(Fault::RunContainer(*host)));
        }
        world.run_for(MINUTE);
        assert_eq!(world.waiting_containers(), 0, "seed {seed}");

        world.set_targets(away, &live[..2]);
        world.apply(Fault::Start(away));
        assert_all_get_addresses(&mut world, seed);
        assert_eq!(world.largest_census().members, live.len(), "seed {seed}");
    }
}

#[test]
fn who_was_cut_off_for_two_days_and_buried_meanwhile_takes_the_ring_as_it_is() {
    for seed in 0..8 {
        let mut world = world(6, seed, WIDE);
        let (alone, at) = (HostId(5), HostId(0));
        let key = world.key(alone).expect("it runs");
        world.apply(Fault::StopContainer(alone, 0));
        world.apply(Fault::Partition(vec![(0..5).map(HostId).collect(), [alone].into()]));
        world.run_for(Duration::from_secs(15));
        world.skip(HOLD);
        world.remove_peer(at, key);
        world.run_for(MINUTE);
        (0..5).for_each(|host| world.apply(Fault::RunContainer(HostId(host))));
        world.run_for(MINUTE);
        world.skip(2 * DAY);
        world.run_for(MINUTE);
        assert_eq!(world.census(at).map(|census| census.members), Some(4), "seed {seed}");

        world.apply(Fault::Heal);
        let at = world.run_until(15 * MINUTE, World::is_converged);
        assert!(at.is_some(), "seed {seed}");
        assert_all_get_addresses(&mut world, seed);
    }
}

#[test]
fn halves_of_a_mesh_that_were_apart_for_two_days_wait_for_nobody_who_left_meanwhile() {
    for seed in 0..8 {
        let mut world = world(6, seed, WIDE);
        world.apply(Fault::Partition(vec![(0..4).map(HostId).collect(), [HostId(4), HostId(5)].into()]));
        world.run_for(Duration::from_secs(15));
        world.apply(Fault::HandOver(HostId(3)));
        world.run_for(Duration::from_secs(2));
        world.apply(Fault::Leave(HostId(3)));
        world.apply(Fault::Destroy(HostId(3)));
        world.run_for(MINUTE);
        (0..3).chain(4..6).for_each(|host| world.apply(Fault::RunContainer(HostId(host))));
        world.skip(2 * DAY);
        world.run_for(MINUTE);

        world.apply(Fault::Heal);
        let at = world.run_until(15 * MINUTE, World::is_converged);
        assert!(at.is_some(), "seed {seed}");
        world.run_for(MINUTE);
        let dead = world.key(HostId(1)).expect("it runs");
        world.apply(Fault::Destroy(HostId(1)));
        world.run_for(Duration::from_secs(15));
        world.skip(HOLD);
        world.remove_peer(HostId(4), dead);
        assert_all_get_addresses(&mut world, seed);
    }
}
