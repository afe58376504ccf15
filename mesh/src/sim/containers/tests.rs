//! Tests of the test: peers that break one rule are found out, by the same histories that good peers survive.
//!
//! Random histories, but for the rules whose breach takes a death at the right moment: those are planned.

use super::*;
use crate::ipam::{Config, Init, Owner, Rule};
use crate::members::HOLD;
use crate::sim::{Fidelity, Options};

/// So many histories are tried until one shows the bug.
const SEEDS_MAX: u64 = 1_000;
/// More than a voter puts out for one ballot.
const OUTPUTS_MAX: u32 = 40;
/// Longer than a ballot takes, and shorter than what nobody relies on waits for the disk.
const VOTING_TIME: Duration = Duration::from_secs(1);

fn world(peers: usize, seed: u64, seeds: usize, rule: impl Into<Option<Rule>>) -> World {
    let range: Cidr = "10.32.0.0/26".parse().unwrap();
    let ipam = Some(Config { range, default_subnet: range, init: Init::Consensus(None) });
    let mut world = World::new(Options {
        peers,
        seed,
        seeds,
        endpoints: 0,
        fidelity: Fidelity::Messages,
        ipam,
        ..Options::default()
    });
    world.broken = rule.into();
    world
}

/// Whether an address is held twice.
fn is_found(world: &World) -> bool {
    world.violations().iter().any(|violation| matches!(violation, Violation::AddressTwice { .. }))
}

/// An owner gives space to one peer, dies, and another inherits what it owned, cut off from that one.
fn death(rule: impl Into<Option<Rule>>) -> World {
    let mut world = world(3, 1, 1, rule);
    world.tell_everyone_the_seeds();
    world.run_for(MEETING_TIME);
    (0..3).map(HostId).for_each(|host| world.run_container(host, None));
    world.run_until(REPAIR_MAX, |world| world.waiting_containers() == 0).expect("a ring");
    let [dead, heir, granted] = richest_and_heirs(&world);
    world.apply(Fault::Partition(vec![[dead, granted].into(), [heir].into()]));
    world.run_for(MEETING_TIME);
    // More than its quarter of the range.
    (0..20).for_each(|_| world.run_container(granted, None));
    world.run_until(REPAIR_MAX, |world| world.waiting_containers() == 0).expect("a donation");
    world.apply(Fault::Destroy(dead));
    world.apply(Fault::Partition(vec![[granted].into(), [heir].into()]));
    // Nobody is called dead who seems reachable still.
    world.run_for(REPAIR_MAX);
    world.apply(Fault::RemovePeer { at: heir, dead });
    world.run_for(HOLD + MEETING_TIME);
    // All that there is.
    (0..64).for_each(|_| world.run_container(heir, None));
    world.run_for(MEETING_TIME);
    world
}

/// Of three hosts the one that owns most, and the others in the order in which they would inherit.
fn richest_and_heirs(world: &World) -> [HostId; 3] {
    let mut hosts: Vec<HostId> = world.live().collect();
    hosts.sort_by_key(|host| world.key(*host));
    let owned = world.node(hosts[0]).and_then(|node| node.ipam_view()).expect("a view").owned;
    let addresses = |host: &HostId| owned.get(&Owner::Peer(world.key(*host)?)).copied();
    let richest = (0..3).max_by_key(|place| addresses(&hosts[*place])).expect("three hosts");
    hosts.rotate_left(richest);
    hosts.try_into().expect("three hosts")
}

fn birth(seed: u64, rule: Rule) -> World {
    let mut world = world(4 + seed as usize % 4, seed, 3, rule);
    world.be_born();
    world
}

/// A donor dies right after it told of a grant, and then gives out all that its disk says is its.
fn donation(rule: impl Into<Option<Rule>>) -> World {
    let (donor, asker) = (HostId(0), HostId(1));
    let mut world = world(2, 1, 1, rule);
    world.tell_everyone_the_seeds();
    world.run_for(MEETING_TIME);
    // More than its half of the range.
    (0..40).for_each(|_| world.run_container(asker, None));
    world.run_until(REPAIR_MAX, |world| world.waiting_containers() == 0).expect("a donation");
    for fault in [Fault::Kill(donor), Fault::Partition(vec![[donor].into(), [asker].into()]), Fault::Start(donor)] {
        world.apply(fault);
    }
    (0..40).for_each(|_| world.run_container(donor, None));
    world.run_for(MEETING_TIME);
    world
}

/// A voter dies `outputs` after it was asked for a ring, and comes back among those who never heard of that ring.
fn vote(rule: impl Into<Option<Rule>>, outputs: u32) -> World {
    let [proposer, voter, third] = [0, 1, 2].map(HostId);
    let mut world = world(3, 1, 3, rule);
    world.tell_everyone_the_seeds();
    world.apply(Fault::Partition(vec![[proposer, voter].into(), [third].into()]));
    world.run_for(MEETING_TIME);
    world.apply(Fault::KillAfter(voter, outputs));
    world.run_container(proposer, None);
    world.run_for(VOTING_TIME);
    world.apply(Fault::Partition(vec![[proposer].into(), [voter, third].into()]));
    world.apply(Fault::Kill(voter));
    world.apply(Fault::Start(voter));
    [voter, third].into_iter().for_each(|host| world.run_container(host, None));
    world.run_for(MEETING_TIME);
    world
}

fn assert_found(rule: Rule, history: impl Fn(u64, Rule) -> World) {
    let seed = (0..SEEDS_MAX).find(|seed| is_found(&history(*seed, rule)));
    assert!(seed.is_some(), "nobody noticed in {SEEDS_MAX} histories that {rule:?} was broken");
    println!("{rule:?} broken: found by seed {}", seed.unwrap_or_default());
}

#[test]
fn an_heir_that_does_not_wait_for_one_consent_is_found_out() {
    assert!(is_found(&death(Rule::EveryConsent)));
    assert!(!is_found(&death(None)), "the history is one that good peers survive");
}

#[test]
fn a_vote_that_is_told_before_it_is_durable_is_found_out() {
    let finds = |rule| (0..OUTPUTS_MAX).any(|outputs| is_found(&vote(rule, outputs)));
    assert!(finds(Some(Rule::PersistVote)));
    assert!(!finds(None), "the histories are some that good peers survive");
}

#[test]
fn a_vote_that_is_forgotten_at_restart_is_found_out() {
    assert_found(Rule::RememberVote, birth);
}

#[test]
fn a_quorum_without_the_majority_of_the_seeds_is_found_out() {
    assert_found(Rule::SeedsMajority, birth);
}

#[test]
fn a_grant_that_is_told_before_it_is_durable_is_found_out() {
    assert!(is_found(&donation(Rule::PersistGrant)));
    assert!(!is_found(&donation(None)), "the history is one that good peers survive");
}
