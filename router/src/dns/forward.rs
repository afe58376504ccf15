//! Questions that others must answer: passed on octet for octet under another id, from another port each time, and the
//! reply passed back.
//!
//! ```text
//!   cache ─ miss ─► first server ─┬─ 300 ms without an answer ─► next server too ─► … ─┬─► the first good answer
//!                                 └─ a failure ─► next server at once                  └─► SERVFAIL
//! ```
//!
//! A reply counts when it comes from the server that was asked, to the port it was asked from, with the id and the
//! question (RFC 5452 section 9.1). It goes back as it is; only one too long for its asker is cut. A server that was
//! overtaken is listened to until its time is over, and what is heard of it decides whom the next question goes to
//! first (hearing.rs).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand_core::{OsRng, RngCore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::debug;

use super::Transport;
use super::budget::Share;
use super::cache::Cache;
use super::hearing::Hearing;
use super::wire::{self, Asked};

/// How long one server is waited for alone.
const PATIENCE: Duration = Duration::from_millis(300);
/// The longest reply over UDP.
const UDP_REPLY_BYTES_MAX: usize = 65_535;
/// A server that answers nonsense is given up after so much of it.
const FOREIGN_REPLIES_MAX: usize = 64;

/// The upstream servers, and what they have said.
#[derive(Debug)]
pub struct Upstream {
    servers: watch::Receiver<Arc<[SocketAddr]>>,
    /// For each server.
    timeout: Duration,
    cache: Mutex<Cache>,
    hearing: Arc<Mutex<Hearing>>,
}

impl Upstream {
    pub fn new(servers: watch::Receiver<Arc<[SocketAddr]>>, timeout: Duration) -> Self {
        Self { servers, timeout, cache: Mutex::default(), hearing: Arc::default() }
    }

    /// The reply to `query`, which is at most `limit` octets long; `None` when it is no single question. `share` is the
    /// asker's as long as any server is listened to.
    pub async fn resolve(&self, transport: Transport, query: &[u8], limit: usize, share: Share) -> Option<Vec<u8>> {
        let asked = Asked::parse(query)?;
        if let Some(reply) = lock(&self.cache).get(transport, query, Instant::now()) {
            return Some(fitting(reply, limit));
        }
        let mut reply = self.ask_all(transport, query, share).await.unwrap_or_else(|| asked.failure());
        wire::set_id(&mut reply, asked.id());
        lock(&self.cache).put(transport, query, &reply, Instant::now());
        Some(fitting(reply, limit))
    }

    /// The first good answer of any server, else the last failure, if there is one.
    async fn ask_all(&self, transport: Transport, query: &[u8], share: Share) -> Option<Vec<u8>> {
        let servers = Arc::clone(&self.servers.borrow());
        let order = lock(&self.hearing).order(transport, &servers, Instant::now());
        let mut asking = Asking { upstream: self, transport, query, share: Arc::new(share), asks: JoinSet::new() };
        order.beside.iter().for_each(|server| asking.ask(*server));
        let mut failure = None;
        let mut turns = order.turns.into_iter().peekable();
        let mut waited_for = None;
        loop {
            if let Some(server) = turns.next() {
                asking.ask(server);
                waited_for = Some((server, Instant::now()));
            } else if asking.asks.is_empty() {
                return failure;
            }
            let patience = if turns.peek().is_some() { PATIENCE } else { Duration::MAX };
            match tokio::time::timeout(patience, asking.asks.join_next()).await {
                Ok(Some(Ok(Some(answer)))) if !is_failure(&answer) => {
                    // Late answers of the others are heard as well.
                    asking.asks.detach_all();
                    return Some(answer);
                }
                Ok(Some(Ok(Some(answer)))) => failure = Some(answer),
                Ok(Some(Ok(None) | Err(_)) | None) => {}
                Err(_) => self.note_patience_over(transport, waited_for),
            }
        }
    }

    fn note_patience_over(&self, transport: Transport, waited_for: Option<(SocketAddr, Instant)>) {
        if let Some((server, asked)) = waited_for {
            debug!(%server, "upstream server lets wait");
            lock(&self.hearing).note_patience_over(transport, server, asked);
        }
    }

    /// Other servers are asked from now on.
    pub fn forget(&self) {
        lock(&self.cache).clear();
        lock(&self.hearing).clear();
    }
}

/// One question on its way to several servers.
struct Asking<'a> {
    upstream: &'a Upstream,
    transport: Transport,
    query: &'a [u8],
    share: Arc<Share>,
    /// The reply of each server, if it is one.
    asks: JoinSet<Option<Vec<u8>>>,
}

impl Asking<'_> {
    fn ask(&mut self, server: SocketAddr) {
        let (transport, query, timeout) = (self.transport, self.query.to_vec(), self.upstream.timeout);
        let (hearing, share) = (Arc::clone(&self.upstream.hearing), Arc::clone(&self.share));
        self.asks.spawn(async move {
            let reply = tokio::time::timeout(timeout, ask(server, transport, &query)).await;
            drop(share);
            match reply {
                Ok(Ok(reply)) => {
                    lock(&hearing).note_heard(transport, server, Instant::now());
                    return Some(reply);
                }
                Ok(Err(error)) => debug!(%server, %error, "upstream server cannot be asked"),
                Err(_) => debug!(%server, "upstream server did not answer in time"),
            }
            None
        });
    }
}

fn is_failure(answer: &[u8]) -> bool {
    Asked::parse(answer).is_none_or(|answer| answer.is_failure())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fitting(reply: Vec<u8>, limit: usize) -> Vec<u8> {
    match Asked::parse(&reply) {
        Some(asked) if reply.len() > limit => asked.cut(),
        Some(_) | None => reply,
    }
}

async fn ask(server: SocketAddr, transport: Transport, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut question = query.to_vec();
    wire::set_id(&mut question, OsRng.next_u32() as u16);
    match transport {
        Transport::Udp => ask_udp(server, &question).await,
        Transport::Tcp => ask_tcp(server, &question).await,
    }
}

/// A socket of its own for each question: the kernel draws its port, and takes datagrams of that server only.
async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let local: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut reply = vec![0; UDP_REPLY_BYTES_MAX];
    for _ in 0..FOREIGN_REPLIES_MAX {
        let length = socket.recv(&mut reply).await?;
        if is_reply(&reply[..length], question) {
            reply.truncate(length);
            return Ok(reply);
        }
    }
    Err(io::Error::other("nothing but replies to other questions"))
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&framed(question)).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    if is_reply(&reply, question) { Ok(reply) } else { Err(io::Error::other("a reply to another question")) }
}

fn is_reply(reply: &[u8], question: &[u8]) -> bool {
    Asked::parse(reply).zip(Asked::parse(question)).is_some_and(|(reply, question)| reply.answers(&question))
}

/// A message as it travels over TCP (RFC 1035 section 4.2.2).
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(message.len() + 2);
    bytes.extend(length.to_be_bytes());
    bytes.extend_from_slice(&message[..length.into()]);
    bytes
}

#[cfg(test)]
mod tests;
