//! One thing that we want to be connected to, and how far we have come.

use std::net::SocketAddr;

use rand_core::RngCore;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::{ConnectionId, Destination, DialId, Target};
use crate::identity::PeerKey;
use crate::time::Instant;

/// What a dial is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Goal {
    /// Whoever answers where the operator said.
    Target(Target),
    /// A peer that we learnt of from others, at any of its addresses.
    Peer(PeerKey),
}

impl Goal {
    pub const fn target(&self) -> Option<&Target> {
        match self {
            Self::Target(target) => Some(target),
            Self::Peer(_) => None,
        }
    }
}

/// A goal as `status connections` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    pub goal: &'a Goal,
    /// Where the next dial goes, or the present one.
    pub destination: &'a Destination,
    /// The peer that last answered there, if one did.
    pub peer: Option<PeerKey>,
    pub state: AttemptState,
    pub last_error: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptState {
    /// No failure yet; the first dial is due then.
    Waiting { until: Instant },
    /// The last dial failed; without `retry` there will be none.
    Failed { retry: Option<Instant> },
    /// The first dial is under way.
    Connecting,
    /// A dial after a failure is under way.
    Retrying,
    /// This connection satisfies the goal; the node knows whether it is pending or established.
    Connected(ConnectionId),
    /// The peer is reachable through others, and no connection to it is wanted.
    Resting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle { next_try: Instant },
    Dialling(DialId),
    Linked(ConnectionId),
    Never,
}

/// A live connection as the connector sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) peer: PeerKey,
    pub(super) remote: SocketAddr,
    pub(super) is_inbound: bool,
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) struct Pursuit {
    /// Where to dial, tried in turn; never empty.
    pub(super) destinations: Vec<Destination>,
    /// Which of them is next.
    pub(super) position: usize,
    /// Who answered last.
    pub(super) peer: Option<PeerKey>,
    pub(super) phase: Phase,
    /// Not dialled for the time being, whatever the phase.
    pub(super) resting: bool,
    backoff: Backoff,
    pub(super) last_error: Option<String>,
}

impl Pursuit {
    pub(super) fn new(destinations: Vec<Destination>, now: Instant) -> Self {
        Self {
            destinations,
            position: 0,
            peer: None,
            phase: Phase::Idle { next_try: now },
            resting: false,
            backoff: Backoff::default(),
            last_error: None,
        }
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destinations[self.position]
    }

    /// Its destinations, as far as they are addresses.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let address = |destination: &Destination| match destination {
            Destination::Address(address) => Some(*address),
            Destination::Name { .. } => None,
        };
        self.destinations.iter().filter_map(address).collect()
    }

    /// Starts again with the shortest interval; a dial under way or a live connection is left alone.
    pub(super) fn try_at_once(&mut self, now: Instant) {
        self.backoff = Backoff::default();
        if matches!(self.phase, Phase::Idle { .. } | Phase::Never) {
            self.phase = Phase::Idle { next_try: now };
        }
    }

    /// The same, but for one that led to ourselves.
    pub(super) fn hasten(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Never) {
            self.try_at_once(now);
        }
    }

    /// Goes on to the next destination at once, and after the last one to the first after a delay.
    pub(super) fn fail(&mut self, error: String, now: Instant, rng: &mut impl RngCore) {
        self.last_error = Some(error);
        self.position = (self.position + 1) % self.destinations.len();
        let next_try = if self.position == 0 { now + self.backoff.next_delay(rng) } else { now };
        self.phase = Phase::Idle { next_try };
    }

    pub(super) fn is_satisfied_by(&self, goal: &Goal, link: &Link) -> bool {
        let leads_to = self.peer == Some(link.peer);
        let is_address = *self.destination() == Destination::Address(link.remote);
        let is_host = link.is_inbound
            && goal.target().and_then(Target::portless_address).is_some_and(|address| address == link.remote.ip());
        leads_to || is_address || is_host
    }

    /// Whether nothing is lost by dropping an unwanted goal: its back-off is over.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let is_over = match self.phase {
            Phase::Idle { next_try } => next_try <= now,
            Phase::Never => true,
            Phase::Dialling(_) | Phase::Linked(_) => false,
        };
        self.resting && is_over
    }

    pub(super) fn attempt<'a>(&'a self, goal: &'a Goal) -> Attempt<'a> {
        let has_failed = self.last_error.is_some();
        let state = match self.phase {
            Phase::Never => AttemptState::Failed { retry: None },
            Phase::Linked(connection) => AttemptState::Connected(connection),
            Phase::Dialling(_) if has_failed => AttemptState::Retrying,
            Phase::Dialling(_) => AttemptState::Connecting,
            Phase::Idle { .. } if self.resting => AttemptState::Resting,
            Phase::Idle { next_try } if has_failed => AttemptState::Failed { retry: Some(next_try) },
            Phase::Idle { next_try } => AttemptState::Waiting { until: next_try },
        };
        let last_error = self.last_error.as_deref();
        Attempt { goal, destination: self.destination(), peer: self.peer, state, last_error }
    }
}
