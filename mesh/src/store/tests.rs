//! The store: what is accepted, offered and asked for.

use proptest::prelude::*;

use super::fixtures::{Owner, endpoint};
use super::*;
use crate::wire::Message;

fn listed(sets: &[Arc<Set>]) -> Store {
    let mut store = Store::default();
    for set in sets {
        store.insert(Arc::clone(set), None);
        store.list(&set.owner());
    }
    store
}

#[test]
fn only_a_newer_set_replaces_one() {
    let owner = Owner::new(1);
    let mut store = listed(&[owner.set(2, [])]);

    assert!(!store.insert(owner.set(1, []), None));
    assert!(!store.insert(owner.set(2, [endpoint(1, 0)]), None));
    assert!(store.insert(owner.set(3, []), None));

    assert_eq!(store.get(&owner.key()).unwrap().version().counter, 3);
}

#[test]
fn deltas_reach_back_as_far_as_earlier_versions_are_kept() {
    let owner = Owner::new(1);
    let mut store = Store::default();
    for counter in 1..=6 {
        store.insert(owner.set(counter, [endpoint(counter, 0)]), None);
    }

    let tag = Tag::from(&owner.key());
    let from = |counter| Version { incarnation: 1, counter };
    let reachable: Vec<u64> = (1..=6).filter(|counter| store.delta(tag, from(*counter)).is_some()).collect();

    assert_eq!(reachable, [3, 4, 5]);
    assert_eq!(store.delta(tag, Version { incarnation: 2, counter: 5 }).map(|delta| delta.from), None);
}

#[test]
fn a_set_of_another_incarnation_has_no_delta_from_the_earlier_one() {
    let mut owner = Owner::new(1);
    let mut store = listed(&[owner.set(1, [])]);

    owner.card.incarnation = 2;
    store.insert(owner.set(1, []), None);

    assert!(store.delta(Tag::from(&owner.key()), Version { incarnation: 1, counter: 1 }).is_none());
}

#[test]
fn equal_stores_have_equal_summaries_however_they_came_about() {
    let (one, two) = (Owner::new(1), Owner::new(2));
    let store = listed(&[one.set(1, []), two.set(1, [])]);

    let mut other = listed(&[two.set(1, []), Owner::new(3).set(1, [])]);
    other.insert(one.set(1, []), None);
    assert_ne!(other.summary(), store.summary());
    other.list(&one.key());
    other.unlist(&Owner::new(3).key());

    assert_eq!(other.summary(), store.summary());
    other.remove(&two.key());
    assert_ne!(other.summary(), store.summary());
}

proptest! {
    /// The whole comparison between two stores, and what each then asks or is offered.
    #[test]
    fn a_comparison_finds_exactly_what_differs(
        ours in proptest::collection::btree_map(0..60_u8, 1..4_u64, 0..40),
        theirs in proptest::collection::btree_map(0..60_u8, 1..4_u64, 0..40),
    ) {
        let sets = |versions: &BTreeMap<u8, u64>| -> Vec<Arc<Set>> {
            versions.iter().map(|(number, counter)| Owner::new(*number).set(*counter, [])).collect()
        };
        let (our_store, their_store) = (listed(&sets(&ours)), listed(&sets(&theirs)));

        let differing = our_store.differing(&their_store.buckets());
        let versions = our_store.versions(differing);
        let they_lack: Vec<Tag> = versions.iter().flat_map(|versions| &versions.offers).filter(|offer| {
            their_store.get_tagged(offer.owner).is_none_or(|set| set.version() < offer.version)
        }).map(|offer| offer.owner).collect();
        let we_lack: Vec<Tag> = versions.iter().flat_map(|versions| their_store.newer_than(versions)).collect();

        let lacks = |has: &BTreeMap<u8, u64>, other: &BTreeMap<u8, u64>| -> std::collections::BTreeSet<Tag> {
            let newer = other.iter().filter(|(number, counter)| has.get(number).is_none_or(|has| has < *counter));
            newer.map(|(number, _)| Tag::from(&Owner::new(*number).key())).collect()
        };
        prop_assert_eq!(they_lack.into_iter().collect::<std::collections::BTreeSet<_>>(), lacks(&theirs, &ours));
        prop_assert_eq!(we_lack.into_iter().collect::<std::collections::BTreeSet<_>>(), lacks(&ours, &theirs));
        prop_assert_eq!(our_store.summary() == their_store.summary(), ours == theirs);
        prop_assert!(versions.into_iter().all(|versions| Message::Versions(versions).encode().len() < 20_000));
    }
}
