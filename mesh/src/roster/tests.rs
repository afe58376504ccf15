use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::Standing::{Aside, Expected, Gone};
use super::*;

fn instance(number: u8, standing: Standing) -> Instance {
    Instance {
        id: format!("i-{number:02x}"),
        launched: 1_000 + u64::from(number),
        address: Some(Ipv4Addr::new(10, 0, 0, number).into()),
        standing,
    }
}

/// What instance 1 hears: itself and `others`.
fn listing(others: &[(u8, Standing)]) -> Listing {
    let others = others.iter().map(|(number, standing)| instance(*number, *standing));
    let instances = std::iter::once(instance(1, Expected)).chain(others).collect();
    Listing { own: "i-01".into(), desired: 0, instances, is_complete: true }
}

fn roster(listings: &[Listing]) -> Roster {
    let mut roster = Roster::default();
    listings.iter().for_each(|listing| roster.handle_listing(listing, Instant::ZERO));
    roster
}

fn dialled(roster: &Roster) -> Vec<IpAddr> {
    roster.to_dial(16, |_| false)
}

#[test]
fn who_is_expected_and_not_met_is_dialled() {
    let roster = roster(&[listing(&[(2, Expected), (3, Expected), (4, Aside), (5, Gone)])]);
    let dialled = roster.to_dial(16, |id| id == "i-02");
    assert_eq!(dialled, [IpAddr::from([10, 0, 0, 3])]);
}

#[test]
fn so_many_are_dialled_at_a_time_and_others_the_next_time() {
    let all: Vec<_> = (2..12).map(|number| (number, Expected)).collect();
    let mut roster = roster(&[listing(&all)]);
    let mut seen = BTreeSet::new();
    for _ in 0..5 {
        let dialled = roster.to_dial(2, |_| false);
        assert_eq!(dialled.len(), 2);
        seen.extend(dialled);
        roster.handle_listing(&listing(&all), Instant::ZERO);
    }
    assert_eq!(seen.len(), 10);
}

#[test]
fn gone_is_for_ever_also_when_an_old_answer_comes() {
    let mut roster = roster(&[listing(&[(2, Gone)])]);
    roster.handle_listing(&listing(&[(2, Expected)]), Instant::ZERO);
    assert!(roster.is_gone("i-02"));
    assert!(dialled(&roster).is_empty());
}

#[test]
fn who_is_not_listed_any_more_is_gone_after_a_while() {
    let mut roster = roster(&[listing(&[(2, Expected)]), listing(&[])]);
    assert!(!roster.is_gone("i-02"));
    assert!(dialled(&roster).is_empty(), "nobody waits for it");
    roster.handle_listing(&listing(&[]), Instant::ZERO + (ABSENCE - Duration::from_secs(1)));
    assert!(!roster.is_gone("i-02"));
    roster.handle_listing(&listing(&[]), Instant::ZERO + ABSENCE);
    assert!(roster.is_gone("i-02"));
}

#[test]
fn who_is_listed_again_was_not_gone() {
    let mut roster = roster(&[listing(&[(2, Expected)]), listing(&[])]);
    roster.handle_listing(&listing(&[(2, Expected)]), Instant::ZERO + ABSENCE / 2);
    roster.handle_listing(&listing(&[]), Instant::ZERO + ABSENCE);
    assert!(!roster.is_gone("i-02"));
}

#[test]
fn an_answer_that_is_not_complete_or_does_not_know_us_says_nothing_by_what_it_lacks() {
    let partial = Listing { is_complete: false, ..listing(&[]) };
    let old = Listing { instances: vec![instance(7, Expected)], ..listing(&[]) };
    for lacking in [partial, old] {
        let mut roster = roster(&[listing(&[(2, Expected)])]);
        roster.handle_listing(&lacking, Instant::ZERO);
        roster.handle_listing(&lacking, Instant::ZERO + 2 * ABSENCE);
        assert!(!roster.is_gone("i-02"), "{lacking:?}");
        assert!(!roster.is_confirmed(), "{lacking:?}");
    }
}

#[test]
fn what_a_partial_answer_says_is_gone_is_gone() {
    let partial = Listing { is_complete: false, ..listing(&[(2, Gone)]) };
    assert!(roster(&[partial]).is_gone("i-02"));
}

#[test]
fn the_electorate_is_what_two_answers_say_alike() {
    let two = listing(&[(2, Expected)]);
    let three = listing(&[(2, Expected), (3, Expected)]);
    assert!(!roster(std::slice::from_ref(&two)).is_confirmed());
    assert!(roster(&[two.clone(), two.clone()]).is_confirmed());
    assert!(!roster(&[two.clone(), two, three.clone()]).is_confirmed());
    let resized = Listing { desired: 9, ..three.clone() };
    assert!(!roster(&[three, resized]).is_confirmed());
}

#[test]
fn as_many_agree_as_are_listed_or_desired() {
    let peers = |desired, others: &[(u8, Standing)]| {
        roster(&[Listing { desired, ..listing(others) }]).electorate().map(|it| it.peers)
    };
    assert_eq!(peers(0, &[(2, Expected), (3, Aside), (4, Gone)]), Some(2));
    assert_eq!(peers(3, &[(2, Expected)]), Some(3));
    assert_eq!(peers(1, &[(2, Expected), (3, Expected)]), Some(3), "one is launched before another goes");
}

#[test]
fn the_oldest_is_by_time_of_launch_and_then_by_id() {
    let mut both = listing(&[(2, Expected), (3, Expected)]);
    both.instances.iter_mut().for_each(|instance| instance.launched = 5);
    assert_eq!(roster(std::slice::from_ref(&both)).electorate().map(|it| it.oldest.as_str()), Some("i-01"));
    both.instances[2].launched = 4;
    assert_eq!(roster(&[both]).electorate().map(|it| it.oldest.as_str()), Some("i-03"));
}

#[test]
fn what_is_gone_and_not_listed_is_forgotten_unless_it_is_needed() {
    let mut roster = roster(&[listing(&[(2, Gone), (3, Gone), (4, Gone)]), listing(&[(4, Gone)])]);
    roster.forget(|id| id == "i-02");
    assert!(roster.is_gone("i-02"));
    assert!(!roster.is_gone("i-03"));
    assert!(roster.is_gone("i-04"), "it is still listed");
}

fn standings() -> impl Strategy<Value = Standing> {
    prop_oneof![Just(Expected), Just(Aside), Just(Gone)]
}

fn listings() -> impl Strategy<Value = Listing> {
    let others = proptest::collection::vec((2_u8..9, standings()), 0..8);
    (others, any::<bool>(), 0_u32..5).prop_map(|(others, is_complete, desired)| Listing {
        is_complete,
        desired,
        ..listing(&others)
    })
}

proptest! {
    #[test]
    fn nobody_comes_back_and_nobody_gone_is_dialled(
        answers in proptest::collection::vec((listings(), 0_u64..400), 1..12)
    ) {
        let mut roster = Roster::default();
        let mut now = Instant::ZERO;
        let mut gone = BTreeSet::new();
        for (answer, seconds) in &answers {
            now += Duration::from_secs(*seconds);
            roster.handle_listing(answer, now);
            gone.extend((1..9).map(|number| format!("i-{number:02x}")).filter(|id| roster.is_gone(id)));
            prop_assert!(gone.iter().all(|id| roster.is_gone(id)));
            let dialled = dialled(&roster);
            prop_assert!(!dialled.contains(&IpAddr::from([10, 0, 0, 1])), "ourselves");
            let is_gone = |address: &IpAddr| gone.iter().any(|id| Some(*address) == roster.entries[id].address);
            prop_assert!(!dialled.iter().any(is_gone));
        }
    }
}
