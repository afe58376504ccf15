//! Who is found dead because its instance lives on as somebody else, and who is not.

use std::sync::Arc;

use super::*;
use crate::members::HOLD;
use crate::wire::Goodbye;

/// Two identities that a peer meets, of one image; and of one instance, if that has an id.
fn identities(instance: &str, incarnations: [u64; 2]) -> [Fixture; 2] {
    let mut fixtures = [Fixture::new(2), Fixture::new(3)];
    for (fixture, incarnation) in fixtures.iter_mut().zip(incarnations) {
        (fixture.card.machine, fixture.card.incarnation) = ([9; 32], incarnation);
        fixture.card.instance_id = instance.to_owned();
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
    let [before, after] = identities("i-1", [2, 1]);
    let mut alone = between(&before, &after);

    assert_eq!(certified(&mut alone, Duration::from_secs(25)), []);
}

#[test]
fn whose_instance_lives_on_as_somebody_else_is_dead_once_the_hold_is_over() {
    let [before, after] = identities("i-1", [1, 2]);
    let mut alone = between(&after, &before);

    assert_eq!(certified(&mut alone, HOLD - Duration::from_secs(1)), []);
    assert_eq!(certified(&mut alone, HOLD), [before.key()]);
    assert_eq!(alone.ipam.certificates[&before.key()].successor(), Some(after.key()));
}

#[test]
fn hosts_made_of_one_image_are_nobodys_successors() {
    let [before, after] = identities("", [1, 2]);
    let mut alone = between(&after, &before);

    assert_eq!(certified(&mut alone, 2 * HOLD), []);
}

#[test]
fn a_clone_of_ours_is_complained_of_until_it_is_gone() {
    let [clone, other] = identities("", [1, 2]);
    let mut alone = between(&clone, &other);
    alone.place.fixture.card.machine = clone.card.machine;
    certified(&mut alone, HOLD);
    assert_eq!(alone.ipam.problems.get(&clone.key()), Some(&Problem::SameMachine));

    alone.place.members.depart(Goodbye::sign(&clone.identity, clone.card.mesh, 1));
    certified(&mut alone, HOLD);
    assert!(alone.ipam.problems.is_empty());
}
