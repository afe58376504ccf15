//! Two peers and their addresses: what one has, the other gets, and what they do not agree on.

use super::*;
use crate::ipam::{Answer, Cidr, ClaimMode, Config as Addresses, Error, Init, Owner as Holder, Problem, Ticket};
use crate::members::HOLD;

const RANGE: &str = "10.32.0.0/24";

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

pub(super) fn managing(number: u8, range: &str, init: Init) -> Node {
    let (range, default_subnet) = (cidr(range), cidr(range));
    let mut node = node_with(number, 1_000, |config| config.ipam = Some(Addresses { range, default_subnet, init }));
    node.resume_containers(&[], START);
    node
}

fn name(number: u8) -> PeerName {
    Owner::new(number).card.name
}

/// The first made the ring alone and holds an address; the second has learnt of it.
fn pair() -> Pair {
    let mut pair = Pair::new(managing(1, RANGE, Init::Consensus(Some(1))), managing(2, RANGE, Init::Observer));
    assert_eq!(allocate(&mut pair, 0, 1), Some(Ok(Answer::Allocated(cidr("10.32.0.1/24")))));
    pair.connect(1, 7);
    pair.run_for(1);
    pair
}

fn answer(pair: &Pair, end: usize, ticket: u64) -> Option<Result<Answer, Error>> {
    let answers = pair.events(end).into_iter().filter_map(|event| match event {
        Event::Ipam { ticket: answered, answer } if answered == Ticket(ticket) => Some(answer),
        _ => None,
    });
    answers.last()
}

fn allocate(pair: &mut Pair, end: usize, ticket: u64) -> Option<Result<Answer, Error>> {
    let now = pair.now;
    pair.nodes[end].allocate(Ticket(ticket), &format!("c{ticket}"), cidr(RANGE), now);
    pair.run_for(1);
    answer(pair, end, ticket)
}

fn claim(pair: &mut Pair, end: usize, ticket: u64, address: &str) -> Option<Result<Answer, Error>> {
    let now = pair.now;
    pair.nodes[end].claim(Ticket(ticket), &format!("c{ticket}"), cidr(address), ClaimMode::Ask, now);
    pair.run_for(1);
    answer(pair, end, ticket)
}

fn problems(pair: &Pair, end: usize) -> Vec<Problem> {
    let problems = pair.events(end).into_iter().filter_map(|event| match event {
        Event::Warning(Warning::Addresses { problem, .. }) => Some(problem),
        _ => None,
    });
    problems.collect()
}

fn owned(pair: &Pair, end: usize, owner: PeerKey) -> u64 {
    pair.nodes[end].ipam_view().unwrap().owned.get(&Holder::Peer(owner)).copied().unwrap_or_default()
}

#[test]
fn a_peer_without_space_gets_half_of_what_is_free() {
    let mut pair = pair();
    let [_, second] = pair.keys();

    assert!(matches!(allocate(&mut pair, 1, 2), Some(Ok(Answer::Allocated(_)))));

    assert_eq!((owned(&pair, 0, second), owned(&pair, 1, second)), (64, 64), "the biggest block that is half at most");
}

#[test]
fn a_free_address_is_claimed_across_peers_and_a_held_one_is_not() {
    let mut pair = pair();
    let [first, second] = pair.keys();

    assert_eq!(claim(&mut pair, 1, 2, "10.32.0.9/24"), Some(Ok(Answer::Claimed)));
    let held = Error::HeldElsewhere { address: [10, 32, 0, 1].into(), peer: first };
    assert_eq!(claim(&mut pair, 1, 3, "10.32.0.1/24"), Some(Err(held)));

    assert_eq!(owned(&pair, 0, second), 1);
}

#[test]
fn an_address_found_on_a_container_is_not_given_to_another() {
    let mut pair = pair();
    let now = pair.now;
    pair.nodes[1].claim(Ticket(2), "found", cidr("10.32.0.2/24"), ClaimMode::Found, now);
    pair.run_for(1);

    assert_eq!(allocate(&mut pair, 0, 3), Some(Ok(Answer::Allocated(cidr("10.32.0.3/24")))));
    let now = pair.now;
    pair.nodes[1].release("found", None, now).unwrap();
    pair.run_for(1);
    assert_eq!(allocate(&mut pair, 0, 4), Some(Ok(Answer::Allocated(cidr("10.32.0.2/24")))));
}

#[test]
fn an_address_that_another_peer_attached_by_hand_is_not_allocated() {
    let mut pair = pair();
    let mut by_hand = endpoints(1);
    by_hand.values_mut().for_each(|endpoint| endpoint.addresses[0].address = [10, 32, 0, 2].into());
    let now = pair.now;
    pair.nodes[1].set_endpoints(by_hand, now).unwrap();
    pair.talk();
    pair.run_for(1);

    assert_eq!(allocate(&mut pair, 0, 3), Some(Ok(Answer::Allocated(cidr("10.32.0.3/24")))));
}

#[test]
fn a_peer_that_resets_gives_everything_back() {
    let mut pair = pair();
    let [first, second] = pair.keys();
    allocate(&mut pair, 1, 2);
    let now = pair.now;
    pair.nodes[1].release("c2", None, now).unwrap();
    pair.nodes[1].hand_over(Ticket(3), now);
    pair.run_for(1);

    assert_eq!(answer(&pair, 1, 3), Some(Ok(Answer::HandedOver { to: Some(first) })));
    assert_eq!((owned(&pair, 0, first), owned(&pair, 0, second)), (256, 0));
}

#[test]
fn a_reachable_peer_is_not_declared_dead() {
    let mut pair = pair();
    let ([first, second], now) = (pair.keys(), pair.now);
    pair.nodes[0].take_over(Ticket(2), second, now);
    pair.run_for(1);
    assert_eq!(answer(&pair, 0, 2), Some(Err(Error::Reachable { peer: second, from: first })));
}

#[test]
fn what_a_dead_peer_owned_is_taken_over() {
    let mut pair = pair();
    let [first, second] = pair.keys();
    allocate(&mut pair, 1, 2);
    let now = pair.now;
    pair.nodes[0].handle_closed(ConnectionId(1), CloseReason::Transport("dead".into()), now);
    pair.run_for(1);

    let now = pair.now;
    pair.nodes[0].take_over(Ticket(3), second, now);
    pair.run_for(HOLD.as_secs() - 10);
    assert_eq!(answer(&pair, 0, 3), None, "it may only be restarting");
    pair.run_for(20);

    assert_eq!(answer(&pair, 0, 3), Some(Ok(Answer::TakenOver { addresses: 64 })));
    assert_eq!(owned(&pair, 0, first), 256);
}

#[test]
fn seeds_make_the_same_ring_apart_and_each_owns_its_share() {
    let seeds = || Init::Seed(vec![name(1), name(2)]);
    let mut pair = Pair::new(managing(1, RANGE, seeds()), managing(2, RANGE, seeds()));
    pair.run_for(1);
    let [first, second] = pair.keys();

    pair.connect(1, 7);
    pair.run_for(1);

    for end in [0, 1] {
        assert_eq!((owned(&pair, end, first), owned(&pair, end, second)), (128, 128));
        assert!(problems(&pair, end).is_empty());
    }
}

#[test]
fn other_ranges_seeds_and_rings_are_named_on_both_sides_and_the_connection_stays() {
    let alone = || Init::Consensus(Some(1));
    let rivals = [
        [managing(1, RANGE, alone()), managing(2, "10.64.0.0/24", alone())],
        [managing(1, RANGE, alone()), managing(2, RANGE, alone())],
        [managing(1, RANGE, Init::Seed(vec![name(1)])), managing(2, RANGE, Init::Seed(vec![name(2)]))],
    ];
    for [one, other] in rivals {
        let mut pair = Pair::new(one, other);
        for end in [0, 1] {
            let now = pair.now;
            pair.nodes[end].wait_for_ring(Ticket(1), now);
        }
        pair.run_for(1);

        pair.connect(1, 7);
        pair.run_for(90);

        for end in [0, 1] {
            assert_eq!(problems(&pair, end).len(), 1, "told once");
        }
        assert!(pair.see_each_other());
        assert_eq!(pair.closes(0), []);
    }
}
