//! Connector: whom to dial and when. A part of the node, which feeds it and carries out its dials.
//!
//! ```text
//!  operator: connect, forget ──► Goal::Target ┐                      ┌─► Waiting ── due ──► Connecting / Retrying ─┐
//!  a list: set_listed ─────────► likewise    ─┤                      │      ▲                                      │
//!  degree rule: set_wanted ────► Goal::Peer  ─┴► one attempt each ───┤      ▲ back-off                             │
//!                                                                    └─ Failed ◄── refused, closed early ──────────┤
//!                                  Resting: reachable without it        closed after a minute: at once ◄─ Connected┘
//! ```
//!
//! Invariants:
//! - a goal has at most one dial under way, and no two goals dial the same destination at the same time;
//! - a goal that some connection satisfies is not dialled, whoever opened that connection;
//! - a peer that the operator has forgotten is no goal, whoever names it, until the operator gives it again;
//! - the shell answers every dial exactly once: [`Connector::handle_connected`] or [`Connector::handle_failed`].

mod backoff;
mod forgotten;
mod goal;
mod listed;
mod target;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

pub use self::forgotten::Oblivion;
pub use self::goal::{Attempt, AttemptState, Goal};
pub use self::listed::Weight;
pub use self::target::{Destination, InvalidTarget, Target};

use self::forgotten::Forgotten;
use self::goal::{Link, Phase, Pursuit};
use self::listed::Listed;
use crate::connection;
use crate::identity::PeerKey;
use crate::name::PeerName;
use crate::time::Instant;

/// How many targets an operator may give.
pub const TARGETS_MAX: usize = 1_024;
/// How many discovered peers are pursued or remembered as failing.
const PEER_GOALS_MAX: usize = 256;
/// How many dials are under way at one time; further goals wait for one to end.
const DIALS_MAX: usize = 64;
/// How many addresses of one discovered peer are tried in turn.
const ADDRESSES_MAX: usize = 8;
/// A connection that lived this long was a success: its goal starts again with the shortest interval.
const SUCCESS_AGE: Duration = Duration::from_secs(60);
/// The longest error text kept for `status`, octets.
const ERROR_MAX_BYTES: usize = 300;

/// One dial, from request to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DialId(pub u64);

/// One TCP connection, numbered by the shell; never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Whether peers learnt from other peers are dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discovery {
    On,
    Off,
}

/// What `connect` does with targets given earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Earlier {
    Keep,
    Replace,
}

#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub discovery: Discovery,
    /// Where a target without a port is dialled: our own listening port.
    pub default_port: u16,
    /// `--conn-limit`: no dial when this many connections exist or are being opened; 0 is none.
    pub connection_limit: usize,
}

/// A dial for the shell to carry out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    pub id: DialId,
    pub destination: Destination,
}

/// Why a dial led to no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// What the operating system or the resolver said: refused, no route, timed out, no such host.
    #[error("{0}")]
    Connect(String),
    /// The stream opened, but the handshake failed.
    #[error(transparent)]
    Handshake(#[from] connection::Error),
    #[error("this is our own address; remove it with `weave-rs forget`")]
    Itself,
    #[error(
        "peer name {name} belongs to key {holder}, and the peer with key {newcomer} claims it too; give one of them another --name"
    )]
    NameCollision { name: PeerName, holder: PeerKey, newcomer: PeerKey },
    #[error("already connected to peer {peer}")]
    Duplicate { peer: PeerKey },
    #[error("connection limit reached ({limit})")]
    ConnectionLimit { limit: usize },
    #[error("peer {peer} has as many connections as it keeps, and named other peers instead")]
    Referred { peer: PeerKey },
}

impl DialError {
    /// The peer that answered the dial, if it came that far.
    const fn peer(&self) -> Option<PeerKey> {
        match self {
            Self::Duplicate { peer } | Self::Referred { peer } => Some(*peer),
            Self::Connect(_) | Self::Handshake(_) | Self::Itself => None,
            Self::NameCollision { .. } | Self::ConnectionLimit { .. } => None,
        }
    }
}

/// More targets than [`TARGETS_MAX`]; none was added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} targets are more than {TARGETS_MAX}; one reachable peer is enough, the others are discovered")]
pub struct TooManyTargets(pub usize);

/// What the operator said last, as it is kept across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    pub targets: Vec<Target>,
    pub forgotten: Vec<Oblivion>,
}

/// The machine; see the module's drawing.
#[derive(Debug)]
pub struct Connector {
    config: Config,
    forgotten: Forgotten,
    /// Targets that a list has and the operator did not give.
    listed: Listed,
    /// What the operator said has changed since this was last asked.
    has_new_wishes: bool,
    /// What we want to be connected to, and how far each has come.
    pursuits: BTreeMap<Goal, Pursuit>,
    /// Dials under way, also those whose goal was forgotten meanwhile.
    dials: BTreeMap<DialId, (Goal, Destination)>,
    /// Live connections of this peer, dialled or accepted.
    links: BTreeMap<ConnectionId, Link>,
    /// Dials not yet handed to the shell.
    outbox: VecDeque<Dial>,
    next_dial: u64,
    rng: ChaCha8Rng,
}

impl Connector {
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            forgotten: Forgotten::default(),
            listed: Listed::default(),
            has_new_wishes: false,
            pursuits: BTreeMap::new(),
            dials: BTreeMap::new(),
            links: BTreeMap::new(),
            outbox: VecDeque::new(),
            next_dial: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// What was forgotten before the last restart.
    pub fn restore(&mut self, forgotten: Vec<Oblivion>) {
        self.forgotten.restore(forgotten);
    }

    /// Pursues `targets`, those known already anew: at once and with the shortest interval.
    ///
    /// # Errors
    /// When the targets would be too many; nothing is changed then.
    pub fn connect(&mut self, targets: &[Target], earlier: Earlier, now: Instant) -> Result<(), TooManyTargets> {
        let wanted: BTreeSet<&Target> = match earlier {
            Earlier::Keep => self.targets().chain(targets).collect(),
            Earlier::Replace => targets.iter().collect(),
        };
        if wanted.len() > TARGETS_MAX {
            return Err(TooManyTargets(wanted.len()));
        }
        if earlier == Earlier::Replace {
            let listed = &self.listed;
            let stays = |target: &Target| targets.contains(target) || listed.contains(target);
            self.pursuits.retain(|goal, _| goal.target().is_none_or(stays));
        }
        self.has_new_wishes = true;
        for target in targets {
            self.listed.remove(target);
            self.forgotten.forgive(target, self.config.default_port);
            let destination = target.destination(self.config.default_port);
            let pursuit = self
                .pursuits
                .entry(Goal::Target(target.clone()))
                .or_insert_with(|| Pursuit::new(vec![destination], now));
            pursuit.try_at_once(now);
        }
        self.satisfy_goals();
        self.handle_timeout(now);
        Ok(())
    }

    /// This host may reach others than before: whatever waits is tried at once, and with the shortest interval.
    pub fn hasten(&mut self, now: Instant) {
        self.pursuits.values_mut().for_each(|pursuit| pursuit.hasten(now));
        self.handle_timeout(now);
    }

    /// Stops pursuing `targets`, also where others name them or they were met before, until they are given again. A live
    /// connection stays. `owner` is who is known to be at an address.
    pub fn forget(&mut self, targets: &[Target], owner: impl Fn(&SocketAddr) -> Option<PeerKey>) {
        let port = self.config.default_port;
        for target in targets {
            let destination = target.destination(port);
            let is_meant = |goal: &Goal| goal.target().is_some_and(|known| known.destination(port) == destination);
            let answered =
                self.pursuits.iter().filter(|(goal, _)| is_meant(goal)).find_map(|(_, pursuit)| pursuit.peer);
            let peer = answered.or_else(|| match &destination {
                Destination::Address(address) => owner(address),
                Destination::Name { .. } => None,
            });
            self.pursuits.retain(|goal, _| !is_meant(goal));
            self.listed.remove(target);
            self.forgotten.add(target, peer);
        }
        self.has_new_wishes = true;
        let forgotten = &self.forgotten;
        self.pursuits.retain(|goal, pursuit| match goal {
            Goal::Target(_) => true,
            Goal::Peer(peer) => !forgotten.holds(peer, &pursuit.addresses(), port),
        });
    }

    /// Whether the operator wants no dial to `peer`, which is at `addresses`.
    pub fn is_forgotten(&self, peer: &PeerKey, addresses: &[SocketAddr]) -> bool {
        self.forgotten.holds(peer, addresses, self.config.default_port)
    }

    pub fn forgotten(&self) -> impl Iterator<Item = &Oblivion> {
        self.forgotten.iter()
    }

    /// What is to be kept, if it has changed since this was last asked.
    pub fn take_wishes(&mut self) -> Option<Wishes> {
        std::mem::take(&mut self.has_new_wishes).then(|| Wishes {
            targets: self.targets().cloned().collect(),
            forgotten: self.forgotten.iter().cloned().collect(),
        })
    }

    /// Pursues nothing any more; what the operator said stays as it is kept.
    pub fn retire(&mut self) {
        self.pursuits.clear();
    }

    /// What the operator gave.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.pursuits.keys().filter_map(Goal::target).filter(|target| !self.listed.contains(target))
    }

    /// For each target that counts where the first ring is agreed on the peer that it led to, if it did: `Some(None)` is
    /// ourselves.
    pub fn leads(&self) -> impl Iterator<Item = Option<Option<PeerKey>>> {
        let has_weight = |goal: &Goal| goal.target().is_some_and(|target| self.listed.has_weight(target));
        let targets = self.pursuits.iter().filter(move |(goal, _)| has_weight(goal));
        targets.map(|(_, pursuit)| match pursuit.phase {
            Phase::Never => Some(None),
            Phase::Idle { .. } | Phase::Dialling(_) | Phase::Linked(_) => pursuit.peer.map(Some),
        })
    }

    /// The targets that led to nobody, or to a peer that is not there.
    pub fn unmet(&self, is_there: impl Fn(&PeerKey) -> bool) -> impl Iterator<Item = &Target> {
        self.pursuits.iter().filter_map(move |(goal, pursuit)| {
            let is_met = pursuit.phase == Phase::Never || pursuit.peer.is_some_and(|peer| is_there(&peer));
            goal.target().filter(|_| !is_met)
        })
    }

    /// Replaces the discovered peers to which the degree rule wants a connection, each with its addresses, best first.
    /// A target known to lead to a peer that is reachable and not wanted rests; so call this again when reachability
    /// changes. Without discovery nothing is wanted but targets, and none rests.
    pub fn set_wanted(
        &mut self,
        wanted: &BTreeMap<PeerKey, Vec<SocketAddr>>,
        is_reachable: impl Fn(&PeerKey) -> bool,
        now: Instant,
    ) {
        if self.config.discovery == Discovery::Off {
            return;
        }
        for (goal, pursuit) in &mut self.pursuits {
            pursuit.resting = match goal {
                Goal::Peer(peer) => !wanted.contains_key(peer),
                Goal::Target(_) => pursuit.peer.is_some_and(|peer| !wanted.contains_key(&peer) && is_reachable(&peer)),
            };
        }
        // An unwanted peer is remembered until its back-off ends: wanted again, it is not dialled at once again.
        self.pursuits.retain(|goal, pursuit| goal.target().is_some() || !pursuit.is_forgettable(now));
        for (peer, addresses) in wanted {
            self.want(*peer, addresses, now);
        }
        self.satisfy_goals();
        self.handle_timeout(now);
    }

    fn want(&mut self, peer: PeerKey, addresses: &[SocketAddr], now: Instant) {
        let destinations: Vec<_> = addresses.iter().take(ADDRESSES_MAX).copied().map(Destination::Address).collect();
        let known = self.pursuits.keys().filter(|goal| goal.target().is_none()).count();
        match self.pursuits.get_mut(&Goal::Peer(peer)) {
            Some(pursuit) if destinations.is_empty() || pursuit.destinations == destinations => {}
            Some(pursuit) => {
                pursuit.destinations = destinations;
                pursuit.position = 0;
                pursuit.try_at_once(now);
            }
            None if destinations.is_empty() || known >= PEER_GOALS_MAX => {}
            None => {
                let mut pursuit = Pursuit::new(destinations, now);
                pursuit.peer = Some(peer);
                self.pursuits.insert(Goal::Peer(peer), pursuit);
            }
        }
    }

    /// A connection to `peer` is open; `dial` if we opened it.
    pub fn handle_connected(
        &mut self,
        connection: ConnectionId,
        dial: Option<DialId>,
        peer: PeerKey,
        remote: SocketAddr,
        now: Instant,
    ) {
        let dialled = dial.and_then(|dial| self.dials.remove(&dial));
        let link = Link { peer, remote, is_inbound: dial.is_none(), since: now };
        self.links.insert(connection, link);
        if let Some((goal, _)) = dialled
            && let Some(pursuit) = self.pursuits.get_mut(&goal)
        {
            pursuit.peer = Some(peer);
            pursuit.last_error = None;
            pursuit.phase = Phase::Linked(connection);
            // It was forgotten under another name.
            self.has_new_wishes |=
                goal.target().is_some() && self.forgotten.forgive_peer(&peer, &[remote], self.config.default_port);
        }
        self.satisfy_goals();
        self.handle_timeout(now);
    }

    /// `dial` led to no connection, or to one that the node refused.
    pub fn handle_failed(&mut self, dial: DialId, error: &DialError, now: Instant) {
        let Some((goal, _)) = self.dials.remove(&dial) else { return };
        if let Some(pursuit) = self.pursuits.get_mut(&goal) {
            pursuit.peer = error.peer().or(pursuit.peer);
            pursuit.fail(shortened(error), now, &mut self.rng);
            // A discovered peer that has another address, too, may still be there.
            if *error == DialError::Itself && pursuit.destinations.len() == 1 {
                pursuit.phase = Phase::Never;
            }
        }
        self.satisfy_goals();
        self.handle_timeout(now);
    }

    /// A connection ended, for the reason `error`.
    pub fn handle_closed(&mut self, connection: ConnectionId, error: &impl fmt::Display, now: Instant) {
        let Some(link) = self.links.remove(&connection) else { return };
        for pursuit in self.pursuits.values_mut().filter(|pursuit| pursuit.phase == Phase::Linked(connection)) {
            if now.since(link.since) > SUCCESS_AGE {
                pursuit.last_error = Some(shortened(error));
                pursuit.phase = Phase::Idle { next_try: now };
                pursuit.try_at_once(now);
            } else {
                pursuit.fail(shortened(error), now, &mut self.rng);
            }
        }
        self.satisfy_goals();
        self.handle_timeout(now);
    }

    /// Dials every goal that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.dials.len() < DIALS_MAX {
            let Some(goal) = self.ready().find(|(_, next_try)| *next_try <= now).map(|(goal, _)| goal.clone()) else {
                return;
            };
            self.dial(goal, now);
        }
    }

    fn dial(&mut self, goal: Goal, now: Instant) {
        let limit = self.config.connection_limit;
        let is_full = limit != 0 && self.links.len() + self.dials.len() >= limit;
        let Some(pursuit) = self.pursuits.get_mut(&goal) else { return };
        if is_full {
            pursuit.fail(shortened(&DialError::ConnectionLimit { limit }), now, &mut self.rng);
            return;
        }
        let id = DialId(self.next_dial);
        self.next_dial += 1;
        pursuit.phase = Phase::Dialling(id);
        let destination = pursuit.destination().clone();
        self.outbox.push_back(Dial { id, destination: destination.clone() });
        self.dials.insert(id, (goal, destination));
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.dials.len() >= DIALS_MAX {
            return None;
        }
        self.ready().map(|(_, next_try)| next_try).min()
    }

    pub fn poll_dial(&mut self) -> Option<Dial> {
        self.outbox.pop_front()
    }

    /// Every goal and how far it has come, for `status connections`.
    pub fn attempts(&self) -> impl Iterator<Item = Attempt<'_>> {
        self.pursuits.iter().map(|(goal, pursuit)| pursuit.attempt(goal))
    }

    /// Goals that wait for their time, with that time.
    fn ready(&self) -> impl Iterator<Item = (&Goal, Instant)> {
        self.pursuits.iter().filter_map(|(goal, pursuit)| match pursuit.phase {
            Phase::Idle { next_try } if !pursuit.resting && !self.is_dialled(pursuit.destination()) => {
                Some((goal, next_try))
            }
            Phase::Idle { .. } | Phase::Dialling(_) | Phase::Linked(_) | Phase::Never => None,
        })
    }

    fn is_dialled(&self, destination: &Destination) -> bool {
        self.dials.values().any(|(_, dialled)| dialled == destination)
    }

    /// Marks idle goals that a live connection satisfies.
    fn satisfy_goals(&mut self) {
        for (goal, pursuit) in &mut self.pursuits {
            if let Phase::Idle { .. } = pursuit.phase
                && let Some((connection, link)) =
                    self.links.iter().find(|(_, link)| pursuit.is_satisfied_by(goal, link))
            {
                pursuit.peer = Some(link.peer);
                pursuit.last_error = None;
                pursuit.phase = Phase::Linked(*connection);
            }
        }
    }
}

fn shortened(error: &impl fmt::Display) -> String {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(ERROR_MAX_BYTES));
    text
}

#[cfg(test)]
mod tests;
