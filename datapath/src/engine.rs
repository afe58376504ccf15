//! The packet thread's brain: every session and every carrier choice of this host, without a clock or a socket.
//!
//! ```text
//!   handle_frames ───► outbound.rs  which peer? ─► sealing.rs: straight, or in an envelope ────────────► Outbox
//!                                   └► fitting.rs   longer than the path takes ────────────────────────► Outbox
//!   handle_datagrams ► inbound.rs   which session? open ─┬► deliver to the TAP ────────────────────────► Outbox
//!                                                        ├► relaying.rs   pass an envelope on ─────────► Outbox
//!                                                        ├► probing.rs    answer, or count an answer
//!                                                        ├► sizing.rs     the same for sizes
//!                                                        └► handshakes.rs agree on a session
//!   handle_heartbeat ► probing.rs
//!   handle_timeout ──► timing.rs    what each peer needs by now
//!   each Outbox ─────► proving.rs   which trains leave as one segmented send
//!   set_tables ──────► membership.rs
//! ```
//!
//! Invariants:
//! - a frame between peers with a session costs no allocation, no lock and no system call;
//! - nobody floods what came from another host: a broadcast is copied by the host it starts from, once for each peer;
//! - no packet from outside makes memory grow beyond what the members in the tables account for.

mod clock;
mod fitting;
mod handshakes;
mod inbound;
mod membership;
mod outbound;
mod peer;
mod peers;
mod probing;
mod proving;
mod relaying;
mod sealing;
mod sizing;
mod stations;
mod status;
mod timing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use weave_mesh::identity::{Identity, PeerKey};
use weave_mesh::name::MeshId;
use weave_mesh::noise::Psk;
use weave_mesh::time::{Instant, UnixTime};

pub use status::{Event, PathCounters, PathStatus, SessionStatus, Warning};

pub use crate::sleeve::route::Via;

use crate::batch::{DatagramBatch, FrameBatch, Outbox, Refusal};
use crate::drops::{Drop, Drops};
use crate::engine::clock::Clock;
use crate::engine::inbound::Arrival;
use crate::engine::peers::{Peers, Slot};
use crate::engine::stations::Stations;
use crate::offload::segment::Outgoing;
use crate::sleeve::attempt::AnswerTimes;
use crate::sleeve::cookie::{Gate, ResponderKeys};
use crate::sleeve::index::Indices;
use crate::sleeve::relay::RelayId;
use crate::sleeve::seal::Cipher;
use crate::tables::Tables;

/// Events that wait for the shell. It takes them after every call; should it not, the oldest go, and
/// [`Engine::paths`] still says how things are.
const EVENTS_MAX: usize = 16_384;

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Config {
    pub identity: Identity,
    pub mesh: MeshId,
    /// The first is mixed into our answers, all are tried on the answers of others. Empty without a password.
    pub psks: Vec<Psk>,
    /// Best first, e.g. [`Cipher::of_this_machine`].
    pub ciphers: Vec<Cipher>,
    /// The overlay's MTU: the longest IP packet of a container.
    pub mtu: u16,
    /// When initiators make the next session, at most [`REKEY_AFTER`](crate::sleeve::session::REKEY_AFTER).
    pub rekey_after: Duration,
    /// The last number stored on [`Event::ReserveTimestamp`], zero if none.
    pub timestamp_floor: u64,
}

/// All sleeves and carrier choices of one host.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    tables: Arc<Tables>,
    /// How we are named inside envelopes.
    relay_id: RelayId,
    rng: ChaCha20Rng,
    clock: Clock,
    /// The door for handshakes from outside.
    gate: Gate,
    answer_times: AnswerTimes,
    peers: Peers,
    /// Which peer a session or handshake index belongs to.
    indices: Indices<Slot>,
    stations: Stations,
    /// Peers that get a copy of each broadcast by sleeve.
    flood: Vec<Slot>,
    /// The earliest deadline of each peer that has one.
    timers: BTreeSet<(Instant, Slot)>,
    /// Octets in all queues of frames that wait for a session.
    waiting_bytes: usize,
    next_nonce: u64,
    events: VecDeque<Event>,
    drops: Drops,
}

impl Engine {
    /// `seed` is the source of every key: 32 octets from the operating system in a daemon.
    pub fn new(mut config: Config, tables: Arc<Tables>, seed: [u8; 32], now: Instant, wall: UnixTime) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        if config.psks.is_empty() {
            config.psks.push(Psk::default());
        }
        let mut engine = Self {
            relay_id: RelayId::of(&config.identity.key()),
            clock: Clock::new(config.timestamp_floor, now, wall),
            gate: Gate::new(ResponderKeys::of(&config.identity.noise_key(), &config.identity.knock()), &mut rng, now),
            answer_times: AnswerTimes::default(),
            rng,
            peers: Peers::default(),
            indices: Indices::default(),
            stations: Stations::default(),
            flood: Vec::new(),
            timers: BTreeSet::new(),
            waiting_bytes: 0,
            next_nonce: 0,
            events: VecDeque::new(),
            drops: Drops::default(),
            tables: tables.clone(),
            config,
        };
        engine.set_tables(tables, now);
        engine
    }

    /// Replaces the snapshot.
    pub fn set_tables(&mut self, tables: Arc<Tables>, now: Instant) {
        self.adopt_tables(tables, now);
    }

    /// Frames read from the TAP.
    pub fn handle_frames(&mut self, frames: &FrameBatch, now: Instant, out: &mut Outbox) {
        self.notice_stall(now);
        for at in 0..frames.len() {
            let (header, frame) = frames.get(at);
            match Outgoing::parse(header, frame) {
                Ok(frame) => self.handle_frame(&frame, now, out),
                Err(_) => self.drops.count(Drop::MalformedOffload),
            }
        }
        self.sample_trains(now, out);
    }

    /// Datagrams read from the UDP socket; they are opened in place, and [`Outbox::deliveries`] point at what is in
    /// them. `out` is empty.
    pub fn handle_datagrams(&mut self, datagrams: &mut DatagramBatch, now: Instant, out: &mut Outbox) {
        self.notice_stall(now);
        for at in 0..datagrams.len() {
            let (origin, bytes) = datagrams.get_mut(at);
            for (number, datagram) in bytes.chunks_mut(origin.segment_bytes).enumerate() {
                let at = origin.at + number * origin.segment_bytes;
                self.handle_datagram(datagram, Arrival::straight(origin.source, at, now, out));
            }
        }
        out.deliveries.finish(datagrams.bytes_mut());
        self.sample_trains(now, out);
    }

    /// A frame of ethertype [`ETHERTYPE`](crate::heartbeat::ETHERTYPE) read from the bridge's packet socket.
    pub fn handle_heartbeat(&mut self, frame: &[u8], now: Instant, out: &mut Outbox) {
        self.notice_stall(now);
        let done = self.take_heartbeat(frame, now, out);
        self.count(done);
    }

    /// How long ago the kernel last carried a frame to an endpoint of each fast-path peer: the `used` age of its VXLAN
    /// entries, without the one of its bridge, which our own heartbeats refresh.
    pub fn note_traffic(&mut self, used: &BTreeMap<PeerKey, Duration>, now: Instant) {
        for (key, &age) in used {
            let Some(slot) = self.peers.by_key(key) else { continue };
            let at = Instant::from_micros(now.as_micros().saturating_sub(age.as_micros() as u64));
            if now.since(at) < peer::ACTIVE_FOR {
                self.note_use(slot, at, now);
                self.arm(slot, now);
            }
        }
    }

    /// The kernel refused a segmented send to `destination`; its datagrams went one by one, and so will those to come,
    /// for a while.
    pub fn handle_refusal(&mut self, destination: SocketAddr, refusal: Refusal, now: Instant) {
        let Some(slot) = self.peers.by_address(destination) else { return };
        let change = self.peers.get_mut(slot).and_then(|peer| peer.segmented_send_refused(refusal, now));
        self.announce_sends(slot, change);
        self.arm(slot, now);
    }

    /// Call when [`Self::poll_timeout`] has passed; earlier is a no-op.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.notice_stall(now);
        self.fire_timers(now, out);
        self.sample_trains(now, out);
    }

    /// The earliest deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Every peer's path, by key.
    pub fn paths(&self, now: Instant) -> Vec<PathStatus> {
        self.peers.iter().map(|peer| peer.status(now)).collect()
    }

    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    fn count(&mut self, done: Result<(), Drop>) {
        if let Err(why) = done {
            self.drops.count(why);
        }
    }

    fn emit(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
