//! A whole mesh in one thread, under a virtual clock: every daemon's real node, a simulated underlay, and faults.
//!
//! ```text
//!            ┌───────────── queue of events, by virtual time ◄─────────────┐
//!            ▼                                                             │
//!   arrival, timer, fault ──► Input ──► Node (one per host) ──► Output ──► stream, disk, timer
//!                                        │
//!                                        └► checks: what must hold after every step
//! ```
//!
//! Invariants:
//! - one seed, one history: chance comes from one generator, events of one moment keep the order of their making;
//! - time moves only from event to event;
//! - nodes see the same calls here as in a daemon.

mod census;
mod chaos;
mod checks;
mod cloud;
mod containers;
mod daemon;
mod deliveries;
mod faults;
mod host;
mod input;
mod liar;
mod network;
mod queue;
mod scenario;
mod stream;
mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::census::Census;
pub use self::checks::{Broken, Violation};
pub use self::cloud::Weather;
pub use self::deliveries::Deliveries;
pub use self::faults::Fault;
pub use self::input::{Input, Recording};
pub use self::network::{Network, Traffic};
pub use self::scenario::{InvalidSplit, Report, Scenario, Split};
pub use self::trace::{Entry, Trace};

use self::cloud::Cloud;
use self::host::Host;
use self::network::{Cuts, Dice};
use self::queue::{Event, Queue};
use self::stream::{Stream, StreamId};
use crate::connector::{Discovery, Target};
use crate::identity::{Hash, PeerKey, Scheme};
use crate::ipam;
use crate::name::MeshId;
use crate::node::Node;
use crate::noise::Psk;
use crate::time::Instant;

/// Where every simulated host listens.
const LISTEN_PORT: u16 = 6783;
/// The machine id that all clones show.
const CLONED_MACHINE: Hash = [1; 32];
/// How often a condition is looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// One simulated host, numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostId(pub usize);

/// How much of a connection is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fidelity {
    /// Each stream carries the bytes of two connection machines.
    Streams,
    /// Messages cross as they are; their bytes are counted.
    Messages,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub peers: usize,
    pub seed: u64,
    /// Every host is told the first so many hosts.
    pub seeds: usize,
    pub fidelity: Fidelity,
    pub scheme: Scheme,
    pub network: Network,
    pub discovery: Discovery,
    /// `--conn-limit`.
    pub connection_limit: usize,
    /// Every daemon starts at a random moment of this time.
    pub start_within: Duration,
    pub mesh: MeshId,
    pub psks: Vec<Psk>,
    /// Containers on each host.
    pub endpoints: u32,
    /// Whose inputs are recorded, from its first start on.
    pub record: Option<HostId>,
    /// How addresses are managed, everywhere.
    pub ipam: Option<ipam::Config>,
    /// The hosts are machines of a cloud, which every daemon asks who there is.
    pub cloud: Option<Weather>,
    /// All hosts are made of one image: they show one machine id, and no instance id.
    pub are_clones: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            peers: 3,
            seed: 1,
            seeds: 1,
            fidelity: Fidelity::Streams,
            scheme: Scheme::Simulated,
            network: Network::default(),
            discovery: Discovery::On,
            connection_limit: 200,
            start_within: Duration::from_secs(1),
            mesh: MeshId::of("weave"),
            psks: vec![[7; 32]],
            endpoints: 1,
            record: None,
            ipam: None,
            cloud: None,
            are_clones: false,
        }
    }
}

/// The simulation; see the module's drawing.
#[derive(Debug)]
pub struct World {
    options: Options,
    now: Instant,
    hosts: Vec<Host>,
    /// Who is at an address.
    tenants: BTreeMap<SocketAddr, HostId>,
    cloud: Option<Cloud>,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    queue: Queue,
    /// Hosts whose start is scheduled.
    starting: BTreeSet<HostId>,
    /// Inputs of this moment, for the run of a daemon that is given with its host.
    inbox: VecDeque<(HostId, u32, Input)>,
    dice: Dice,
    cuts: Cuts,
    trace: Trace,
    traffic: Traffic,
    deliveries: Deliveries,
    violations: Vec<Violation>,
    /// The recording of a daemon that has ended.
    recording: Option<Box<Recording>>,
    /// The rule that every daemon breaks.
    #[cfg(test)]
    pub(crate) broken: Option<ipam::Rule>,
}

impl World {
    /// A world in which every host will start its daemon soon.
    pub fn new(options: Options) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            hosts: Vec::new(),
            tenants: BTreeMap::new(),
            cloud: options.cloud.map(|weather| Cloud::new(weather, options.peers)),
            streams: BTreeMap::new(),
            next_stream: 0,
            queue: Queue::default(),
            starting: BTreeSet::new(),
            inbox: VecDeque::new(),
            dice: Dice::new(options.seed),
            cuts: Cuts::default(),
            trace: Trace::default(),
            traffic: Traffic::default(),
            deliveries: Deliveries::default(),
            violations: Vec::new(),
            recording: None,
            #[cfg(test)]
            broken: None,
            options,
        };
        for _ in 0..world.options.peers {
            let host = world.add_host();
            let after = world.dice.between(Duration::ZERO, world.options.start_within);
            world.schedule(after, Fault::Start(host));
        }
        world
    }

    /// A further host, told the seeds; its daemon does not run yet.
    pub fn add_host(&mut self) -> HostId {
        let id = HostId(self.hosts.len());
        let seeds = (0..self.options.seeds).map(HostId).filter(|seed| *seed != id);
        let targets = seeds.map(|seed| target_at(&host::address_of(seed))).collect();
        let address = cloud::address_of_next(self, id);
        let mut host = Host::new(id, address, targets, &mut self.dice);
        self.tenants.insert(address, id);
        if let Some(cloud) = &mut self.cloud {
            cloud.launch(id, self.now);
        }
        if self.options.are_clones {
            (host.machine, host.instance) = (CLONED_MACHINE, String::new());
        }
        host.endpoints = (0..self.options.endpoints).map(|container| host::endpoint(id, container, 1)).collect();
        self.hosts.push(host);
        id
    }

    /// Lets the daemon of `host` be told other targets than the seeds at its next start.
    pub fn set_targets(&mut self, host: HostId, targets: &[HostId]) {
        self.hosts[host.0].targets = targets.iter().map(|target| self.target_of(*target)).collect();
    }

    /// How `host` takes part in the first ring, from its next start on; unlike the others.
    pub fn set_init(&mut self, host: HostId, init: ipam::Init) {
        self.hosts[host.0].init = Some(init);
    }

    pub const fn now(&self) -> Instant {
        self.now
    }

    pub const fn options(&self) -> &Options {
        &self.options
    }

    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    pub const fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub const fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// What did not hold, so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The hosts whose daemon runs.
    pub fn live(&self) -> impl Iterator<Item = HostId> {
        self.hosts.iter().filter(|host| host.daemon.is_some()).map(|host| host.id)
    }

    /// The node of a running daemon.
    pub fn node(&self, host: HostId) -> Option<&Node> {
        self.hosts[host.0].daemon.as_ref().map(|daemon| &daemon.node)
    }

    /// The key of a running daemon.
    pub fn key(&self, host: HostId) -> Option<PeerKey> {
        self.hosts[host.0].daemon.as_ref().map(|daemon| daemon.key)
    }

    /// The recorded run of [`Options::record`], until now or until it ended.
    pub fn recording(&self) -> Option<&Recording> {
        let running = self.options.record.and_then(|host| self.hosts[host.0].daemon.as_ref()?.recording.as_deref());
        running.or(self.recording.as_deref())
    }

    /// What the datapath of `host` would report.
    pub fn set_direct_sessions(&mut self, host: HostId, peers: BTreeSet<PeerKey>) {
        self.feed(host, Input::DirectSessions(peers));
    }

    /// Who is at `address`.
    fn tenant(&self, address: SocketAddr) -> Option<HostId> {
        self.tenants.get(&address).copied()
    }

    fn target_of(&self, host: HostId) -> Target {
        target_at(&self.host(host).address)
    }

    fn host(&self, host: HostId) -> &Host {
        &self.hosts[host.0]
    }

    /// Runs until `condition` holds or for `limit`; the moment at which it was found to hold.
    pub fn run_until(&mut self, limit: Duration, mut condition: impl FnMut(&Self) -> bool) -> Option<Instant> {
        let deadline = self.now + limit;
        self.work();
        loop {
            if condition(self) {
                return Some(self.now);
            }
            if self.now >= deadline {
                return None;
            }
            self.advance((self.now + CHECK_INTERVAL).min(deadline));
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.advance(self.now + time);
    }

    /// All machines are suspended for `time`: clocks go on, and nothing else does. So years pass in no time.
    pub fn skip(&mut self, time: Duration) {
        self.work();
        self.queue.postpone(time);
        self.now += time;
    }

    /// Lets everything happen up to `until`.
    fn advance(&mut self, until: Instant) {
        self.work();
        while let Some((at, event)) = self.queue.pop(until) {
            self.now = at;
            self.handle(event);
            self.work();
        }
        self.now = until;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Syn { from, boot, dial, to } => self.handle_syn(from, boot, dial, to),
            Event::DialFailed { host, boot, dial, error } => {
                self.inbox.push_back((host, boot, Input::DialFailed(dial, error)));
            }
            Event::Arrive { stream, side, payload } => self.handle_arrival(stream, side, payload),
            Event::HandshakeTimer { stream, side } => self.handle_handshake_timer(stream, side),
            Event::NodeTimer { host, boot } => self.handle_node_timer(host, boot),
            Event::Ask { host, boot } => self.handle_ask(host, boot),
            Event::Listed { host, boot, listing } => self.handle_listed(host, boot, listing),
            Event::Fault(fault) => self.apply(fault),
        }
    }

    fn violate(&mut self, violation: Violation) {
        self.trace.note(self.now, HostId(0), HostId(0), format!("VIOLATED: {violation}"));
        if self.violations.len() < checks::VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }
}

/// What an operator writes to mean who is at `address`.
fn target_at(address: &SocketAddr) -> Target {
    address.ip().to_string().parse().expect("an address is a target")
}
