//! Hosts that come and go for years: nothing is left of those that are gone, and no address is ever held twice.

use std::time::Duration;

use weave_mesh::ipam::{Config, Init};
use weave_mesh::members::HOLD;
use weave_mesh::sim::{Census, Fault, Fidelity, HostId, Options, World};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn world(peers: usize, seed: u64) -> World {
    let range = "10.32.0.0/16".parse().expect("a range");
    let ipam = Some(Config { range, default_subnet: range, init: Init::Consensus(None) });
    let mut world =
        World::new(Options { peers, seed, seeds: 3, endpoints: 0, fidelity: Fidelity::Messages, ipam, ..Options::default() });
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
    fn new(peers: usize, seed: u64) -> Self {
        let world = world(peers, seed);
        let live = world.live().collect();
        Self { world, live, replaced: 0 }
    }

    /// The oldest so many hosts go, every other with a goodbye, and as many come. Two days pass.
    fn replace(&mut self, hosts: usize) {
        let gone: Vec<HostId> = self.live.drain(..hosts).collect();
        let at = self.live[0];
        for host in gone.iter().copied().step_by(2) {
            self.world.apply(Fault::HandOver(host));
            self.world.run_for(Duration::from_secs(2));
            self.world.apply(Fault::Leave(host));
            self.world.apply(Fault::Destroy(host));
        }
        let killed: Vec<HostId> = gone.iter().copied().skip(1).step_by(2).collect();
        killed.iter().for_each(|host| self.world.apply(Fault::Destroy(*host)));
        self.world.run_for(Duration::from_secs(15));
        self.world.skip(HOLD);
        killed.iter().for_each(|dead| self.world.apply(Fault::RemovePeer { at, dead: *dead }));
        self.world.run_for(Duration::from_secs(15));
        self.come(hosts);
        self.replaced += hosts;
        self.world.skip(2 * DAY);
        self.world.run_for(Duration::from_secs(10));
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
        let census = (0..batches).fold(Census::default(), |most, _| {
            self.replace(hosts);
            most.or_more(self.world.largest_census())
        });
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
    let mut fleet = Fleet::new(20, 1);
    let quick: usize = 15;
    fleet.live_through(10, 10);
    let (first, first_bytes) = fleet.live_through(quick, 10);
    let first_idle = idle_bytes(&mut fleet.world);
    eprintln!("{first:?} {first_bytes} {first_idle}");
    for round in 0..10 {
        let now = fleet.live_through(11, 10);
        eprintln!("{round} {} {now:?}", fleet.replaced);
    }
    let (last, last_bytes) = fleet.live_through(quick, 10);
    let last_idle = idle_bytes(&mut fleet.world);
    eprintln!("{last:?} {last_bytes} {last_idle}");

    assert!(fleet.world.verdict().is_ok(), "{:?}", fleet.world.violations());
    assert!(fleet.world.is_all_space_usable());
    assert_no_more("members", first.members as u64, last.members as u64);
    assert_no_more("certificates", first.certificates as u64, last.certificates as u64);
    assert_no_more("members on the disk", first.stored_members as u64, last.stored_members as u64);
    assert_no_more("octets on the disk", first.stored_bytes as u64, last.stored_bytes as u64);
    assert_no_more("pieces of the ring", first.pieces as u64, last.pieces as u64);
    assert_no_more("octets of replacing", first_bytes, last_bytes);
    assert_no_more("octets an hour at rest", first_idle, last_idle);
}
