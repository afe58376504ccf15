//! Two stores that talk until they agree.

use super::asked::ANSWER_TIMEOUT;
use super::*;
use crate::store::CardRecord;
use crate::store::fixtures::{Owner, endpoint, verifier};

const ALICE: ConnectionId = ConnectionId(1);
const BOB: ConnectionId = ConnectionId(2);

/// One end of an exchange.
#[derive(Debug)]
struct End {
    exchange: Exchange,
    store: Store,
    members: Members,
}

impl End {
    fn new(connections: &[ConnectionId]) -> Self {
        let mut exchange = Exchange::default();
        connections.iter().for_each(|connection| exchange.add_neighbour(*connection, Tag([connection.0 as u8; 8])));
        Self { exchange, store: Store::default(), members: Members::default() }
    }

    fn keep(&mut self, set: &Arc<Set>) {
        self.store.insert(Arc::clone(set), None);
        self.store.list(&set.owner());
    }

    /// Keeps `set` and tells the neighbours but `from`.
    fn announce(&mut self, set: &Arc<Set>, from: Option<ConnectionId>) {
        self.keep(set);
        self.exchange.announce(&set.owner(), from, Haste::AtOnce, &self.store, Instant::ZERO);
    }

    fn offers(&mut self, connection: ConnectionId, offers: &[Offer], now: Instant) -> Vec<PeerKey> {
        self.exchange.handle_offers(connection, offers, &self.store, &self.members, now)
    }

    fn time_passes(&mut self, now: Instant) {
        self.exchange.handle_timeout(&self.store, &self.members, now);
    }

    fn sent(&mut self) -> Vec<(ConnectionId, Message)> {
        let outgoing = std::iter::from_fn(|| self.exchange.poll());
        let sent = outgoing.filter_map(|outgoing| match outgoing {
            Outgoing::Send(connection, message) => Some((connection, message)),
            Outgoing::AwaitRoom(_) => None,
        });
        sent.collect()
    }

    /// The asks sent, with whom.
    fn asks(&mut self) -> Vec<(ConnectionId, Ask)> {
        let asks = self.sent().into_iter().filter_map(|(connection, message)| match message {
            Message::Asks(asks) => Some(asks.into_iter().map(move |ask| (connection, ask))),
            _ => None,
        });
        asks.flatten().collect()
    }

    /// What arrives when `message` does.
    fn receive(&mut self, connection: ConnectionId, message: Message) -> Option<Received> {
        // Over the wire, so that nothing is taken from the sender's memory.
        match Message::decode(&message.encode()).unwrap() {
            Message::Delta(delta) => {
                let known = (&self.store, &self.members);
                self.exchange.handle_delta(connection, delta, known, &mut verifier(), Instant::ZERO)
            }
            Message::Part(part) => {
                self.exchange.handle_part(connection, part, &self.members, &mut verifier(), Instant::ZERO).unwrap()
            }
            other => panic!("{other:?} carries no set"),
        }
    }
}

fn later() -> Instant {
    Instant::ZERO + Duration::from_secs(60)
}

fn offer(set: &Set) -> Offer {
    Offer { owner: Tag::from(&set.owner()), version: set.version() }
}

#[test]
fn a_new_set_is_offered_to_all_but_its_sender() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[ALICE, BOB]);

    end.announce(&set, Some(ALICE));
    assert!(end.sent().is_empty());
    end.time_passes(end.exchange.poll_timeout().unwrap());

    let sent = end.sent();
    assert!(matches!(&sent[..], [(BOB, Message::Offers(offers))] if *offers == [offer(&set)]));
    assert_eq!(end.exchange.poll_timeout(), None);
}

#[test]
fn sets_that_follow_each_other_are_offered_together() {
    let sets = [1, 2, 3].map(|number| Owner::new(number).set(1, []));
    let mut end = End::new(&[ALICE]);

    end.announce(&sets[0], None);
    end.time_passes(Instant::ZERO);
    end.announce(&sets[1], None);
    end.announce(&sets[2], None);
    end.time_passes(Instant::ZERO);
    assert_eq!(end.sent().len(), 1);
    end.time_passes(later());

    assert!(matches!(&end.sent()[..], [(ALICE, Message::Offers(offers))] if offers.len() == 2));
}

#[test]
fn a_neighbour_that_offers_the_same_is_offered_nothing() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[ALICE]);

    end.announce(&set, None);
    end.offers(ALICE, &[offer(&set)], Instant::ZERO);
    end.time_passes(later());

    assert!(end.sent().is_empty());
}

#[test]
fn a_set_is_asked_for_once_however_many_offer_it() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[ALICE, BOB]);

    end.offers(ALICE, &[offer(&set)], Instant::ZERO);
    end.offers(BOB, &[offer(&set)], Instant::ZERO);

    assert_eq!(end.asks(), [(ALICE, Ask { owner: Tag::from(&set.owner()), base: None, card: None })]);
}

#[test]
fn when_a_neighbour_does_not_answer_the_next_one_is_asked() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[ALICE, BOB]);
    end.offers(ALICE, &[offer(&set)], Instant::ZERO);
    end.offers(BOB, &[offer(&set)], Instant::ZERO);
    end.sent();

    end.time_passes(Instant::ZERO + ANSWER_TIMEOUT);
    assert_eq!(end.asks().iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [BOB]);
    end.time_passes(later());

    assert!(end.asks().is_empty());
    assert_eq!(end.exchange.poll_timeout(), None);
}

#[test]
fn when_the_asked_neighbour_leaves_the_next_one_is_asked_at_once() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[ALICE, BOB]);
    end.offers(ALICE, &[offer(&set)], Instant::ZERO);
    end.offers(BOB, &[offer(&set)], Instant::ZERO);
    end.sent();

    end.exchange.remove_neighbour(ALICE, &end.store, &end.members, Instant::ZERO);

    assert!(matches!(end.asks()[..], [(BOB, _)]));
}

#[test]
fn a_whole_set_arrives_in_parts_and_counts_when_complete() {
    let owner = Owner::new(1);
    let set = owner.set(1, (0..500).map(|id| endpoint(id, 16)));
    let (mut giver, mut taker) = (End::new(&[BOB]), End::new(&[ALICE]));
    giver.keep(&set);
    taker.offers(ALICE, &[offer(&set)], Instant::ZERO);
    let (_, ask) = taker.asks()[0];

    giver.exchange.handle_asks(BOB, &[ask], &mut giver.store);
    let mut parts = giver.sent();
    assert!(parts.len() > 1);
    let (_, last) = parts.pop().unwrap();
    for (_, part) in parts {
        assert!(taker.receive(ALICE, part).is_none());
    }

    assert_eq!(taker.receive(ALICE, last).unwrap().set.root(), set.root());
}

#[test]
fn the_card_is_not_sent_to_who_has_it() {
    let owner = Owner::new(1);
    let set = owner.set(1, [endpoint(1, 0)]);
    let (mut giver, mut taker) = (End::new(&[BOB]), End::new(&[ALICE]));
    giver.keep(&set);
    taker.members.note_card(set.card(), &owner.card_record(), Instant::ZERO);
    taker.offers(ALICE, &[offer(&set)], Instant::ZERO);
    let (_, ask) = taker.asks()[0];

    giver.exchange.handle_asks(BOB, &[ask], &mut giver.store);
    let (_, part) = giver.sent().pop().unwrap();

    assert!(part.encoded_bytes() < owner.signed_card().encoded_bytes());
    assert_eq!(taker.receive(ALICE, part).unwrap().set.root(), set.root());
}

#[test]
fn parts_that_nobody_asked_for_are_not_assembled() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[ALICE, BOB]);
    let part = Part::split(&set, CardRecord::Include).remove(0);

    assert!(end.receive(ALICE, Message::Part(Arc::new(part.clone()))).is_none());
    end.offers(BOB, &[offer(&set)], Instant::ZERO);

    assert!(end.receive(ALICE, Message::Part(Arc::new(part.clone()))).is_none());
    assert!(end.receive(BOB, Message::Part(Arc::new(part))).is_some());
}

#[test]
fn who_has_the_version_before_gets_the_changes_only() {
    let owner = Owner::new(1);
    let older = owner.set(1, (0..100).map(|id| endpoint(id, 4)));
    let newer = owner.set(2, (1..100).map(|id| endpoint(id, 4)));
    let (mut giver, mut taker) = (End::new(&[BOB]), End::new(&[ALICE]));
    giver.keep(&older);
    giver.keep(&newer);
    taker.keep(&older);
    taker.offers(ALICE, &[offer(&newer)], Instant::ZERO);
    let (_, ask) = taker.asks()[0];

    giver.exchange.handle_asks(BOB, &[ask], &mut giver.store);
    let (_, delta) = giver.sent().pop().unwrap();

    assert!(matches!(&delta, Message::Delta(delta) if delta.put.is_empty() && delta.removed.len() == 1));
    assert!(delta.encoded_bytes() < 120);
    assert_eq!(taker.receive(ALICE, delta).unwrap().set.root(), newer.root());
}

#[test]
fn a_delta_from_another_version_is_answered_by_asking_for_the_whole_set() {
    let owner = Owner::new(1);
    let sets: Vec<_> = (1..=3).map(|counter| owner.set(counter, [endpoint(counter, 0)])).collect();
    let mut end = End::new(&[ALICE]);
    end.keep(&sets[0]);

    end.offers(ALICE, &[offer(&sets[2])], Instant::ZERO);
    end.sent();
    let delta = Delta::between(&sets[1], &sets[2]);
    assert!(end.receive(ALICE, Message::Delta(Arc::new(delta))).is_none());

    let whole = Ask { owner: Tag::from(&owner.key()), base: None, card: None };
    assert_eq!(end.asks(), [(ALICE, whole)]);
}

#[test]
fn a_delta_that_makes_something_else_than_was_signed_is_not_taken() {
    let owner = Owner::new(1);
    let (older, newer) = (owner.set(1, []), owner.set(2, [endpoint(1, 0)]));
    let mut delta = Delta::between(&older, &newer);
    delta.put = vec![endpoint(2, 0)];
    let mut end = End::new(&[ALICE]);
    end.keep(&older);
    end.offers(ALICE, &[offer(&newer)], Instant::ZERO);
    end.sent();

    assert!(end.receive(ALICE, Message::Delta(Arc::new(delta))).is_none());

    assert_eq!(end.store.get(&owner.key()).unwrap().version(), older.version());
    assert_eq!(end.asks().len(), 1);
}

#[test]
fn an_unlisted_set_is_neither_offered_nor_handed_out() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[ALICE]);
    end.announce(&set, None);

    end.store.unlist(&set.owner());
    end.time_passes(later());
    end.exchange.handle_asks(ALICE, &[Ask { owner: Tag::from(&set.owner()), base: None, card: None }], &mut end.store);

    assert!(end.sent().is_empty());
}

#[test]
fn a_neighbour_vouches_for_the_version_that_is_unlisted_here() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[ALICE]);
    end.keep(&set);
    assert!(end.offers(ALICE, &[offer(&set)], Instant::ZERO).is_empty());

    end.store.unlist(&set.owner());

    assert_eq!(end.offers(ALICE, &[offer(&set)], Instant::ZERO), [set.owner()]);
    assert!(end.asks().is_empty());
}

#[test]
fn what_is_asked_for_a_thousand_times_is_sent_once() {
    let set = Owner::new(1).set(1, [endpoint(1, 0)]);
    let mut end = End::new(&[ALICE]);
    end.keep(&set);

    let ask = Ask { owner: Tag::from(&set.owner()), base: None, card: None };
    end.exchange.handle_asks(ALICE, &[ask; 1_024], &mut end.store);

    assert_eq!(end.sent().len(), 1);
}

#[test]
fn a_large_set_is_sent_as_fast_as_it_is_taken_and_its_parts_follow_each_other() {
    let sets = [1, 2].map(|number| Owner::new(number).set(1, (0..8_000).map(|id| endpoint(id, 16))));
    let mut end = End::new(&[ALICE]);
    sets.iter().for_each(|set| end.keep(set));
    let asks = sets.each_ref().map(|set| Ask { owner: Tag::from(&set.owner()), base: None, card: None });

    let mut owners = Vec::new();
    for _ in 0..64 {
        end.exchange.handle_asks(ALICE, &asks, &mut end.store);
        let sent = end.sent();
        let bytes: usize = sent.iter().map(|(_, message)| message.encoded_bytes()).sum();
        assert!(bytes < 400 * 1_024, "{bytes} bytes at once");
        owners.extend(sent.iter().filter_map(|(_, message)| match message {
            Message::Part(part) => Some((part.owner, part.index)),
            _ => None,
        }));
        assert!(end.sent().is_empty(), "nothing more before there is room");
        end.exchange.handle_room(ALICE, &mut end.store);
    }

    let begins: Vec<_> = owners.iter().filter(|(_, index)| *index == 0).collect();
    assert!(begins.len() >= 2);
    assert!(owners.windows(2).all(|pair| pair[0].0 == pair[1].0 || pair[1].1 == 0));
}

#[test]
fn who_offers_what_it_does_not_give_is_asked_after_the_others() {
    let (one, other) = (Owner::new(1).set(1, []), Owner::new(2).set(1, []));
    let mut end = End::new(&[ALICE, BOB]);
    let lie = Offer { version: Version { incarnation: u64::MAX, counter: u64::MAX }, ..offer(&one) };
    end.offers(ALICE, &[lie], Instant::ZERO);
    end.offers(BOB, &[offer(&one)], Instant::ZERO);
    assert!(matches!(end.asks()[..], [(ALICE, _)]));

    let now = Instant::ZERO + ANSWER_TIMEOUT;
    end.time_passes(now);
    assert!(matches!(end.asks()[..], [(BOB, _)]), "the true offer was not forgotten for the higher one");
    end.offers(ALICE, &[offer(&other)], now);
    end.offers(BOB, &[offer(&other)], now);

    let asked: Vec<_> = end.asks().into_iter().map(|(connection, ask)| (connection, ask.owner)).collect();
    assert_eq!(asked, [(ALICE, Tag::from(&other.owner())), (BOB, Tag::from(&other.owner()))]);
}

#[test]
fn a_later_offer_does_not_take_the_answer_from_who_was_asked() {
    let owner = Owner::new(1);
    let set = owner.set(1, []);
    let mut end = End::new(&[ALICE, BOB]);
    end.offers(ALICE, &[offer(&set)], Instant::ZERO);
    let lie = Offer { version: Version { incarnation: u64::MAX, counter: 1 }, ..offer(&set) };
    end.offers(BOB, &[lie], Instant::ZERO);

    let part = Part::split(&set, CardRecord::Include).remove(0);
    assert!(end.receive(ALICE, Message::Part(Arc::new(part))).is_some());
    end.keep(&set);
    end.sent();
    end.exchange.settle(&set, &end.store, &end.members, Instant::ZERO);

    assert!(matches!(end.asks()[..], [(BOB, _)]), "now the newer one is asked for");
}

#[test]
fn the_owner_is_asked_before_all_others() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[BOB]);
    end.exchange.add_neighbour(ALICE, Tag::from(&set.owner()));
    let lie = Offer { version: Version { incarnation: u64::MAX, counter: 1 }, ..offer(&set) };
    end.offers(BOB, &[lie], Instant::ZERO);

    end.offers(ALICE, &[offer(&set)], Instant::ZERO);

    assert!(matches!(end.asks()[..], [(BOB, _), (ALICE, _)]));
}

#[test]
fn one_neighbour_assembles_one_set_at_a_time() {
    let sets = [1, 2].map(|number| Owner::new(number).set(1, (0..500).map(|id| endpoint(id, 16))));
    let mut end = End::new(&[ALICE]);
    end.offers(ALICE, &sets.each_ref().map(|set| offer(set)), Instant::ZERO);
    let parts = sets.each_ref().map(|set| Part::split(set, CardRecord::Include));

    for part in parts.iter().flat_map(|parts| &parts[..parts.len() - 1]) {
        assert!(end.receive(ALICE, Message::Part(Arc::new(part.clone()))).is_none());
    }
    let last = |parts: &[Part]| Message::Part(Arc::new(parts[parts.len() - 1].clone()));

    assert!(end.receive(ALICE, last(&parts[1])).is_some());
    assert!(end.receive(ALICE, last(&parts[0])).is_none(), "given up for the second");
}

#[test]
fn a_set_for_which_there_was_no_room_is_asked_for_again_at_ever_longer_intervals() {
    let set = Owner::new(1).set(1, []);
    let mut end = End::new(&[ALICE]);
    end.offers(ALICE, &[offer(&set)], Instant::ZERO);
    let (mut now, mut waits) = (Instant::ZERO, Vec::new());
    end.sent();

    for _ in 0..4 {
        end.exchange.refuse(ALICE, &set, now);
        end.offers(ALICE, &[offer(&set)], now);
        assert!(end.asks().is_empty());
        let due = end.exchange.refused.due().unwrap();
        waits.push(due.since(now).as_secs());
        now = due;
        end.time_passes(now);
        assert_eq!(end.asks().len(), 1);
    }

    assert_eq!(waits, [1, 2, 4, 8]);
}
