//! TCP to other peers: a listener, dials, and one task per connection that moves bytes for its machine.
//!
//! ```text
//!   listener ──► admit ──┐                        ┌─ Report ──► control (bounded: control is never flooded, a task waits)
//!   dial ────────────────┴─► task: stream ◄─► mesh::connection
//!                                                 └◄ Order ──── control (bounded: a peer that does not read is closed)
//! ```
//!
//! Invariants:
//! - a connection is reported [`Report::Connected`] at most once and first, then messages, then [`Report::Closed`]
//!   once; a dial is answered by `Connected` or [`Report::DialFailed`], once;
//! - what waits for a peer is bounded by `ORDERS_MAX` messages, `ORDERS_BYTES_MAX` octets and the machine's own limit;
//! - what waits for control is bounded for each peer, and a peer that costs control too much time is read more slowly.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand_core::{OsRng, RngCore};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use weave_datapath::linux::clock::Clock;
use weave_mesh::connection::{AcceptLimiter, Config, Connected, PendingId, Role};
use weave_mesh::connector::{ConnectionId, Dial, DialError, DialId};
use weave_mesh::wire::Message;

mod dial;
mod share;
mod task;

pub use self::share::Turn;
pub(crate) use self::share::thread_time;

use self::share::Share;

/// Reports that wait for control before tasks wait.
const REPORTS_MAX: usize = 1_024;
/// Messages that wait for one task; a peer that leaves more unread is closed.
const ORDERS_MAX: usize = 4_096;
/// How long they are together, octets. Sets are sent a stretch at a time, so this is far more than an honest peer leaves.
const ORDERS_BYTES_MAX: usize = 4 << 20;
/// Connections that the kernel completes before we accept them.
const BACKLOG: u32 = 256;

/// How long to wait after a connection could not be accepted, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a task tells control.
#[derive(Debug)]
pub enum Report {
    Connected {
        connection: ConnectionId,
        dial: Option<DialId>,
        remote: SocketAddr,
        connected: Box<Connected>,
    },
    Message {
        connection: ConnectionId,
        message: Box<Message>,
        turn: Turn,
    },
    /// The stream has taken all that was sent before [`Peers::await_room`].
    Room {
        connection: ConnectionId,
    },
    Closed {
        connection: ConnectionId,
        reason: String,
    },
    DialFailed {
        connection: ConnectionId,
        dial: DialId,
        remote: String,
        error: DialError,
    },
    /// A handshake that a stranger began has ended without a connection.
    Refused {
        connection: ConnectionId,
        remote: SocketAddr,
        reason: String,
        caller: Caller,
    },
}

/// Who began a handshake that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// One of us that somebody has configured differently: worth a human.
    Misconfigured,
    /// Anything that opens a TCP connection.
    Stranger,
}

impl Report {
    const fn connection(&self) -> ConnectionId {
        match self {
            Self::Connected { connection, .. }
            | Self::Message { connection, .. }
            | Self::Room { connection }
            | Self::Closed { connection, .. }
            | Self::DialFailed { connection, .. }
            | Self::Refused { connection, .. } => *connection,
        }
    }
}

/// What control tells a task. A closed channel means: send what is queued, then close.
#[derive(Debug)]
enum Order {
    /// A message and how long it is.
    Send(Box<Message>, usize),
    /// Report when the stream has taken everything before.
    AwaitRoom,
}

/// Why no TCP listener could be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "TCP port {port} is in use; stop what holds it (`ss -ltnp 'sport = :{port}'` tells) or choose another --port"
    )]
    Busy { port: u16 },
    #[error("{0} is no address of this host; correct --host")]
    NotLocal(IpAddr),
    #[error("cannot listen at {address}: {source}")]
    Open { address: SocketAddr, source: io::Error },
}

/// Listens at `port` of `host`, or of every address of both families.
///
/// # Errors
/// When the port is taken or `host` is no address of this machine.
pub fn listen(host: Option<IpAddr>, port: u16) -> Result<std::net::TcpListener, ListenError> {
    let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let address = host.map_or(everywhere, |host| SocketAddr::new(host, port));
    let bound = match bind(address) {
        // A host without IPv6.
        Err(error) if host.is_none() && error.kind() != io::ErrorKind::AddrInUse => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        bound => bound,
    };
    bound.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Busy { port },
        io::ErrorKind::AddrNotAvailable => ListenError::NotLocal(address.ip()),
        _ => ListenError::Open { address, source },
    })
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restarted daemon must not wait for the old one's connections to be forgotten.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_mss(SEGMENT_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG as i32)?;
    Ok(socket.into())
}

/// What a TCP segment to another router carries at most: as much as every IPv4 link takes (RFC 9293, 3.7.1). The kernel
/// would go by the hosts' own links, and wait for ICMP about smaller ones on the way, which may never come.
const SEGMENT_BYTES: u32 = 536;

/// One connection, as control sees it.
#[derive(Debug)]
struct Handle {
    orders: mpsc::Sender<Order>,
    /// How long the messages are that wait, octets.
    queued: Arc<AtomicUsize>,
    share: Share,
    task: AbortHandle,
    /// While a stranger's handshake is under way.
    pending: Option<PendingId>,
}

/// All connections, and the dials under way.
#[derive(Debug)]
pub struct Peers {
    clock: Clock,
    host: Option<IpAddr>,
    config: Arc<Config>,
    listener: TcpListener,
    limiter: AcceptLimiter,
    /// No stranger is accepted before.
    accept_from: Instant,
    handles: BTreeMap<ConnectionId, Handle>,
    tasks: JoinSet<()>,
    next_connection: u64,
    reporter: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
}

/// Something for [`Peers::handle_accepted`].
pub type Accepted = io::Result<(TcpStream, SocketAddr)>;

impl Peers {
    /// # Errors
    /// When the listener cannot be given to the runtime.
    pub fn new(
        listener: std::net::TcpListener,
        host: Option<IpAddr>,
        config: Config,
        clock: Clock,
    ) -> io::Result<Self> {
        let (reporter, reports) = mpsc::channel(REPORTS_MAX);
        Ok(Self {
            clock,
            host,
            config: Arc::new(config),
            listener: TcpListener::from_std(listener)?,
            limiter: AcceptLimiter::default(),
            accept_from: Instant::now(),
            handles: BTreeMap::new(),
            tasks: JoinSet::new(),
            next_connection: 0,
            reporter,
            reports,
        })
    }

    /// What later connections show of us; those that exist keep the card they began with.
    pub fn set_config(&mut self, config: Config) {
        self.config = Arc::new(config);
    }

    /// The next stranger or report; cancelling loses neither.
    pub async fn next(&mut self) -> Arrival {
        loop {
            tokio::select! {
                Some(report) = self.reports.recv() => {
                    if self.note(&report) == Concern::Ours {
                        return Arrival::Report(report);
                    }
                }
                accepted = accept(&self.listener, self.accept_from) => return Arrival::Accepted(accepted),
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }

    /// Keeps the handles in step with a report.
    fn note(&mut self, report: &Report) -> Concern {
        let connection = report.connection();
        let Some(handle) = self.handles.get_mut(&connection) else { return Concern::Closed };
        match report {
            Report::Connected { .. } => {
                if let Some(pending) = handle.pending.take() {
                    self.limiter.settle(pending);
                }
            }
            Report::Closed { .. } | Report::Refused { .. } | Report::DialFailed { .. } => self.forget(connection),
            Report::Message { .. } | Report::Room { .. } => {}
        }
        Concern::Ours
    }

    /// Begins the handshake with a stranger, if the limiter lets it.
    pub fn handle_accepted(&mut self, accepted: Accepted) {
        let (stream, remote) = match accepted {
            Ok((stream, remote)) => (stream, canonical(remote)),
            // Out of descriptors, or gone again: the next one may do better.
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                self.accept_from = Instant::now() + ACCEPT_PAUSE;
                return;
            }
        };
        match self.limiter.admit(remote.ip(), self.clock.now()) {
            Err(reason) => debug!(%remote, %reason, "connection not admitted"),
            Ok(admission) => {
                if let Some(evicted) = admission.evicted {
                    self.evict(evicted);
                }
                let connection = self.connection_id();
                let machine = self.machine(Role::Listener);
                let (queued, share) = (Arc::default(), Share::default());
                let shell = task::Shell {
                    connection,
                    dial: None,
                    remote,
                    clock: self.clock,
                    reporter: self.reporter.clone(),
                    queued: Arc::clone(&queued),
                    turns: share.turns(),
                };
                let (orders, receiver) = mpsc::channel(ORDERS_MAX);
                let task = self.tasks.spawn(shell.run(stream, machine, receiver));
                let pending = Some(admission.id);
                self.handles.insert(connection, Handle { orders, queued, share, task, pending });
            }
        }
    }

    fn evict(&mut self, pending: PendingId) {
        if let Some((connection, _)) = self.handles.iter().find(|(_, handle)| handle.pending == Some(pending)) {
            let connection = *connection;
            if let Some(handle) = self.handles.remove(&connection) {
                handle.task.abort();
            }
        }
    }

    fn machine(&self, role: Role) -> weave_mesh::connection::Connection {
        let mut seed = [0; 32];
        OsRng.fill_bytes(&mut seed);
        weave_mesh::connection::Connection::new(role, Arc::clone(&self.config), seed, self.clock.now())
    }

    fn connection_id(&mut self) -> ConnectionId {
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        id
    }

    /// Starts a dial; a report answers it.
    pub fn dial(&mut self, dial: Dial) {
        let connection = self.connection_id();
        let machine = self.machine(Role::Dialler);
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let (clock, host, reporter) = (self.clock, self.host, self.reporter.clone());
        let (queued, share) = (Arc::<AtomicUsize>::default(), Share::default());
        let (waiting, turns) = (Arc::clone(&queued), share.turns());
        let task = self.tasks.spawn(async move {
            match dial::connect(&dial.destination, host).await {
                Ok((stream, remote)) => {
                    let dial = Some(dial.id);
                    let shell = task::Shell { connection, dial, remote, clock, reporter, queued: waiting, turns };
                    shell.run(stream, machine, receiver).await;
                }
                Err(error) => {
                    let error = DialError::Connect(error.to_string());
                    let _ = reporter
                        .send(Report::DialFailed {
                            connection,
                            dial: dial.id,
                            remote: dial.destination.to_string(),
                            error,
                        })
                        .await;
                }
            }
        });
        self.handles.insert(connection, Handle { orders, queued, share, task, pending: None });
    }

    fn forget(&mut self, connection: ConnectionId) {
        if let Some(pending) = self.handles.remove(&connection).and_then(|handle| handle.pending) {
            self.limiter.settle(pending);
        }
    }

    /// Queues a message. A connection that is gone has been or will be reported.
    ///
    /// # Errors
    /// When the peer reads too slowly: the connection is closed, without a further report.
    pub fn send(&mut self, connection: ConnectionId, message: Message) -> Result<(), TooSlow> {
        let bytes = message.encoded_bytes();
        self.order(connection, Order::Send(Box::new(message), bytes), bytes)
    }

    /// Asks for a [`Report::Room`] when the stream has taken all that was sent before.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn await_room(&mut self, connection: ConnectionId) -> Result<(), TooSlow> {
        self.order(connection, Order::AwaitRoom, 0)
    }

    fn order(&mut self, connection: ConnectionId, order: Order, bytes: usize) -> Result<(), TooSlow> {
        let Some(handle) = self.handles.get(&connection) else { return Ok(()) };
        let is_too_much = handle.queued.fetch_add(bytes, Ordering::Relaxed) + bytes > ORDERS_BYTES_MAX;
        match handle.orders.try_send(order) {
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Ok(()) if !is_too_much => Ok(()),
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {
                handle.task.abort();
                self.forget(connection);
                Err(TooSlow)
            }
        }
    }

    /// What a message of this connection has cost control: the next ones wait if it was too much.
    pub fn charge(&mut self, connection: ConnectionId, turn: Turn, cost: Duration) {
        if let Some(handle) = self.handles.get_mut(&connection) {
            handle.share.charge(turn, cost);
        }
    }

    /// Closes after what was queued before; no report follows.
    pub fn close(&mut self, connection: ConnectionId) {
        self.forget(connection);
    }

    /// Closes everything and waits until the tasks have sent what was queued.
    pub async fn drain(&mut self) {
        self.reports.close();
        // Tasks wait for the turns in them.
        while self.reports.try_recv().is_ok() {}
        self.handles.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Whether control still cares for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concern {
    Ours,
    /// Closed here before the task noticed.
    Closed,
}

/// What [`Peers::next`] returns.
#[derive(Debug)]
pub enum Arrival {
    Accepted(Accepted),
    Report(Report),
}

/// A peer leaves its messages unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer reads too slowly: more than {ORDERS_MAX} messages or {ORDERS_BYTES_MAX} bytes wait for it")]
pub struct TooSlow;

async fn accept(listener: &TcpListener, from: Instant) -> Accepted {
    sleep_until(from).await;
    listener.accept().await
}

/// IPv4 addresses as such also where one socket serves both families.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
