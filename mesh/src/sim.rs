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

mod chaos;
mod checks;
mod deliveries;
mod faults;
mod host;
mod input;
mod network;
mod scenario;
mod stream;
mod trace;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::checks::{Broken, Violation};
pub use self::deliveries::Deliveries;
pub use self::faults::Fault;
pub use self::input::{Input, Recording};
pub use self::network::{Network, Traffic};
pub use self::scenario::{InvalidSplit, Report, Scenario, Split};
pub use self::trace::{Entry, Trace};

use self::host::{Daemon, Host};
use self::network::{Cuts, Dice};
use self::stream::{Payload, Side, Stream, StreamId};
use crate::connector::{ConnectionId, DialError, DialId, Discovery, Target};
use crate::identity::{PeerKey, Scheme};
use crate::name::{MeshId, PeerName};
use crate::node::{self, Config, Node, Output};
use crate::noise::Psk;
use crate::time::Instant;
use crate::wire::Message;

/// Where every simulated host listens.
const LISTEN_PORT: u16 = 6783;
/// How often a condition is looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Up to so many hosts, what must hold is checked after every step; beyond, when a run asks for it.
const CHECKED_EACH_STEP_MAX: usize = 64;
/// A node whose timer is due again at once is asked again after this time, and reported.
const BUSY_TIMER_DELAY: Duration = Duration::from_millis(10);

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
        }
    }
}

/// Something that will happen.
#[derive(Debug)]
enum Event {
    Syn { from: HostId, boot: u32, dial: DialId, to: HostId },
    DialFailed { host: HostId, boot: u32, dial: DialId, error: DialError },
    Arrive { stream: StreamId, side: Side, payload: Payload },
    HandshakeTimer { stream: StreamId, side: Side },
    NodeTimer { host: HostId, boot: u32 },
    Fault(Fault),
}

#[derive(Debug)]
struct Queued {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The simulation; see the module's drawing.
#[derive(Debug)]
pub struct World {
    options: Options,
    now: Instant,
    hosts: Vec<Host>,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    next_event: u64,
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
}

impl World {
    /// A world in which every host will start its daemon soon.
    pub fn new(options: Options) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            hosts: Vec::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            queue: BinaryHeap::new(),
            next_event: 0,
            starting: BTreeSet::new(),
            inbox: VecDeque::new(),
            dice: Dice::new(options.seed),
            cuts: Cuts::default(),
            trace: Trace::default(),
            traffic: Traffic::default(),
            deliveries: Deliveries::default(),
            violations: Vec::new(),
            recording: None,
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
        let mut host = Host::new(id, seeds.map(target_of).collect(), &mut self.dice);
        host.endpoints = (0..self.options.endpoints).map(|container| host::endpoint(id, container, 1)).collect();
        self.hosts.push(host);
        id
    }

    /// Lets the daemon of `host` be told other targets than the seeds at its next start.
    pub fn set_targets(&mut self, host: HostId, targets: &[HostId]) {
        self.hosts[host.0].targets = targets.iter().copied().map(target_of).collect();
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

    /// Lets everything happen up to `until`.
    fn advance(&mut self, until: Instant) {
        self.work();
        while let Some(Reverse(next)) = self.queue.peek()
            && next.at <= until
            && let Some(Reverse(queued)) = self.queue.pop()
        {
            self.now = queued.at;
            self.handle(queued.event);
            self.work();
        }
        self.now = until;
    }

    fn push(&mut self, at: Instant, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.queue.push(Reverse(Queued { at, number, event }));
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
            Event::Fault(fault) => self.apply(fault),
        }
    }

    fn handle_node_timer(&mut self, host: HostId, boot: u32) {
        let now = self.now;
        let simulated = &mut self.hosts[host.0];
        if simulated.boot != boot {
            return;
        }
        let Some(daemon) = &mut simulated.daemon else { return };
        if daemon.timer.is_some_and(|timer| timer <= now) {
            daemon.timer = None;
            match daemon.node.poll_timeout() {
                Some(deadline) if deadline <= now => self.feed(host, Input::Timeout),
                _ => self.arm_timer(host),
            }
        }
    }

    /// Hands an input to the daemon of `host`, if it runs.
    fn feed(&mut self, host: HostId, input: Input) {
        self.inbox.push_back((host, self.host(host).boot, input));
    }

    /// Lets nodes work until none has anything to do at this moment.
    fn work(&mut self) {
        while let Some((host, boot, input)) = self.inbox.pop_front() {
            let now = self.now;
            let simulated = &mut self.hosts[host.0];
            if simulated.boot != boot {
                continue;
            }
            let Some(daemon) = &mut simulated.daemon else { continue };
            if let Some(recording) = &mut daemon.recording {
                recording.inputs.push((now, input.clone()));
            }
            let was_timeout = matches!(input, Input::Timeout);
            input.apply(&mut daemon.node, now);
            let is_busy = was_timeout && daemon.node.poll_timeout().is_some_and(|deadline| deadline <= now);
            if is_busy {
                self.violate(Violation::BusyTimer { at: now, host });
            }
            self.carry_out(host);
        }
    }

    /// Carries out what the node of `host` puts out, in order.
    fn carry_out(&mut self, host: HostId) {
        let mut batches: BTreeMap<ConnectionId, Vec<Message>> = BTreeMap::new();
        while let Some(daemon) = &mut self.hosts[host.0].daemon
            && let Some(output) = daemon.node.poll_output()
        {
            if let Some(recording) = &mut daemon.recording {
                recording.outputs.extend(input::describe(&output));
            }
            if self.has_died(host) {
                return;
            }
            match output {
                Output::Persist(persist) => self.hosts[host.0].disk.keep(persist),
                Output::Dial(dial) => self.dial(host, dial),
                Output::Send { connection, message } => batches.entry(connection).or_default().push(message),
                Output::Close { connection, reason } => {
                    self.trace.note(self.now, host, host, format!("closes {connection}: {reason}"));
                    self.send(host, connection, batches.remove(&connection).unwrap_or_default());
                    self.close(host, connection);
                }
                Output::Event(event) => self.handle_event(host, event),
            }
        }
        for (connection, messages) in batches {
            self.send(host, connection, messages);
        }
        self.arm_timer(host);
    }

    /// Whether the daemon dies before its next output.
    fn has_died(&mut self, host: HostId) -> bool {
        let Some(left) = &mut self.hosts[host.0].outputs_to_live else { return false };
        if let Some(less) = left.checked_sub(1) {
            *left = less;
            return false;
        }
        self.kill(host);
        true
    }

    fn handle_event(&mut self, host: HostId, event: node::Event) {
        match event {
            node::Event::ViewChanged => {
                if self.hosts.len() <= CHECKED_EACH_STEP_MAX {
                    self.check_host(host);
                }
            }
            node::Event::IdentityTaken => {
                self.trace.note(self.now, host, host, format!("{event:?}"));
                self.restart_as_new(host);
            }
            node::Event::PeerUp(_) | node::Event::PeerDown(_) => {}
            node::Event::Renamed(_) | node::Event::Warning(_) => {
                self.trace.note(self.now, host, host, format!("{event:?}"));
            }
        }
    }

    fn arm_timer(&mut self, host: HostId) {
        let now = self.now;
        let simulated = &mut self.hosts[host.0];
        let boot = simulated.boot;
        let Some(daemon) = &mut simulated.daemon else { return };
        let Some(deadline) = daemon.node.poll_timeout() else { return };
        let at = if deadline <= now { now + BUSY_TIMER_DELAY } else { deadline };
        if daemon.timer.is_none_or(|timer| at < timer) {
            daemon.timer = Some(at);
            self.push(at, Event::NodeTimer { host, boot });
        }
    }

    fn start(&mut self, id: HostId) {
        self.starting.remove(&id);
        if self.host(id).daemon.is_some() {
            return;
        }
        let identity = self.identity(id);
        let host = &mut self.hosts[id.0];
        host.is_powered = true;
        host.boot += 1;
        let config = config_of(host, &identity, &self.options);
        let (restored, wall, seed) = (host.disk.restored(), host.wall(self.now), self.dice.number());
        let node = Node::new(config.clone(), identity.clone(), restored.clone(), seed, self.now, wall);
        // The configuration is the simulator's own: a limit broken here is a bug here.
        let node = node.expect("a simulated host's configuration keeps every limit");
        let is_recorded = self.options.record == Some(id) && self.recording.is_none();
        let recording = is_recorded.then(|| {
            let started = (self.now, wall);
            Box::new(Recording {
                config,
                identity: identity.clone(),
                restored,
                seed,
                started,
                inputs: Vec::new(),
                outputs: Vec::new(),
            })
        });
        host.daemon = Some(Daemon::new(node, identity, recording));
        let endpoints = host.endpoints.clone();
        self.carry_out(id);
        self.feed(id, Input::Endpoints(endpoints));
    }

    fn violate(&mut self, violation: Violation) {
        self.trace.note(self.now, HostId(0), HostId(0), format!("VIOLATED: {violation}"));
        if self.violations.len() < checks::VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }
}

/// What an operator writes to mean `host`.
fn target_of(host: HostId) -> Target {
    host::address_of(host).ip().to_string().parse().expect("an address is a target")
}

fn config_of(host: &Host, identity: &crate::identity::Identity, options: &Options) -> Config {
    let name = host.name.or(host.disk.name).unwrap_or_else(|| PeerName::derived_from(&identity.key().0));
    Config {
        mesh: options.mesh,
        discovery: options.discovery,
        connection_limit: options.connection_limit,
        listen_port: LISTEN_PORT,
        targets: host.targets.clone(),
        name,
        nickname: format!("host-{}", host.id.0),
        bridge_mac: name.mac(),
        addresses: vec![host::address_of(host.id)],
        trusted_subnets: Vec::new(),
        instance_id: String::new(),
        machine: host.machine,
    }
}
