//! Tests of the test: peers that break one rule are found out, by the same histories that good peers survive.

use super::*;
use crate::ipam::{Config, Init, Rule};
use crate::sim::{Fidelity, Options};

/// So many histories are tried until one shows the bug.
const SEEDS_MAX: u64 = 1_000;

fn world(peers: usize, seed: u64, seeds: usize, rule: Rule) -> World {
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
    world.broken = Some(rule);
    world
}

/// The first seed of a history in which an address is held twice.
fn found_by(history: impl Fn(u64) -> World) -> Option<u64> {
    let is_twice = |violation: &Violation| matches!(violation, Violation::AddressTwice { .. });
    (0..SEEDS_MAX).find(|seed| history(*seed).violations().iter().any(is_twice))
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

fn assert_found(rule: Rule, history: impl Fn(u64, Rule) -> World) {
    let seed = found_by(|seed| history(seed, rule));
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
