//! Tests of the test: peers that break one rule are found out, by the same histories that good peers survive.
//!
//! Random histories, but for the rule whose breach takes a death within two seconds: that one is planned.

use super::*;
use crate::ipam::{Config, Init, Rule};
use crate::sim::{Fidelity, Options};

/// So many histories are tried until one shows the bug.
const SEEDS_MAX: u64 = 1_000;

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

fn life(seed: u64, rule: Rule) -> World {
    let mut world = world(3 + seed as usize % 6, seed, 1, rule);
    world.live_through(80, 1);
    world
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

fn assert_found(rule: Rule, history: impl Fn(u64, Rule) -> World) {
    let seed = (0..SEEDS_MAX).find(|seed| is_found(&history(*seed, rule)));
    assert!(seed.is_some(), "nobody noticed in {SEEDS_MAX} histories that {rule:?} was broken");
    println!("{rule:?} broken: found by seed {}", seed.unwrap_or_default());
}

#[test]
fn an_heir_that_does_not_wait_for_one_consent_is_found_out() {
    assert_found(Rule::EveryConsent, life);
}

#[test]
fn a_vote_that_is_told_before_it_is_durable_is_found_out() {
    assert_found(Rule::PersistVote, birth);
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
