//! One function for each decoder of bytes from outside. None may panic, whatever the bytes; what decodes must survive
//! encoding and decoding again.
//!
//! The fuzzer runs them (`cargo +nightly fuzz run packet`), and so does `tests/fuzz.rs` on the stable toolchain, over
//! samples and mutations of them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use weave_datapath::batch::{DatagramBatch, FrameBatch, Outbox};
use weave_datapath::engine::{Config, Engine};
use weave_datapath::ethernet::{Arp, Ethernet, Ipv4, Ipv6};
use weave_datapath::heartbeat::Heartbeat;
use weave_datapath::offload::coalesce::{Deliveries, Merge};
use weave_datapath::offload::segment::{Outgoing, Shape};
use weave_datapath::offload::vnet::Header;
use weave_datapath::oversize::{fragment, remedy, too_big};
use weave_datapath::sleeve::cookie::ResponderKeys;
use weave_datapath::sleeve::handshake::{Asked, Initiator, Local as Hands};
use weave_datapath::sleeve::packet::{Index, Packet, Payload, decode, encode_cookie, encode_initiation};
use weave_datapath::sleeve::relay::Envelope;
use weave_datapath::sleeve::seal::Cipher;
use weave_datapath::sleeve::session::{OVERHEAD_BYTES, REKEY_AFTER, Role, Session};
use weave_datapath::tables::{Carrier, FastPath, Local, PeerEntry, Standing, Tables};
use weave_mesh::card::{Card, SignedCard};
use weave_mesh::identity::{Identity, Scheme};
use weave_mesh::name::{MacAddr, MeshId, PeerName};
use weave_mesh::time::{Instant, UnixTime};

type Decoder = fn(&[u8]);

/// Every target with its name.
pub(crate) const TARGETS: [(&str, Decoder); 9] = [
    ("packet", packet),
    ("envelope", envelope),
    ("heartbeat", heartbeat),
    ("ethernet", ethernet),
    ("offload", offload),
    ("initiation", initiation),
    ("response", response),
    ("datagram", datagram),
    ("member", member),
];

/// Runs one target.
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of the table");
    target(bytes);
}

/// The outside of a sleeve datagram.
fn packet(bytes: &[u8]) {
    match decode(bytes) {
        Ok(Packet::Data(header)) => assert_eq!(header.encode(), bytes[..16]),
        Ok(Packet::Cookie { receiver, nonce, sealed }) => {
            assert_eq!(encode_cookie(receiver, nonce, sealed), bytes);
        }
        Ok(Packet::Initiation { macs, .. } | Packet::Response { macs, .. }) => {
            assert_eq!(macs.before_mac2.len() + macs.mac2.len(), bytes.len());
        }
        Err(_) => {}
    }
}

/// What a relay opens.
fn envelope(bytes: &[u8]) {
    let mut payload = bytes.to_vec();
    if let Ok((envelope, packet)) = Envelope::decode(&mut payload) {
        assert_eq!([&envelope.encode()[..], packet].concat(), bytes);
    }
}

/// A frame from the bridge's packet socket.
fn heartbeat(bytes: &[u8]) {
    let _ = Heartbeat::is_authentic(&[1; 32], bytes);
    if let Ok(heartbeat) = Heartbeat::decode(bytes) {
        let mut again = vec![0; bytes.len()];
        heartbeat.encode(&[1; 32], &mut again);
        assert_eq!(Heartbeat::decode(&again), Ok(heartbeat));
    }
}

/// A frame from a container or another host, the packets in it, and what is made of them when they are too long.
fn ethernet(bytes: &[u8]) {
    let limit = bytes.len() / 2 + 30;
    let _ = (remedy(bytes), too_big(bytes, limit));
    let _ = fragment(bytes, limit, 1, |piece| assert!(piece.len() <= limit));
    let payload = Ethernet::parse(bytes).map_or(bytes, |frame| frame.payload);
    let _ = (Arp::parse(payload), Ipv4::parse(payload), Ipv6::parse(payload));
}

/// A header of the TAP and the frame behind it; what it is cut to, as frames of another host.
fn offload(bytes: &[u8]) {
    let Some((header, frame)) = bytes.split_first_chunk() else { return };
    let (mut batch, mut deliveries) = ([frame, frame].concat(), Deliveries::default());
    deliveries.set_merge(Merge::TcpAndUdp);
    let has_sum = deliveries.push_unsummed(0, frame) && deliveries.push_unsummed(frame.len(), frame);
    if let Ok(Outgoing { shape: Shape::Super(cut), .. }) = Outgoing::parse(Header::decode(*header), frame) {
        for segment in cut.segments(frame, 700) {
            let at = batch.len();
            batch.resize(at + segment.bytes(), 0);
            segment.write(&mut batch[at..]);
            assert!(
                has_sum && deliveries.push_unsummed(at, &batch[at..]),
                "a segment has the headers of its super-frame"
            );
        }
    }
    deliveries.finish(&mut batch);
    let bytes: usize = deliveries.iter(&batch).flat_map(|delivery| delivery.pieces()).map(<[u8]>::len).sum();
    assert!(bytes <= batch.len());
}

/// The Noise part of a first message.
fn initiation(bytes: &[u8]) {
    let host = Host::new(1);
    if let Ok(asked) = Asked::read(host.hands(), bytes, &mut ChaCha20Rng::from_seed([1; 32])) {
        let _ = asked.card.verify(Scheme::Simulated);
        let _ = asked.answer(host.hands(), &[0; 32]);
    }
}

/// The Noise part of an answer.
fn response(bytes: &[u8]) {
    let (asking, asked) = (Host::new(1), Host::new(2));
    let rng = &mut ChaCha20Rng::from_seed([1; 32]);
    let started = Initiator::start(asking.hands(), &asked.identity.noise_key(), 1, rng);
    let (mut initiator, _) = started.expect("a small card");
    let _ = initiator.finish(&[[0; 32], [1; 32]], bytes);
}

/// A datagram from a stranger, and the same as a container's frame and as a heartbeat.
fn datagram(bytes: &[u8]) {
    with_pair(|pair| pair.hand_over(bytes));
}

/// Anything that a member may seal: first octet the kind of payload, then the payload.
fn member(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first().filter(|_| bytes.len() < 60_000) else { return };
    with_pair(|pair| {
        let kind = PAYLOADS[usize::from(*kind) % PAYLOADS.len()];
        let mut packet = vec![0; OVERHEAD_BYTES + payload.len()];
        packet[16..16 + payload.len()].copy_from_slice(payload);
        pair.session.seal(kind, &mut packet);
        pair.hand_over(&packet);
        assert!(kind != Payload::Probe || payload.len() != 8 || !pair.out.is_empty(), "a probe is answered");
    });
}

const PAYLOADS: [Payload; 9] = [
    Payload::Frame,
    Payload::Envelope,
    Payload::Probe,
    Payload::Answer,
    Payload::SizeProbe,
    Payload::SizeAnswer,
    Payload::Canary,
    Payload::Report,
    Payload::UnsummedFrame,
];

/// A peer's keys and card.
pub(crate) struct Host {
    identity: Identity,
    card: SignedCard,
}

impl Host {
    pub(crate) fn new(byte: u8) -> Self {
        let identity = Identity::from_secret_bytes(Scheme::Simulated, &[byte; 64]);
        let card = Card {
            mesh: MeshId::of("weave"),
            key: identity.key(),
            noise_key: identity.noise_key(),
            knock: identity.knock(),
            name: PeerName([2, 0, 0, 0, 0, byte]),
            nickname: "host".to_owned(),
            bridge_mac: MacAddr([2, 0, 0, 0, 0, byte]),
            port: 6783,
            addresses: Vec::new(),
            trusted_subnets: Vec::new(),
            instance_id: String::new(),
            machine: [byte; 32],
            incarnation: 1,
        };
        Self { card: SignedCard::sign(&card, &identity).expect("a small card"), identity }
    }

    pub(crate) fn hands(&self) -> Hands<'_> {
        Hands { identity: &self.identity, card: &self.card, ciphers: &[Cipher::Aes256Gcm] }
    }

    /// A whole first message to another host.
    pub(crate) fn initiation(&self, to: &Self) -> (Initiator, Vec<u8>) {
        let (noise_key, rng) = (to.identity.noise_key(), &mut ChaCha20Rng::from_seed([2; 32]));
        let (initiator, noise) = Initiator::start(self.hands(), &noise_key, 1, rng).expect("a small card");
        let mut message = encode_initiation(Index(7), &noise);
        ResponderKeys::of(&noise_key, &to.identity.knock()).append_macs(&mut message, None);
        (initiator, message)
    }

    fn entry(&self, byte: u8) -> PeerEntry {
        PeerEntry {
            name: PeerName([2, 0, 0, 0, 0, byte]),
            noise_key: self.identity.noise_key(),
            knock: self.identity.knock(),
            incarnation: 1,
            addresses: vec![REMOTE],
            bridge_mac: MacAddr([2, 0, 0, 0, 0, byte]),
            relays: Vec::new(),
            standing: Standing::Neighbour,
            applied: Carrier::Sleeve,
            fast: FastPath::Allowed(REMOTE),
        }
    }
}

const REMOTE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 6783);

/// An engine, and the other end of its one session, which is ours to misuse.
struct Pair {
    engine: Engine,
    session: Session,
    now: Instant,
    out: Outbox,
}

impl Pair {
    fn new() -> Self {
        let (own, other) = (Host::new(1), Host::new(2));
        let tables = Tables {
            local: Local {
                key: own.identity.key(),
                card: own.card.clone(),
                bridge_mac: MacAddr([2, 0, 0, 0, 0, 1]),
                macs: [MacAddr([2, 0, 0, 0, 1, 1])].into(),
                addresses: Vec::new(),
            },
            peers: [(other.identity.key(), other.entry(2))].into(),
            macs: [(MacAddr([2, 0, 0, 0, 1, 2]), other.identity.key())].into(),
        };
        let config = Config {
            identity: own.identity.clone(),
            mesh: MeshId::of("weave"),
            psks: Vec::new(),
            ciphers: vec![Cipher::Aes256Gcm],
            mtu: 1_376,
            rekey_after: REKEY_AFTER,
            timestamp_floor: 0,
        };
        let now = Instant::ZERO;
        let mut engine = Engine::new(config, Arc::new(tables), [3; 32], now, UnixTime(1));
        let (mut initiator, message) = other.initiation(&own);
        let mut out = Outbox::new();
        engine.handle_datagrams(&mut batch(&message), now, &mut out);
        let response = out.trains().flat_map(|train| train.datagrams()).next().expect("an answer").to_vec();
        let Ok(Packet::Response { sender, noise, .. }) = decode(&response) else { panic!("no response") };
        let agreement = initiator.finish(&[[0; 32]], noise).expect("genuine");
        Self { engine, session: Session::new(&agreement, Role::Initiator, Index(7), sender, now), now, out }
    }

    fn hand_over(&mut self, bytes: &[u8]) {
        self.out.clear();
        self.engine.handle_datagrams(&mut batch(bytes), self.now, &mut self.out);
        self.engine.handle_heartbeat(bytes, self.now, &mut self.out);
        let mut frames = FrameBatch::new(1, bytes.len().max(1));
        if let Some(room) = frames.room() {
            room[..bytes.len()].copy_from_slice(bytes);
        }
        frames.push(bytes.len());
        self.engine.handle_frames(&frames, self.now, &mut self.out);
        while self.engine.poll_event().is_some() {}
    }
}

fn batch(bytes: &[u8]) -> DatagramBatch {
    let mut batch = DatagramBatch::new(1, bytes.len().max(1));
    if let Some(room) = batch.room() {
        room[..bytes.len()].copy_from_slice(bytes);
    }
    batch.push(bytes.len(), bytes.len(), REMOTE);
    batch
}

/// Agreeing on keys takes longer than most inputs, so the pair serves many.
fn with_pair(act: impl FnOnce(&mut Pair)) {
    thread_local!(static PAIR: RefCell<Option<Pair>> = const { RefCell::new(None) });
    PAIR.with_borrow_mut(|pair| act(pair.get_or_insert_with(Pair::new)));
}
