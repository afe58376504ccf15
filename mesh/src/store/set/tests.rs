//! One owner's set: versions, roots, limits.

use proptest::prelude::*;

use super::*;
use crate::store::fixtures::{Owner, edge, endpoint, verifier};
use crate::store::{Delta, Session};

fn draft(owner: &Owner) -> Draft {
    let mut draft = Draft::new(owner.key());
    draft.put(owner.card_record()).unwrap();
    draft
}

const FIRST: Version = Version { incarnation: 1, counter: 1 };

#[test]
fn a_set_is_what_its_owner_signed() {
    let owner = Owner::new(1);
    let set = owner.set(1, [endpoint(1, 0), endpoint(2, 0)]);

    let mut same = draft(&owner);
    same.put(endpoint(2, 0)).unwrap();
    same.put(endpoint(1, 0)).unwrap();
    let checked = same.check(FIRST, set.signature(), &mut verifier()).unwrap();

    assert_eq!(checked.root(), set.root());
    assert_eq!((checked.len(), checked.card().key), (3, owner.key()));
}

#[test]
fn a_record_more_or_less_or_another_version_breaks_the_signature() {
    let owner = Owner::new(1);
    let set = owner.set(1, [endpoint(1, 0)]);
    let check = |records: &[Record], version| {
        let mut draft = draft(&owner);
        records.iter().for_each(|record| draft.put(record.clone()).unwrap());
        draft.check(version, set.signature(), &mut verifier()).map(|_| ())
    };

    let broken = Err(SetError::BadSignature { owner: owner.key() });
    assert_eq!(check(&[endpoint(1, 0)], FIRST), Ok(()));
    assert_eq!(check(&[], FIRST), broken);
    assert_eq!(check(&[endpoint(1, 1)], FIRST), broken);
    assert_eq!(check(&[endpoint(1, 0), endpoint(2, 0)], FIRST), broken);
    assert_eq!(check(&[endpoint(1, 0)], Version { counter: 2, ..FIRST }), broken);
}

#[test]
fn a_set_needs_its_owners_card_of_its_incarnation() {
    let (owner, other) = (Owner::new(1), Owner::new(2));
    let sign = |draft: Draft, version| draft.sign(version, &owner.identity, &mut verifier()).map(|_| ());

    assert_eq!(sign(Draft::new(owner.key()), FIRST), Err(SetError::NoCard { owner: owner.key() }));
    let foreign = SetError::ForeignCard { owner: owner.key(), card: other.key() };
    let mut stolen = Draft::new(owner.key());
    stolen.put(other.card_record()).unwrap();
    assert_eq!(sign(stolen, FIRST), Err(foreign));
    let later = Version { incarnation: 2, counter: 1 };
    assert_eq!(sign(draft(&owner), later), Err(SetError::ForeignCard { owner: owner.key(), card: owner.key() }));
}

#[test]
fn a_card_that_somebody_else_signed_is_refused() {
    let (owner, forger) = (Owner::new(1), Owner::new(2));
    let forged = SignedCard::sign(&owner.card, &forger.identity).unwrap();
    let mut draft = Draft::new(owner.key());
    draft.put(Record::new(Content::Card(forged))).unwrap();

    let refused = draft.sign(FIRST, &owner.identity, &mut verifier()).map(|_| ());

    let error = CardError::BadSignature(owner.key());
    assert_eq!(refused, Err(SetError::BadCard { owner: owner.key(), error }));
}

#[test]
fn a_set_of_too_many_bytes_is_refused_before_it_grows_further() {
    let mut draft = draft(&Owner::new(1));
    let refused = (0..).find_map(|id| draft.put(endpoint(id, 16)).err());

    assert!(matches!(refused, Some(SetError::TooLarge { .. })));
    assert!(draft.body.bytes < SET_BYTES_MAX + 4_096);
}

#[test]
fn one_change_leaves_other_buckets_shared() {
    let owner = Owner::new(1);
    let older = owner.set(1, (0..500).map(|id| endpoint(id, 0)));
    let mut draft = Draft::from_set(&older);
    draft.put(endpoint(7, 1)).unwrap();
    let newer = draft.sign(Version { counter: 2, ..FIRST }, &owner.identity, &mut verifier()).unwrap();

    let pairs = older.body.buckets.iter().zip(&newer.body.buckets);
    let copied = pairs.filter(|((_, old), (_, new))| !Arc::ptr_eq(old, new)).count();

    assert_eq!(copied, 1);
    assert_eq!(newer.len(), older.len());
}

fn endpoints() -> impl Strategy<Value = BTreeMap<u64, usize>> {
    proptest::collection::btree_map(0..200_u64, 0..3_usize, 0..40)
}

proptest! {
    #[test]
    fn a_delta_makes_exactly_the_newer_set(older in endpoints(), newer in endpoints()) {
        let owner = Owner::new(1);
        let records = |endpoints: &BTreeMap<u64, usize>| -> Vec<Record> {
            endpoints.iter().map(|(id, names)| endpoint(*id, *names)).collect()
        };
        let (older, newer) = (owner.set(1, records(&older)), owner.set(2, records(&newer)));

        let bytes = postcard::to_stdvec(&Delta::between(&older, &newer)).unwrap();
        let delta: Delta = postcard::from_bytes(&bytes).unwrap();
        let made = delta.apply(&older, &mut verifier()).unwrap();

        prop_assert_eq!(made.root(), newer.root());
        prop_assert_eq!(made.len(), newer.len());
        prop_assert!(made.records().eq(newer.records()));
        prop_assert!(newer.changes_since(&made).is_empty());
    }

    #[test]
    fn the_counts_of_a_set_are_those_of_its_records(changes in proptest::collection::vec((0..30_u64, 0..4_usize), 0..80)) {
        let owner = Owner::new(1);
        let mut draft = draft(&owner);
        for (id, names) in changes {
            match names {
                3 => draft.remove(&RecordKey::Endpoint(EndpointId(id))),
                _ => draft.put(endpoint(id, names)).unwrap(),
            }
        }
        let set = draft.sign(FIRST, &owner.identity, &mut verifier()).unwrap();

        prop_assert_eq!(set.len(), set.records().count());
        prop_assert_eq!(set.body.bytes, set.records().map(Record::encoded_bytes).sum::<usize>());
        prop_assert!(set.body.buckets.iter().all(|(_, bucket)| !bucket.records.is_empty()));
    }
}

#[test]
fn edges_are_found_by_their_peer() {
    let (owner, peer, stranger) = (Owner::new(1), Owner::new(2), Owner::new(3));
    let set = owner.set(1, [edge(&peer.key(), Session::Direct)]);

    assert_eq!(set.edge(&peer.key()).map(|edge| edge.session), Some(Session::Direct));
    assert_eq!(set.edge(&stranger.key()), None);
    assert_eq!((set.edges().count(), set.endpoints().count()), (1, 0));
}
