//! One peer whose containers hold what others own.

use super::*;
use crate::ipam::note::Holds;

/// An address in the half that the peer gives away.
const STRAY: &str = "10.40.0.9/12";

/// A peer that owns half of the range; a container of its has an address of the other half, and it told the owner so.
struct Holder {
    alone: Alone,
    owner: Fixture,
}

impl Holder {
    fn new() -> Self {
        let mut holder = Self { alone: Alone::new("10.32.0.0/12"), owner: Fixture::new(2) };
        let (owner, window) = (holder.owner.key(), cidr("10.32.0.0/12").range());
        holder.alone.run(|ipam, ticket, near| ipam.wait_for_ring(ticket, near));
        holder.alone.run(|ipam, _, near| ipam.handle_note(owner, Note::Request { id: 1, window }, near));
        holder.alone.run(|ipam, ticket, near| ipam.claim(ticket, "by hand", cidr(STRAY), ClaimMode::Found, near));
        assert_eq!(holder.told(), [owner]);
        holder
    }

    fn told(&self) -> Vec<PeerKey> {
        self.alone.ipam.strays.told.iter().copied().collect()
    }
}

#[test]
fn a_new_owner_is_told_which_of_its_addresses_are_held() {
    let mut holder = Holder::new();
    let next = Fixture::new(3);
    let ring = holder.alone.ipam.ring.as_ref().unwrap();
    let transfers = ring.clone().give(cidr("10.40.0.0/24").range(), next.key(), &holder.owner.identity);
    let granted = Note::Granted { id: 1, transfers };
    let from = holder.owner.key();
    holder.alone.run(|ipam, _, near| ipam.handle_note(from, granted, near));

    assert!(holder.told().contains(&next.key()));
}

#[test]
fn a_successor_holds_what_was_held_before_it_until_it_says_otherwise() {
    let mut owner = Alone::new("10.32.0.0/12");
    owner.run(|ipam, ticket, near| ipam.wait_for_ring(ticket, near));
    let (before, after, address) = (Fixture::new(2), Fixture::new(3), u32::from(cidr(STRAY).address()));
    for fixture in [&before, &after] {
        let card = std::sync::Arc::new(fixture.card.clone());
        owner.place.members.note_card(&card, &fixture.card_record(), Instant::ZERO);
        owner.place.members.set_reachable(&fixture.key(), Instant::ZERO);
    }
    owner.place.members.set_unreachable(&before.key(), Instant::ZERO);
    owner.place.now = Instant::ZERO + crate::members::HOLD;
    let mut hear = |from: &Fixture, note: Note| {
        owner.run(|ipam, _, near| ipam.handle_note(from.key(), note, near));
        owner.ipam.lodgers.holder(address)
    };
    let reason = Reason::Outlived { successor: after.key() };
    let newest = Some((before.card.incarnation, before.signed_card()));
    let certificate = Certificate::sign(&after.identity, after.card.mesh, before.key(), reason, newest);
    let ask = Note::Ask { certificate, id: 1, ring: [0; 32], members: [0; 32] };
    let holds = |number, addresses: &[u32]| Note::Holds(Holds { number, addresses: addresses.to_vec() });

    assert_eq!(hear(&before, holds((9, 1), &[address])), Some(before.key()));
    assert_eq!(hear(&after, ask), Some(after.key()));
    assert_eq!(hear(&after, holds((1, 0), &[])), None);
}

#[test]
fn whoever_nobody_is_connected_to_holds_nothing_and_others_hold_only_so_much() {
    let mut owner = Alone::new("10.32.0.0/12");
    owner.run(|ipam, ticket, near| ipam.wait_for_ring(ticket, near));
    let first = cidr("10.32.0.0/12").range().first;
    let mut free = |from: u8, addresses: u32| {
        let addresses = (first..first + addresses).collect();
        let note = Note::Holds(Holds { number: (u64::MAX, u64::MAX), addresses });
        owner.run(|ipam, _, near| ipam.handle_note(Fixture::new(from).key(), note, near));
        owner.ipam.space.size()
    };
    let all = free(2, 0);
    assert_eq!(free(2, 100), all);

    let member = Fixture::new(3);
    let card = std::sync::Arc::new(member.card.clone());
    owner.place.members.note_card(&card, &member.card_record(), Instant::ZERO);
    owner.place.members.set_reachable(&member.key(), Instant::ZERO);
    let mut free = |addresses: u32| {
        let addresses = (first..first + addresses).collect();
        let note = Note::Holds(Holds { number: (1, 1), addresses });
        owner.run(|ipam, _, near| ipam.handle_note(member.key(), note, near));
        owner.ipam.space.size()
    };
    assert_eq!(free(8_000), all);
    assert_eq!(free(100), all - 100);
}
