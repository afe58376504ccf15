//! Engines on a simulated underlay, under a virtual clock.
//!
//! ```text
//!   host A ─ Engine ─┐                        ┌─ Engine ─ host B        underlay: 10.0.0.1, 10.0.0.2, …
//!                    ├── Wire: latency, loss ─┤                         a datagram and a heartbeat travel alike,
//!                    └── blocked pairs ───────┴─ Engine ─ host C        but each can be blocked alone
//! ```
//!
//! Faults are data: set a field of [`Wire`], run, look.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use weave_datapath::batch::{DatagramBatch, FrameBatch, Outbox, SendMode};
use weave_datapath::drops::Drop;
use weave_datapath::engine::{Config, Engine, Event, PathStatus, Via};
use weave_datapath::offload::coalesce::Delivery;
use weave_datapath::sleeve::seal::Cipher;
use weave_datapath::sleeve::session::REKEY_AFTER;
use weave_datapath::tables::{Carrier, FastPath, Local, PeerEntry, Standing, Tables, Why};
use weave_mesh::card::{Card, SignedCard};
use weave_mesh::identity::{Identity, PeerKey, Scheme};
use weave_mesh::name::{MacAddr, MeshId, PeerName};
use weave_mesh::noise::Psk;
use weave_mesh::time::{Instant, UnixTime};

pub(crate) const MTU: u16 = 1_376;
const WALL: u64 = 1_770_000_000_000_000;

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;
pub(crate) const C: usize = 2;

/// What happens to packets between hosts.
pub(crate) struct Wire {
    pub(crate) latency: Duration,
    /// Up to this much more, so that packets overtake each other.
    pub(crate) jitter: Duration,
    pub(crate) loss_percent: u32,
    pub(crate) duplicate_percent: u32,
    /// Sleeve datagrams from the first to the second host are lost.
    pub(crate) blocked: BTreeSet<(usize, usize)>,
    /// Longer datagrams from the first to the second host are lost without a word.
    pub(crate) capacity: BTreeMap<(usize, usize), usize>,
    /// Trains of several that leave as one segmented send from the first to the second host are lost.
    pub(crate) segmented_blocked: BTreeSet<(usize, usize)>,
    /// The same for the fast path.
    pub(crate) fast_blocked: BTreeSet<(usize, usize)>,
}

pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) psks: Vec<Psk>,
    /// Of the overlay, from the next start on.
    pub(crate) mtu: u16,
    pub(crate) events: Vec<(Instant, Event)>,
    /// Frames that came out for the bridge.
    pub(crate) delivered: Vec<Vec<u8>>,
    pub(crate) tables: Tables,
    identity: Identity,
    incarnation: u64,
    timestamp_floor: u64,
}

enum Parcel {
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Heartbeat { to: usize, frame: Vec<u8> },
}

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) wire: Wire,
    pub(crate) hosts: Vec<Host>,
    /// Every datagram that a host sent, with the sender.
    pub(crate) capture: Vec<(usize, Vec<u8>)>,
    /// Trains of several datagrams that left in one call.
    pub(crate) segmented_sends: u64,
    /// Every heartbeat, likewise.
    pub(crate) heartbeats: Vec<(usize, Vec<u8>)>,
    underway: BTreeMap<(Instant, u64), Parcel>,
    sequence: u64,
    rng: ChaCha20Rng,
    out: Outbox,
}

impl Wire {
    fn carries(&self, from: usize, to: usize, bytes: usize) -> bool {
        let fits = self.capacity.get(&(from, to)).is_none_or(|capacity| bytes <= *capacity);
        fits && !self.blocked.contains(&(from, to))
    }
}

pub(crate) fn bridge_mac(host: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, host as u8])
}

pub(crate) fn container_mac(host: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, host as u8])
}

/// An Ethernet frame with a text in it.
pub(crate) fn frame(source: MacAddr, destination: MacAddr, text: &str) -> Vec<u8> {
    [&destination.0[..], &source.0, &[0x08, 0x00], text.as_bytes()].concat()
}

fn identity(host: usize) -> Identity {
    Identity::from_secret_bytes(Scheme::Ed25519, &[host as u8 + 1; 64])
}

fn card(identity: &Identity, host: usize, incarnation: u64) -> SignedCard {
    let card = Card {
        mesh: MeshId::of("weave"),
        key: identity.key(),
        noise_key: identity.noise_key(),
        knock: identity.knock(),
        name: PeerName(bridge_mac(host).0),
        nickname: format!("host{host}"),
        bridge_mac: bridge_mac(host),
        port: 6783,
        addresses: vec![underlay(host)],
        trusted_subnets: Vec::new(),
        instance_id: String::new(),
        machine: [host as u8; 32],
        incarnation,
    };
    SignedCard::sign(&card, identity).expect("a small card")
}

pub(crate) fn underlay(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8 + 1], 6783))
}

pub(crate) fn key(host: usize) -> PeerKey {
    identity(host).key()
}

fn tables(host: usize, hosts: usize) -> Tables {
    let own = identity(host);
    let others: Vec<usize> = (0..hosts).filter(|other| *other != host).collect();
    let entry = |other: usize| PeerEntry {
        name: PeerName(bridge_mac(other).0),
        noise_key: identity(other).noise_key(),
        knock: identity(other).knock(),
        incarnation: 1,
        addresses: vec![underlay(other)],
        bridge_mac: bridge_mac(other),
        relays: Vec::new(),
        standing: Standing::Neighbour,
        applied: Carrier::Sleeve,
        fast: FastPath::Allowed(underlay(other)),
    };
    let macs = |other: usize| [(bridge_mac(other), key(other)), (container_mac(other), key(other))];
    Tables {
        local: Local {
            key: own.key(),
            card: card(&own, host, 1),
            bridge_mac: bridge_mac(host),
            macs: [bridge_mac(host), container_mac(host)].into(),
            addresses: vec![underlay(host).ip()],
        },
        peers: others.iter().map(|&other| (key(other), entry(other))).collect(),
        macs: others.iter().flat_map(|&other| macs(other)).collect(),
    }
}

impl Host {
    fn new(host: usize, hosts: usize, now: Instant) -> Self {
        let (identity, tables, psks) = (identity(host), tables(host, hosts), vec![[7; 32]]);
        let engine = engine(&identity, &tables, &psks, MTU, 0, 1, now);
        let (events, delivered) = (Vec::new(), Vec::new());
        let address = underlay(host);
        Self {
            engine,
            address,
            psks,
            mtu: MTU,
            events,
            delivered,
            tables,
            identity,
            incarnation: 1,
            timestamp_floor: 0,
        }
    }

    pub(crate) fn path(&self, peer: usize, now: Instant) -> PathStatus {
        self.engine.paths(now).into_iter().find(|path| path.peer == key(peer)).expect("a member")
    }

    pub(crate) fn via(&self, peer: usize, now: Instant) -> Option<Via> {
        self.path(peer, now).session.and_then(|session| session.via)
    }

    pub(crate) fn dropped(&self, why: Drop) -> u64 {
        self.engine.drops().of(why)
    }

    /// The frames that came out, as their texts.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.delivered.iter().map(|frame| String::from_utf8_lossy(&frame[14..]).into_owned()).collect()
    }
}

fn engine(identity: &Identity, tables: &Tables, psks: &[Psk], mtu: u16, floor: u64, seed: u64, now: Instant) -> Engine {
    let config = Config {
        identity: identity.clone(),
        mesh: MeshId::of("weave"),
        psks: psks.to_vec(),
        ciphers: vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305],
        mtu,
        rekey_after: REKEY_AFTER,
        timestamp_floor: floor,
    };
    let mut octets = [0; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    octets[8..].copy_from_slice(&identity.noise_key()[8..]);
    Engine::new(config, Arc::new(tables.clone()), octets, now, UnixTime(WALL + now.as_micros()))
}

/// Hosts with sessions, by way of sleeve only.
pub(crate) fn by_sleeve(hosts: usize, seed: u64) -> Net {
    let mut net = Net::new(hosts, seed);
    net.forbid_fast_paths();
    net.run_for(millis(400));
    net
}

pub(crate) fn peer_of(tables: &mut Tables, host: usize) -> &mut PeerEntry {
    tables.peers.get_mut(&key(host)).expect("a member")
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Net {
    /// Hosts that know each other, all neighbours, one password, one millisecond apart.
    pub(crate) fn new(hosts: usize, seed: u64) -> Self {
        let now = Instant::from_micros(1_000_000);
        let wire = Wire {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss_percent: 0,
            duplicate_percent: 0,
            blocked: BTreeSet::new(),
            capacity: BTreeMap::new(),
            segmented_blocked: BTreeSet::new(),
            fast_blocked: BTreeSet::new(),
        };
        Self {
            now,
            wire,
            hosts: (0..hosts).map(|host| Host::new(host, hosts, now)).collect(),
            capture: Vec::new(),
            segmented_sends: 0,
            heartbeats: Vec::new(),
            underway: BTreeMap::new(),
            sequence: 0,
            rng: ChaCha20Rng::seed_from_u64(seed),
            out: Outbox::new(),
        }
    }

    /// Changes what control publishes at one host.
    pub(crate) fn publish(&mut self, host: usize, change: impl FnOnce(&mut Tables)) {
        let now = self.now;
        let host = &mut self.hosts[host];
        change(&mut host.tables);
        host.engine.set_tables(Arc::new(host.tables.clone()), now);
    }

    pub(crate) fn publish_all(&mut self, change: impl Fn(usize, &mut Tables)) {
        (0..self.hosts.len()).for_each(|host| self.publish(host, |tables| change(host, tables)));
    }

    /// Nobody may use the fast path to anybody.
    pub(crate) fn forbid_fast_paths(&mut self) {
        self.publish_all(|_, tables| {
            tables.peers.values_mut().for_each(|peer| peer.fast = FastPath::Forbidden(Why::SwitchedOff));
        });
    }

    /// Kills a daemon and starts it again: sessions are gone, what was reserved on disk is not.
    pub(crate) fn restart(&mut self, at: usize) {
        self.restart_with(at, tables(at, self.hosts.len()));
    }

    /// The same, with tables that the new daemon starts from.
    pub(crate) fn restart_with(&mut self, at: usize, tables: Tables) {
        let host = &mut self.hosts[at];
        host.incarnation += 1;
        host.tables = tables;
        host.tables.local.card = card(&host.identity, at, host.incarnation);
        host.engine = engine(
            &host.identity,
            &host.tables,
            &host.psks,
            host.mtu,
            host.timestamp_floor,
            host.incarnation,
            self.now,
        );
    }

    /// Restarts with other passwords.
    pub(crate) fn set_psks(&mut self, host: usize, psks: &[Psk]) {
        self.hosts[host].psks = psks.to_vec();
        self.restart(host);
    }

    /// A container sends frames, all in one batch.
    pub(crate) fn send(&mut self, from: usize, frames: &[Vec<u8>]) {
        let mut batch = FrameBatch::new(frames.len(), 9_100);
        for frame in frames {
            batch.room().expect("enough slots")[..frame.len()].copy_from_slice(frame);
            batch.push(frame.len());
        }
        self.hosts[from].engine.handle_frames(&batch, self.now, &mut self.out);
        self.collect(from);
    }

    /// A container says something to the container of another host.
    pub(crate) fn say(&mut self, from: usize, to: usize, text: &str) {
        self.send(from, &[frame(container_mac(from), container_mac(to), text)]);
    }

    /// Bytes from anywhere arrive at a host.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: usize, bytes: &[u8]) {
        let mut batch = DatagramBatch::new(1, 70_000);
        batch.room().expect("a slot")[..bytes.len()].copy_from_slice(bytes);
        batch.push(bytes.len(), bytes.len(), from);
        self.hosts[to].engine.handle_datagrams(&mut batch, self.now, &mut self.out);
        let whole = |delivery: Delivery<'_>| delivery.pieces().collect::<Vec<_>>().concat();
        self.hosts[to].delivered.extend(self.out.deliveries(&batch).map(whole));
        self.collect(to);
    }

    pub(crate) fn note_traffic(&mut self, host: usize, peer: usize) {
        let used = BTreeMap::from([(key(peer), Duration::ZERO)]);
        self.hosts[host].engine.note_traffic(&used, self.now);
    }

    /// The clock jumps: nothing happened meanwhile as far as the hosts can tell.
    pub(crate) fn jump(&mut self, by: Duration) {
        let underway = std::mem::take(&mut self.underway);
        self.underway = underway.into_iter().map(|((at, n), parcel)| ((at + by, n), parcel)).collect();
        self.now += by;
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Runs until `done`, and returns how long that took, or nothing after `limit`.
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let started = self.now;
        loop {
            if done(self) {
                return Some(self.now - started);
            }
            let next = self.next_event().filter(|next| *next <= started + limit);
            let Some(next) = next else {
                self.now = started + limit;
                return None;
            };
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let parcel = self.underway.first_key_value().map(|((at, _), _)| *at);
        self.hosts.iter().filter_map(|host| host.engine.poll_timeout()).chain(parcel).min()
    }

    fn step(&mut self) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].engine.poll_timeout().is_some_and(|at| at <= self.now) {
                self.hosts[host].engine.handle_timeout(self.now, &mut self.out);
                self.collect(host);
            }
        }
        while let Some(entry) = self.underway.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                Parcel::Datagram { from, to, bytes } => {
                    if let Some(host) = self.hosts.iter().position(|host| host.address == to) {
                        self.inject(from, host, &bytes);
                    }
                }
                Parcel::Heartbeat { to, frame } => {
                    self.hosts[to].engine.handle_heartbeat(&frame, self.now, &mut self.out);
                    self.collect(to);
                }
            }
        }
    }

    /// Carries out what a host's engine wants.
    fn collect(&mut self, from: usize) {
        let out = std::mem::take(&mut self.out);
        let source = self.hosts[from].address;
        for train in out.trains() {
            let to = self.hosts.iter().position(|host| host.address == train.destination);
            let is_segmented = train.mode == SendMode::Segmented && train.bytes > train.segment_bytes;
            self.segmented_sends += u64::from(is_segmented);
            let lost = is_segmented && to.is_some_and(|to| self.wire.segmented_blocked.contains(&(from, to)));
            for bytes in train.datagrams() {
                self.capture.push((from, bytes.to_vec()));
                if lost || to.is_none_or(|to| !self.wire.carries(from, to, bytes.len())) {
                    continue;
                }
                let to = train.destination;
                self.post(|| Parcel::Datagram { from: source, to, bytes: bytes.to_vec() });
            }
        }
        for frame in out.heartbeats() {
            self.heartbeats.push((from, frame.to_vec()));
            let to = (0..self.hosts.len()).find(|to| bridge_mac(*to).0 == frame[..6]).expect("a host's bridge");
            if !self.wire.fast_blocked.contains(&(from, to)) {
                self.post(|| Parcel::Heartbeat { to, frame: frame.to_vec() });
            }
        }
        let host = &mut self.hosts[from];
        host.delivered.extend(out.frames().map(<[u8]>::to_vec));
        while let Some(event) = host.engine.poll_event() {
            if let Event::ReserveTimestamp(upto) = event {
                host.timestamp_floor = upto;
            }
            host.events.push((self.now, event));
        }
        self.out = out;
        self.out.clear();
    }

    fn post(&mut self, parcel: impl Fn() -> Parcel) {
        let copies = 1 + u32::from(self.percent(self.wire.duplicate_percent));
        for _ in 0..copies {
            if self.percent(self.wire.loss_percent) {
                continue;
            }
            let jitter = self.wire.jitter.mul_f64(f64::from(self.rng.next_u32()) / f64::from(u32::MAX));
            self.sequence += 1;
            self.underway.insert((self.now + self.wire.latency + jitter, self.sequence), parcel());
        }
    }

    fn percent(&mut self, percent: u32) -> bool {
        percent > 0 && self.rng.next_u32() % 100 < percent
    }
}
