//! What one peer owns, and others say is theirs.

use std::sync::Arc;

use super::*;
use crate::members::HOLD;

const RANGE: &str = "10.32.0.0/12";

/// A peer that owns everything, and others that it has met.
struct Robbed {
    alone: Alone,
    others: Vec<Fixture>,
}

impl Robbed {
    /// It met `others` at the start, and so long ago.
    fn new(others: u8, since: Duration) -> Self {
        let mut alone = Alone::new(RANGE);
        alone.run(|ipam, ticket, near| ipam.wait_for_ring(ticket, near));
        let mut robbed = Self { alone, others: (2..2 + others).map(Fixture::new).collect() };
        (0..robbed.others.len()).for_each(|number| robbed.meet(number));
        robbed.alone.place.now = Instant::ZERO + since;
        robbed
    }

    fn meet(&mut self, number: usize) {
        let (other, now) = (&self.others[number], self.alone.place.now);
        self.alone.place.members.note_card(&Arc::new(other.card.clone()), &other.card_record(), now);
        self.alone.place.members.set_reachable(&other.key(), now);
    }

    fn lose(&mut self, number: usize) {
        let now = self.alone.place.now;
        self.alone.place.members.set_unreachable(&self.others[number].key(), now);
    }

    fn own(&self) -> PeerKey {
        self.alone.place.fixture.key()
    }

    fn ring(&self) -> &Ring {
        self.alone.ipam.ring.as_ref().unwrap()
    }

    /// The first of the others tells what it wants of the ring, and what is to justify it.
    fn tell(&mut self, transfers: Vec<Arc<Transfer>>, succession: Option<Succession>) {
        let ring = Some(*self.ring().id());
        let news = RingNews { ring, transfers, succession: succession.map(Box::new), ..RingNews::default() };
        let from = self.others[0].key();
        self.alone.run(|ipam, _, near| ipam.handle_news(ConnectionId(1), from, &news, near));
        self.alone.place.now += Duration::from_secs(1);
        self.alone.run(|_, _, _| ());
    }

    /// It takes over everything of `dead`, with the approval of those.
    fn take_over(&mut self, dead: PeerKey, approving: &[usize]) {
        let heir = &self.others[0];
        let estate = Estate { dead, heir: heir.key(), id: 1 };
        let approve = |number: &usize| {
            let by = &self.others[*number];
            (by.key(), estate.approve(self.ring().id(), 1, &by.identity))
        };
        let approvals = approving.iter().map(approve).collect();
        let transfers = self.ring().clone().inherit(&estate, &heir.identity);
        self.tell(transfers, Some(Succession { estate, approvals }));
    }

    fn owner(&self) -> PeerKey {
        match self.ring().owner(cidr(RANGE).range().first + 9) {
            Some(Owner::Peer(owner)) => owner,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn whoever_is_there_keeps_what_it_has() {
    let mut robbed = Robbed::new(2, HOLD);
    let own = robbed.own();

    robbed.take_over(own, &[0, 1]);
    let everything = cidr(RANGE).range();
    let thief = &robbed.others[0].identity;
    for (epoch, right) in [(0, Right::Grant { from: thief.key() }), (9, Right::TakeOver { from: own, id: 2 })] {
        let version = Version { epoch, count: u32::MAX };
        let thief = &robbed.others[0].identity;
        let stolen = Transfer::sign(robbed.ring().id(), everything, version, right, thief.key(), thief);
        robbed.tell(vec![Arc::new(stolen)], None);
    }

    assert_eq!(robbed.owner(), own);
    assert_eq!(robbed.alone.allocated("a", RANGE), "10.32.0.1/12");
}

#[test]
fn whoever_was_away_hears_that_all_others_let_it_be_inherited() {
    let mut robbed = Robbed::new(3, HOLD);
    let own = robbed.own();
    (0..3).for_each(|number| robbed.lose(number));
    robbed.alone.place.now += HOLD;
    (0..3).for_each(|number| robbed.meet(number));

    robbed.take_over(own, &[]);
    assert_eq!(robbed.owner(), own, "one of them alone takes nothing");
    robbed.take_over(own, &[1]);
    assert_eq!(robbed.owner(), own);
    robbed.take_over(own, &[2]);
    assert_eq!(robbed.owner(), robbed.others[0].key(), "all others have approved");
}

#[test]
fn an_approval_that_is_not_signed_costs_the_connection() {
    let mut robbed = Robbed::new(2, HOLD);
    robbed.lose(0);
    robbed.alone.place.now += HOLD;
    robbed.meet(0);
    let (own, heir) = (robbed.own(), robbed.others[0].key());
    let estate = Estate { dead: own, heir, id: 1 };
    let forged = estate.approve(robbed.ring().id(), 1, &robbed.others[0].identity);
    let approvals = [(robbed.others[1].key(), forged)].into();
    while robbed.alone.ipam.poll_action().is_some() {}

    robbed.tell(Vec::new(), Some(Succession { estate, approvals }));

    let mut actions = std::iter::from_fn(|| robbed.alone.ipam.poll_action());
    assert!(actions.any(|action| matches!(action, Action::Breach(peer, _) if peer == heir)));
    assert_eq!(robbed.alone.ipam.successions.len(), 0);
}

#[test]
fn what_a_dead_peer_owned_goes_to_whom_everybody_approves() {
    let mut robbed = Robbed::new(4, Duration::ZERO);
    let (own, dead) = (robbed.own(), robbed.others[3].key());
    let given = cidr("10.40.0.0/16").range();
    robbed.alone.run(|ipam, _, near| ipam.grant(&[given], dead, near));
    robbed.lose(3);
    robbed.alone.place.now += HOLD;
    let owner = |robbed: &Robbed| robbed.ring().owner(given.first);

    robbed.take_over(dead, &[1, 2]);
    assert_eq!(owner(&robbed), Some(Owner::Peer(dead)), "we do not believe it dead");
    robbed.alone.run(|ipam, ticket, near| ipam.take_over(ticket, dead, near));
    robbed.tell(Vec::new(), None);
    assert_eq!(owner(&robbed), Some(Owner::Peer(robbed.others[0].key())));
    assert_eq!(robbed.owner(), own);
}

#[test]
fn a_take_over_by_one_whom_nobody_knows_keeps_no_heir_from_asking() {
    let mut robbed = Robbed::new(8, Duration::ZERO);
    let own = robbed.own();
    // We are the heir of the one before us, the last key if we are the first.
    let order = |number: &usize| (robbed.others[*number].key() < own, robbed.others[*number].key());
    let last = (0..robbed.others.len()).max_by_key(order).unwrap();
    let dead = robbed.others[last].key();
    robbed.alone.run(|ipam, _, near| ipam.grant(&[cidr("10.40.0.0/16").range()], dead, near));
    let publish = |robbed: &mut Robbed, heir: &Fixture| {
        let estate = Estate { dead, heir: heir.key(), id: 1 };
        let transfers = robbed.ring().clone().inherit(&estate, &heir.identity);
        robbed.tell(transfers, None);
    };
    publish(&mut robbed, &Fixture::new(99));
    robbed.lose(last);
    robbed.alone.place.now += HOLD;
    robbed.alone.run(|ipam, ticket, near| ipam.take_over(ticket, dead, near));
    assert!(robbed.alone.ipam.deaths.is_about(&dead));

    // A member that lies so holds it up as long as it is one.
    let liar = Fixture::new(2);
    publish(&mut robbed, &liar);
    assert!(!robbed.alone.ipam.deaths.is_about(&dead));
    robbed.lose(0);
    robbed.alone.place.now += HOLD;
    robbed.alone.run(|ipam, ticket, near| ipam.take_over(ticket, liar.key(), near));
    robbed.alone.place.now += Duration::from_secs(10);
    robbed.alone.run(|_, _, _| ());
    assert!(robbed.alone.ipam.deaths.is_about(&dead));
}

#[test]
fn hundreds_of_invented_successions_take_nobodys_place() {
    let mut robbed = Robbed::new(4, Duration::ZERO);
    let dead = robbed.others[3].key();
    robbed.lose(3);
    robbed.take_over(dead, &[1, 2]);
    let good = Estate { dead, heir: robbed.others[0].key(), id: 1 };
    for id in 2..300 {
        let estate = Estate { id, ..good };
        robbed.tell(Vec::new(), Some(Succession { estate, approvals: BTreeMap::new() }));
    }

    assert!(robbed.alone.ipam.successions.len() <= 64);
    assert_eq!(robbed.alone.ipam.successions.get(&good).map(BTreeMap::len), Some(2));
}

#[test]
fn the_fullest_news_fit_in_a_message() {
    let (by, ring) = (Fixture::new(1), [0xff; 32]);
    let version = Version { epoch: u32::MAX, count: u32::MAX };
    let (far, most) = (Range { first: u32::MAX - 9, last: u32::MAX }, u64::MAX);
    let right = Right::TakeOver { from: by.key(), id: most };
    let transfer = Arc::new(Transfer::sign(&ring, far, version, right, by.key(), &by.identity));
    let estate = Estate { dead: by.key(), heir: by.key(), id: most };
    let approval = estate.approve(&ring, most, &by.identity);
    let keys = |count: u16| {
        (0..count).map(|number| {
            let mut key = [0xff; 32];
            key[..2].copy_from_slice(&number.to_le_bytes());
            PeerKey(key)
        })
    };
    let approvals = keys(64).map(|key| (key, approval)).collect();
    let reason = Reason::Outlived { successor: by.key() };
    let certificate = Certificate::sign(&by.identity, by.card.mesh, by.key(), reason, Some((most, by.signed_card())));
    let owners = keys(256).collect();
    let news = RingNews {
        ring: Some(ring),
        first: Some(Arc::new(FirstRing::propose(cidr(RANGE).range(), owners, by.card.mesh, &by.identity))),
        transfers: vec![transfer; 128],
        certificates: vec![certificate; 32],
        succession: Some(Box::new(Succession { estate, approvals })),
        compare: Some(ring),
    };

    assert!(news.is_within_limits());
    let card_room = 32 * (crate::card::CARD_MAX_BYTES - by.signed_card().encoded_bytes());
    assert!(crate::wire::Message::RingNews(news).encoded_bytes() + card_room <= crate::wire::MESSAGE_BYTES_MAX);
}
