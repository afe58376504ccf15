//! Questions that others must answer: passed on octet for octet under another id, from another port each time, and the
//! reply passed back.
//!
//! ```text
//!   cache ─ miss ─► first server ─ no answer in time, or a failure ─► next server ─► … ─► SERVFAIL
//! ```
//!
//! A reply counts when it comes from the server that was asked, to the port it was asked from, with the id and the
//! question (RFC 5452 section 9.1). It goes back as it is; only one too long for its asker is cut.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand_core::{OsRng, RngCore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tracing::debug;

use super::Transport;
use super::cache::Cache;
use super::wire::{self, Asked};

/// Questions under way to upstream servers; further ones fail at once.
const FORWARDS_MAX: usize = 1_024;
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
    permits: Semaphore,
    cache: Mutex<Cache>,
}

impl Upstream {
    pub fn new(servers: watch::Receiver<Arc<[SocketAddr]>>, timeout: Duration) -> Self {
        Self { servers, timeout, permits: Semaphore::new(FORWARDS_MAX), cache: Mutex::default() }
    }

    /// The reply to `query`, which is at most `limit` octets long; `None` when it is no single question.
    pub async fn resolve(&self, transport: Transport, query: &[u8], limit: usize) -> Option<Vec<u8>> {
        let asked = Asked::parse(query)?;
        if let Some(reply) = self.cache().get(transport, query, Instant::now()) {
            return Some(fitting(reply, limit));
        }
        let Ok(_permit) = self.permits.try_acquire() else { return Some(asked.failure()) };
        let servers = Arc::clone(&self.servers.borrow());
        let mut reply = asked.failure();
        for server in servers.iter() {
            match tokio::time::timeout(self.timeout, ask(*server, transport, query)).await {
                Ok(Ok(answer)) => {
                    let is_failure = Asked::parse(&answer).is_none_or(|answer| answer.is_failure());
                    reply = answer;
                    if !is_failure {
                        break;
                    }
                }
                Ok(Err(error)) => debug!(%server, %error, "upstream server cannot be asked"),
                Err(_) => debug!(%server, "upstream server did not answer in time"),
            }
        }
        wire::set_id(&mut reply, asked.id());
        self.cache().put(transport, query, &reply, Instant::now());
        Some(fitting(reply, limit))
    }

    /// Other servers are asked from now on.
    pub fn forget(&self) {
        self.cache().clear();
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
