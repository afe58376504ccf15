//! The node: this peer's view of the mesh and everything it decides, composed of smaller machines.
//!
//! ```text
//!                 ┌────────────────────────── Node ──────────────────────────┐
//!   connections ──┤ connector   whom to dial, when                           ├── Persist
//!   messages    ──┤ exchange    offers, asks, deltas ──► store (sets)        ├── Dial
//!   endpoints   ──┤ topology    edges both ends publish ──► reachable, relays├── Send, Close
//!   time        ──┤ degree      how many connections, to whom                ├── Event
//!                 └──────────────────────────────────────────────────────────┘
//! ```

mod persist;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use std::net::{IpAddr, SocketAddr};

use crate::card::{Card, CardError, SignedCard, Subnet};
use crate::connector::{ConnectionId, Connector, Dial, DialError, DialId, Discovery, Earlier, Target, TooManyTargets};
use crate::identity::{Hash, Identity, PeerKey};
use crate::name::{MacAddr, MeshId, PeerName};
use crate::store::{Endpoint, EndpointId};
use crate::time::{Instant, UnixTime};
use crate::wire::{Message, Refusal};

pub use self::persist::{Member, Persist, Restored};
pub use self::view::{AddressClaim, Claims, ConnectionState, ConnectionView, PeerView, Relays, Standing, View};

/// What the operator chose, and what the host is.
#[derive(Clone, Debug)]
pub struct Config {
    pub mesh: MeshId,
    pub discovery: Discovery,
    /// `--conn-limit`, a hard cap above the bounded degree; 0 is none.
    pub connection_limit: usize,
    pub listen_port: u16,
    pub targets: Vec<Target>,
    pub name: PeerName,
    pub nickname: String,
    pub bridge_mac: MacAddr,
    /// Where we listen, best first.
    pub addresses: Vec<SocketAddr>,
    pub trusted_subnets: Vec<Subnet>,
    pub instance_id: String,
    pub machine: Hash,
}

/// An open connection whose other end is authenticated.
#[derive(Clone, Debug)]
pub struct Link {
    /// The dial that led to it; none when the other end dialled.
    pub dial: Option<DialId>,
    pub remote: SocketAddr,
    /// The other end's card, from the handshake.
    pub card: SignedCard,
    /// Combined from both ends' random numbers, so that both ends prefer the same of two connections.
    pub uid: u64,
}

/// Something for the shell to do, in order.
#[derive(Clone, Debug)]
pub enum Output {
    Persist(Persist),
    Dial(Dial),
    Send {
        connection: ConnectionId,
        message: Message,
    },
    /// Close after what was sent before; no [`Node::handle_closed`] is expected.
    Close {
        connection: ConnectionId,
        reason: CloseReason,
    },
    Event(Event),
}

/// Something that the router may want to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// [`Node::view`] has changed; told once until it is asked for again.
    ViewChanged,
    PeerUp(PeerKey),
    PeerDown(PeerKey),
    /// Our name belongs to a peer with a lower key; this is ours from here on.
    Renamed(PeerName),
    /// A live daemon that started earlier has our key: this one must start again as a new identity.
    IdentityTaken,
    Warning(Warning),
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("two peers are called {name}: {winner} keeps the name, {loser} takes the one derived from its key")]
    NameCollision { name: PeerName, winner: PeerKey, loser: PeerKey },
    #[error("MAC {mac} of ours is also claimed by peer {winner}, which attached it later and has it")]
    MacTaken { mac: MacAddr, winner: PeerKey },
    #[error("address {address} of ours is also claimed by peer {winner}, which attached it later and has it")]
    AddressTaken { address: IpAddr, winner: PeerKey },
    #[error("peer {peer} sent what it should not: {problem}")]
    BadMessage { peer: PeerKey, problem: String },
    #[error("what was stored of peer {peer} is not used: {problem}")]
    BadState { peer: PeerKey, problem: String },
    #[error("what we publish is over a limit and stays as it was: {problem}")]
    NotPublished { problem: String },
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    #[error("refused here: {0}")]
    RefusedHere(Refusal),
    #[error("refused by the peer: {0}")]
    RefusedThere(Refusal),
    #[error("another connection to the same peer was kept")]
    Duplicate,
    #[error("the peer restarted and has connected again")]
    Replaced,
    #[error("nothing heard for {0} probes")]
    Silent(u8),
    #[error("more connections than needed")]
    Surplus,
    #[error("we leave the mesh")]
    Goodbye,
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// What the shell saw: reset, end of stream, a record that does not open.
    #[error("{0}")]
    Transport(String),
}

/// This peer's view of the mesh; see the module.
#[derive(Debug)]
pub struct Node {
    identity: Identity,
    card: Card,
    connector: Connector,
    outputs: VecDeque<Output>,
}

impl Node {
    /// # Errors
    /// When the card that `config` makes is over a limit, or the targets are too many.
    pub fn new(
        config: Config,
        identity: Identity,
        restored: Restored,
        seed: u64,
        now: Instant,
        wall: UnixTime,
    ) -> Result<Self, ConfigError> {
        let incarnation = wall.0.max(restored.incarnation + 1);
        let card = Card {
            mesh: config.mesh,
            key: identity.key(),
            noise_key: identity.noise_key(),
            name: config.name,
            nickname: config.nickname,
            bridge_mac: config.bridge_mac,
            addresses: config.addresses,
            trusted_subnets: config.trusted_subnets,
            instance_id: config.instance_id,
            machine: config.machine,
            incarnation,
        };
        SignedCard::sign(&card, &identity)?;
        let connector_config = crate::connector::Config {
            discovery: config.discovery,
            default_port: config.listen_port,
            connection_limit: config.connection_limit,
        };
        let mut connector = Connector::new(connector_config, seed);
        connector.connect(&config.targets, Earlier::Keep, now)?;
        Ok(Self { identity, card, connector, outputs: VecDeque::new() })
    }

    pub fn key(&self) -> PeerKey {
        self.identity.key()
    }

    /// Our card as handshakes carry it; it changes when we are renamed or jump to a higher incarnation.
    pub fn signed_card(&self) -> SignedCard {
        todo!("{:?}", self.card)
    }

    /// `dial` led to no authenticated connection.
    pub fn handle_dial_failed(&mut self, dial: DialId, error: &DialError, now: Instant) {
        self.connector.handle_failed(dial, error, now);
    }

    /// A connection is open and its other end authenticated. Whether we keep it is told by the outputs.
    pub fn handle_connected(&mut self, connection: ConnectionId, link: Link, now: Instant) {
        let _ = (connection, link, now);
    }

    pub fn handle_message(&mut self, connection: ConnectionId, message: Message, now: Instant) {
        let _ = (connection, message, now);
    }

    /// A connection ended otherwise than by [`Output::Close`].
    pub fn handle_closed(&mut self, connection: ConnectionId, reason: CloseReason, now: Instant) {
        let _ = (connection, reason, now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.connector.handle_timeout(now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.connector.poll_timeout()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// # Errors
    /// When the targets would be too many; nothing is changed then.
    pub fn connect(&mut self, targets: &[Target], earlier: Earlier, now: Instant) -> Result<(), TooManyTargets> {
        self.connector.connect(targets, earlier, now)
    }

    pub fn forget(&mut self, targets: &[Target], now: Instant) {
        let _ = now;
        self.connector.forget(targets);
    }

    /// Replaces our endpoints.
    ///
    /// # Errors
    /// When one has a list or text over its limit, or they are too many; nothing is changed then.
    pub fn set_endpoints(
        &mut self,
        endpoints: BTreeMap<EndpointId, Endpoint>,
        now: Instant,
    ) -> Result<(), EndpointsError> {
        let _ = (endpoints, now);
        Ok(())
    }

    /// The Lamport time for an endpoint that is attached now: later than every attachment known here.
    pub fn next_attach_time(&self) -> u64 {
        0
    }

    /// The peers with which the datapath has a direct session; published on our edges.
    pub fn set_direct_sessions(&mut self, peers: BTreeSet<PeerKey>, now: Instant) {
        let _ = (peers, now);
    }

    /// Where the sleeve of `peer` was last heard; kept with the peer across restarts.
    pub fn set_address(&mut self, peer: PeerKey, address: SocketAddr) {
        let _ = (peer, address);
    }

    /// Tells everyone that we leave for good, and closes every connection.
    pub fn say_goodbye(&mut self, now: Instant) {
        let _ = now;
    }

    pub fn view(&self) -> View {
        todo!()
    }

    /// How many peers we know to be reachable, ourselves included; cheap.
    pub fn reachable_count(&self) -> usize {
        1
    }

    /// Whether `peer` is reachable; cheap.
    pub fn is_reachable(&self, peer: &PeerKey) -> bool {
        *peer == self.key()
    }

    /// How many connections are open; cheap.
    pub fn connection_count(&self) -> usize {
        0
    }
}

/// A configuration that makes no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Card(#[from] CardError),
    #[error(transparent)]
    Targets(#[from] TooManyTargets),
}

/// Endpoints that are not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointsError {
    #[error("endpoint `{container}` has a list or text over its limit")]
    OverLimit { container: String },
    #[error("{0} endpoints are more than a peer may have")]
    TooMany(usize),
}
