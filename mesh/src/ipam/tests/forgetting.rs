//! What one peer keeps of the dead, and for how long.

use std::sync::Arc;

use super::death::Asked;
use super::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Asked {
    /// It believes that the accused is dead.
    fn bereaved() -> Self {
        let mut asked = Self::new();
        let certificate = Self::accuse(&asked.heir, &asked.dead);
        asked.news(vec![certificate]);
        assert_eq!(asked.believed(), [asked.dead.key()]);
        asked
    }

    fn wait(&mut self, time: Duration) {
        self.alone.place.now += time;
        self.alone.run(|_, _, _| ());
    }

    /// Whom the node is told to forget.
    fn forgotten(&mut self) -> Vec<PeerKey> {
        let forgotten = self.actions().into_iter().filter_map(|action| match action {
            Action::Forget(peer) => Some(peer),
            _ => None,
        });
        forgotten.collect()
    }
}

#[test]
fn the_dead_who_own_nothing_are_forgotten_after_a_day_and_telling_brings_nobody_back() {
    let mut asked = Asked::bereaved();
    let dead = asked.dead.key();
    asked.wait(DAY - Duration::from_secs(10));
    assert_eq!(asked.forgotten(), []);

    asked.wait(Duration::from_secs(10));
    assert_eq!((asked.forgotten(), asked.believed()), (vec![dead], vec![]));
    assert!(asked.alone.place.members.forget(&dead));

    let certificate = Asked::accuse(&asked.heir, &asked.dead);
    asked.news(vec![certificate]);
    let is_told = |action: &Action| matches!(action, Action::Spread { news, .. } if !news.certificates.is_empty());
    assert_eq!(asked.believed(), []);
    assert!(!asked.actions().iter().any(is_told));
}

#[test]
fn for_the_sake_of_one_that_is_away_the_dead_are_kept_for_a_week() {
    let mut asked = Asked::new();
    let (absent, now) = (Fixture::new(4), asked.alone.place.now);
    let members = &mut asked.alone.place.members;
    members.note_card(&Arc::new(absent.card.clone()), &absent.card_record(), now);
    members.set_reachable(&absent.key(), now);
    members.set_unreachable(&absent.key(), now);
    let certificate = Asked::accuse(&asked.heir, &asked.dead);
    asked.news(vec![certificate]);

    asked.wait(6 * DAY);
    assert_eq!(asked.forgotten(), []);
    asked.wait(DAY);
    assert_eq!(asked.forgotten(), [asked.dead.key()]);
}

#[test]
fn to_whom_something_is_promised_and_whose_estate_is_open_is_kept() {
    let mut asked = Asked::bereaved();
    let (dead, heir) = (asked.dead.key(), asked.heir.key());
    let note =
        Note::Ask { certificate: Asked::accuse(&asked.heir, &asked.dead), id: 1, ring: [0; 32], members: [0; 32] };
    asked.alone.run(|ipam, _, near| ipam.handle_note(heir, note, near));
    asked.wait(8 * DAY);
    assert_eq!((asked.forgotten(), asked.believed()), (vec![], vec![dead]));

    asked.alone.run(|ipam, _, near| ipam.handle_note(heir, Note::Withdraw { dead, id: 1 }, near));
    asked.wait(Duration::from_secs(5));
    assert_eq!(asked.forgotten(), [dead]);
}

#[test]
fn a_change_of_the_ring_walks_past_nobody_however_many_are_dead() {
    let mut asked = Asked::new();
    asked.alone.run(|ipam, ticket, near| ipam.wait_for_ring(ticket, near));
    let dead: Vec<Fixture> = (10..210).map(Fixture::new).collect();
    for fixture in &dead {
        let members = &mut asked.alone.place.members;
        members.note_card(&Arc::new(fixture.card.clone()), &fixture.card_record(), Instant::ZERO);
        members.set_reachable(&fixture.key(), Instant::ZERO);
        members.set_unreachable(&fixture.key(), Instant::ZERO);
        let certificate = Asked::accuse(&asked.heir, fixture);
        asked.news(vec![certificate]);
    }
    assert_eq!(asked.believed().len(), dead.len());
    let before = asked.alone.ipam.deaths.walks.get();

    let from = asked.heir.key();
    let window = cidr("10.32.0.0/12").range();
    asked.alone.run(|ipam, _, near| ipam.handle_note(from, Note::Request { id: 1, window }, near));

    assert!(asked.alone.ipam.ring.as_ref().is_some_and(|ring| ring.owns_any(Owner::Peer(from))));
    assert_eq!(asked.alone.ipam.deaths.walks.get(), before);
}
