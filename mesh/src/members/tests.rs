//! The member list: what it learns, forgets and refuses.

use super::*;
use crate::store::fixtures::Owner;

fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

fn note(members: &mut Members, owner: &Owner, now: Instant) -> Option<PeerKey> {
    members.note_card(&Arc::new(owner.card.clone()), &owner.card_record(), now)
}

fn named(number: u8, name: u8) -> Owner {
    let mut owner = Owner::new(number);
    owner.card.name = PeerName([2, 0, 0, 0, 0, name]);
    owner
}

#[test]
fn an_older_card_does_not_replace_a_newer_one() {
    let mut owner = Owner::new(1);
    let mut members = Members::default();
    owner.card.incarnation = 5;
    note(&mut members, &owner, at(0));

    owner.card.incarnation = 4;
    note(&mut members, &owner, at(1));

    assert_eq!(members.get(&owner.key()).unwrap().card.incarnation, 5);
}

#[test]
fn of_two_reachable_members_with_one_name_the_lower_key_holds_it() {
    let (one, two) = (named(1, 9), named(2, 9));
    let mut members = Members::default();
    for owner in [&one, &two] {
        note(&mut members, owner, at(0));
    }

    assert_eq!(members.set_reachable(&one.key(), at(0)), None);
    assert_eq!(members.set_reachable(&two.key(), at(0)), Some(one.key()));

    let name = PeerName([2, 0, 0, 0, 0, 9]);
    assert_eq!(members.holder(name), Some(one.key().min(two.key())));
    members.set_unreachable(&one.key().min(two.key()), at(1));
    assert_eq!(members.holder(name), None);
}

#[test]
fn a_renamed_member_frees_its_name() {
    let mut owner = named(1, 9);
    let mut members = Members::default();
    note(&mut members, &owner, at(0));
    members.set_reachable(&owner.key(), at(0));

    owner.card.name = PeerName([2, 0, 0, 0, 0, 10]);
    note(&mut members, &owner, at(1));

    assert_eq!(members.holder(PeerName([2, 0, 0, 0, 0, 9])), None);
    assert_eq!(members.holder(owner.card.name), Some(owner.key()));
}

#[test]
fn who_never_became_reachable_is_forgotten_and_never_persisted() {
    let owner = Owner::new(1);
    let mut members = Members::default();
    note(&mut members, &owner, at(0));

    assert!(members.take_changed().is_empty());
    assert!(members.expire(at(29)).is_empty());
    assert_eq!(members.expire(at(30)), [owner.key()]);

    assert!(members.get(&owner.key()).is_none());
    assert_eq!(members.unreachable_count(), 0);
}

#[test]
fn after_an_hour_the_set_is_dropped_and_the_identity_stays() {
    let owner = Owner::new(1);
    let mut members = Members::default();
    note(&mut members, &owner, at(0));
    members.set_reachable(&owner.key(), at(0));
    members.set_unreachable(&owner.key(), at(10));

    assert!(members.expire(at(3_609)).is_empty());
    assert_eq!(members.expire(at(3_610)), [owner.key()]);
    assert!(members.expire(at(3_700)).is_empty());

    assert!(members.get(&owner.key()).is_some());
}

#[test]
fn a_goodbye_counts_once_and_until_a_higher_incarnation_is_seen() {
    let mut owner = Owner::new(1);
    owner.card.incarnation = 5;
    let mut members = Members::default();
    note(&mut members, &owner, at(0));

    let goodbye = |incarnation| Goodbye::sign(&owner.identity, owner.card.mesh, incarnation);
    let [early, right, higher] = [4, 5, 6].map(goodbye);
    assert!(!members.depart(early));
    assert!(members.depart(right));
    assert!(!members.depart(right));
    assert!(!members.depart(higher));
    assert!(members.has_departed(&owner.key(), 5));
    owner.card.incarnation = 6;
    note(&mut members, &owner, at(1));

    assert!(!members.has_departed(&owner.key(), 6));
    assert_eq!(members.get(&owner.key()).unwrap().departed, None);
}

#[test]
fn who_is_forgotten_is_as_if_it_had_never_been_and_who_is_there_is_not_forgotten() {
    let (one, two, three) = (Owner::new(1), Owner::new(2), Owner::new(3));
    let mut members = Members::default();
    for (owner, gone) in [(&one, 9), (&two, 5)] {
        note(&mut members, owner, at(0));
        members.set_reachable(&owner.key(), at(1));
        members.set_unreachable(&owner.key(), at(gone));
    }
    note(&mut members, &three, at(0));
    members.set_reachable(&three.key(), at(1));
    members.expire(at(4_000));
    assert_eq!(members.lost(), [two.key(), one.key()]);

    assert!(members.forget(&two.key()) && !members.forget(&three.key()));

    assert_eq!((members.len(), members.lost()), (2, vec![one.key()]));
    assert_eq!(members.take_changed(), [one.key(), three.key()]);
    note(&mut members, &two, at(5_000));
    assert!(matches!(members.get(&two.key()).map(|member| member.reach), Some(Reach::Heard { .. })));
}
