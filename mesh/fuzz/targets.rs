//! One function for each decoder of bytes from outside. None may panic, whatever the bytes; what decodes must survive
//! encoding and decoding again.
//!
//! The fuzzer runs them (`cargo +nightly fuzz run message`), and so does `tests/fuzz.rs` on the stable toolchain, over
//! the committed corpus, fresh samples and mutations of both.

use std::sync::Arc;

use weave_mesh::card::{Card, SignedCard};
use weave_mesh::connection::{Config, Connection, Event, Role};
use weave_mesh::connector::{Discovery, Target};
use weave_mesh::identity::{Identity, Scheme};
use weave_mesh::ipam::{self, Cidr, Note, Restored};
use weave_mesh::name::{MacAddr, MeshId, PeerName};
use weave_mesh::node::{self, Node, StoredMember};
use weave_mesh::sim::Split;
use weave_mesh::time::{Instant, UnixTime};
use weave_mesh::verifier::Verifier;
use weave_mesh::wire::Message;

type Decoder = fn(&[u8]);

/// Every target with its name, which is also that of its corpus.
pub(crate) const TARGETS: [(&str, Decoder); 9] = [
    ("message", message),
    ("card", card),
    ("member", member),
    ("note", note),
    ("ring", ring),
    ("dialler", dialler),
    ("listener", listener),
    ("records", records),
    ("text", text),
];

/// Runs one target.
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of the table");
    target(bytes);
}

/// A message after the handshake.
fn message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        let encoded = message.encode();
        assert_eq!(encoded.len(), message.encoded_bytes());
        let again = Message::decode(&encoded).expect("what was encoded decodes");
        assert_eq!(again.encode(), encoded);
    }
}

/// A signed card, as in handshakes.
fn card(bytes: &[u8]) {
    if let Ok(card) = postcard::from_bytes::<SignedCard>(bytes) {
        let _ = card.verify(Scheme::Ed25519);
        let _ = card.verify(Scheme::Simulated);
    }
}

/// A remembered peer, as in the state directory.
fn member(bytes: &[u8]) {
    let _ = StoredMember::decode(bytes, &mut Verifier::new(Scheme::Simulated, MeshId::of("weave")));
}

/// What a peer writes to another about addresses.
fn note(bytes: &[u8]) {
    let _ = Note::decode(bytes);
}

/// The ring and all that goes with it, as in the state directory; and a range as an operator writes it.
fn ring(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(cidr) = text.parse::<Cidr>() {
        assert_eq!(cidr.to_string().parse(), Ok(cidr));
        let _ = (cidr.subnet(), cidr.hosts(), cidr.range().biggest_block(bytes.len() as u64));
    }
    let restored = Restored { ring: Some(bytes.to_vec()), owned: Vec::new() };
    let restored = node::Restored { ipam: restored, ..node::Restored::default() };
    let _ = Node::new(node_config(), config(1).identity.clone(), restored, 1, Instant::ZERO, UnixTime(1));
}

/// A node that manages addresses.
fn node_config() -> node::Config {
    let config = config(1);
    let card = config.card.verify(Scheme::Simulated).expect("a card of ours");
    let range: Cidr = "10.32.0.0/12".parse().expect("a range");
    node::Config {
        mesh: config.mesh,
        discovery: Discovery::On,
        connection_limit: 0,
        listen_port: 6783,
        targets: Vec::new(),
        name: card.name,
        nickname: card.nickname,
        bridge_mac: card.bridge_mac,
        addresses: Vec::new(),
        trusted_subnets: Vec::new(),
        instance_id: String::new(),
        machine: card.machine,
        ipam: Some(ipam::Config { range, default_subnet: range, init: ipam::Init::Consensus(None) }),
    }
}

/// The stream that a dialler reads.
fn dialler(bytes: &[u8]) {
    stream(Role::Dialler, bytes);
}

/// The stream that a listener reads.
fn listener(bytes: &[u8]) {
    stream(Role::Listener, bytes);
}

fn stream(role: Role, bytes: &[u8]) {
    let mut connection = Connection::new(role, config(1), [1; 32], Instant::ZERO);
    // The first byte says how the rest is cut.
    let Some((size, rest)) = bytes.split_first() else { return };
    for chunk in rest.chunks(usize::from(*size).max(1)) {
        if connection.handle_bytes(chunk).is_err() {
            break;
        }
    }
    while connection.poll_transmit().is_some() {}
    assert!(connection.poll_event().is_none(), "no stranger becomes a peer");
}

/// The stream of an open connection: two real records with whatever came between them.
fn records(bytes: &[u8]) {
    let mut dialler = Connection::new(Role::Dialler, config(1), [1; 32], Instant::ZERO);
    let mut listener = Connection::new(Role::Listener, config(2), [2; 32], Instant::ZERO);
    for _ in 0..4 {
        carry(&mut dialler, &mut listener);
        carry(&mut listener, &mut dialler);
    }
    assert!(matches!(listener.poll_event(), Some(Event::Connected(_))));
    dialler.send(&Message::Probe).expect("the connection is open");
    carry(&mut dialler, &mut listener);
    assert!(matches!(listener.poll_event(), Some(Event::Message(Message::Probe))));
    let _ = listener.handle_bytes(bytes);
    assert!(listener.poll_event().is_none(), "nothing is delivered that was not sealed");
}

fn carry(from: &mut Connection, to: &mut Connection) {
    while let Some(bytes) = from.poll_transmit() {
        to.handle_bytes(&bytes).expect("an honest stream");
    }
}

/// What an operator types.
fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(target) = text.parse::<Target>() {
        assert_eq!(target.to_string(), text);
        let _ = target.destination(6783).to_string();
    }
    if let Ok(name) = text.parse::<PeerName>() {
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    let _ = (text.parse::<MacAddr>(), text.parse::<Split>());
}

/// What a peer brings to a connection.
pub(crate) fn config(byte: u8) -> Arc<Config> {
    let identity = Identity::from_secret_bytes(Scheme::Simulated, &[byte; 64]);
    let mesh = MeshId::of("weave");
    let name = PeerName::derived_from(&identity.key().0);
    let card = Card {
        mesh,
        key: identity.key(),
        noise_key: identity.noise_key(),
        knock: identity.knock(),
        name,
        nickname: "host".into(),
        bridge_mac: name.mac(),
        port: 6783,
        addresses: Vec::new(),
        trusted_subnets: Vec::new(),
        instance_id: String::new(),
        machine: [0; 32],
        incarnation: 1,
    };
    let card = SignedCard::sign(&card, &identity).expect("the card keeps its limits");
    Arc::new(Config { identity, card, mesh, psks: vec![[7; 32], [8; 32]] })
}
