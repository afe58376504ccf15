//! One peer that is asked to consent that others inherit.

use super::*;

/// A peer asked by others, which it does not reach.
struct Asked {
    alone: Alone,
    dead: Fixture,
    heir: Fixture,
}

impl Asked {
    fn new() -> Self {
        Self { alone: Alone::new("10.32.0.0/12"), dead: Fixture::new(2), heir: Fixture::new(3) }
    }

    fn hear(&mut self, from: PeerKey, note: Note) {
        self.alone.run(|ipam, _, near| ipam.handle_note(from, note, near));
    }

    fn certificate(&self, dead: PeerKey) -> Certificate {
        Certificate::sign(&self.heir.identity, self.heir.card.mesh, dead, None)
    }

    /// The heir asks for what the dead peer owned.
    fn ask(&mut self, id: u64) {
        let certificate = self.certificate(self.dead.key());
        self.hear(self.heir.key(), Note::Ask { certificate, id, ring: [0; 32], members: [0; 32] });
    }

    fn promised(&self) -> Vec<PeerKey> {
        self.alone.ipam.promises.values().map(|promise| promise.heir).collect()
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
fn who_is_certified_dead_is_promised_nothing() {
    let mut asked = Asked::new();
    let certificates = vec![asked.certificate(asked.heir.key())];
    let news = RingNews { ring: None, first: None, transfers: Vec::new(), certificates, compare: None };
    let from = asked.dead.key();
    asked.alone.run(|ipam, _, near| ipam.handle_news(ConnectionId(1), from, &news, near));

    asked.ask(1);

    assert_eq!(asked.promised(), []);
}
