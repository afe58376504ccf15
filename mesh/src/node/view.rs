//! What a node knows, as plain values for the router, `status` and the simulator. Sets and tables are shared, so that a
//! view of a thousand peers is cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::Node;
use super::claims::Claims;
use super::links::Phase;
use crate::card::{Card, SignedCard};
use crate::connector::{AttemptState, ConnectionId, Destination, Target};
use crate::identity::PeerKey;
use crate::members::{HOLD, Member, Reach};
use crate::routes::{Relays, relays};
use crate::store::{Direction, Set};
use crate::time::Instant;

#[derive(Clone, Debug)]
pub struct View {
    pub card: Card,
    /// The same card as it travels in handshakes.
    pub signed_card: SignedCard,
    /// What we publish ourselves.
    pub own: Arc<Set>,
    /// Every other peer whose card is known, unreachable ones included.
    pub peers: BTreeMap<PeerKey, PeerView>,
    pub connections: Vec<ConnectionView>,
    pub targets: Vec<Target>,
    pub claims: Arc<Claims>,
    pub relays: Arc<Relays>,
}

#[derive(Clone, Debug)]
pub struct PeerView {
    pub card: Arc<Card>,
    pub standing: Standing,
    /// What it publishes; absent when it is unreachable for long or has said goodbye.
    pub set: Option<Arc<Set>>,
    /// Where its sleeve was last heard, as reported by [`Node::set_address`](super::Node::set_address).
    pub address: Option<SocketAddr>,
}

/// How a peer stands to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Reachable, and we have a connection to it.
    Neighbour { since: Instant },
    /// Reachable through others.
    Member { since: Instant },
    /// Unreachable, and its kernel entries stay until then.
    Held { since: Instant, until: Instant },
    /// Unreachable, and nothing of it is to be kept but its identity.
    Gone { since: Instant },
}

impl Standing {
    pub const fn is_reachable(&self) -> bool {
        matches!(self, Self::Neighbour { .. } | Self::Member { .. })
    }
}

/// One line of `status connections`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    pub direction: Direction,
    pub destination: Destination,
    pub peer: Option<PeerKey>,
    pub state: ConnectionState,
    /// What went wrong last, while there is no connection.
    pub last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Open, and the other end has not yet accepted it.
    Pending {
        connection: ConnectionId,
    },
    Established {
        connection: ConnectionId,
        since: Instant,
    },
    /// No connection: how far the dials have come.
    Dialling(AttemptState),
}

impl Node {
    /// What this node knows now. After an [`Event::ViewChanged`](super::Event::ViewChanged) this is asked for before
    /// the next one comes.
    pub fn view(&self) -> View {
        self.view_told.set(false);
        View {
            card: self.own.card().clone(),
            signed_card: self.own.signed_card().clone(),
            own: Arc::clone(self.own.set()),
            peers: self.members.iter().map(|(key, member)| (*key, self.view_peer(key, member))).collect(),
            connections: self.view_connections(),
            targets: self.connector.targets().cloned().collect(),
            claims: Arc::clone(&self.claims),
            relays: Arc::clone(self.relays.get_or_init(|| Arc::new(relays(self.own.set(), &self.topology)))),
        }
    }

    fn view_peer(&self, key: &PeerKey, member: &Member) -> PeerView {
        PeerView {
            card: Arc::clone(&member.card),
            standing: self.standing(key, member),
            set: self.store.get(key).cloned(),
            address: member.address,
        }
    }

    pub(super) fn standing(&self, key: &PeerKey, member: &Member) -> Standing {
        match member.reach {
            Reach::Reachable { since } if self.links.live_to(key).is_some() => Standing::Neighbour { since },
            Reach::Reachable { since } => Standing::Member { since },
            Reach::Unreachable { since } if member.departed.is_none() && self.now.since(since) < HOLD => {
                Standing::Held { since, until: since + HOLD }
            }
            Reach::Unreachable { since } | Reach::Heard { since } | Reach::Lost { since } => Standing::Gone { since },
        }
    }

    /// Open connections, then goals without one.
    fn view_connections(&self) -> Vec<ConnectionView> {
        let mut views: Vec<ConnectionView> = Vec::new();
        for (id, connection) in self.links.iter() {
            let state = match connection.phase {
                Phase::Opening => ConnectionState::Pending { connection: *id },
                Phase::Live { since } => ConnectionState::Established { connection: *id, since },
            };
            views.push(ConnectionView {
                direction: connection.direction(),
                destination: Destination::Address(connection.remote),
                peer: Some(connection.peer),
                state,
                last_error: None,
            });
        }
        let mut shown: BTreeSet<Destination> = BTreeSet::new();
        for attempt in self.connector.attempts() {
            let is_idle = matches!(attempt.state, AttemptState::Connected(_) | AttemptState::Resting);
            if is_idle || !shown.insert(attempt.destination.clone()) {
                continue;
            }
            views.push(ConnectionView {
                direction: Direction::Outbound,
                destination: attempt.destination.clone(),
                peer: attempt.peer,
                state: ConnectionState::Dialling(attempt.state),
                last_error: attempt.last_error.map(str::to_owned),
            });
        }
        views
    }
}
