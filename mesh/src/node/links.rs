//! The open connections of a node.
//!
//! ```text
//!   handle_connected ── accepted here ──► Opening ── the other end's Open ──► Live: an edge, gossip
//!                  └─── refused here           └─── its Refusal, silence ──► closed
//! ```
//!
//! Of two connections with one peer the one with the lower uid stays. The loser is closed only when the winner is live,
//! so that the edge does not blink.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::allowance::Allowance;
use crate::connector::{ConnectionId, DialId};
use crate::identity::PeerKey;
use crate::store::Direction;
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepted here; the other end has not said so yet.
    Opening,
    Live {
        since: Instant,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) peer: PeerKey,
    /// Of the card in its handshake.
    pub(super) incarnation: u64,
    pub(super) uid: u64,
    pub(super) remote: SocketAddr,
    pub(super) dial: Option<DialId>,
    pub(super) phase: Phase,
    /// Probe intervals in a row in which nothing was heard.
    pub(super) misses: u8,
    /// Something was heard in the present interval.
    pub(super) was_heard: bool,
    /// What it may still hand us of letters, octets.
    pub(super) letters: Allowance,
}

impl Connection {
    pub(super) const fn direction(&self) -> Direction {
        if self.dial.is_some() { Direction::Outbound } else { Direction::Inbound }
    }

    pub(crate) const fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Links {
    connections: BTreeMap<ConnectionId, Connection>,
}

impl Links {
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ConnectionId, &Connection)> {
        self.connections.iter()
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    /// Live connections with these peers.
    #[cfg(test)]
    pub(crate) fn live_with(peers: impl IntoIterator<Item = (ConnectionId, PeerKey)>) -> Self {
        let live = |(id, peer)| {
            let phase = Phase::Live { since: Instant::ZERO };
            let remote = ([10, 0, 0, 9], 6783).into();
            let letters = Allowance::new(0, 0);
            let connection = Connection {
                peer,
                incarnation: 1,
                uid: 1,
                remote,
                dial: None,
                phase,
                misses: 0,
                was_heard: true,
                letters,
            };
            (id, connection)
        };
        Self { connections: peers.into_iter().map(live).collect() }
    }

    pub(super) fn insert(&mut self, id: ConnectionId, connection: Connection) {
        self.connections.insert(id, connection);
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.connections.remove(&id)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    /// Every connection with `peer`, live or not.
    pub(super) fn all_to(&self, peer: &PeerKey) -> Vec<(ConnectionId, Connection)> {
        let to_peer = self.connections.iter().filter(|(_, connection)| connection.peer == *peer);
        to_peer.map(|(id, connection)| (*id, connection.clone())).collect()
    }

    pub(crate) fn live_to(&self, peer: &PeerKey) -> Option<(ConnectionId, &Connection)> {
        self.live().find(|(_, connection)| connection.peer == *peer)
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.connections.iter().filter(|(_, connection)| connection.is_live()).map(|(id, connection)| (*id, connection))
    }

    /// The peers with a connection, live or not.
    pub(super) fn peers(&self) -> BTreeSet<PeerKey> {
        self.connections.values().map(|connection| connection.peer).collect()
    }

    /// A probe interval has passed: counts who was silent in it, and returns those silent for `limit` intervals.
    pub(super) fn count_misses(&mut self, limit: u8) -> Vec<ConnectionId> {
        for connection in self.connections.values_mut() {
            let was_heard = std::mem::take(&mut connection.was_heard);
            connection.misses = if was_heard { 0 } else { connection.misses + 1 };
        }
        let silent = self.connections.iter().filter(|(_, connection)| connection.misses >= limit);
        silent.map(|(id, _)| *id).collect()
    }
}
