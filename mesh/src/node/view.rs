//! What a node knows, as plain values for the router, `status` and the simulator. Sets and tables are shared, so that a
//! view of a thousand peers is cheap.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::card::{Card, SignedCard};
use crate::connector::{AttemptState, ConnectionId, Destination, Target};
use crate::identity::PeerKey;
use crate::name::MacAddr;
use crate::store::{Direction, Set};
use crate::time::Instant;

#[derive(Clone, Debug)]
pub struct View {
    pub card: Arc<Card>,
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

/// Who has which MAC and which address, conflicts decided: among owners that are reachable, else among those held, the
/// higher (time of attachment, owner key) wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub macs: BTreeMap<MacAddr, PeerKey>,
    pub addresses: BTreeMap<IpAddr, AddressClaim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressClaim {
    pub owner: PeerKey,
    pub mac: MacAddr,
}

/// For each peer without a direct session of ours: neighbours with one that can relay towards it, best first.
pub type Relays = BTreeMap<PeerKey, Vec<PeerKey>>;
