//! The node: this peer's view of the mesh and everything it decides, composed of smaller machines.
//!
//! ```text
//!                 ┌────────────────────────────── Node ──────────────────────────────┐
//!   connections ──┤ links      open connections        connector  whom to dial, when ├── Persist
//!   messages    ──┤ exchange ► store    sets           degree     how many, with whom├── Dial
//!   endpoints   ──┤ own        what we publish, paced  members    who everybody is   ├── Send, Close
//!   time        ──┤ topology   edges ► who is reachable ► routes, claims             ├── Event
//!                 └──────────────────────────────────────────────────────────────────┘
//!   node/connecting.rs  a connection opens, is accepted or refused, ends
//!   node/gossip.rs      messages; a set is accepted; reachability follows
//!   node/answering.rs   whose names are answered
//!   node/naming.rs      two keys with one name, two daemons with one key
//!   node/letters.rs     letters: for us, or passed on
//!   node/attach_clock.rs  who attached later
//!   node/listing.rs     who should be here, as a list says
//!   node/forgetting.rs  who is gone for good
//!   node/room.rs        which sets of others are kept: sponsors.rs, strangers.rs
//!   node/upkeep.rs      everything that time does
//! ```
//!
//! Invariants:
//! - a set is in the store's listing if and only if its owner is reachable;
//! - an edge is published if and only if a connection to that peer is live, within the pace of publication;
//! - between two peers there is at most one live connection once both ends have seen all of theirs;
//! - outputs are in order: what must be durable comes before the message that relies on it.

mod addressing;
mod answering;
mod attach_clock;
mod claims;
mod connecting;
mod forgetting;
mod gossip;
mod letters;
pub(crate) mod links;
mod listing;
mod naming;
mod output;
mod own;
mod persist;
mod room;
mod sponsors;
mod strangers;
mod upkeep;
mod view;

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::allowance::Allowance;
use crate::card::{Card, CardError, SignedCard, Subnet};
use crate::connector::{Connector, DialError, DialId, Discovery, Earlier, Target, TooManyTargets};
use crate::degree::Degree;
use crate::dns::Zone;
use crate::identity::{Hash, Identity, PeerKey};
use crate::ipam::{self, Ipam};
use crate::members::Members;
use crate::name::{MacAddr, MeshId, PeerName};
use crate::pace::Pace;
use crate::roster::Roster;
use crate::store::{Content, Endpoint, EndpointId, Exchange, HostName, SET_RECORDS_MAX, Session, Set, Store};
use crate::time::{Instant, UnixTime};
use crate::topology::Topology;
use crate::verifier::Verifier;
use crate::wire::{Goodbye, Message};

pub use self::claims::{AddressClaim, Claims};
pub use self::connecting::Link;
pub(crate) use self::letters::AUTHORED;
pub use self::output::{CloseReason, Event, Output, Warning};
pub use self::persist::{Persist, RestoreError, Restored, StoredMember};
pub use self::view::{ConnectionState, ConnectionView, PeerView, Standing, View};
pub use crate::routes::Relays;

use self::attach_clock::AttachClock;
use self::links::Links;
use self::naming::Jumps;
use self::own::{Own, OwnError};
use self::sponsors::Sponsors;
use self::strangers::Strangers;
use self::upkeep::Timers;

/// How many endpoints one peer publishes: a set's records, less room for its edges.
const ENDPOINTS_MAX: usize = SET_RECORDS_MAX - HOST_NAMES_MAX - 1_000;
/// How many names are given by hand on one host.
pub const HOST_NAMES_MAX: usize = 20_000;

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
    /// Without it no addresses are managed.
    pub ipam: Option<ipam::Config>,
}

impl Config {
    fn card(&self, identity: &Identity, incarnation: u64) -> Card {
        Card {
            mesh: self.mesh,
            key: identity.key(),
            noise_key: identity.noise_key(),
            knock: identity.knock(),
            name: self.name,
            nickname: self.nickname.clone(),
            bridge_mac: self.bridge_mac,
            port: self.listen_port,
            addresses: self.addresses.clone(),
            trusted_subnets: self.trusted_subnets.clone(),
            instance_id: self.instance_id.clone(),
            machine: self.machine,
            incarnation,
        }
    }
}

/// A configuration that makes no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Card(#[from] CardError),
    #[error(transparent)]
    Targets(#[from] TooManyTargets),
    #[error("cannot publish a card: {0}")]
    Own(String),
    #[error(transparent)]
    Ipam(#[from] ipam::ConfigError),
}

/// Endpoints that are not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointsError {
    #[error("endpoint `{container}` has a list or text over its limit")]
    OverLimit { container: String },
    #[error("{0} endpoints are more than the {ENDPOINTS_MAX} that one peer may have")]
    TooMany(usize),
    #[error("{0} names are more than the {HOST_NAMES_MAX} that one peer may give by hand")]
    TooManyNames(usize),
}

/// Whether we take part in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Here,
    /// We said goodbye, or another daemon has our key: nothing is dialled or accepted.
    Left,
}

/// This peer's view of the mesh; see the module.
#[derive(Debug)]
pub struct Node {
    listen_port: u16,
    connection_limit: usize,
    discovery: Discovery,
    presence: Presence,
    own: Own,
    verifier: Verifier,
    links: Links,
    connector: Connector,
    degree: Degree,
    members: Members,
    /// Who should be here, where a cloud says so.
    roster: Roster,
    store: Store,
    exchange: Exchange,
    sponsors: Sponsors,
    strangers: Strangers,
    topology: Topology,
    direct_sessions: BTreeSet<PeerKey>,
    ipam: Option<Ipam>,
    attach_clock: AttachClock,
    jumps: Jumps,
    persisting: Allowance,
    claims: Arc<Claims>,
    claims_pace: Pace,
    /// Computed when asked for, forgotten when an edge changes.
    relays: OnceCell<Arc<Relays>>,
    zone: Zone,
    /// When which unreachable peer's names cease to be answered; each peer at most once.
    lapses: BTreeSet<(Instant, PeerKey)>,
    /// A change of the names was told and the names not asked for since.
    names_told: bool,
    /// A change of the view was told and the view not asked for since.
    view_told: Cell<bool>,
    timers: Timers,
    /// The time of the latest input.
    now: Instant,
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
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut verifier = Verifier::new(identity.scheme(), config.mesh);
        let incarnation = wall.0.max(restored.incarnation.saturating_add(1));
        let own =
            Own::new(config.card(&identity, incarnation), identity, &mut verifier).map_err(|error| match error {
                OwnError::Card(error) => ConfigError::Card(error),
                OwnError::Set(error) => ConfigError::Own(error.to_string()),
            })?;
        let connector_config = crate::connector::Config {
            discovery: config.discovery,
            default_port: config.listen_port,
            connection_limit: config.connection_limit,
        };
        let mut node = Self {
            listen_port: config.listen_port,
            connection_limit: config.connection_limit,
            discovery: config.discovery,
            presence: Presence::Here,
            topology: Topology::new(Arc::clone(own.set())),
            sponsors: Sponsors::new(own.set().owner()),
            own,
            verifier,
            links: Links::default(),
            connector: Connector::new(connector_config, rng.next_u64()),
            degree: Degree::new(rng.next_u64()),
            members: Members::default(),
            roster: Roster::default(),
            store: Store::default(),
            exchange: Exchange::default(),
            strangers: Strangers::default(),
            direct_sessions: BTreeSet::new(),
            ipam: None,
            attach_clock: AttachClock::default(),
            jumps: Jumps::default(),
            persisting: upkeep::PERSISTING,
            claims: Arc::default(),
            claims_pace: Pace::default(),
            relays: OnceCell::new(),
            zone: Zone::default(),
            lapses: BTreeSet::new(),
            names_told: false,
            view_told: Cell::new(false),
            timers: Timers::new(&mut rng, now),
            now,
            outputs: VecDeque::from([Output::Persist(Persist::Incarnation(incarnation))]),
        };
        node.store.insert(Arc::clone(node.own.set()), None);
        node.store.list(&node.own.card().key);
        let addresses = restored.ipam.clone();
        node.connector.restore(restored.forgotten.clone());
        node.restore(restored, now);
        node.connector.connect(&config.targets, Earlier::Keep, now)?;
        if let Some(config) = config.ipam {
            node.start_ipam(config, &addresses, rng.next_u64())?;
        }
        node.finish(now);
        Ok(node)
    }

    /// Takes up what was persisted. Sets are held, not part of the graph, until a neighbour vouches for them.
    fn restore(&mut self, restored: Restored, now: Instant) {
        for bytes in restored.members {
            let member = match StoredMember::decode(&bytes, &mut self.verifier) {
                Ok(member) => member,
                Err(error) => {
                    self.warn(Warning::BadState { problem: error.to_string() });
                    continue;
                }
            };
            let Content::Card(signed) = member.card.content() else { continue };
            let Ok(card) = self.verifier.check(signed) else { continue };
            if card.key == self.key() {
                continue;
            }
            self.members.restore(&card, &member.card, member.address, member.answering, now);
            if let Some(set) = member.set {
                self.note_endpoints(&set, now);
                self.store.insert(set, None);
            }
            if member.answering {
                self.start_answering(&card.key);
                self.schedule_lapse(&card.key, now);
            }
        }
        // Whoever we are told to dial may be gone while others are back.
        self.degree.request_review(now);
    }

    pub fn key(&self) -> PeerKey {
        self.own.card().key
    }

    /// Our card as it is published next.
    pub fn card(&self) -> &Card {
        self.own.card()
    }

    /// Our card as handshakes carry it; it changes when we are renamed or jump to a higher incarnation.
    pub fn signed_card(&self) -> SignedCard {
        self.own.signed_card().clone()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// `dial` led to no authenticated connection.
    pub fn handle_dial_failed(&mut self, dial: DialId, error: &DialError, now: Instant) {
        self.connector.handle_failed(dial, error, now);
        self.finish(now);
    }

    /// # Errors
    /// When the targets would be too many; nothing is changed then.
    pub fn connect(&mut self, targets: &[Target], earlier: Earlier, now: Instant) -> Result<(), TooManyTargets> {
        self.connector.connect(targets, earlier, now)?;
        self.view_changed();
        self.finish(now);
        Ok(())
    }

    /// Stops dialling `targets`, and whoever is known to be there, until they are given again.
    pub fn forget(&mut self, targets: &[Target], now: Instant) {
        let neighbour = |address: &SocketAddr| self.links.live().find(|(_, link)| link.remote == *address);
        let owner = |address: &SocketAddr| {
            let neighbour = neighbour(address).map(|(_, link)| link.peer);
            neighbour.or_else(|| self.members.at(address))
        };
        self.connector.forget(targets, owner);
        self.degree.request_review(now);
        self.view_changed();
        self.finish(now);
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
        if endpoints.len() > ENDPOINTS_MAX {
            return Err(EndpointsError::TooMany(endpoints.len()));
        }
        if let Some(endpoint) = endpoints.values().find(|endpoint| !endpoint.is_within_limits()) {
            return Err(EndpointsError::OverLimit { container: endpoint.container.clone() });
        }
        let latest = endpoints.values().map(|endpoint| endpoint.attached).max();
        self.attach_clock.note_own(latest.unwrap_or_default());
        let differences = self.own.set_endpoints(endpoints, now);
        if !differences.is_empty() {
            self.answer_differences(&differences);
            self.request_claims(now);
        }
        self.finish(now);
        Ok(())
    }

    /// Of the names that are given by hand on this host these are `gone`, and these are `new`.
    ///
    /// # Errors
    /// When one has a text over its limit, or they are too many; nothing is changed then.
    pub fn change_host_names(
        &mut self,
        gone: &[HostName],
        new: Vec<HostName>,
        now: Instant,
    ) -> Result<(), EndpointsError> {
        let names = self.own.host_names() + new.len();
        if names > HOST_NAMES_MAX + gone.len() {
            return Err(EndpointsError::TooManyNames(names));
        }
        if let Some(host_name) = new.iter().find(|host_name| !host_name.is_within_limits()) {
            return Err(EndpointsError::OverLimit { container: host_name.container.clone() });
        }
        let differences = self.own.change_host_names(gone, new, now);
        self.answer_differences(&differences);
        self.finish(now);
        Ok(())
    }

    /// The Lamport time for an endpoint that is attached now: later than every attachment known here.
    pub const fn next_attach_time(&self) -> u64 {
        self.attach_clock.next()
    }

    /// The peers with which the datapath has a direct session; published on our edges.
    pub fn set_direct_sessions(&mut self, peers: BTreeSet<PeerKey>, now: Instant) {
        let changed: Vec<PeerKey> = self.direct_sessions.symmetric_difference(&peers).copied().collect();
        self.direct_sessions = peers;
        for peer in changed {
            self.update_edge(&peer, now);
        }
        self.finish(now);
    }

    fn session(&self, peer: &PeerKey) -> Session {
        if self.direct_sessions.contains(peer) { Session::Direct } else { Session::Indirect }
    }

    /// Where the sleeve of `peer` was last heard; kept with the peer across restarts.
    pub fn set_address(&mut self, peer: PeerKey, address: SocketAddr) {
        self.members.set_address(&peer, address);
    }

    /// This host has these underlay addresses now, best first. Others hear of it, and whom we could not reach from where
    /// we were is tried again at once.
    pub fn follow_underlay(&mut self, addresses: Vec<SocketAddr>, now: Instant) {
        if self.own.card().addresses == addresses {
            return;
        }
        if let Err(error) = self.own.set_addresses(addresses, now) {
            self.warn(Warning::NotPublished { problem: error.to_string() });
        }
        self.connector.hasten(now);
        self.view_changed();
        self.finish(now);
    }

    /// Tells everyone that we leave for good, and closes every connection.
    pub fn say_goodbye(&mut self, now: Instant) {
        let card = self.own.card();
        let goodbye = Goodbye::sign(self.own.identity(), card.mesh, card.incarnation);
        self.leave(&Message::Goodbye(goodbye), &CloseReason::Goodbye, now);
    }

    /// Whether our containers, or their names, are others than our neighbours were told so far; cheap.
    pub const fn has_unpublished_containers(&self) -> bool {
        self.own.has_other_containers()
    }

    /// How many peers are reachable, ourselves included; cheap.
    pub const fn reachable_count(&self) -> usize {
        self.topology.reachable_count()
    }

    /// Whether `peer` is reachable; cheap.
    pub fn is_reachable(&self, peer: &PeerKey) -> bool {
        self.topology.is_reachable(peer)
    }

    /// How many connections are open; cheap.
    pub fn connection_count(&self) -> usize {
        self.links.len()
    }

    /// How many peers are remembered, reachable or not; cheap.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// What a peer publishes, as far as we know; cheap.
    pub fn set_of(&self, peer: &PeerKey) -> Option<&Arc<Set>> {
        self.store.get(peer)
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn warn(&mut self, warning: Warning) {
        self.event(Event::Warning(warning));
    }

    fn view_changed(&mut self) {
        if !self.view_told.replace(true) {
            self.event(Event::ViewChanged);
        }
    }
}

#[cfg(test)]
mod tests;
