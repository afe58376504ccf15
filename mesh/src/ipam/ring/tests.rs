//! Rings merge to the same, in whatever order their transfers are heard.

use proptest::prelude::*;

use super::*;
use crate::store::fixtures::{Owner as Fixture, verifier};

fn identity(number: u8) -> Identity {
    Fixture::new(number).identity
}

fn mesh() -> MeshId {
    verifier().mesh()
}

const RANGE: Range = Range { first: 1_024, last: 2_047 };

/// A ring of peers 1 to `owners`.
fn ring(owners: u8) -> Ring {
    let keys = (1..=owners).map(|owner| identity(owner).key()).collect();
    Ring::new(Arc::new(FirstRing::propose(RANGE, keys, mesh(), &identity(1))), mesh())
}

fn owner(number: u8) -> Owner {
    Owner::Peer(identity(number).key())
}

fn grant(ring: &Ring, from: u8, to: u8, first: u32, last: u32) -> Arc<Transfer> {
    let right = Right::Grant { from: identity(from).key() };
    ring.make(Range { first, last }, right, identity(to).key(), &identity(from))
}

#[test]
fn the_first_ring_is_divided_into_blocks() {
    let sizes = |owners| ring(owners).pieces().map(|(range, _)| range.size()).collect::<Vec<_>>();
    assert_eq!(sizes(1), [1_024]);
    assert_eq!(sizes(2), [512, 512]);
    assert_eq!(sizes(3), [512, 256, 256]);
    assert_eq!(sizes(4), [256; 4]);
}

#[test]
fn the_first_ring_is_known_by_its_hash() {
    let (one, other) = (ring(2), ring(3));
    assert_ne!(one.id(), other.id());
    let seeds = [PeerName([2, 0, 0, 0, 0, 1]), PeerName([2, 0, 0, 0, 0, 2])];
    let swapped = [seeds[1], seeds[0]];
    assert_eq!(FirstRing::of_seeds(RANGE, &seeds).id(mesh()), FirstRing::of_seeds(RANGE, &swapped).id(mesh()));
}

#[test]
fn a_first_ring_that_its_proposer_did_not_sign_is_unsound() {
    let keys: BTreeSet<_> = [1, 2].map(|owner| identity(owner).key()).into();
    let good = FirstRing::propose(RANGE, keys, mesh(), &identity(1));
    assert!(good.is_sound(&verifier()));
    assert!(!FirstRing { range: Range { first: 0, ..RANGE }, ..good }.is_sound(&verifier()));
}

#[test]
fn a_grant_moves_its_range_and_nothing_else() {
    let mut ring = ring(2);
    let given = grant(&ring, 1, 3, 1_100, 1_199);
    let before: Vec<Owner> = [1_099, 1_200, 2_000].map(|address| ring.owner(address).unwrap()).into();

    assert_eq!(ring.merge(&given, &verifier()), Merged::New);
    assert_eq!(ring.merge(&given, &verifier()), Merged::Old);

    assert_eq!([1_100, 1_199].map(|address| ring.owner(address)), [Some(owner(3)); 2]);
    assert_eq!(before, [1_099, 1_200, 2_000].map(|address| ring.owner(address).unwrap()));
    assert_eq!(ring.pieces().map(|(range, _)| range.size()).sum::<u64>(), RANGE.size());
}

#[test]
fn a_transfer_that_its_granter_did_not_sign_is_unsound() {
    let mut ring = ring(2);
    let right = Right::Grant { from: identity(1).key() };
    let forged = ring.make(RANGE, right, identity(3).key(), &identity(3));
    assert!(matches!(ring.merge(&forged, &verifier()), Merged::Unsound(_)));
}

#[test]
fn two_transfers_of_one_version_name_both_signers_and_end_alike() {
    let (mut one, mut other) = (ring(2), ring(2));
    let (a, b) = (grant(&one, 1, 3, 1_100, 1_110), grant(&one, 2, 4, 1_105, 1_120));
    one.merge(&a, &verifier());
    other.merge(&b, &verifier());

    let conflict = one.merge(&b, &verifier());
    other.merge(&a, &verifier());

    assert!(
        matches!(conflict, Merged::Conflict { address: 1_105, signers } if signers == [identity(1).key(), identity(2).key()])
    );
    assert_eq!(one.state(), other.state());
}

proptest! {
    #[test]
    fn rings_are_equal_in_whatever_order_transfers_are_heard(
        grants in proptest::collection::vec((RANGE.first..RANGE.last, 1..200_u32, 1..6_u8), 1..24),
        order in any::<u64>(),
    ) {
        let mut made = ring(3);
        let mut transfers = Vec::new();
        for (first, size, to) in grants {
            let last = (first + size).min(RANGE.last);
            let transfer = grant(&made, 1, to, first, last);
            prop_assert_eq!(made.merge(&transfer, &verifier()), Merged::New);
            transfers.push(transfer);
        }
        transfers.sort_by_key(|transfer| digest("order", &[&order.to_le_bytes(), &transfer.version.to_le_bytes(), &transfer.range.first.to_le_bytes()]));
        let (mut heard, mut whole) = (ring(3), ring(3));
        for transfer in &transfers {
            heard.merge(transfer, &verifier());
        }
        for transfer in &made.transfers() {
            whole.merge(transfer, &verifier());
        }

        prop_assert_eq!(heard.state(), made.state());
        prop_assert_eq!(whole.state(), made.state());
        prop_assert!(heard.pieces().eq(made.pieces()));
        let covered: Vec<Range> = made.pieces().map(|(range, _)| range).collect();
        prop_assert!(covered.windows(2).all(|pair| pair[0].last + 1 == pair[1].first));
        prop_assert_eq!((covered[0].first, covered[covered.len() - 1].last), (RANGE.first, RANGE.last));
    }
}
