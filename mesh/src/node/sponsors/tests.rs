use super::*;

const ROOT: PeerKey = key(0);
const MIB: usize = 1 << 20;

const fn key(number: u16) -> PeerKey {
    let [a, b] = number.to_be_bytes();
    let mut key = [0; 32];
    (key[0], key[1]) = (a, b);
    PeerKey(key)
}

/// We are connected to 1 and 2, and 3 is behind 2.
fn neighbours() -> Sponsors {
    let mut sponsors = Sponsors::new(ROOT);
    for neighbour in [1, 2] {
        sponsors.meet(key(neighbour));
        assert!(sponsors.admit(key(neighbour), 1_000, [ROOT]));
    }
    assert!(sponsors.admit(key(3), 1_000, [key(2)]));
    sponsors
}

/// How many of `owners` find room.
fn admitted(
    sponsors: &mut Sponsors,
    owners: std::ops::Range<u16>,
    memory: usize,
    naming: impl Fn(u16) -> PeerKey,
) -> usize {
    owners.filter(|owner| sponsors.admit(key(*owner), memory, [naming(*owner)])).count()
}

#[test]
fn all_that_hang_on_one_have_the_room_of_one() {
    let mut sponsors = neighbours();

    assert_eq!(admitted(&mut sponsors, 100..200, 4 * MIB, |_| key(1)), 8);
    // In a line, each naming the next.
    let line = |owner| if owner == 200 { key(3) } else { key(owner - 1) };
    assert_eq!(admitted(&mut sponsors, 200..300, 4 * MIB, line), 4);

    assert!(sponsors.admit(key(400), 4 * MIB, [key(2)]), "a neighbour has as much for others");
    assert!(sponsors.admit(key(401), 4 * MIB, [ROOT]));
}

#[test]
fn many_small_ones_leave_room_for_others() {
    let mut sponsors = neighbours();

    assert_eq!(admitted(&mut sponsors, 100..20_000, 1, |_| key(1)), NEIGHBOUR.sets);
    assert_eq!(admitted(&mut sponsors, 20_000..40_000, 1, |_| key(3)), FURTHER.sets);
}

#[test]
fn whoever_is_connected_to_a_greedy_one_grows_all_the_same() {
    let mut sponsors = neighbours();
    assert_eq!(admitted(&mut sponsors, 100..200, 4 * MIB, |_| key(3)), 4);

    assert!(sponsors.admit(key(3), 2_000, [key(2)]));
}

#[test]
fn nobody_is_kept_for_the_sake_of_those_who_have_moved_away() {
    let mut sponsors = neighbours();
    assert!(sponsors.admit(key(4), 1, [key(3)]));
    assert!(sponsors.admit(key(5), 1, [key(4)]));
    sponsors.remove(&key(4));
    sponsors.meet(key(5));

    assert!(!sponsors.contains(&key(4)));
}

#[test]
fn what_grows_needs_room_again_and_what_shrinks_gives_it_back() {
    let mut sponsors = neighbours();
    assert_eq!(admitted(&mut sponsors, 100..102, 1_000, |_| key(3)), 2);

    assert!(sponsors.admit(key(100), 12 * MIB, [key(3)]));
    assert!(!sponsors.admit(key(101), 12 * MIB, [key(3)]));
    assert!(sponsors.admit(key(100), MIB, [key(3)]));
    assert!(sponsors.admit(key(101), 12 * MIB, [key(3)]));
}

#[test]
fn whoever_is_named_by_several_hangs_on_one_that_has_room() {
    let mut sponsors = neighbours();
    assert_eq!(admitted(&mut sponsors, 100..108, 4 * MIB, |_| key(1)), 8);

    assert!(!sponsors.admit(key(200), 4 * MIB, [key(1)]));
    assert!(sponsors.admit(key(200), 4 * MIB, [key(1), key(3)]));
}

#[test]
fn a_connection_moves_a_peer_with_all_behind_it() {
    let mut sponsors = Sponsors::new(ROOT);
    sponsors.meet(key(1));
    assert!(sponsors.admit(key(1), 1_000, [ROOT]));
    assert!(sponsors.admit(key(2), 1_000, [key(1)]));
    assert!(sponsors.admit(key(3), 15 * MIB, [key(2)]));
    assert!(!sponsors.admit(key(4), 15 * MIB, [key(2)]));

    sponsors.meet(key(2));

    assert!(sponsors.admit(key(4), 15 * MIB, [key(2)]));
    assert_eq!(admitted(&mut sponsors, 100..200, 4 * MIB, |_| key(1)), 8, "all the room of the first is free again");
}

#[test]
fn leaving_makes_no_room_before_those_behind_have_left() {
    let mut sponsors = neighbours();
    assert!(sponsors.admit(key(4), 15 * MIB, [key(3)]));
    sponsors.remove(&key(3));

    assert!(!sponsors.admit(key(5), 15 * MIB, [key(4)]), "nothing is nearer for it");
    sponsors.remove(&key(4));

    assert_eq!(sponsors.sponsored.keys().copied().collect::<Vec<_>>(), [key(1), key(2)]);
    assert!(sponsors.sponsored.values().all(|sponsored| sponsored.behind == Load::default()));
}

#[test]
fn nobody_hangs_on_what_hangs_on_it_or_on_a_stranger() {
    let mut sponsors = neighbours();
    assert!(sponsors.admit(key(4), 1, [key(3)]));

    assert!(sponsors.admit(key(3), 2, [key(4)]), "it stays where it is");
    assert_eq!(sponsors.sponsored[&key(3)].sponsor, key(2));
    assert!(!sponsors.admit(key(5), 1, [key(9)]));
}
