//! Who is found dead because its machine lives on as somebody else.

use std::sync::Arc;

use super::*;

/// Two identities of one machine that a peer meets.
fn identities(incarnations: [u64; 2]) -> [Fixture; 2] {
    let mut fixtures = [Fixture::new(2), Fixture::new(3)];
    for (fixture, incarnation) in fixtures.iter_mut().zip(incarnations) {
        (fixture.card.machine, fixture.card.incarnation) = ([9; 32], incarnation);
    }
    fixtures
}

/// A peer that reaches `living` from now on, and reached `gone` a moment ago.
fn between(living: &Fixture, gone: &Fixture) -> Alone {
    let mut alone = Alone::new("10.32.0.0/12");
    let now = alone.place.now;
    for fixture in [living, gone] {
        alone.place.members.note_card(&Arc::new(fixture.card.clone()), &fixture.card_record(), now);
        alone.place.members.set_reachable(&fixture.key(), now);
    }
    alone.place.members.set_unreachable(&gone.key(), now);
    alone
}

fn certified(alone: &mut Alone, after: Duration) -> Vec<PeerKey> {
    alone.place.now = Instant::ZERO + after;
    alone.run(|ipam, _, near| ipam.review_members(near));
    alone.ipam.certificates.keys().copied().collect()
}

/// A clock that was set back makes a dead identity look like the later one, and for some seconds it seems reachable.
#[test]
fn who_lives_for_a_moment_is_nobodys_successor() {
    let [before, after] = identities([2, 1]);
    let mut alone = between(&before, &after);

    assert_eq!(certified(&mut alone, Duration::from_secs(25)), []);
}

#[test]
fn who_died_unnoticed_is_nobodys_successor() {
    let [before, after] = identities([2, 1]);
    let mut alone = between(&before, &after);
    let then = Instant::ZERO + Duration::from_secs(40);
    alone.place.members.set_reachable(&after.key(), then);
    alone.place.members.set_unreachable(&after.key(), then);

    assert_eq!(certified(&mut alone, Duration::from_secs(50)), []);
}

#[test]
fn whose_machine_lives_on_as_somebody_else_is_dead() {
    let [before, after] = identities([1, 2]);
    let mut alone = between(&after, &before);

    assert_eq!(certified(&mut alone, Duration::from_secs(35)), [before.key()]);
    assert_eq!(alone.ipam.certificates[&before.key()].successor, Some(after.key()));
}
