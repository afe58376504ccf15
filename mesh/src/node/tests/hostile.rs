//! The table in docs/mesh.md, checked: whatever a member says, it changes nothing about others.
//!
//! ```text
//!   victim (a node) ──1── honest 2 ──── honest 3         honest 4 (unreachable, remembered)
//!       └──2── the liar, with invented owners of its own, old things that the honest have signed, and garbage
//! ```

mod addresses;

use proptest::prelude::*;
use rand_core::RngCore;

use super::*;
use crate::identity::Signature;
use crate::letter::Letter;
use crate::store::fixtures::{edge, endpoint};
use crate::store::{CardRecord, Delta, Part, Record, RecordKey, Tag, Version};
use crate::wire::{Ask, Buckets, COMPARED_BUCKETS, Contact, Offer, Summary, Testimony, Versions};

const HONEST: ConnectionId = ConnectionId(1);
const LIAR: u8 = 66;

struct Stage {
    node: Node,
    rng: ChaCha8Rng,
    now: Instant,
    /// The liar's connection; a new one each time that it is closed.
    line: ConnectionId,
    /// What the liar was asked for.
    asks: Vec<Ask>,
    /// Whom it speaks of: the victim first, then the honest, then the invented.
    owners: Vec<Owner>,
}

/// Everything about others that a lie could change.
#[derive(Debug, PartialEq)]
struct Truth {
    card: Card,
    own: BTreeMap<RecordKey, Record>,
    peers: Vec<(PeerKey, bool, Arc<Card>, Option<Version>)>,
    names: Vec<Option<PeerKey>>,
    macs: Vec<(MacAddr, PeerKey)>,
    estates: addresses::Estates,
    is_here: bool,
}

fn honest() -> [Owner; 3] {
    [2, 3, 4].map(Owner::new)
}

/// The same in another's name; both kinds begin with it.
fn said_by<T: serde::Serialize + serde::de::DeserializeOwned>(signed: &T, owner: &PeerKey) -> T {
    let mut bytes = postcard::to_stdvec(signed).unwrap();
    bytes[..32].copy_from_slice(&owner.0);
    postcard::from_bytes(&bytes).unwrap()
}

impl Stage {
    fn new(seed: u64) -> Self {
        let owners = [1, 2, 3, 4, LIAR, 100, 101, 102].map(Owner::new).into();
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let (line, asks) = (ConnectionId(2), Vec::new());
        let mut stage = Self { node: addresses::victim(), rng, now: START, line, asks, owners };
        let victim = stage.node.key();
        let [two, three, four] = honest();
        stage.node.set_endpoints(endpoints(1), START).unwrap();
        stage.connect(HONEST, &two);
        for (owner, records) in [
            (&two, vec![edge(&victim, Session::Direct), edge(&three.key(), Session::Direct), endpoint(2, 1)]),
            (&three, vec![edge(&two.key(), Session::Direct), endpoint(3, 1)]),
        ] {
            stage.publish(HONEST, &owner.set(5, records));
        }
        // It was here, and has gone.
        stage.connect(ConnectionId(3), &four);
        let leaf = [edge(&victim, Session::Direct), endpoint(4, 1)];
        stage.publish(ConnectionId(3), &four.set(5, leaf));
        stage.grant(HONEST, &two);
        stage.grant(HONEST, &three);
        stage.grant(ConnectionId(3), &four);
        stage.pass(std::time::Duration::from_secs(1));
        stage.node.handle_closed(ConnectionId(3), CloseReason::Transport("gone".into()), START);
        stage.connect(stage.line, &Owner::new(LIAR));
        stage.publish(stage.line, &Owner::new(LIAR).set(1, [edge(&victim, Session::Direct)]));
        stage.pass(std::time::Duration::from_secs(1));
        stage
    }

    fn connect(&mut self, id: ConnectionId, owner: &Owner) {
        let link = Link { dial: None, remote: ([10, 0, 0, 9], 6783).into(), card: owner.signed_card(), uid: id.0 };
        self.node.handle_connected(id, link, self.now);
        self.say(id, Message::Open(Summary([0; 16])));
    }

    /// Over the wire, so that nothing is taken from the sender's memory.
    fn say(&mut self, id: ConnectionId, message: Message) {
        if let Ok(message) = Message::decode(&message.encode()) {
            self.node.handle_message(id, message, self.now);
            self.drain();
        }
    }

    fn publish(&mut self, id: ConnectionId, set: &Arc<Set>) {
        let offer = Offer { owner: Tag::from(&set.owner()), version: set.version() };
        self.say(id, Message::Offers(vec![offer]));
        for part in Part::split(set, CardRecord::Include) {
            self.say(id, Message::Part(Arc::new(part)));
        }
    }

    /// Looks at what the node puts out, for the liar.
    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Send { connection, message: Message::Asks(asks) } if connection == self.line => {
                    self.asks.extend(asks);
                }
                Output::AwaitRoom { connection } => self.node.handle_room(connection, self.now),
                _ => {}
            }
        }
        self.asks.truncate(64);
    }

    fn pass(&mut self, time: std::time::Duration) {
        let until = self.now + time;
        while let Some(next) = self.node.poll_timeout().filter(|next| *next <= until) {
            self.now = next.max(self.now);
            self.node.handle_timeout(self.now);
            self.say(HONEST, Message::Probe);
        }
        self.now = until;
    }

    fn truth(&self) -> Truth {
        let view = self.node.view();
        let honest = honest().map(|owner| (owner.key(), owner.card.name));
        let peer = |key: &PeerKey| {
            let peer = &view.peers[key];
            let version = peer.set.as_ref().map(|set| set.version());
            (*key, peer.standing.is_reachable(), Arc::clone(&peer.card), version)
        };
        let liar = Owner::new(LIAR).key();
        let own = view.own.records().filter(|record| record.key() != RecordKey::Edge(liar));
        let names = honest.iter().map(|(_, name)| self.node.members.holder(*name));
        let is_honest = |owner: &PeerKey| *owner == view.card.key || honest.iter().any(|(key, _)| key == owner);
        Truth {
            card: view.card.clone(),
            own: own.map(|record| (record.key(), record.clone())).collect(),
            peers: honest.iter().map(|(key, _)| peer(key)).collect(),
            names: names.collect(),
            macs: view
                .claims
                .macs
                .iter()
                .filter(|(_, owner)| is_honest(owner))
                .map(|(mac, key)| (*mac, *key))
                .collect(),
            estates: self.estates(),
            is_here: self.node.poll_timeout().is_some() && self.node.links.get(HONEST).is_some(),
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.rng.next_u32() as usize % limit
    }

    fn any_owner(&mut self) -> usize {
        self.below(self.owners.len())
    }

    fn number(&mut self) -> u64 {
        [0, 1, 4, 5, 6, 1_000, 2_000, u64::MAX, self.rng.next_u64()][self.below(9)]
    }

    fn version(&mut self) -> Version {
        Version { incarnation: self.number(), counter: self.number() }
    }

    fn offer(&mut self) -> Offer {
        let owner = self.any_owner();
        Offer { owner: Tag::from(&self.owners[owner].key()), version: self.version() }
    }

    fn offers(&mut self) -> Vec<Offer> {
        (0..self.below(6)).map(|_| self.offer()).collect()
    }

    /// A record that somebody could put into a set: of an address of the liar's own, or an edge to anybody.
    fn record(&mut self) -> Record {
        let owner = self.any_owner();
        match self.below(4) {
            0 => edge(&self.owners[owner].key(), Session::Direct),
            1 => self.owners[owner].card_record(),
            _ => endpoint(10_000 + u64::from(self.rng.next_u32() % 100), 1),
        }
    }

    fn signature(&mut self) -> Signature {
        let mut signature = [0; 64];
        self.rng.fill_bytes(&mut signature);
        Signature(signature)
    }

    /// A set of the liar's or an invented owner's, soundly signed.
    fn own_set(&mut self) -> Arc<Set> {
        let number = [LIAR, 100, 101, 102][self.below(4)];
        let mut owner = Owner::new(number);
        owner.card.incarnation = 1 + self.number() % 1_000;
        let victim = self.owners[0].key();
        let records = (0..self.below(5)).map(|_| self.record()).filter(|record| record.key() != RecordKey::Card);
        let mut records: Vec<Record> = records.collect();
        if number == LIAR {
            records.push(edge(&victim, Session::Direct));
        }
        owner.set(1 + self.number() % 1_000_000, records)
    }

    fn parts(&mut self) -> Vec<Part> {
        let mut parts = match self.below(3) {
            // What the honest said long ago.
            0 => {
                let (owner, counter) = (self.below(4), 1 + self.number() % 4);
                Part::split(&self.owners[owner].set(counter, [endpoint(1, 1)]), CardRecord::Include)
            }
            _ => Part::split(&self.own_set(), CardRecord::Include),
        };
        for part in &mut parts {
            match self.below(6) {
                0 => part.version = self.version(),
                1 => {
                    let owner = self.any_owner();
                    part.owner = self.owners[owner].key();
                }
                2 => part.records.push(self.record()),
                3 => part.signature = self.signature(),
                _ => {}
            }
        }
        parts
    }

    fn delta(&mut self) -> Delta {
        let owner = self.any_owner();
        let owner = &self.owners[owner];
        let mut delta = Delta::between(&owner.set(5, []), &owner.set(6, [endpoint(10_000, 1)]));
        delta.signature = self.signature();
        delta.put = (0..self.below(4)).map(|_| self.record()).collect();
        delta.removed = vec![RecordKey::Card, RecordKey::Edge(self.owners[0].key())];
        delta.removed.truncate(self.below(3));
        delta
    }

    fn refusal(&mut self) -> Refusal {
        let owner = self.any_owner();
        let (key, card) = (self.owners[owner].key(), self.owners[owner].signed_card());
        let name = self.owners[owner].card.name;
        match self.below(9) {
            0 => Refusal::Itself,
            1 => Refusal::NameCollision { name, holder: key, newcomer: self.owners[0].key() },
            2 => Refusal::Duplicate,
            3 => Refusal::Referral { contacts: vec![Contact { key, addresses: vec![([10, 9, 9, 9], 1).into()] }] },
            4 => Refusal::ConnectionLimit,
            5 => Refusal::Surplus,
            6 => Refusal::DuplicateIdentity { key },
            7 => Refusal::Outlived { proof: Testimony::Card(card) },
            _ => Refusal::Outlived { proof: Testimony::Goodbye(self.goodbye()) },
        }
    }

    /// Signed by the liar, whoever it is said to come from.
    fn goodbye(&mut self) -> Goodbye {
        let (owner, incarnation) = (self.any_owner(), self.number());
        let liar = Owner::new([100, 101, 102][self.below(3)]);
        let signed = Goodbye::sign(&liar.identity, liar.card.mesh, incarnation);
        if self.below(2) == 0 { said_by(&signed, &self.owners[owner].key()) } else { signed }
    }

    fn letter(&mut self) -> Letter {
        let (from, to) = (self.any_owner(), self.any_owner());
        let liar = Owner::new(LIAR);
        let body = (0..self.below(40)).map(|_| self.rng.next_u32() as u8).collect();
        let letter = Letter::sign(&liar.identity, liar.card.mesh, self.owners[to].key(), body);
        if self.below(2) == 0 { letter } else { said_by(&letter, &self.owners[from].key()) }
    }

    /// Every kind of message, one more likely to be believed first.
    fn lies(&mut self) -> Vec<Message> {
        let one = match self.below(18) {
            0 => return self.parts().into_iter().map(|part| Message::Part(Arc::new(part))).collect(),
            1 => {
                let set = self.own_set();
                let offer = Offer { owner: Tag::from(&set.owner()), version: set.version() };
                let parts = Part::split(&set, CardRecord::Include).into_iter();
                let parts = parts.map(|part| Message::Part(Arc::new(part)));
                return std::iter::once(Message::Offers(vec![offer])).chain(parts).collect();
            }
            2 => Message::Offers(self.offers()),
            3 => Message::Asks(
                self.offers()
                    .into_iter()
                    .map(|Offer { owner, version }| Ask { owner, base: Some(version), card: None })
                    .collect(),
            ),
            4 => Message::Delta(Arc::new(self.delta())),
            5 => Message::Summary(Summary([self.rng.next_u32() as u8; 16])),
            6 => Message::Buckets(Buckets(vec![[self.rng.next_u32() as u8; 8]; COMPARED_BUCKETS])),
            7 => Message::Versions(Versions { buckets: self.rng.next_u64(), offers: self.offers() }),
            8 => Message::Refusal(self.refusal()),
            9 => Message::Goodbye(self.goodbye()),
            10 => Message::Letter(self.letter()),
            11 => Message::Open(Summary([0; 16])),
            12 => Message::Probe,
            13..=16 => return self.lies_about_addresses(),
            _ => return self.mutated(),
        };
        vec![one]
    }

    /// Bits of a true message turned over, where it still decodes.
    fn mutated(&mut self) -> Vec<Message> {
        let set = self.own_set();
        let part = Part::split(&set, CardRecord::Include).remove(0);
        let mut bytes = Message::Part(Arc::new(part)).encode();
        let at = self.below(bytes.len());
        bytes[at] ^= 1 << self.below(8);
        Message::decode(&bytes).into_iter().collect()
    }

    /// An answer to what was asked, as wrong as the rest.
    fn answer(&mut self) -> Vec<Message> {
        let Some(ask) = self.asks.pop() else { return Vec::new() };
        let Some(owner) = self.owners.iter().find(|owner| Tag::from(&owner.key()) == ask.owner).map(Owner::key) else {
            return Vec::new();
        };
        if self.below(3) == 0 {
            let mut delta = self.delta();
            delta.owner = ask.owner;
            return vec![Message::Delta(Arc::new(delta))];
        }
        let mut part = self.parts().remove(0);
        if self.below(2) == 0 {
            part.owner = owner;
        }
        vec![Message::Part(Arc::new(part))]
    }

    fn step(&mut self) {
        if self.node.links.get(self.line).is_none() {
            self.line = ConnectionId(self.line.0.max(9) + 1);
            self.asks.clear();
            self.connect(self.line, &Owner::new(LIAR));
        }
        let lies = if self.below(3) == 0 { self.answer() } else { self.lies() };
        for lie in lies {
            self.say(self.line, lie);
        }
        if self.below(8) == 0 {
            let time = std::time::Duration::from_millis(u64::from(self.rng.next_u32() % 1_500));
            self.pass(time);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_a_member_says_changes_nothing_about_others(seed in any::<u64>()) {
        let mut stage = Stage::new(seed);
        let truth = stage.truth();
        prop_assert_eq!(truth.peers.iter().map(|(_, is_reachable, ..)| *is_reachable).collect::<Vec<_>>(), [true, true, false]);
        prop_assert_eq!(truth.macs.len(), 4);
        prop_assert_eq!(truth.estates.owners(), 4, "each has something to lose");
        for _ in 0..120 {
            stage.step();
            prop_assert_eq!(&stage.truth(), &truth);
        }
    }
}

/// Keys that come one after the other, each with as much as a set may have.
#[test]
fn those_who_have_gone_share_one_room() {
    let mut stage = Stage::new(1);
    let victim = stage.node.key();
    for number in 110..120 {
        let owner = Owner::new(number);
        let line = ConnectionId(number.into());
        stage.connect(line, &owner);
        let records = (0..1_100).map(|id| endpoint(id, 16)).chain([edge(&victim, Session::Direct)]);
        stage.publish(line, &owner.set(1, records));
        stage.pass(std::time::Duration::from_secs(1));
        stage.node.handle_closed(line, CloseReason::Transport("gone".into()), stage.now);
    }
    stage.pass(std::time::Duration::from_secs(60));

    let held = |number: u8| stage.node.store.get(&Owner::new(number).key()).map(|set| set.memory());
    let held: Vec<usize> = (110..120).filter_map(held).collect();
    assert!(held.iter().sum::<usize>() <= 32 << 20 && !held.is_empty(), "{held:?}");
}
