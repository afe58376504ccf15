//! Messages keep their limits, and no bytes make the decoder panic.

use proptest::prelude::*;

use super::*;
use crate::store::CardRecord;
use crate::store::Session;
use crate::store::fixtures::{Owner, edge, endpoint, verifier};

fn version(counter: u64) -> Version {
    Version { incarnation: 1_700_000_000_000_000, counter }
}

/// One message of every kind.
fn messages() -> Vec<Message> {
    let owner = Owner::new(1);
    let (older, newer) = (owner.set(1, [endpoint(1, 2)]), owner.set(2, [edge(&Owner::new(2).key(), Session::Direct)]));
    let offer = Offer { owner: Tag::from(&owner.key()), version: version(3) };
    let contact = Contact { key: owner.key(), addresses: owner.card.addresses.clone() };
    vec![
        Message::Open(Summary([1; 16])),
        Message::Probe,
        Message::Offers(vec![offer]),
        Message::Asks(vec![Ask { owner: offer.owner, base: Some(version(2)), card: Some([7; 8]) }]),
        Message::Delta(Arc::new(Delta::between(&older, &newer))),
        Message::Part(Arc::new(Part::split(&newer, CardRecord::Include).remove(0))),
        Message::Summary(Summary([2; 16])),
        Message::Buckets(Buckets(vec![[3; 8]; COMPARED_BUCKETS])),
        Message::Versions(Versions { buckets: u64::MAX, offers: vec![offer] }),
        Message::Refusal(Refusal::Referral { contacts: vec![contact] }),
        Message::Goodbye(Goodbye::sign(&owner.identity, owner.card.mesh, 1)),
        Message::RingState(RingState { ring: Some([4; 32]), state: [5; 32] }),
        Message::RingNews(RingNews { ring: Some([4; 32]), compare: Some([5; 32]), ..RingNews::default() }),
        Message::Letter(Letter::sign(&owner.identity, owner.card.mesh, owner.key(), vec![6; 9])),
    ]
}

#[test]
fn every_message_survives_its_bytes() {
    for message in messages() {
        let bytes = message.encode();
        let again = Message::decode(&bytes).unwrap();

        assert_eq!(again.encode(), bytes, "{message:?}");
        assert_eq!(message.encoded_bytes(), bytes.len());
    }
}

#[test]
fn an_offer_is_short() {
    let offers = |count: u64| {
        let offer = |counter| Offer { owner: Tag([0xff; 8]), version: version(counter) };
        Message::Offers((0..count).map(offer).collect()).encoded_bytes()
    };

    assert!(offers(100) <= 100 * 18);
}

#[test]
fn the_longest_lists_fit_in_a_message_and_longer_ones_are_refused() {
    let offer = Offer { owner: Tag([0xff; 8]), version: Version { incarnation: u64::MAX, counter: u64::MAX } };
    let ask = Ask { owner: offer.owner, base: Some(offer.version), card: Some([0xff; 8]) };
    let with = |count| [Message::Offers(vec![offer; count]), Message::Asks(vec![ask; count])];

    for message in with(OFFERS_MAX) {
        assert!(message.encoded_bytes() <= MESSAGE_BYTES_MAX);
        assert!(Message::decode(&message.encode()).is_ok());
    }
    for message in with(OFFERS_MAX + 1) {
        assert_eq!(Message::decode(&message.encode()).unwrap_err(), DecodeError::OverLimit);
    }
}

#[test]
fn lists_over_their_limits_are_refused() {
    let owner = Owner::new(1);
    let contact = |addresses| Contact { key: owner.key(), addresses: vec![([10, 0, 0, 1], 1).into(); addresses] };
    let refusal = |contacts| Message::Refusal(Refusal::Referral { contacts });
    let mut part = Part::split(&owner.set(1, []), CardRecord::Include).remove(0);
    part.index = part.count;

    let over = [
        Message::Buckets(Buckets(vec![[0; 8]; COMPARED_BUCKETS - 1])),
        refusal(vec![contact(1); CONTACTS_MAX + 1]),
        refusal(vec![contact(ADDRESSES_MAX + 1)]),
        Message::Part(Arc::new(part)),
    ];

    for message in over {
        assert_eq!(Message::decode(&message.encode()).unwrap_err(), DecodeError::OverLimit, "{message:?}");
    }
}

#[test]
fn bytes_after_a_message_make_it_malformed() {
    let mut bytes = Message::Probe.encode();
    bytes.push(0);

    assert_eq!(Message::decode(&bytes).unwrap_err(), DecodeError::Malformed);
    assert_eq!(Message::decode(&[]).unwrap_err(), DecodeError::Malformed);
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    assert_eq!(Message::decode(&long).unwrap_err(), DecodeError::TooLong(long.len()));
}

#[test]
fn a_goodbye_holds_for_its_owner_mesh_and_incarnation() {
    let owner = Owner::new(1);
    let goodbye = Goodbye::sign(&owner.identity, owner.card.mesh, 7);

    assert!(goodbye.is_signed(&verifier()));
    assert!(!Goodbye { incarnation: 8, ..goodbye }.is_signed(&verifier()));
    assert!(!Goodbye { owner: Owner::new(2).key(), ..goodbye }.is_signed(&verifier()));
    let elsewhere = Goodbye::sign(&owner.identity, MeshId::of("another"), 7);
    assert!(!elsewhere.is_signed(&verifier()));
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn damaged_messages_are_refused_or_keep_the_limits(kind in 0..14_usize, at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = messages()[kind].encode();
        let at = at.index(bytes.len());
        bytes[at] = to;

        if let Ok(message) = Message::decode(&bytes) {
            prop_assert!(message.is_within_limits());
        }
    }
}
