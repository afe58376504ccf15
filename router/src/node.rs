//! The control task: owns the mesh machine, and carries out what it decides. The one place where the operating system's
//! time becomes the mesh's.
//!
//! ```text
//!            ┌──── settle: outputs of the machine in order, then the fabric if the view has changed ───┐
//!            ▼                                                                                         │
//!   wait ── peers · requests · kernel · packets · namespaces · deadline · watchdog · signals ── handle one
//! ```
//!
//! Invariants:
//! - outputs are carried out in order: what a later message relies on is on disk before it is sent;
//! - nothing here waits for a peer, the kernel, the packet thread, Docker, or somebody who asked for status.

use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};
use weave_datapath::engine;
use weave_datapath::linux::clock::Clock;
use weave_datapath::linux::kernel::{self, Kernel};
use weave_datapath::linux::packet::PacketThread;
use weave_datapath::plan::LinkName;
use weave_mesh::connection;
use weave_mesh::connector::ConnectionId;
use weave_mesh::ipam;
use weave_mesh::node::{CloseReason, Event, Link, Node, Output, Persist};
use weave_mesh::time::Instant;

use self::addressing::Addressing;
use self::attaching::{Attachable, Attaching, Client};
use self::burying::Burying;
use self::exposing::Waiting;
use self::faring::Faring;
use self::keeping::Keeping;
use self::showing::Showing;
use crate::attach::{Ledger, Networks, Remembered};
use crate::dns::Dns;
use crate::expose::Exposure;
use crate::naming::HostNames;
use crate::peers::{Arrival, Caller, Peers, Report, TooSlow, thread_time};
use crate::request::{Reply, Request};
use crate::status::{About, Tallies};
use crate::store::{FileError, MemberWriter, Store};
use crate::watchdog::Watchdog;

mod addressing;
mod attaching;
mod burying;
mod endpoints;
mod exposing;
mod faring;
mod keeping;
mod listing;
mod naming;
mod remembering;
mod showing;
mod vacating;
mod weaving;

pub(crate) use self::addressing::cidr;
pub use self::exposing::Manner;
pub use self::weaving::{Reach, Weaving};

/// How long a parting daemon waits for its last messages to leave.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the control task ended.
#[derive(Debug)]
pub enum Outcome {
    /// Told to stop by a signal: kernel state stays.
    Stopped,
    /// The same by an operator who does not want us back; the reply is due when control is gone.
    Dismissed(Reply<()>),
    /// Asked to leave for good; the reply is due when nothing is left.
    Reset(Reply<Result<(), String>>),
    /// A daemon that started earlier has our identity.
    IdentityTaken,
    /// The kernel failed the first plan on a fresh host: it lacks something that no repetition brings.
    Unable(Vec<String>),
}

/// What this daemon found at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Neither a bridge nor a container of an earlier daemon.
    Fresh,
    Adopted,
}

/// Why the daemon cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot keep state: {0}")]
    Store(#[from] FileError),
    #[error("the {0} thread has ended; see the log above")]
    ThreadEnded(&'static str),
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

/// What the control task is made of.
#[derive(Debug)]
pub struct Parts {
    pub clock: Clock,
    pub node: Node,
    pub store: Store,
    pub peers: Peers,
    pub ledger: Ledger,
    pub remembered: Remembered,
    pub networks: Networks,
    /// Ports of containers that no book has, and of which nothing was found.
    pub orphans: BTreeSet<LinkName>,
    pub exposure: Exposure,
    pub weaving: Weaving,
    pub host: Host,
    pub kernel: Kernel,
    pub kernel_events: mpsc::Receiver<kernel::Event>,
    pub packets: PacketThread,
    pub packet_events: mpsc::Receiver<engine::Event>,
    pub requests: mpsc::Receiver<Request>,
    pub about: About,
    pub host_names: HostNames,
    /// Absent with `--no-dns`.
    pub dns: Option<Dns>,
    /// What every connection brings along, but for the card.
    pub connection: connection::Config,
    /// How addresses are given, if they are.
    pub allocation: Option<ipam::Config>,
}

/// How far this life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Starting,
    /// The kernel carries frames; names may not be served at the bridge yet.
    Woven,
    Ready,
}

/// The control task; see the module.
#[derive(Debug)]
pub struct Control {
    clock: Clock,
    node: Node,
    store: Store,
    members: MemberWriter,
    keeping: Keeping,
    allocation: Option<ipam::Config>,
    addressing: Addressing,
    burying: Burying,
    /// Members are being written.
    flushing: Option<JoinHandle<()>>,
    peers: Peers,
    ledger: Ledger,
    remembered: Remembered,
    faring: Faring,
    networks: Networks,
    orphans: BTreeSet<LinkName>,
    exposure: Exposure,
    weaving: Weaving,
    host: Host,
    kernel: Kernel,
    kernel_events: mpsc::Receiver<kernel::Event>,
    packets: Arc<PacketThread>,
    packet_events: mpsc::Receiver<engine::Event>,
    requests: mpsc::Receiver<Request>,
    attaching: Attaching,
    /// Answers that wait for the kernel.
    waiting: Vec<Waiting>,
    /// Statuses to show when the kernel has caught up.
    showings: Vec<Showing>,
    about: About,
    tallies: Tallies,
    host_names: HostNames,
    dns: Option<Dns>,
    connection: connection::Config,
    watchdog: Watchdog,
    readiness: Readiness,
    /// Why the peers to connect to were not written down, the last time.
    unkept_wishes: Option<String>,
    outcome: Option<Outcome>,
}

impl Control {
    /// # Errors
    /// When the state directory cannot be written.
    pub fn new(parts: Parts) -> Result<Self, NodeError> {
        let journal = parts.allocation.as_ref().map(|_| parts.store.address_journal(parts.node.all_addresses()));
        Ok(Self {
            keeping: Keeping::new(journal.transpose()?),
            allocation: parts.allocation,
            addressing: Addressing::default(),
            burying: Burying::default(),
            members: parts.store.member_writer()?,
            flushing: None,
            packets: Arc::new(parts.packets),
            attaching: Attaching::default(),
            waiting: Vec::new(),
            showings: Vec::new(),
            watchdog: Watchdog::from_environment(),
            readiness: Readiness::Starting,
            unkept_wishes: None,
            outcome: None,
            clock: parts.clock,
            node: parts.node,
            store: parts.store,
            peers: parts.peers,
            ledger: parts.ledger,
            remembered: parts.remembered,
            faring: Faring::default(),
            networks: parts.networks,
            orphans: parts.orphans,
            exposure: parts.exposure,
            weaving: parts.weaving,
            host: parts.host,
            kernel: parts.kernel,
            kernel_events: parts.kernel_events,
            packet_events: parts.packet_events,
            requests: parts.requests,
            about: parts.about,
            tallies: Tallies::default(),
            host_names: parts.host_names,
            dns: parts.dns,
            connection: parts.connection,
        })
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// When state cannot be kept or a thread has died.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(Outcome, Remains), NodeError> {
        tokio::pin!(stop);
        self.resume_containers();
        self.publish_all_host_names();
        self.serve_names();
        while self.outcome.is_none() {
            self.settle()?;
            // What is carried out may be the end, and then nothing is due that would wake us.
            if self.outcome.is_some() {
                break;
            }
            tokio::select! {
                () = &mut stop => self.outcome = Some(Outcome::Stopped),
                () = self.step() => {}
            }
            if self.outcome.is_none() {
                self.check_threads()?;
            }
        }
        let outcome = self.outcome.take().unwrap_or(Outcome::Stopped);
        let remains = self.part(&outcome).await?;
        Ok((outcome, remains))
    }

    /// Waits for one thing to happen, and handles it.
    async fn step(&mut self) {
        let deadline = self.deadline();
        let deadline = deadline.map(|at| tokio::time::Instant::from_std(self.clock.system_instant(at)));
        let timer = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now));
        tokio::select! {
            arrival = self.peers.next() => self.handle_arrival(arrival),
            Some(request) = self.requests.recv() => self.handle_request(request),
            Some(event) = self.kernel_events.recv() => self.handle_kernel(event),
            Some(event) = self.packet_events.recv() => self.handle_packets(event),
            finished = self.attaching.next() => self.handle_job(finished),
            () = settled(self.dns.as_ref()), if self.readiness == Readiness::Woven => self.become_ready(),
            () = ended(&mut self.flushing) => {}
            () = self.watchdog.tick() => {}
            () = timer, if deadline.is_some() => {}
        }
    }

    /// The earliest time at which something is due.
    fn deadline(&self) -> Option<Instant> {
        let showing = self.showings.iter().map(|showing| showing.until).min();
        let burial = self.burying.grace.poll_timeout();
        let asked = [self.addressing.due(), self.attaching.due(), self.keeping.due()];
        let due = [self.node.poll_timeout(), self.weaving.due(), showing, burial].into_iter().chain(asked);
        due.flatten().min()
    }

    fn check_threads(&self) -> Result<(), NodeError> {
        if self.kernel_events.is_closed() && self.kernel_events.is_empty() {
            return Err(NodeError::ThreadEnded("kernel"));
        }
        if self.packet_events.is_closed() && self.packet_events.is_empty() {
            return Err(NodeError::ThreadEnded("packet"));
        }
        Ok(())
    }

    /// Carries out everything that is due.
    fn settle(&mut self) -> Result<(), NodeError> {
        let now = self.clock.now();
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
        }
        self.bury_expired();
        self.leave_if_due(now);
        self.expire_operations(now);
        self.catch_up(now);
        self.carry_out()?;
        self.answer_operations();
        if self.weaving.due().is_some_and(|at| at <= now) {
            self.weave();
            self.carry_out()?;
        }
        self.flush_members();
        self.answer_showings(now);
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), NodeError> {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Persist(persist) => self.persist(persist)?,
                Output::Dial(dial) => {
                    debug!(remote = %dial.destination, "dialling");
                    self.peers.dial(dial);
                }
                Output::Send { message, .. } if self.keeping.forbids(&message) => {
                    debug!("a message about addresses is not sent: the disk is behind");
                }
                Output::Send { connection, message } => {
                    let sent = self.peers.send(connection, message);
                    self.close_if_too_slow(connection, sent);
                }
                Output::AwaitRoom { connection } => {
                    let asked = self.peers.await_room(connection);
                    self.close_if_too_slow(connection, asked);
                }
                Output::Close { connection, reason } => {
                    info!(%connection, %reason, "connection closed");
                    self.tallies.terminations += 1;
                    self.peers.close(connection);
                }
                Output::Event(event) => self.handle_event(event),
            }
        }
        Ok(())
    }

    fn close_if_too_slow(&mut self, connection: ConnectionId, sent: Result<(), TooSlow>) {
        if let Err(reason) = sent {
            warn!(%connection, %reason, "connection closed");
            self.tallies.terminations += 1;
            let reason = CloseReason::Transport(reason.to_string());
            self.node.handle_closed(connection, reason, self.clock.now());
        }
    }

    fn persist(&mut self, persist: Persist) -> Result<(), FileError> {
        match persist {
            Persist::Incarnation(incarnation) => match self.store.write_incarnation(incarnation) {
                // One that others make us choose. After a restart they show us that we had a higher one.
                Err(error) if self.readiness == Readiness::Ready => {
                    error!(%error, "cannot write down the incarnation");
                    Ok(())
                }
                written => written,
            },
            Persist::Name(name) => self.store.write_name(name),
            Persist::Member(member) => {
                self.members.put(member);
                Ok(())
            }
            Persist::Forget(peer) => {
                self.members.forget(peer);
                Ok(())
            }
            Persist::Wishes(wishes) => {
                self.unkept_wishes = self.store.write_wishes(&wishes).err().map(|error| error.to_string());
                if let Some(error) = &self.unkept_wishes {
                    error!(%error, "cannot remember the peers to connect to");
                }
                Ok(())
            }
            Persist::Ring(bytes) => {
                self.keep_ring(bytes);
                Ok(())
            }
            Persist::Owned(change) => {
                self.keep_address(&change);
                Ok(())
            }
        }
    }

    /// Whether what was wished just now outlasts this daemon.
    fn keep_wishes(&mut self) -> Result<(), String> {
        self.carry_out().map_err(|error| error.to_string())?;
        let lost = |error| format!("it is so until the daemon ends: it cannot be written down: {error}");
        self.unkept_wishes.clone().map(lost).map_or(Ok(()), Err)
    }

    /// Writes changed members on a thread that may block; the next changes wait for it.
    fn flush_members(&mut self) {
        if self.flushing.is_some() || !self.members.has_changes() {
            return;
        }
        let work = self.members.flush();
        self.flushing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = work() {
                warn!(%error, "cannot remember members");
            }
        }));
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::ViewChanged => {
                self.refresh_card();
                self.weaving.touch(self.clock.now());
            }
            Event::NamesChanged => self.handle_names(),
            Event::PeerUp(peer) => info!(%peer, name = %self.label(&peer), "peer is reachable"),
            Event::PeerDown(peer) => info!(%peer, name = %self.label(&peer), "peer is unreachable"),
            Event::Renamed(name) => warn!(%name, "another peer has our name; this is ours from here on"),
            Event::IdentityTaken => self.outcome = Some(Outcome::IdentityTaken),
            Event::Warning(warning) => warn!("{warning}"),
            Event::Ipam { ticket, answer } => self.handle_answer(ticket, answer),
        }
    }

    /// Handshakes to come show the card as it is.
    fn refresh_card(&mut self) {
        let card = self.node.signed_card();
        if card != self.connection.card {
            self.connection.card = card;
            self.peers.set_config(self.connection.clone());
        }
    }

    fn handle_arrival(&mut self, arrival: Arrival) {
        let now = self.clock.now();
        match arrival {
            Arrival::Accepted(accepted) => self.peers.handle_accepted(accepted),
            Arrival::Report(Report::Connected { connection, dial, remote, connected }) => {
                let peer = connected.card.name;
                info!(%connection, %peer, nickname = connected.card.nickname, %remote, "connected");
                let link = Link { dial, remote, card: connected.signed, uid: connected.uid };
                self.node.handle_connected(connection, link, now);
            }
            Arrival::Report(Report::Message { connection, message, turn }) => {
                let before = thread_time();
                self.node.handle_message(connection, *message, now);
                self.peers.charge(connection, turn, thread_time().saturating_sub(before));
            }
            Arrival::Report(Report::Room { connection }) => self.node.handle_room(connection, now),
            Arrival::Report(Report::Closed { connection, reason }) => {
                info!(%connection, %reason, "connection ended");
                self.tallies.terminations += 1;
                self.node.handle_closed(connection, CloseReason::Transport(reason), now);
            }
            Arrival::Report(Report::DialFailed { dial, error, remote, .. }) => {
                warn!(remote, reason = %error, "cannot connect");
                self.node.handle_dial_failed(dial, &error, now);
            }
            Arrival::Report(Report::Refused { remote, reason, caller, .. }) => match caller {
                Caller::Misconfigured => warn!(%remote, reason, "handshake refused"),
                Caller::Stranger => debug!(%remote, reason, "handshake refused"),
            },
        }
    }

    fn handle_request(&mut self, request: Request) {
        let now = self.clock.now();
        match request {
            Request::Snapshot(reply) => self.show(reply),
            Request::Connect { targets, earlier, reply } => {
                let connected = self.node.connect(&targets, earlier, now);
                let _ = reply.send(connected.map_err(|error| error.to_string()).and_then(|()| self.keep_wishes()));
            }
            Request::Forget { targets, reply } => {
                self.node.forget(&targets, now);
                let _ = reply.send(self.keep_wishes());
            }
            Request::Attach { ticket, container, wanted, named, multicast_route, by_hand, reply } => {
                let container = if named { container } else { container.nameless() };
                let manner = Attachable { name: self.own_name(&container), named, multicast_route, by_hand };
                self.attach(container, wanted, manner, Client { ticket, reply });
            }
            Request::Detach { ticket, container, addresses, reply } => {
                self.detach(container, addresses, Client { ticket, reply });
            }
            Request::Expose { ticket, wanted, manner, reply } => self.expose(wanted, manner, Client { ticket, reply }),
            Request::Hide { addresses, networks, reply } => self.hide(&addresses, &networks, reply),
            Request::AddName { container, addresses, name, reply } => {
                let added = self.add_name(&container, addresses, name);
                self.handle_names();
                let _ = reply.send(added);
            }
            Request::RemoveNames { pattern, reply } => {
                let removed = self.remove_names(&pattern);
                self.handle_names();
                let _ = reply.send(removed);
            }
            Request::Dns(reply) => drop(reply.send(self.dns_material())),
            Request::Pose { ticket, question, reply } => self.pose(ticket, question, reply),
            Request::Cancel { ticket, reply } => self.cancel(ticket, reply),
            Request::Release { container, address, reply } => {
                let _ = reply.send(self.release(&container, address));
            }
            Request::Holdings { container, reply } => {
                let _ = reply.send(self.holdings(container));
            }
            Request::Allocation(reply) => {
                let _ = reply.send(self.allocation.clone());
            }
            Request::WaitedFor(reply) => {
                let _ = reply.send(self.waited_for(None));
            }
            Request::Containers { census, reply } => {
                let _ = reply.send(self.handle_census(&census));
            }
            Request::Holder { address, reply } => drop(reply.send(self.holder(address))),
            Request::Vacate { holder, address, reply } => {
                self.vacate(&holder, address);
                let _ = reply.send(());
            }
            Request::Recall { target, id, reply } => drop(reply.send(self.recall(&target, id.as_deref()))),
            Request::Found { container, endpoints, reply } => {
                self.introduce(&container, endpoints);
                let _ = reply.send(self.handle_found(&container));
            }
            Request::Container { id, event, reply } => {
                self.handle_container_event(&id, event);
                let _ = reply.send(self.is_wanted(&id, event) || self.may_be_a_strangers(event));
            }
            Request::Network(request) => self.handle_network(request),
            Request::Discovered { list, reply } => drop(reply.send(self.follow_list(&list, now))),
            Request::Stop(reply) => self.outcome = Some(Outcome::Dismissed(reply)),
            Request::Reset(reply) => self.begin_leaving(reply),
        }
    }

    /// Leaves: sends what is queued, writes what is not written.
    async fn part(mut self, outcome: &Outcome) -> Result<Remains, NodeError> {
        if matches!(outcome, Outcome::Reset(_) | Outcome::Stopped | Outcome::Dismissed(_)) {
            self.carry_out()?;
        }
        if let Some(dns) = self.dns.take() {
            dns.stop();
        }
        if tokio::time::timeout(DRAIN_TIMEOUT, self.peers.drain()).await.is_err() {
            debug!("some peers did not read our last messages");
        }
        if let Some(flushing) = self.flushing.take() {
            let _ = flushing.await;
        }
        if self.members.has_changes() && !matches!(outcome, Outcome::Reset(_)) {
            self.members.flush()()?;
        }
        Ok(Remains { kernel: self.kernel, packets: self.packets, store: self.store })
    }
}

/// Names are served where they can be, if they are to be.
async fn settled(dns: Option<&Dns>) {
    if let Some(dns) = dns {
        dns.settled().await;
    }
}

/// The end of a task that may be under way.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(handle) => {
            // A panic was reported by the thread itself.
            let _ = handle.await;
            *task = None;
        }
        None => pending().await,
    }
}

/// What is left of a daemon whose control task has ended.
#[derive(Debug)]
pub struct Remains {
    pub kernel: Kernel,
    pub packets: Arc<PacketThread>,
    pub store: Store,
}
