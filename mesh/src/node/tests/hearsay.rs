//! What others say of us, and what we have signed ourselves.

use super::*;
use crate::store::{Tag, Version};
use crate::wire::{Offer, Testimony, Versions};

fn later(incarnation: u64) -> Version {
    Version { incarnation, counter: 1 }
}

/// A node with the connected liar number 2, whose outputs so far are taken.
fn beside_a_liar() -> (Node, Owner) {
    let (mut node, liar) = (node(1), Owner::new(2));
    let link = Link { dial: None, remote: ([10, 0, 0, 2], 6783).into(), card: liar.signed_card(), uid: 1 };
    node.handle_connected(ConnectionId(1), link, START);
    node.handle_message(ConnectionId(1), Message::Open(crate::wire::Summary([0; 16])), START);
    while node.poll_output().is_some() {}
    (node, liar)
}

fn outputs(node: &mut Node) -> Vec<Output> {
    std::iter::from_fn(|| node.poll_output()).collect()
}

/// A later life of node 1, as its own key signs it.
fn later_life(incarnation: u64) -> Owner {
    let mut owner = Owner::new(1);
    owner.card.incarnation = incarnation;
    owner
}

#[test]
fn an_offer_of_our_own_set_makes_us_ask_and_nothing_else() {
    let (mut node, _) = beside_a_liar();
    let own = Tag::from(&node.key());
    let offers = [2_000, 1_000 + own::JUMP, u64::MAX].map(|life| Offer { owner: own, version: later(life) });

    node.handle_message(ConnectionId(1), Message::Offers(offers.repeat(300)), START);
    let versions = Versions { buckets: u64::MAX, offers: offers.to_vec() };
    node.handle_message(ConnectionId(1), Message::Versions(versions), START);

    let outputs = outputs(&mut node);
    let asks = outputs.iter().filter(|output| matches!(output, Output::Send { message: Message::Asks(_), .. }));
    assert_eq!(asks.count(), 1);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Persist(Persist::Incarnation(_)))));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Event(Event::IdentityTaken | Event::Warning(_)))));
    assert_eq!(node.view().card.incarnation, 1_000);
}

#[test]
fn a_set_of_ours_that_we_signed_in_a_later_life_makes_us_go_on_above_it() {
    let (mut node, _) = beside_a_liar();
    let set = later_life(5_000_000).set(3, []);
    let owner = Tag::from(&node.key());
    node.handle_message(ConnectionId(1), Message::Offers(vec![Offer { owner, version: set.version() }]), START);

    let part = crate::store::Part::split(&set, crate::store::CardRecord::Include).remove(0);
    node.handle_message(ConnectionId(1), Message::Part(Arc::new(part)), START);

    assert_eq!(node.view().card.incarnation, 5_000_000 + own::JUMP);
}

#[test]
fn a_refusal_counts_only_with_our_own_signature() {
    let (mut node, liar) = beside_a_liar();
    let foreign = Testimony::Card(liar.signed_card());
    node.handle_message(ConnectionId(1), Message::Refusal(Refusal::Outlived { proof: foreign }), START);
    assert_eq!(node.view().card.incarnation, 1_000);

    let (mut node, _) = beside_a_liar();
    let key = node.key();
    node.handle_message(ConnectionId(1), Message::Refusal(Refusal::DuplicateIdentity { key }), START);
    assert!(!outputs(&mut node).iter().any(|output| matches!(output, Output::Event(Event::IdentityTaken))));

    let (mut node, _) = beside_a_liar();
    let proof = Testimony::Card(later_life(7_000).signed_card());
    node.handle_message(ConnectionId(1), Message::Refusal(Refusal::Outlived { proof }), START);
    assert_eq!(node.view().card.incarnation, 7_000 + own::JUMP);
}

#[test]
fn who_is_refused_as_outlived_is_shown_its_own_card() {
    let mut pair = Pair::new(node_with(1, 50_000, |_| ()), node(2));
    pair.connect(1, 7);
    pair.run_for(1);
    let earlier = node_with(1, 1_000, |_| ());
    let now = pair.now;
    pair.nodes[0] = earlier;
    pair.nodes[1].handle_closed(ConnectionId(1), CloseReason::Transport("gone".into()), now);

    pair.connect(2, 8);

    assert_eq!(pair.nodes[0].view().card.incarnation, 50_000 + own::JUMP);
    pair.connect(3, 9);
    pair.run_for(1);
    assert!(pair.see_each_other());
}

#[test]
fn many_proofs_of_later_lives_make_one_jump_a_second() {
    let mut node = node(1);
    for life in 0..500 {
        node.handle_own_version(later(10_000 + 3_000 * life), START);
    }

    let warnings = |outputs: &[Output]| {
        outputs
            .iter()
            .filter(|output| matches!(output, Output::Event(Event::Warning(Warning::Outlived { .. }))))
            .count()
    };
    assert_eq!(warnings(&outputs(&mut node)), 1);
    let next = START + std::time::Duration::from_secs(1);
    node.handle_timeout(next);

    assert_eq!(warnings(&outputs(&mut node)), 1);
    assert_eq!(node.view().card.incarnation, 10_000 + 3_000 * 499 + own::JUMP);
}

#[test]
fn a_claim_from_the_end_of_time_neither_wins_nor_moves_the_clock_there() {
    let mut pair = Pair::connected();
    let now = pair.now;
    pair.nodes[0].set_endpoints(endpoints(5), now).unwrap();
    pair.nodes[1].set_endpoints(endpoints(u64::MAX), now).unwrap();
    pair.run_for(1);

    let honest = pair.keys()[0];
    assert!(pair.nodes[0].view().claims.macs.values().all(|owner| *owner == honest));
    assert!(pair.nodes[0].next_attach_time() < u64::MAX / 2);
}

#[test]
fn a_name_taken_while_its_owner_was_away_does_not_keep_it_out() {
    let (mut node, victim) = (node(1), Owner::new(2));
    let mut liar = Owner::new(3);
    let link =
        |owner: &Owner| Link { dial: None, remote: ([10, 0, 0, 2], 6783).into(), card: owner.signed_card(), uid: 1 };
    let open = Message::Open(crate::wire::Summary([0; 16]));
    node.handle_connected(ConnectionId(1), link(&victim), START);
    node.handle_message(ConnectionId(1), open.clone(), START);
    node.handle_closed(ConnectionId(1), CloseReason::Transport("gone".into()), START);
    liar.card.name = victim.card.name;
    node.handle_connected(ConnectionId(2), link(&liar), START);
    node.handle_message(ConnectionId(2), open.clone(), START);

    node.handle_connected(ConnectionId(3), link(&victim), START);
    node.handle_message(ConnectionId(3), open, START);

    assert!(node.links.get(ConnectionId(3)).is_some());
}
