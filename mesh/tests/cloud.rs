//! Hosts that a cloud launches and terminates: they find each other, agree on one ring, and bury their dead; nobody helps.

#![allow(clippy::disallowed_methods, reason = "the machines are pure; this test is told how long to go on")]

use std::collections::BTreeSet;
use std::time::Duration;

use weave_mesh::ipam::{Config, Init};
use weave_mesh::sim::{Census, Fault, Fidelity, HostId, Options, Weather, World};
use weave_mesh::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Answers are half a minute old, one in five lacks machines, and one call in five fails.
const FOUL: Weather =
    Weather { lag: Duration::from_secs(30), latency: Duration::from_secs(2), failing: 0.2, partial: 0.2 };

/// What the environment says: how many machines, replacements and seeds, and which seed.
fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

fn group(peers: usize, seed: u64, weather: Weather) -> World {
    let range = "10.32.0.0/20".parse().expect("a range");
    World::new(Options {
        peers,
        seed,
        seeds: 0,
        endpoints: 0,
        start_within: Duration::from_secs(5),
        fidelity: Fidelity::Messages,
        ipam: Some(Config { range, default_subnet: range, init: Init::Listed }),
        cloud: Some(weather),
        ..Options::default()
    })
}

fn run_containers_of(world: &mut World) {
    for host in world.live().collect::<Vec<_>>() {
        world.apply(Fault::RunContainer(host));
    }
}

/// Runs a container on every live host; how long the last one waits for its address.
fn run_containers(world: &mut World, limit: Duration) -> Duration {
    let start = world.now();
    run_containers_of(world);
    let at = world.run_until(limit, |world| world.waiting_containers() == 0);
    at.unwrap_or_else(|| panic!("{} wait: {}", world.waiting_containers(), explain(world))).since(start)
}

/// What every live host believes, to read when something failed.
fn explain(world: &World) -> String {
    let line = |host: HostId| Some(format!("{} {}: {:?}", host.0, world.key(host)?, world.node(host)?.ipam_view()?));
    world.live().filter_map(line).collect::<Vec<_>>().join("\n")
}

fn assert_sound(world: &World, seed: u64) {
    assert!(world.verdict().is_ok(), "seed {seed}: {:?}", world.verdict());
}

#[test]
fn three_hosts_that_know_nothing_of_each_other_have_addresses_within_seconds_of_the_last_one() {
    for seed in 0..20 {
        let mut world = group(3, seed, Weather::FAIR);
        world.run_until(MINUTE, |world| world.live().count() == 3).expect("all start");
        let waited = run_containers(&mut world, MINUTE);
        assert!(waited <= 4 * SECOND, "seed {seed}: {waited:?}");
        assert_sound(&world, seed);
    }
}

#[test]
fn whatever_the_answers_are_like_there_is_one_ring() {
    for seed in 0..40 {
        let mut world = group(3 + seed as usize % 5, seed, FOUL);
        world.run_for(5 * SECOND);
        run_containers(&mut world, 10 * MINUTE);
        world.run_until(10 * MINUTE, World::is_converged).expect("one mesh");
        assert!(world.is_all_space_usable(), "seed {seed}");
        assert_sound(&world, seed);
    }
}

/// All of it is one mesh with one ring, of which all addresses are usable.
fn assert_one_ring(world: &mut World, seed: u64) {
    run_containers(world, 10 * MINUTE);
    let at = world.run_until(10 * MINUTE, |world| world.is_converged() && world.is_all_space_usable());
    assert!(at.is_some(), "seed {seed}: {}", explain(world));
    assert_sound(world, seed);
}

#[test]
fn a_group_that_is_made_larger_while_it_boots_makes_one_ring() {
    for seed in 0..20 {
        let mut world = group(1, seed, FOUL);
        let mut dice = Dice(seed);
        for machines in 2..=5 {
            world.run_for(dice.below(12) as u32 * SECOND);
            run_containers_of(&mut world);
            world.set_desired(machines);
            world.launch(dice.below(5) as u32 * SECOND);
        }
        world.run_for(MINUTE);
        assert_one_ring(&mut world, seed);
    }
}

#[test]
fn a_first_ring_waits_for_the_oldest_machine_and_no_longer_than_that_exists() {
    for seed in 0..10 {
        let mut world = group(3, seed, Weather::FAIR);
        // It dies as soon as it comes up, before it could agree to anything.
        world.run_until(MINUTE, |world| world.live().any(|host| host == HostId(0)));
        world.apply(Fault::PowerLoss(HostId(0)));
        world.run_for(10 * SECOND);
        run_containers_of(&mut world);
        world.run_for(2 * MINUTE);
        assert!(world.waiting_containers() > 0, "seed {seed}: nobody may go ahead without the oldest");
        world.terminate(HostId(0));
        world.launch(20 * SECOND);
        world.run_for(MINUTE);
        assert_one_ring(&mut world, seed);
    }
}

#[test]
fn a_machine_that_is_launched_before_the_only_other_one_goes_inherits_all_of_it() {
    for seed in 0..10 {
        let mut world = group(1, seed, Weather::FAIR);
        world.run_for(10 * SECOND);
        assert_one_ring(&mut world, seed);
        world.launch(3 * SECOND);
        world.run_for(30 * SECOND);
        let gone = world.terminate(HostId(0));
        let at = world.run_until(3 * MINUTE, |world| world.now() >= gone && world.is_all_space_usable());
        assert!(at.is_some_and(|at| at.since(gone) <= MINUTE), "seed {seed}: {}", explain(&world));
        assert_one_ring(&mut world, seed);
    }
}

/// Of some hosts one is terminated, and others come `boots` later. How long until all addresses are usable again.
fn replace_one(seed: u64, boots: Duration) -> (World, Option<Duration>) {
    let mut dice = Dice(seed);
    let mut world = group(2 + dice.below(4), seed, Weather::FAIR);
    world.run_for(10 * SECOND);
    assert_one_ring(&mut world, seed);
    let start = world.now();
    for _ in 0..=dice.below(3) {
        world.launch(boots);
    }
    let gone = world.terminate(HostId(0));
    let at = world.run_until(5 * MINUTE, |world| world.now() >= gone && world.is_all_space_usable());
    (world, at.map(|at| at.since(start)))
}

#[test]
fn machines_that_come_in_the_midst_of_a_take_over_follow_it() {
    for seed in 0..number("SEEDS").unwrap_or(4) as u64 {
        let (world, taken) = replace_one(seed, DAY);
        let taken = taken.expect("it is taken over");
        assert_sound(&world, seed);
        // They ask the cloud first.
        for milliseconds in 150..350 {
            let boots = taken - Duration::from_millis(milliseconds);
            let (world, at) = replace_one(seed, boots);
            assert!(at.is_some(), "seed {seed}, after {boots:?}: {}", explain(&world));
            assert_sound(&world, seed);
        }
    }
}

/// So many boot within five seconds, and each wants an address at once. How long the last one waits for its own.
fn boot_at_once(machines: usize, seed: u64) -> Duration {
    let mut world = group(machines, seed, FOUL);
    world.run_until(MINUTE, |world| world.live().count() == machines).expect("all start");
    let waited = run_containers(&mut world, 10 * MINUTE);
    assert_one_ring(&mut world, seed);
    waited
}

#[test]
fn thirty_machines_that_boot_at_once_make_one_ring() {
    for seed in 0..3 {
        boot_at_once(30, seed);
    }
}

#[test]
fn a_storm_of_machines_that_boot_at_once_makes_one_ring() {
    let machines = number("MACHINES").unwrap_or(100);
    let waited = boot_at_once(machines, 0);
    println!("the last of {machines} has an address after {waited:?}");
}

/// A group whose machines are replaced by others.
struct Fleet {
    world: World,
    /// Oldest first.
    live: Vec<HostId>,
    dice: Dice,
}

impl Fleet {
    fn new(peers: usize, seed: u64, weather: Weather) -> Self {
        let mut world = group(peers, seed, weather);
        world.run_for(6 * SECOND);
        run_containers(&mut world, 10 * MINUTE);
        let live = world.live().collect();
        Self { world, live, dice: Dice(seed) }
    }

    /// Some machines go and as many come, the ones or the others first. How long after the cloud could say so the addresses
    /// of the last one can be given to others; how many they were.
    fn replace(&mut self) -> (usize, Duration) {
        let some = 1 + self.dice.below(self.live.len() / 3);
        let (is_before, gap) = (self.dice.below(2) == 0, self.dice.below(40) as u32 * SECOND);
        if is_before {
            self.launch(some);
            self.world.run_for(gap);
        }
        let gone = self.terminate(some);
        if !is_before {
            self.world.run_for(gap);
            self.launch(some);
        }
        let limit = 20 * MINUTE;
        let usable = self.world.run_until(limit, |world| world.now() >= gone && world.is_all_space_usable());
        let usable = usable.unwrap_or_else(|| panic!("seed {}: {}", self.dice.0, explain(&self.world)));
        run_containers(&mut self.world, 10 * MINUTE);
        (some, usable.since(gone))
    }

    fn launch(&mut self, machines: usize) {
        for _ in 0..machines {
            let after = self.dice.below(20) as u32 * SECOND;
            let host = self.world.launch(after);
            self.live.push(host);
        }
    }

    /// The oldest go, or others. When the cloud will say so of the last.
    fn terminate(&mut self, machines: usize) -> Instant {
        let go = |fleet: &mut Self| {
            let at = if fleet.dice.below(2) == 0 { 0 } else { fleet.dice.below(fleet.live.len()) };
            let host = fleet.live.remove(at);
            fleet.world.terminate(host)
        };
        let gone: Vec<Instant> = (0..machines).map(|_| go(self)).collect();
        gone.into_iter().max().expect("some machines go")
    }

    /// Something happens beside: a daemon is killed, a disk is lost, a clock is wrong, the network splits. It is over soon.
    fn disturb(&mut self) {
        let host = self.live[self.dice.below(self.live.len())];
        let after = self.dice.below(30) as u32 * SECOND;
        let over = after + SECOND + self.dice.below(90) as u32 * SECOND;
        match self.dice.below(5) {
            0 => self.happen(Fault::Kill(host), after, Fault::Start(host), over),
            1 => {
                self.world.schedule(after, Fault::PowerLoss(host));
                self.happen(Fault::LoseDisk(host), after, Fault::Start(host), over);
            }
            2 => self.happen(Fault::SetClock(host, -7_200), after, Fault::SetClock(host, 0), over),
            3 => {
                let others = self.live.iter().copied().filter(|other| *other != host).step_by(2);
                let groups = vec![[host].into_iter().chain(others).collect(), BTreeSet::new()];
                self.happen(Fault::Partition(groups), after, Fault::Heal, over);
            }
            _ => {}
        }
    }

    fn happen(&mut self, fault: Fault, after: Duration, repair: Fault, repaired: Duration) {
        self.world.schedule(after, fault);
        self.world.schedule(repaired, repair);
    }

    /// After days in which nothing happens nothing is left of the dead.
    fn assert_sound(&mut self, seed: u64) {
        self.world.skip(4 * DAY);
        self.world.run_for(2 * MINUTE);
        assert_sound(&self.world, seed);
        assert_eq!(self.world.live().count(), self.live.len(), "seed {seed}");
        let census = self.world.largest_census();
        assert_eq!((census.certificates, census.members + 1), (0, self.live.len()), "seed {seed}: {census:?}");
    }
}

/// Chance of the test's own, beside the world's.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

#[test]
fn what_terminated_machines_had_is_given_to_others_within_a_minute() {
    for seed in 0..4 {
        let mut fleet = Fleet::new(9, seed, Weather::FAIR);
        for _ in 0..12 {
            let (_, late) = fleet.replace();
            assert!(late <= MINUTE, "seed {seed}: {late:?}");
        }
        fleet.assert_sound(seed);
    }
}

/// What is remembered at most during so many replacements, in weather that changes.
fn live_through(fleet: &mut Fleet, replacements: usize) -> Census {
    let (mut replaced, mut most) = (0, Census::default());
    while replaced < replacements {
        let weather = if fleet.dice.below(3) == 0 { FOUL } else { Weather::FAIR };
        fleet.world.set_weather(weather);
        fleet.disturb();
        replaced += fleet.replace().0;
        most = most.or_more(fleet.world.largest_census());
    }
    most
}

fn assert_no_more(what: &str, first: usize, last: usize) {
    assert!(last * 10 <= first * 12, "{what}: {first} at first, {last} in the end");
}

#[test]
fn after_hundreds_of_replacements_in_any_weather_nothing_is_left_of_the_dead() {
    let replacements = number("REPLACEMENTS").unwrap_or(500);
    let seed = number("SEED").unwrap_or(1) as u64;
    let mut fleet = Fleet::new(10, seed, Weather::FAIR);
    // The history of the ring is as long as it may be only after a while.
    live_through(&mut fleet, 200);
    let first = live_through(&mut fleet, 100);
    live_through(&mut fleet, replacements.saturating_sub(400));
    let last = live_through(&mut fleet, 100);
    fleet.assert_sound(seed);
    println!("{first:?}\n{last:?}\n{:?} calls and refusals", fleet.world.cloud_calls());
    assert_no_more("members", first.members, last.members);
    assert_no_more("certificates", first.certificates, last.certificates);
    // Of 4,096 addresses; how many there are at one time is chance.
    assert!(
        last.pieces <= 2 * first.pieces,
        "pieces of the ring: {} at first, {} in the end",
        first.pieces,
        last.pieces
    );
    assert_no_more("history", first.history, last.history);
    assert_no_more("octets on the disk", first.stored_bytes, last.stored_bytes);
}
