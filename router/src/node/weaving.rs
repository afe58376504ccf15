//! The fabric, as control keeps it: rewoven when something it hangs on has changed, in the order that loses no frame.
//!
//! ```text
//!   promotion:  plan ─► kernel ─ applied ─► tables: applied = fast      for an instant two copies of a broadcast
//!   demotion:   tables: applied = sleeve ─► plan ─► kernel              likewise
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info, warn};
use weave_datapath::engine::{self, Via};
use weave_datapath::linux::kernel::{self, Generation};
use weave_datapath::plan::{LinkName, OverlayPort, Plan};
use weave_datapath::tables::{Carrier, Tables};
use weave_mesh::card::ADDRESSES_MAX;
use weave_mesh::identity::{PeerKey, digest};
use weave_mesh::name::MacAddr;
use weave_mesh::node::View;
use weave_mesh::store::{CONTAINER_MAX_BYTES, Endpoint, EndpointId};
use weave_mesh::time::Instant;

use super::{Control, Host, Outcome, Readiness};
use crate::attach::{Ledger, Tenant};
use crate::expose::{Exposure, HOST_LABEL};
use crate::fabric::{self, Loom, Strands};

/// A first change is woven at once, and further ones so long after it together: a joining mesh is woven a few times and
/// not hundreds.
const GATHER_INTERVAL: Duration = Duration::from_millis(20);
/// A change of where members listen alone is woven no sooner after the last: it costs a new guard, and every newcomer
/// makes one.
const MEMBERS_INTERVAL: Duration = Duration::from_secs(5);
/// Stations that are remembered on hand-plugged ports.
const LEARNT_MAX: usize = 4_096;
/// Plans under way to the kernel; older ones are superseded.
const ASKED_MAX: usize = 64;

/// What the fabric hangs on, and how far it has come.
#[derive(Debug)]
pub struct Weaving {
    loom: Loom,
    /// When to weave again.
    due: Option<Instant>,
    woven: Instant,
    chosen: BTreeMap<PeerKey, Carrier>,
    heard: BTreeMap<PeerKey, SocketAddr>,
    direct: BTreeSet<PeerKey>,
    /// Where VXLAN leaves from.
    local: IpAddr,
    /// What the kernel's present plan reaches over VXLAN.
    reach: Reach,
    /// Where members listen, and since when that is what the plan says.
    members: BTreeSet<SocketAddr>,
    members_since: Option<Instant>,
    /// The same for plans that the kernel has yet to take, oldest first.
    asked: VecDeque<(Generation, Reach)>,
    applied: Generation,
    /// Ports of containers that are not as that plan wants them.
    closed: BTreeSet<LinkName>,
    /// Stations at hand-plugged ports, with the Lamport time at which they were first heard.
    learnt: BTreeMap<MacAddr, u64>,
    /// What the kernel could not do of the last plan.
    failures: Vec<String>,
    /// What is in the way and not ours to change.
    obstacles: Vec<String>,
    tables: Arc<Tables>,
    plan: Option<(Generation, Plan)>,
}

/// What the kernel reaches over VXLAN.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Whose frames it sends.
    pub peers: BTreeSet<PeerKey>,
    /// Where to, probes included.
    pub destinations: BTreeSet<SocketAddr>,
}

impl Weaving {
    /// `adopted` is what the kernel was found to reach over VXLAN, `underlay` are this host's addresses.
    pub fn new(
        loom: Loom,
        adopted: Reach,
        underlay: &[IpAddr],
        view: &View,
        ledger: &Ledger,
        exposure: &Exposure,
    ) -> Self {
        let chosen = adopted.peers.iter().map(|peer| (*peer, Carrier::Fast)).collect();
        let heard = BTreeMap::new();
        let members = &fabric::members(&loom, view, &heard);
        let local = loom.local(underlay, Ipv4Addr::UNSPECIFIED.into());
        let (chosen_now, heard_at) = (&chosen, &heard);
        let (programmed, destinations) = (&adopted.peers, &adopted.destinations);
        let strands = Strands {
            view,
            ledger,
            exposure,
            chosen: chosen_now,
            programmed,
            heard: heard_at,
            local,
            destinations,
            members,
        };
        let (tables, _) = fabric::weave(&loom, &strands);
        Self {
            loom,
            local,
            due: Some(Instant::ZERO),
            woven: Instant::ZERO,
            chosen,
            heard,
            direct: BTreeSet::new(),
            members: members.clone(),
            members_since: None,
            reach: adopted,
            asked: VecDeque::new(),
            applied: Generation::default(),
            closed: BTreeSet::new(),
            learnt: BTreeMap::new(),
            failures: Vec::new(),
            obstacles: Vec::new(),
            tables: Arc::new(tables),
            plan: None,
        }
    }

    pub const fn loom(&self) -> &Loom {
        &self.loom
    }

    /// What the packet thread has been told.
    pub fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The last plan that the kernel has.
    pub(super) const fn applied(&self) -> Generation {
        self.applied
    }

    pub(super) const fn closed(&self) -> &BTreeSet<LinkName> {
        &self.closed
    }

    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// What a human should know of the kernel: what could not be done, and what is in the way.
    pub(super) fn complaints(&self) -> impl Iterator<Item = &String> {
        self.failures.iter().chain(&self.obstacles)
    }

    fn note_obstacles(&mut self, obstacles: Vec<String>) {
        for obstacle in obstacles.iter().filter(|obstacle| !self.obstacles.contains(obstacle)) {
            warn!("{obstacle}");
        }
        self.obstacles = obstacles;
    }

    /// Something has changed; weave soon.
    pub(super) fn touch(&mut self, now: Instant) {
        self.due.get_or_insert_with(|| now.max(self.woven + GATHER_INTERVAL));
    }

    /// This host has these addresses now.
    fn follow_underlay(&mut self, addresses: &[IpAddr], now: Instant) {
        self.local = self.loom.local(addresses, self.local);
        self.due = Some(now);
    }

    fn weave(&mut self, view: &View, ledger: &Ledger, exposure: &Exposure, now: Instant) -> (Tables, Plan) {
        (self.due, self.woven) = (None, now);
        self.chosen.retain(|peer, _| view.peers.contains_key(peer));
        self.heard.retain(|peer, _| view.peers.contains_key(peer));
        self.follow_members(view, now);
        let Self { loom, chosen, heard, local, members, reach: Reach { peers: programmed, destinations }, .. } = self;
        let local = *local;
        fabric::weave(
            loom,
            &Strands { view, ledger, exposure, chosen, programmed, heard, local, destinations, members },
        )
    }

    fn follow_members(&mut self, view: &View, now: Instant) {
        let members = fabric::members(&self.loom, view, &self.heard);
        if members == self.members {
            return;
        }
        match self.members_since.map(|since| since + MEMBERS_INTERVAL).filter(|due| *due > now) {
            Some(due) => self.due = Some(due),
            None => (self.members, self.members_since) = (members, Some(now)),
        }
    }

    /// Notes a plan that the kernel was asked for.
    fn ask(&mut self, generation: Generation, plan: Plan, view: &View) {
        let is_over_vxlan = |mac| plan.bridge_fdb.get(mac) == Some(&OverlayPort::Vxlan);
        let peers = view.peers.iter().filter(|(_, peer)| is_over_vxlan(&peer.card.bridge_mac));
        let peers = peers.map(|(key, _)| *key).collect();
        let destinations = plan.vxlan_fdb.values().chain(&plan.flood).copied().collect();
        self.plan = Some((generation, plan));
        if self.asked.len() >= ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((generation, Reach { peers, destinations }));
    }

    /// The kernel has the plan of `generation`.
    fn note_applied(&mut self, generation: Generation, failures: Vec<String>, closed: BTreeSet<LinkName>) {
        for failure in failures.iter().filter(|failure| !self.failures.contains(failure)) {
            error!(failure, "cannot bring kernel state up to plan");
        }
        (self.failures, self.closed) = (failures, closed);
        self.applied = generation;
        while let Some((_, mut reach)) = self.asked.pop_front_if(|(asked, _)| *asked <= generation) {
            if !self.failures.is_empty() {
                // What was to be removed may be there still.
                reach.destinations.append(&mut self.reach.destinations);
            }
            self.reach = reach;
        }
    }
}

impl Control {
    /// Weaves, hands on what has changed, and tells which generation of the plan has it all.
    pub(super) fn weave(&mut self) -> Generation {
        self.publish_endpoints();
        let view = self.node.view();
        let (tables, plan) = self.weaving.weave(&view, &self.ledger, &self.exposure, self.clock.now());
        // Tables first: a demotion must reach the packet thread before the kernel stops flooding. A promotion is not in
        // them before the kernel has said that it is done.
        if *self.weaving.tables != tables {
            self.weaving.tables = Arc::new(tables);
            self.packets.set_tables(self.weaving.tables());
        }
        match &self.weaving.plan {
            Some((generation, current)) if *current == plan => *generation,
            Some(_) | None => {
                let generation = self.kernel.apply(plan.clone());
                self.weaving.ask(generation, plan, &view);
                generation
            }
        }
    }

    pub(super) fn handle_kernel(&mut self, event: kernel::Event) {
        match event {
            kernel::Event::Applied { generation, failures, closed } => {
                self.handle_applied(generation, failures, closed);
            }
            kernel::Event::Learnt { mac, port } if self.weaving.learnt.len() < LEARNT_MAX => {
                debug!(%mac, %port, "station heard at a hand-plugged port");
                let attached = self.node.next_attach_time();
                self.weaving.learnt.entry(mac).or_insert(attached);
                self.weaving.touch(self.clock.now());
            }
            kernel::Event::Learnt { mac, port } => debug!(%mac, %port, "too many stations at hand-plugged ports"),
            kernel::Event::Forgotten { mac, .. } => {
                self.weaving.learnt.remove(&mac);
                self.weaving.touch(self.clock.now());
            }
            kernel::Event::PortGone { port, generation } => self.handle_port_gone(port.as_str(), generation),
            kernel::Event::Healed { steps } => {
                self.tallies.kernel_repairs += steps as u64;
                warn!(steps, "kernel state was changed by others and is repaired");
                self.note_bridge();
            }
            kernel::Event::Underlay { addresses } => self.follow_underlay(&addresses),
            kernel::Event::Obstacles { told } => self.weaving.note_obstacles(told),
            kernel::Event::Used { ages } => self.note_traffic(&ages),
        }
    }

    fn handle_applied(&mut self, generation: Generation, failures: Vec<String>, closed: BTreeSet<LinkName>) {
        if self.readiness == Readiness::Starting && self.host == Host::Fresh && !failures.is_empty() {
            self.outcome = Some(Outcome::Unable(failures));
            return;
        }
        self.weaving.note_applied(generation, failures, closed);
        if self.readiness == Readiness::Starting {
            self.readiness = Readiness::Woven;
            self.note_bridge();
        }
        self.answer_waiting();
        // The tables may say now what the kernel does.
        self.weaving.due = Some(self.clock.now());
    }

    /// Whoever looks from here on finds containers carried and their names answered.
    pub(super) fn become_ready(&mut self) {
        self.readiness = Readiness::Ready;
        info!("ready");
        self.watchdog.ready();
    }

    /// Whom we trust, whom we tell and what the fast path speaks hangs on this host's addresses.
    fn follow_underlay(&mut self, addresses: &[IpAddr]) {
        let loom = self.weaving.loom();
        let listed: Vec<_> =
            addresses.iter().take(ADDRESSES_MAX).map(|address| SocketAddr::new(*address, loom.mesh_port)).collect();
        if loom.host.is_some() || self.node.card().addresses == listed {
            return;
        }
        info!(?addresses, "underlay addresses changed");
        let now = self.clock.now();
        self.node.follow_underlay(listed, now);
        self.weaving.follow_underlay(addresses, now);
    }

    /// The kernel knows stations, the packet thread peers. Heartbeats refresh the entries of bridges: these say nothing
    /// about traffic.
    fn note_traffic(&self, ages: &BTreeMap<MacAddr, Duration>) {
        let tables = &self.weaving.tables;
        let mut used: BTreeMap<PeerKey, Duration> = BTreeMap::new();
        for (mac, age) in ages {
            let is_bridge = |peer: &PeerKey| tables.peers.get(peer).is_some_and(|entry| entry.bridge_mac == *mac);
            if let Some(peer) = tables.macs.get(mac).filter(|peer| !is_bridge(peer)) {
                used.entry(*peer).and_modify(|youngest| *youngest = (*youngest).min(*age)).or_insert(*age);
            }
        }
        self.packets.note_traffic(used);
    }

    pub(super) fn handle_packets(&mut self, event: engine::Event) {
        let now = self.clock.now();
        match event {
            engine::Event::CarrierChanged { peer, carrier, reason } => {
                info!(%peer, name = self.label(&peer), overlay = %carrier, %reason, "carrier changed");
                self.weaving.chosen.insert(peer, carrier);
                let changes = &mut self.tallies.carrier_changes;
                let count = if carrier == Carrier::Fast { &mut changes.to_fastdp } else { &mut changes.to_sleeve };
                *count += 1;
                self.weaving.due = Some(now);
            }
            engine::Event::SessionUp { peer, via } => {
                debug!(%peer, %via, "session is up");
                self.note_session(peer, Some(via));
            }
            engine::Event::SessionDown { peer } => {
                debug!(%peer, "session is down");
                self.note_session(peer, None);
            }
            engine::Event::SendsChanged { peer, mode, reason } => {
                info!(%peer, name = self.label(&peer), sends = %mode, %reason, "way of sending changed");
            }
            engine::Event::ReserveTimestamp(timestamp) => {
                if let Err(error) = self.store.write_sleeve_timestamp(timestamp) {
                    error!(%error, "cannot reserve handshake timestamps");
                }
            }
            engine::Event::Warning(warning) => warn!("{warning}"),
        }
    }

    fn note_session(&mut self, peer: PeerKey, via: Option<Via>) {
        match via {
            Some(Via::Direct(address)) => {
                self.weaving.heard.insert(peer, address);
                self.node.set_address(peer, address);
                self.weaving.direct.insert(peer);
            }
            Some(Via::Relay(_)) | None => drop(self.weaving.direct.remove(&peer)),
        }
        let now = self.clock.now();
        self.node.set_direct_sessions(self.weaving.direct.clone(), now);
        self.weaving.touch(now);
    }

    /// Hands our stations to the mesh, and their names to those who answer: attached containers, and learnt ones that
    /// nobody else owns.
    pub(super) fn publish_endpoints(&mut self) {
        self.set_endpoints();
        if !self.faring.is_empty() {
            // Others of its name see how well a container is once that is published.
            self.set_endpoints();
        }
        self.serve_names();
    }

    fn set_endpoints(&mut self) {
        let judge = self.judge();
        let attached = self.ledger.entries().flat_map(|(host_link, attachment)| {
            let endpoint = |tenant: &Tenant| Endpoint {
                mac: attachment.mac,
                addresses: attachment.addresses.clone(),
                container: shortened(&tenant.container),
                names: judge.published(&self.faring, tenant, &attachment.addresses),
                attached: attachment.attached,
            };
            let id = move |tenant: &Tenant| endpoint_id(&[host_link.as_bytes(), tenant.container.as_bytes()]);
            attachment.tenants.iter().map(move |tenant| (id(tenant), endpoint(tenant)))
        });
        let bridge_mac = self.node.card().bridge_mac;
        let exposed = self.exposure.iter().map(|exposed| {
            let id = format!("{HOST_LABEL} {}", exposed.subnet.address);
            (endpoint_id(&[id.as_bytes()]), exposed.endpoint(bridge_mac))
        });
        let mut endpoints: BTreeMap<EndpointId, Endpoint> = attached.chain(exposed).collect();
        if !self.weaving.learnt.is_empty() {
            endpoints.extend(self.learnt_endpoints());
        }
        if let Err(error) = self.node.set_endpoints(endpoints, self.clock.now()) {
            error!(%error, "some containers are not published");
        }
    }

    fn learnt_endpoints(&self) -> Vec<(EndpointId, Endpoint)> {
        let view = self.node.view();
        let is_foreign = |mac: &MacAddr| view.claims.macs.get(mac).is_some_and(|owner| *owner != view.card.key);
        let ours = self.weaving.learnt.iter().filter(|(mac, _)| !is_foreign(mac));
        let endpoints = ours.map(|(mac, attached)| {
            let (addresses, container, names) = (Vec::new(), String::new(), Vec::new());
            (endpoint_id(&[&mac.0]), Endpoint { mac: *mac, addresses, container, names, attached: *attached })
        });
        endpoints.collect()
    }

    /// How a peer is called in the log.
    pub(super) fn label(&self, peer: &PeerKey) -> String {
        self.node.set_of(peer).map_or_else(|| peer.to_string(), |set| set.card().name.to_string())
    }
}

/// Stable while the station lives, also over a restart.
fn endpoint_id(station: &[&[u8]]) -> EndpointId {
    let hash = digest("weave-rs endpoint id", station);
    EndpointId(u64::from_le_bytes(std::array::from_fn(|index| hash[index])))
}

/// As much of a container's label as an endpoint may carry.
fn shortened(label: &str) -> String {
    label[..label.floor_char_boundary(CONTAINER_MAX_BYTES)].to_owned()
}
