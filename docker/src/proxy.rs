//! The proxy in front of Docker's API: every octet passes, and containers are created so that they start on the network.
//!
//! ```text
//!   client ══ one connection ══ Connection ══ one connection ══ engine
//!                                   │ POST /containers/create      every other request, and every answer:
//!                                   ↓                              as it came, in constant memory
//!                        create::plan ─→ Advisor::before_create ─→ apply ─→ engine ─→ Advisor::after_create ─→ client
//! ```
//!
//! Invariants: one connection of a client is one to the engine, so that whatever either side does to it, the other side
//! sees; messages are counted, to know where requests begin, and never framed anew; a connection on which nothing happens
//! holds no buffer; nothing a client sends ends more than its own connection.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::create::{Change, Policy};
use crate::wish::Cidr;

mod capture;
mod connection;
mod framing;
mod head;
mod refusal;
mod relay;
mod source;
mod target;

/// After an `accept` that failed, as when no descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Creates of more than a few octets that are in memory at once.
const LARGE_CREATES_MAX: usize = 2;

/// Addresses for a container that is about to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation<T> {
    /// What it is known by until the container has an id.
    pub token: T,
    /// The first one is the host's address in `/etc/hosts`; none when none are known before it starts.
    pub addresses: Vec<Cidr>,
}

/// Who gives out addresses, and says what holds for containers.
pub trait Advisor: Send + Sync + 'static {
    /// What a reservation is known by.
    type Token: Send;

    /// What holds at this moment.
    fn policy(&self) -> Arc<Policy>;

    /// A container is to be created. Whatever is said instead of a reservation is told to the client, and no container is
    /// created.
    fn before_create(
        &self,
        change: &Change<'_>,
    ) -> impl Future<Output = Result<Reservation<Self::Token>, String>> + Send;

    /// The container exists, with this id, and the client does not know it yet; or it does not, and the addresses are free.
    /// Not told when the proxy itself is stopped in between.
    fn after_create(&self, token: Self::Token, container: Option<&str>) -> impl Future<Output = ()> + Send;

    /// The addresses that `docker inspect` is to show for the container with this id; none leaves Docker's.
    fn addresses(&self, container: &str) -> impl Future<Output = Vec<Cidr>> + Send {
        let _ = container;
        std::future::ready(Vec::new())
    }
}

/// What the proxy bears with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// How long a request's head, or the body of a create, may take.
    pub request: Duration,
    /// How long a connection may be without a request, or open towards an engine that has closed it.
    pub idle: Duration,
    /// The longest body of a create.
    pub create_bytes: usize,
    /// The longest inspection that is rewritten; a longer one passes as it is.
    pub inspect_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            request: Duration::from_secs(60),
            idle: Duration::from_secs(600),
            create_bytes: 8 * 1024 * 1024,
            inspect_bytes: 4 * 1024 * 1024,
        }
    }
}

/// The proxy of one engine.
#[derive(Debug)]
pub struct Proxy<A> {
    engine: PathBuf,
    advisor: A,
    limits: Limits,
    connections: Arc<Semaphore>,
    large_creates: Semaphore,
}

impl<A: Advisor> Proxy<A> {
    /// For the engine that listens at this unix socket.
    pub fn new(engine: PathBuf, advisor: A, limits: Limits) -> Self {
        let connections = Arc::new(Semaphore::new(limits.connections));
        Self { engine, advisor, limits, connections, large_creates: Semaphore::new(LARGE_CREATES_MAX) }
    }

    /// Serves whoever connects, for ever; given up, it ends all connections.
    pub async fn serve(self: Arc<Self>, listener: UnixListener) {
        let mut tasks = JoinSet::new();
        loop {
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            while tasks.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((client, _)) => {
                    let proxy = Arc::clone(&self);
                    tasks.spawn(async move {
                        proxy.converse(client).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for Docker");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one client, however it is connected.
    pub async fn carry<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, client: S) {
        if let Ok(_permit) = self.connections.acquire().await {
            self.converse(client).await;
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, client: S) {
        let (source, sink) = tokio::io::split(client);
        connection::Connection::new(self, source, sink).run().await;
    }

    /// A new connection to the engine. A queue that is full at the moment is no reason to turn anybody away.
    async fn connect(&self) -> io::Result<tokio::net::UnixStream> {
        const ATTEMPTS: u32 = 50;
        for _ in 0..ATTEMPTS {
            match tokio::net::UnixStream::connect(&self.engine).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(ACCEPT_PAUSE).await,
                result => return result,
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[cfg(test)]
mod tests;
