//! What the liar says about addresses, and what it must not change by it.

use super::*;
use crate::ipam::lies::Lies;
use crate::ipam::{Cidr, Init, Note, Owner as Holder, Range, Ticket};
use crate::node::tests::addressing::managing;

const RANGE: &str = "10.32.0.0/24";

/// Who owns and holds which addresses; of what is free the owner may give to whom it likes, liars too.
#[derive(Debug, PartialEq)]
pub(super) struct Estates {
    /// What the honest own, and what the victim's containers hold.
    owners: BTreeMap<u32, Option<Holder>>,
    held: BTreeMap<String, Vec<Cidr>>,
    ring: Option<Hash>,
}

impl Estates {
    /// How many own something here.
    pub(super) fn owners(&self) -> usize {
        self.owners.values().collect::<BTreeSet<_>>().len()
    }
}

fn range() -> Range {
    RANGE.parse::<Cidr>().unwrap().range()
}

/// The victim makes the ring, and a container of its own has an address.
pub(super) fn victim() -> Node {
    let mut victim = managing(1, RANGE, Init::Consensus(Some(1)));
    victim.allocate(Ticket(1), "held", RANGE.parse().unwrap(), START);
    victim
}

impl Stage {
    /// An honest member gets a part of what is free.
    pub(super) fn grant(&mut self, connection: ConnectionId, to: &Owner) {
        let request = Note::Request { id: 1, window: range() };
        let letter = Letter::sign(&to.identity, to.card.mesh, self.node.key(), request.encode());
        self.say(connection, Message::Letter(letter));
    }

    pub(super) fn estates(&self) -> Estates {
        let ipam = self.node.ipam.as_ref().unwrap();
        let held = ipam.held();
        let is_held = |address: u32| held.values().flatten().any(|held| u32::from(held.address()) == address);
        let honest: Vec<Holder> = honest().map(|owner| Holder::Peer(owner.key())).into();
        let of_honest = |address: &u32| honest.iter().any(|owner| ipam.owner(*address) == Some(*owner));
        let addresses = (range().first..=range().last).filter(|address| is_held(*address) || of_honest(address));
        let owners = addresses.map(|address| (address, ipam.owner(address))).collect();
        Estates { owners, ring: self.node.ring(), held }
    }

    fn about_addresses<T>(&mut self, say: impl FnOnce(&mut Lies<'_>) -> T) -> T {
        let heard = self.node.ipam.as_ref().unwrap().history();
        let ring = self.node.ring().unwrap();
        let keys = [LIAR, 100, 101, 102].map(Owner::new);
        say(&mut Lies { rng: &mut self.rng, ring, range: range(), owners: &self.owners, keys: &keys, heard: &heard })
    }

    pub(super) fn lies_about_addresses(&mut self) -> Vec<Message> {
        let message = match self.below(5) {
            0 => Message::RingState(self.about_addresses(|lies| lies.state())),
            1 | 2 => Message::RingNews(self.about_addresses(|lies| lies.news())),
            _ => {
                let note = self.about_addresses(|lies| lies.note());
                Message::Letter(self.signed_letter(note.encode()))
            }
        };
        vec![message]
    }

    /// To the victim, of one of the liar's keys, or in another's name.
    fn signed_letter(&mut self, body: Vec<u8>) -> Letter {
        let (from, key) = (self.any_owner(), [LIAR, LIAR, 100, 101][self.below(4)]);
        let key = Owner::new(key);
        let letter = Letter::sign(&key.identity, key.card.mesh, self.node.key(), body);
        if self.below(4) == 0 { said_by(&letter, &self.owners[from].key()) } else { letter }
    }
}
