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

/// The numbers of who owns the lower half of a ring of two, and the upper.
fn halves(ring: &Ring) -> [u8; 2] {
    if ring.owner(RANGE.first) == Some(owner(1)) { [1, 2] } else { [2, 1] }
}

/// What `from` would give to `to` of `ring`, whether it has it or not.
fn grant(ring: &Ring, from: u8, to: u8, first: u32, last: u32) -> Arc<Transfer> {
    let transfers = ring.clone().give(Range { first, last }, identity(to).key(), &identity(from));
    Arc::clone(&transfers[0])
}

/// A transfer of all of it that `by` signs.
fn theft(ring: &Ring, right: Right, version: Version, by: u8) -> Arc<Transfer> {
    let by = identity(by);
    Arc::new(Transfer::sign(ring.id(), RANGE, version, right, by.key(), &by))
}

fn nothing(_: &Transfer) -> bool {
    false
}

/// What a host does that believes nothing beyond what transfers prove.
fn hear(ring: &mut Ring, transfer: &Arc<Transfer>) -> Merged {
    ring.merge(transfer, &verifier(), Faith::In(&nothing))
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
    let given = grant(&ring, halves(&ring)[0], 3, 1_100, 1_199);
    let before: Vec<Owner> = [1_099, 1_200, 2_000].map(|address| ring.owner(address).unwrap()).into();

    assert_eq!(hear(&mut ring, &given), Merged::New);
    assert_eq!(hear(&mut ring, &given), Merged::Old);

    assert_eq!([1_100, 1_199].map(|address| ring.owner(address)), [Some(owner(3)); 2]);
    assert_eq!(before, [1_099, 1_200, 2_000].map(|address| ring.owner(address).unwrap()));
    assert_eq!(ring.pieces().map(|(range, _)| range.size()).sum::<u64>(), RANGE.size());
}

const WIDE: Range = Range { first: 0, last: (1 << 20) - 1 };

/// A ring of two, and who has the lower half and who the upper.
fn wide_ring() -> (Ring, [u8; 2]) {
    let keys = [1, 2].map(|owner| identity(owner).key()).into();
    let ring = Ring::new(Arc::new(FirstRing::propose(WIDE, keys, mesh(), &identity(1))), mesh());
    let halves = if ring.owner(0) == Some(owner(1)) { [1, 2] } else { [2, 1] };
    (ring, halves)
}

/// A grant to 9 of what was never granted.
fn cut(ring: &Ring, by: u8, first: u32, last: u32) -> Arc<Transfer> {
    let right = Right::Grant { from: identity(by).key() };
    let version = Version { epoch: 0, count: 1 };
    Arc::new(Transfer::sign(ring.id(), Range { first, last }, version, right, identity(9).key(), &identity(by)))
}

/// Every third address of the upper half, by its owner, until the ring is full.
fn fill(ring: &mut Ring, by: u8) {
    for first in (WIDE.last / 2 + 2..).step_by(3) {
        let small = cut(ring, by, first, first);
        if hear(ring, &small) != Merged::New {
            return;
        }
    }
}

#[test]
fn small_pieces_of_one_leave_room_for_blocks_of_others() {
    let (mut ring, [lower, upper]) = wide_ring();
    fill(&mut ring, upper);
    assert!(ring.pieces().count() > PIECES_MAX - 2);

    assert!(!ring.has_room_for(Range { first: 5, last: 5 }));
    for first in (0..=WIDE.last / 2).step_by(256) {
        let block = Range { first, last: first + 127 };
        let given = cut(&ring, lower, block.first, block.last);
        assert!(ring.has_room_for(block));
        assert_eq!(hear(&mut ring, &given), Merged::New);
    }
    assert!(ring.pieces().count() <= PIECES_MAX + BLOCKS_MAX as usize);
}

/// What one hears before small pieces of a liar, another hears after them, as long as honest ones grant what they may.
#[test]
fn what_is_honestly_granted_is_believed_before_and_after_small_pieces() {
    let (mut ring, [lower, upper]) = wide_ring();
    let small = cut(&ring, lower, 64, 127);
    assert!(ring.has_room_for(small.range));
    while ring.has_room_for(small.range) {
        let first = WIDE.last / 2 + 2 + 3 * ring.pieces().count() as u32;
        let next = cut(&ring, upper, first, first);
        assert_eq!(hear(&mut ring, &next), Merged::New);
    }

    assert_eq!(hear(&mut ring, &small), Merged::New);
}

#[test]
fn a_full_ring_is_what_it_was_after_a_restart() {
    let (mut ring, [lower, upper]) = wide_ring();
    fill(&mut ring, upper);
    let given = cut(&ring, lower, 1_024, 2_047);
    assert_eq!(hear(&mut ring, &given), Merged::New);

    let mut again = Ring::new(Arc::clone(ring.first()), mesh());
    for transfer in ring.transfers() {
        assert_eq!(again.merge(&transfer, &verifier(), Faith::All), Merged::New);
    }
    assert_eq!(again.state(), ring.state());
}

#[test]
fn whoever_signs_much_pushes_out_nobody_elses_links() {
    let (mut ring, [lower, upper]) = wide_ring();
    let earlier = cut(&ring, lower, 0, 1_023);
    let right = Right::Grant { from: identity(9).key() };
    let next = |count: u32, first: u32| {
        let range = Range { first, last: first + 1_023 };
        Arc::new(Transfer::sign(ring.id(), range, Version { epoch: 0, count }, right, identity(9).key(), &identity(9)))
    };
    let (other, busy) = (next(2, 0), WIDE.last / 2 + 1);
    let again: Vec<_> = (2..2 + 2 * LINKS_MAX as u32).map(|count| next(count, busy)).collect();
    let first = cut(&ring, upper, busy, busy + 1_023);
    for transfer in [&earlier, &other, &first].into_iter().chain(&again) {
        assert_eq!(hear(&mut ring, transfer), Merged::New);
    }

    assert!(ring.history(WIDE).contains(&earlier));
}

#[test]
fn links_of_owners_outlast_those_of_the_many_who_are_gone() {
    let mut ring = ring(2);
    let link =
        |by: u8, count: u32| theft(&ring, Right::Grant { from: identity(by).key() }, Version { epoch: 0, count }, by);
    let of_the_gone: Vec<_> = (1..=3).flat_map(|count| (10..=250).map(move |by| (by, count))).collect();
    let of_the_gone: Vec<_> = of_the_gone.into_iter().map(|(by, count)| link(by, count)).collect();
    let of_an_owner: Vec<_> = (1..=20).map(|count| link(1, count)).collect();

    of_the_gone.iter().chain(&of_an_owner).chain(&of_the_gone).for_each(|link| ring.restore_link(Arc::clone(link)));

    assert!(of_an_owner.iter().all(|link| ring.links().any(|kept| kept == link)));
    assert_eq!(ring.links().count(), LINKS_MAX);
}

#[test]
fn a_transfer_that_its_granter_did_not_sign_is_unsound() {
    let mut ring = ring(2);
    let right = Right::Grant { from: identity(1).key() };
    let forged = theft(&ring, right, Version { epoch: 0, count: 1 }, 3);
    assert!(matches!(hear(&mut ring, &forged), Merged::Unsound(_)));
}

#[test]
fn nobody_takes_what_another_owns_by_whatever_right_and_version() {
    let mut ring = ring(2);
    let [lower, _] = halves(&ring);
    ring.give(Range { first: 1_100, last: 1_199 }, identity(3).key(), &identity(lower));
    let before = ring.state();
    let [thief, victim] = [identity(9).key(), identity(lower).key()];
    let name = PeerName([2, 0, 0, 0, 0, 1]);
    let rights = [thief, victim].map(|from| [Right::Grant { from }, Right::TakeOver { from, id: 1 }]).concat();
    for right in rights.into_iter().chain([Right::Bind { name }]) {
        for (epoch, count) in [(0, 1), (0, 2), (1, 0), (1, 1), (1_000, 0), (u32::MAX, u32::MAX)] {
            let stolen = theft(&ring, right, Version { epoch, count }, 9);
            let heard = hear(&mut ring, &stolen);
            assert!(
                matches!(heard, Merged::Old | Merged::Ahead | Merged::Unsound(_)),
                "{right:?} {epoch} {count} {heard:?}"
            );
        }
    }
    assert_eq!(ring.state(), before);
}

#[test]
fn who_sells_twice_has_sold_to_the_first() {
    let mut ring = ring(2);
    let [seller, _] = halves(&ring);
    let (a, b) = (grant(&ring, seller, 3, 1_100, 1_110), grant(&ring, seller, 4, 1_105, 1_120));
    hear(&mut ring, &a);

    let again = hear(&mut ring, &b);

    assert_eq!(again, Merged::New, "what it still had is its to give");
    assert_eq!([1_105, 1_111].map(|address| ring.owner(address)), [Some(owner(3)), Some(owner(4))]);
    let c = grant(&self::ring(2), seller, 5, 1_100, 1_110);
    let signers = [identity(seller).key(); 2];
    assert_eq!(hear(&mut ring, &c), Merged::Conflict { address: 1_100, signers });
    assert_eq!(ring.owner(1_105), Some(owner(3)));
}

#[test]
fn what_leads_to_it_is_kept_for_those_who_were_away() {
    let (mut ring, mut away) = (ring(2), ring(2));
    let range = Range { first: 1_100, last: 1_199 };
    for (from, to) in [(halves(&ring)[0], 3), (3, 4), (4, 5)] {
        ring.give(range, identity(to).key(), &identity(from));
    }
    let latest = ring.transfers().remove(0);

    assert_eq!(hear(&mut away, &latest), Merged::Ahead);
    for transfer in ring.history(RANGE) {
        assert_eq!(hear(&mut away, &transfer), Merged::New);
    }
    assert_eq!(away.state(), ring.state());
}

#[test]
fn an_estate_is_taken_over_by_whoever_believes_it_and_no_grant_of_the_dead_comes_back() {
    let (mut ring, mut other) = (ring(2), ring(2));
    let [dead, heir] = halves(&ring);
    let unheard = grant(&ring, dead, 3, 1_100, 1_199);
    let estate = Estate { dead: identity(dead).key(), heir: identity(heir).key(), id: 7 };
    let taken = ring.inherit(&estate, &identity(heir)).remove(0);

    assert_eq!(hear(&mut other, &taken), Merged::Ahead);
    let believes = |transfer: &Transfer| transfer.estate() == Some(estate);
    assert_eq!(other.merge(&taken, &verifier(), Faith::In(&believes)), Merged::New);
    assert_eq!(hear(&mut other, &unheard), Merged::Old);
    assert_eq!(other.state(), ring.state());
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
            let range = Range { first, last };
            let owned = |from: u8| made.owned_by(owner(from)).find_map(|piece| piece.intersection(range));
            let Some((from, part)) = (1..6).find_map(|from| Some((from, owned(from)?))) else { continue };
            let transfer = grant(&made, from, to, part.first, part.last);
            prop_assert_eq!(hear(&mut made, &transfer), Merged::New);
            transfers.push(transfer);
        }
        transfers.sort_by_key(|transfer| digest("order", &[&order.to_le_bytes(), &transfer.signature.0]));
        let (mut heard, mut whole) = (ring(3), ring(3));
        // Whoever hears them in another order hears those again that it could not follow.
        while transfers.iter().any(|transfer| hear(&mut heard, transfer) == Merged::New) {}
        for transfer in &made.transfers() {
            whole.merge(transfer, &verifier(), Faith::All);
        }

        prop_assert_eq!(heard.state(), made.state());
        prop_assert_eq!(whole.state(), made.state());
        prop_assert!(heard.pieces().eq(made.pieces()));
        let covered: Vec<Range> = made.pieces().map(|(range, _)| range).collect();
        prop_assert!(covered.windows(2).all(|pair| pair[0].last + 1 == pair[1].first));
        prop_assert_eq!((covered[0].first, covered[covered.len() - 1].last), (RANGE.first, RANGE.last));
    }
}

#[test]
fn an_owner_makes_one_piece_of_those_that_touch_whatever_their_epochs() {
    let mut ring = ring(2);
    let [low, high] = halves(&ring);
    let estate = Estate { dead: identity(high).key(), heir: identity(low).key(), id: 1 };
    let taken = ring.inherit(&estate, &identity(low)).remove(0);
    let mut other = self::ring(2);

    let mended = ring.mend(identity(low).key(), &identity(low)).remove(0);
    assert_eq!((ring.pieces().count(), mended.range, mended.version), (1, RANGE, Version { epoch: 1, count: 1 }));
    assert!(ring.mend(identity(low).key(), &identity(low)).is_empty());

    assert_eq!(hear(&mut other, &mended), Merged::Ahead, "no piece of its is in that epoch yet");
    assert_eq!(other.merge(&taken, &verifier(), Faith::All), Merged::New);
    assert_eq!(hear(&mut other, &mended), Merged::New);
    assert_eq!(other.state(), ring.state());
}

#[test]
fn nobody_runs_an_epoch_up_by_giving_to_itself() {
    let mut ring = ring(1);
    let own = identity(1).key();
    let version = Version { epoch: 9, count: 1 };
    let run_up = Transfer::sign(ring.id(), RANGE, version, Right::Grant { from: own }, own, &identity(1));
    assert_eq!(hear(&mut ring, &Arc::new(run_up)), Merged::Ahead);
}
