//! Peers and sets for the tests of the modules around the store.

use std::sync::Arc;

use super::{Content, Direction, Draft, Edge, Endpoint, EndpointId, Record, Session, Set, Version};
use crate::card::{Card, SignedCard};
use crate::identity::{Identity, PeerKey, Scheme};
use crate::name::{MacAddr, MeshId, PeerName};
use crate::verifier::Verifier;

/// A peer that signs whatever a test wants.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) identity: Identity,
    pub(crate) card: Card,
}

pub(crate) fn verifier() -> Verifier {
    Verifier::new(Scheme::Simulated, MeshId::of("test"))
}

impl Owner {
    pub(crate) fn new(number: u8) -> Self {
        let identity = Identity::from_secret_bytes(Scheme::Simulated, &[number; 64]);
        let card = Card {
            mesh: MeshId::of("test"),
            key: identity.key(),
            noise_key: identity.noise_key(),
            knock: identity.knock(),
            name: PeerName::derived_from(&identity.key().0),
            nickname: format!("host-{number}"),
            bridge_mac: MacAddr([2, 0, 0, 0, 0, number]),
            port: 6783,
            addresses: vec![([10, 0, 0, number], 6783).into()],
            trusted_subnets: Vec::new(),
            instance_id: String::new(),
            machine: [number; 32],
            incarnation: 1,
        };
        Self { identity, card }
    }

    pub(crate) fn key(&self) -> PeerKey {
        self.card.key
    }

    pub(crate) fn signed_card(&self) -> SignedCard {
        SignedCard::sign(&self.card, &self.identity).unwrap()
    }

    pub(crate) fn card_record(&self) -> Record {
        Record::new(Content::Card(self.signed_card()))
    }

    /// Version `counter` of its set: the card and `records`.
    pub(crate) fn set(&self, counter: u64, records: impl IntoIterator<Item = Record>) -> Arc<Set> {
        let mut draft = Draft::new(self.key());
        draft.put(self.card_record()).unwrap();
        records.into_iter().for_each(|record| draft.put(record).unwrap());
        let version = Version { incarnation: self.card.incarnation, counter };
        Arc::new(draft.sign(version, &self.identity, &mut verifier()).unwrap())
    }
}

pub(crate) fn edge(peer: &PeerKey, session: Session) -> Record {
    let remote = ([10, 0, 0, peer.0[0]], 6783).into();
    Record::new(Content::Edge(Edge { peer: *peer, remote, direction: Direction::Outbound, session }))
}

pub(crate) fn endpoint(id: u64, names: usize) -> Record {
    let [.., a, b] = id.to_be_bytes();
    let endpoint = Endpoint {
        mac: MacAddr([0x0a, 0, 0, 0, a, b]),
        addresses: Vec::new(),
        container: "c".into(),
        names: vec!["name".into(); names],
        attached: id,
    };
    Record::new(Content::Endpoint(EndpointId(id), endpoint))
}
