//! One peer as the engine knows it.

use std::net::SocketAddr;
use std::time::Duration;

use weave_mesh::identity::{Hash, NoiseKey, PeerKey};
use weave_mesh::time::Instant;

use crate::batch::{Refusal, SendMode};
use crate::engine::Config;
use crate::engine::fitting::TOLD_PER_SECOND;
use crate::engine::status::{PathCounters, PathStatus, SessionStatus};
use crate::ethernet;
use crate::heartbeat;
use crate::overlay::Choice;
use crate::sleeve::attempt::Attempts;
use crate::sleeve::canary::{self, Canary};
use crate::sleeve::cookie::ResponderKeys;
use crate::sleeve::memory::Memory;
use crate::sleeve::path_mtu::PathMtu;
use crate::sleeve::rate::Bucket;
use crate::sleeve::relay::{Allowance, RelayId};
use crate::sleeve::route::{Route, Via};
use crate::sleeve::session::Sessions;
use crate::sleeve::waiting::Waiting;
use crate::tables::{Carrier, PeerEntry, Standing};

/// How long after its last use a session to a peer that is no neighbour is kept up.
const WANTED_FOR: Duration = Duration::from_secs(60);
/// How long after its last frame a path counts as carrying traffic.
pub(super) const ACTIVE_FOR: Duration = Duration::from_secs(10);
/// Between ticks of a path that carries traffic fast, or of which something is in doubt.
const TICK_ALERT: Duration = Duration::from_millis(200);
/// Between ticks of a path that carries traffic by sleeve.
const TICK_ACTIVE: Duration = Duration::from_millis(500);
/// Between ticks otherwise. It also keeps the entries of address translators alive, and finds a healed fast path.
const TICK_IDLE: Duration = Duration::from_secs(4);

/// A card whose signature need not be checked again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verified {
    pub(super) hash: Hash,
    pub(super) noise_key: NoiseKey,
    pub(super) incarnation: u64,
}

/// Everything about one peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PeerKey,
    pub(super) relay_id: RelayId,
    /// What control says of it.
    pub(super) entry: PeerEntry,
    /// Authenticates our first messages to it.
    pub(super) responder: ResponderKeys,
    /// The last card of it that was verified.
    pub(super) verified: Option<Verified>,
    pub(super) memory: Memory,
    pub(super) attempts: Attempts,
    pub(super) sessions: Sessions,
    rekey_after: Duration,
    pub(super) route: Route,
    pub(super) waiting: Waiting,
    pub(super) choice: Choice,
    pub(super) allowance: Allowance,
    pub(super) counters: PathCounters,
    /// How long frames to it may be.
    pub(super) path_mtu: PathMtu,
    /// What ICMP about that may still be sent.
    pub(super) told: Bucket,
    /// Whether segmented sends straight to it arrive.
    pub(super) canary: Canary,
    /// When a frame for it alone was last sent, by either carrier, or through it.
    used: Option<Instant>,
    /// When a copy of a broadcast was last sent to it.
    flooded: Option<Instant>,
    /// When its path is probed next; meaningful while there is a session.
    pub(super) tick_at: Instant,
    /// What the last event said of its session.
    pub(super) reported: Option<Via>,
    /// When the operator was last warned about it.
    pub(super) warned: Option<Instant>,
    /// Its entry in the engine's timers.
    pub(super) armed: Option<Instant>,
}

impl Peer {
    pub(super) fn new(key: PeerKey, entry: PeerEntry, config: &Config, now: Instant) -> Self {
        let mut memory = Memory::default();
        memory.see_incarnation(entry.incarnation);
        Self {
            key,
            relay_id: RelayId::of(&key),
            responder: ResponderKeys::of(&entry.noise_key, &entry.knock),
            verified: None,
            memory,
            attempts: Attempts::default(),
            sessions: Sessions::default(),
            rekey_after: config.rekey_after,
            route: Route::default(),
            waiting: Waiting::default(),
            choice: Choice::new(entry.applied, now),
            allowance: Allowance::new(now),
            counters: PathCounters::default(),
            path_mtu: PathMtu::new(heartbeat::frame_bytes(config.mtu)),
            told: Bucket::full(TOLD_PER_SECOND, now),
            canary: Canary::new(now),
            used: None,
            flooded: None,
            tick_at: now,
            reported: None,
            warned: None,
            armed: None,
            entry,
        }
    }

    /// Whether frames went to it lately. Broadcasts do not count: they go to all, and would have all probed for ever.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.used.is_some_and(|used| now.since(used) < ACTIVE_FOR)
    }

    /// Whether a session with it is to be kept up.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        let last = self.used.max(self.flooded);
        self.entry.standing == Standing::Neighbour || last.is_some_and(|last| now.since(last) < WANTED_FOR)
    }

    pub(super) fn note_flood(&mut self, now: Instant) {
        self.flooded = Some(now);
    }

    /// Notes a use at `at`; after some silence the path is probed at once.
    pub(super) fn note_use(&mut self, at: Instant, now: Instant) {
        if !self.is_active(now) {
            self.tick_at = self.tick_at.min(now);
        }
        self.used = self.used.max(Some(at));
    }

    /// Whether a session has to be agreed on.
    pub(super) fn needs_handshake(&self, now: Instant) -> bool {
        let current = self.sessions.current();
        current.is_none_or(|session| session.rekey_at(self.rekey_after) <= now) || self.route.is_down()
    }

    /// Where packets to it can be sent straight, if that works.
    pub(super) fn straight(&self, now: Instant) -> Option<SocketAddr> {
        let usable = self.sessions.current().is_some_and(|session| session.can_seal(now)) && !self.route.is_down();
        match self.route.way() {
            Some(Via::Direct(address)) if usable => Some(address),
            _ => None,
        }
    }

    /// How datagrams sent straight to it may leave.
    pub(super) fn send_mode(&self) -> SendMode {
        self.canary.mode()
    }

    pub(super) fn segmented_send_refused(&mut self, refusal: Refusal, now: Instant) -> Option<canary::Change> {
        if refusal == Refusal::TooLong {
            self.path_mtu.suspect(now);
        }
        self.counters.sends_refused += 1;
        self.canary.refused(refusal, now)
    }

    /// The way that packets to it take, while there is a session.
    pub(super) fn way(&self) -> Option<Via> {
        self.route.way().filter(|_| self.sessions.current().is_some())
    }

    /// Whether frames go to it by sleeve, or may have to in a moment, and what it takes is to be watched.
    pub(super) fn uses_sleeve(&self, now: Instant) -> bool {
        let by_sleeve = self.choice.carrier() == Carrier::Sleeve || self.choice.is_in_doubt();
        by_sleeve && self.is_active(now) && !self.route.is_down()
    }

    /// When there is something to find out about its sizes.
    fn size_up_at(&self, now: Instant) -> Option<Instant> {
        let is_followed = self.path_mtu.way() == self.way();
        if is_followed { self.path_mtu.poll_timeout(self.uses_sleeve(now)) } else { Some(now) }
    }

    /// Brings the next tick forward if it was planned when there was less to find out.
    pub(super) fn hasten_tick(&mut self, now: Instant) {
        self.tick_at = self.tick_at.min(now + self.tick_interval(now));
    }

    /// How long from one tick to the next.
    pub(super) fn tick_interval(&self, now: Instant) -> Duration {
        if self.choice.is_in_doubt() || self.route.is_in_doubt() {
            return TICK_ALERT;
        }
        match self.choice.carrier() {
            _ if !self.is_active(now) => TICK_IDLE,
            Carrier::Fast => TICK_ALERT,
            Carrier::Sleeve => TICK_ACTIVE,
        }
    }

    pub(super) const fn is_fast_allowed(&self) -> bool {
        self.entry.fast.address().is_some()
    }

    /// The earliest time at which something is to be done for it.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let wanted = self.is_wanted(now);
        let current = self.sessions.current().filter(|_| wanted);
        let rekey_at = current.filter(|_| !self.attempts.is_active()).map(|session| session.rekey_at(self.rekey_after));
        let first_try = (wanted && self.needs_handshake(now) && !self.attempts.is_active()).then_some(now);
        [
            self.sessions.expires_at(),
            self.waiting.poll_timeout(),
            self.attempts.poll_timeout(),
            rekey_at,
            first_try,
            self.route.poll_timeout(),
            current.map(|_| self.tick_at),
            self.choice.poll_timeout(),
            current.and_then(|_| self.canary.poll_timeout()),
            self.size_up_at(now).filter(|_| wanted),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The longest Ethernet frame that its path takes, octets.
    pub(super) const fn frame_bytes_max(&self) -> usize {
        self.path_mtu.limit()
    }

    /// The longest IP packet that the carrier in use takes. The fast path is used only while it takes all.
    fn mtu(&self) -> u16 {
        let frame_bytes = match self.choice.carrier() {
            Carrier::Fast => self.path_mtu.full(),
            Carrier::Sleeve => self.frame_bytes_max(),
        };
        u16::try_from(frame_bytes - ethernet::HEADER_BYTES).unwrap_or(u16::MAX)
    }

    pub(super) fn status(&self, now: Instant) -> PathStatus {
        PathStatus {
            peer: self.key,
            name: self.entry.name,
            carrier: self.choice.carrier(),
            since: self.choice.since(),
            reason: self.choice.reason(),
            mtu: self.mtu(),
            sizes: self.path_mtu.status(now),
            sends: self.canary.status(),
            session: self.sessions.current().map(|session| SessionStatus {
                cipher: session.cipher(),
                age: now.since(session.born()),
                via: self.route.way().filter(|_| !self.route.is_down()),
                round_trip: self.route.round_trip(),
            }),
            counters: self.counters,
        }
    }
}
