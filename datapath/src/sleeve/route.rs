//! The way sleeve packets take to one peer: straight to an address, or through a third peer.
//!
//! ```text
//!           a probe sent straight was answered straight           the peer's packets come from a new address
//!   RELAY ────────────────────────────────────────────► DIRECT ◄───────────────────────────────────────────┐
//!     ▲                                                   │ └──────────────────────────────────────────────┘
//!     └───────────────────────────────────────────────────┘
//!           two probes lost, and one through the relay was answered
//! ```
//!
//! A probe's answer comes back the way the probe came, so an answer proves its way in both directions. Hearing from the
//! peer proves one direction only: it says where the peer is, not that it can be reached there.
//!
//! Invariant: while the way in use is a relay, or fails, straight probes go on for ever.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use weave_mesh::identity::PeerKey;
use weave_mesh::time::Instant;

mod probes;

use probes::Probes;

/// The way packets take to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Direct(SocketAddr),
    /// Through the session with this peer.
    Relay(PeerKey),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(address) => write!(f, "{address}"),
            Self::Relay(peer) => write!(f, "relayed by {peer}"),
        }
    }
}

/// Lost probes in a row after which other ways are tried.
const MISSED_TO_LOOK_AROUND: u32 = 2;
/// Lost probes in a row after which the session counts as down, and a handshake is tried.
const MISSED_TO_GIVE_UP: u32 = 5;
/// How often a straight way is tried while a relay serves.
const DIRECT_INTERVAL: Duration = Duration::from_secs(2);
/// A probe counts as lost after three round trips, within these bounds.
const ANSWER_WITHIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// The same while no round trip was measured.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// What is known about reaching one peer.
#[derive(Clone, Debug, Default)]
pub struct Route {
    way: Option<Via>,
    /// Where its newest authenticated packet came from.
    learnt: Option<SocketAddr>,
    probes: Probes,
    /// Probes on `way` that were lost in a row.
    missed: u32,
    round_trip: Option<Duration>,
    /// When straight ways are tried next.
    direct_at: Instant,
    /// Which relay comes next.
    turn: usize,
}

impl Route {
    pub const fn way(&self) -> Option<Via> {
        self.way
    }

    /// Whether probes on the way in use are being lost, and it is not yet given up.
    pub const fn is_in_doubt(&self) -> bool {
        self.missed > 0 && !self.is_down()
    }

    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Whether the way in use fails: its probes are lost.
    pub const fn is_down(&self) -> bool {
        self.missed >= MISSED_TO_GIVE_UP
    }

    /// Straight ways: the one in use, the one learnt, and those the peer lists.
    pub fn straight(&self, listed: &[SocketAddr]) -> Vec<SocketAddr> {
        let used = match self.way {
            Some(Via::Direct(address)) => Some(address),
            _ => None,
        };
        let mut addresses = Vec::with_capacity(listed.len() + 2);
        for address in used.into_iter().chain(self.learnt).chain(listed.iter().copied()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Straight ways on which to try a handshake: only the one in use while it works.
    pub fn to_try(&self, listed: &[SocketAddr]) -> Vec<SocketAddr> {
        match self.way {
            Some(Via::Direct(address)) if self.missed == 0 => vec![address],
            _ => self.straight(listed),
        }
    }

    /// The relay to try, another one each time.
    pub fn next_relay(&mut self, relays: &[PeerKey]) -> Option<PeerKey> {
        let relay = relays.get(self.turn % relays.len().max(1)).copied();
        self.turn = self.turn.wrapping_add(1);
        relay
    }

    /// Ways other than the one in use that are worth a probe at this tick.
    pub fn others(&mut self, listed: &[SocketAddr], relays: &[PeerKey], now: Instant) -> Vec<Via> {
        let failing = self.way.is_none() || self.missed >= MISSED_TO_LOOK_AROUND;
        let relayed = matches!(self.way, Some(Via::Relay(_)));
        let mut others = Vec::new();
        if failing || (relayed && self.direct_at <= now) {
            self.direct_at = now + DIRECT_INTERVAL;
            others.extend(self.straight(listed).into_iter().map(Via::Direct));
        }
        if failing {
            others.extend(self.next_relay(relays).map(Via::Relay));
        }
        others.retain(|via| Some(*via) != self.way);
        others
    }

    pub fn probe_sent(&mut self, nonce: u64, via: Via, now: Instant) {
        self.probes.add(nonce, via, now);
    }

    /// A probe was answered the way it went. Returns whether the way in use has changed.
    pub fn answered(&mut self, nonce: u64, came_by: Via, now: Instant) -> bool {
        let Some(probe) = self.probes.take(nonce) else { return false };
        let is_straight = |via: Via| matches!(via, Via::Direct(_));
        if is_straight(probe.via) != is_straight(came_by) {
            return false;
        }
        if self.way == Some(probe.via) {
            self.missed = 0;
            self.round_trip = Some(now.since(probe.sent));
            return false;
        }
        let better = is_straight(probe.via) && !self.way.is_some_and(is_straight);
        let change = better || self.way.is_none() || self.missed >= MISSED_TO_LOOK_AROUND;
        change && self.use_way(probe.via)
    }

    /// Whether [`Self::heard`] would learn nothing new; asked for every packet.
    pub fn is_where_heard(&self, via: Via) -> bool {
        let is_learnt = match via {
            Via::Direct(address) => self.learnt == Some(address),
            Via::Relay(_) => true,
        };
        is_learnt && self.way.is_some()
    }

    /// An authenticated packet came by `via`, the newest of its session. Returns whether the way in use has changed.
    pub fn heard(&mut self, via: Via, now: Instant) -> bool {
        let moved = match via {
            Via::Direct(address) => self.learnt.replace(address) != Some(address),
            Via::Relay(_) => false,
        };
        if moved {
            self.direct_at = now;
        }
        let follow = match self.way {
            None => true,
            Some(Via::Direct(_)) => moved,
            Some(Via::Relay(_)) => false,
        };
        follow && self.way != Some(via) && self.use_way(via)
    }

    /// A handshake was completed by `via`, which therefore works in both directions.
    pub fn proven(&mut self, via: Via, now: Instant) {
        self.heard(via, now);
        let failing = self.missed >= MISSED_TO_LOOK_AROUND;
        let better = matches!((self.way, via), (Some(Via::Relay(_)), Via::Direct(_)));
        if failing || better {
            self.use_way(via);
        }
    }

    /// Counts probes that were not answered in time.
    pub fn expire(&mut self, now: Instant) {
        let within = self.answer_within();
        self.missed += self.probes.expire(self.way, within, now);
    }

    /// When [`Self::expire`] has something to count.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.probes.first_sent().map(|sent| sent + self.answer_within())
    }

    /// Forgets probes under way: this host's clock jumped.
    pub fn distrust(&mut self) {
        self.probes.clear();
    }

    /// No session is left, so no way is in use.
    pub fn close(&mut self) {
        self.probes.clear();
        (self.way, self.missed, self.round_trip) = (None, 0, None);
    }

    fn use_way(&mut self, via: Via) -> bool {
        self.way = Some(via);
        self.missed = 0;
        self.round_trip = None;
        true
    }

    fn answer_within(&self) -> Duration {
        let (shortest, longest) = ANSWER_WITHIN;
        self.round_trip.map_or(FIRST_ANSWER_WITHIN, |round_trip| (round_trip * 3).clamp(shortest, longest))
    }
}

#[cfg(test)]
mod tests;
