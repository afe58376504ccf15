//! One peer that is told who is dead, and asked to consent that others inherit.

use std::sync::Arc;

use super::*;
use crate::members::HOLD;

/// A peer that met others a while ago: one is accused, another accuses and inherits.
pub(super) struct Asked {
    pub(super) alone: Alone,
    pub(super) dead: Fixture,
    pub(super) heir: Fixture,
}

impl Asked {
    /// So long ago did it reach the accused.
    fn after(silence: Duration) -> Self {
        let mut asked = Self { alone: Alone::new("10.32.0.0/12"), dead: Fixture::new(2), heir: Fixture::new(3) };
        let members = &mut asked.alone.place.members;
        for fixture in [&asked.dead, &asked.heir] {
            members.note_card(&Arc::new(fixture.card.clone()), &fixture.card_record(), Instant::ZERO);
            members.set_reachable(&fixture.key(), Instant::ZERO);
        }
        members.set_unreachable(&asked.dead.key(), Instant::ZERO);
        asked.alone.place.now = Instant::ZERO + silence;
        asked
    }

    pub(super) fn new() -> Self {
        Self::after(HOLD)
    }

    fn hear(&mut self, from: PeerKey, note: Note) {
        self.alone.run(|ipam, _, near| ipam.handle_note(from, note, near));
    }

    pub(super) fn accuse(by: &Fixture, dead: &Fixture) -> Certificate {
        let newest = Some((dead.card.incarnation, dead.signed_card()));
        let reason = Reason::Operator { successor: None };
        Certificate::sign(&by.identity, by.card.mesh, dead.key(), reason, newest)
    }

    pub(super) fn news(&mut self, certificates: Vec<Certificate>) {
        let news = RingNews { certificates, ..RingNews::default() };
        let from = self.heir.key();
        self.alone.run(|ipam, _, near| ipam.handle_news(ConnectionId(1), from, &news, near));
    }

    /// The heir asks for what the dead peer owned.
    fn ask(&mut self, id: u64) {
        let certificate = Self::accuse(&self.heir, &self.dead);
        self.hear(self.heir.key(), Note::Ask { certificate, id, ring: [0; 32], members: [0; 32] });
    }

    fn promised(&self) -> Vec<PeerKey> {
        self.alone.ipam.promises.values().map(|promise| promise.heir).collect()
    }

    pub(super) fn believed(&self) -> Vec<PeerKey> {
        self.alone.ipam.certificates.keys().copied().collect()
    }

    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.alone.ipam.poll_action()).collect()
    }
}

#[test]
fn a_late_withdrawal_ends_no_promise_of_a_later_asking() {
    let mut asked = Asked::new();
    let (dead, heir) = (asked.dead.key(), asked.heir.key());
    asked.ask(1);
    asked.ask(2);

    asked.hear(heir, Note::Withdraw { dead, id: 1 });
    assert_eq!(asked.promised(), [heir]);

    asked.hear(heir, Note::Withdraw { dead, id: 2 });
    assert_eq!(asked.promised(), []);
}

#[test]
fn who_was_reached_within_the_hold_is_believed_dead_when_it_is_over() {
    let mut asked = Asked::after(Duration::from_secs(10));
    let certificate = Asked::accuse(&asked.heir, &asked.dead);
    asked.news(vec![certificate]);
    asked.ask(1);
    assert_eq!((asked.believed(), asked.promised()), (vec![], vec![]));

    asked.alone.place.now = Instant::ZERO + HOLD;
    asked.alone.run(|ipam, _, near| ipam.review_members(near));
    assert_eq!(asked.believed(), [asked.dead.key()]);
}

#[test]
fn nobody_believes_a_stranger_and_nobody_a_certificate_that_it_did_not_sign() {
    let mut asked = Asked::new();
    let stranger = Fixture::new(9);
    let certificate = Asked::accuse(&stranger, &asked.dead);
    let mut forged = certificate.clone();
    forged.by = asked.heir.key();

    asked.news(vec![certificate, forged]);

    assert_eq!(asked.believed(), []);
}

#[test]
fn a_newer_card_voids_a_certificate_for_good() {
    let mut asked = Asked::new();
    let certificate = Asked::accuse(&asked.heir, &asked.dead);
    asked.news(vec![certificate.clone()]);
    assert_eq!(asked.believed(), [asked.dead.key()]);

    asked.dead.card.incarnation += 1;
    let (card, record) = (Arc::new(asked.dead.card.clone()), asked.dead.card_record());
    let now = asked.alone.place.now;
    asked.alone.place.members.note_card(&card, &record, now);
    asked.alone.run(|ipam, _, near| ipam.review_members(near));
    assert_eq!(asked.believed(), []);

    asked.actions();
    asked.news(vec![certificate]);
    assert_eq!(asked.believed(), []);
    let is_told = |action: &Action| matches!(action, Action::Write(_, bytes) if matches!(Note::decode(bytes), Some(Note::Newer { .. })));
    assert!(asked.actions().iter().any(is_told), "the accuser hears of the newer card");
}

#[test]
fn who_hears_that_it_is_dead_rises_above_that() {
    let mut asked = Asked::new();
    let ours = Fixture::new(1);
    let certificates = vec![Asked::accuse(&asked.heir, &ours); 3];

    asked.news(certificates);

    assert_eq!(asked.believed(), []);
    let rises = asked.actions().into_iter().filter(|action| matches!(action, Action::Refute(1))).count();
    assert_eq!(rises, 1, "once, however often it is said");
}

#[test]
fn who_is_certified_dead_is_promised_nothing() {
    let mut asked = Asked::new();
    let heir = asked.heir.key();
    asked.alone.place.members.set_unreachable(&heir, Instant::ZERO);
    let certificate = Asked::accuse(&asked.dead, &asked.heir);
    asked.news(vec![certificate]);

    asked.ask(1);

    assert!(asked.believed().contains(&heir));
    assert_eq!(asked.promised(), []);
}

#[test]
fn a_promise_to_one_who_was_never_met_ends_with_its_death() {
    let mut asked = Asked::new();
    let stranger = Fixture::new(4);
    let certificate = Asked::accuse(&asked.heir, &asked.dead);
    asked.hear(stranger.key(), Note::Ask { certificate, id: 1, ring: [0; 32], members: [0; 32] });
    assert_eq!(asked.promised(), [stranger.key()]);

    let certificate = Asked::accuse(&asked.heir, &stranger);
    asked.news(vec![certificate]);

    assert_eq!(asked.promised(), []);
}

#[test]
fn a_flood_of_certificates_costs_one_file_and_no_memory() {
    let mut asked = Asked::new();
    asked.actions();
    for number in 10..200 {
        let invented = Fixture::new(number);
        let certificates = vec![Asked::accuse(&asked.heir, &invented), Asked::accuse(&asked.heir, &asked.dead)];
        asked.news(certificates);
    }

    assert_eq!(asked.believed(), [asked.dead.key()], "who is known to nobody is of no matter");
    assert!(asked.alone.ipam.accusations.is_empty());
    let written = asked.actions().into_iter().filter(|action| matches!(action, Action::PersistRing(_))).count();
    assert!(written <= 1, "{written} files");
}
