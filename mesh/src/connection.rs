//! Connection: one TCP stream to another peer, from the first byte to authenticated messages. Pure: the shell moves
//! the bytes.
//!
//! ```text
//!  Header ── both sent theirs ──► Handshake ── password and card proved ──► Open ── messages both ways
//!     └────────────────────────────────┴───── any error, 10 s deadline ──────┴──► Failed: drain, then close
//! ```
//!
//! Invariants:
//! - nothing but the handshake is sent before the other end has proved that it knows a password;
//! - no bytes from outside make it panic, and what it buffers is bounded: by [`PREAUTH_MAX_BYTES`] before the proof,
//!   by one record and one message after it, by [`SEND_QUEUE_MAX_BYTES`] on the way out;
//! - the same configuration, seed and inputs give the same bytes.

mod error;
mod handshake;
mod header;
mod limiter;
mod session;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::error::Error;
pub use self::header::Versions;
pub use self::limiter::{AcceptLimiter, Admission, PENDING_MAX, PendingId, TooManyAttempts};

use self::handshake::{Handshake, Opened, Progress};
use self::header::HEADER_BYTES;
use self::session::Session;
use crate::card::{Card, SignedCard};
use crate::identity::Identity;
use crate::name::MeshId;
use crate::noise::Psk;
use crate::time::Instant;
use crate::wire::Message;

/// The longest message before the other end has proved itself, octets.
pub const PREAUTH_MAX_BYTES: usize = 512;
/// How long the handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest sealed record, octets: the most that Noise allows.
const RECORD_MAX_BYTES: usize = 65_535;
/// How much may wait to be sent, octets: the largest set and half as much again.
pub const SEND_QUEUE_MAX_BYTES: usize = 12 * 1_024 * 1_024;
/// Octets that sealing adds.
const TAG_BYTES: usize = 16;
/// What a listener sends instead of its first record when no password opens the proof. No length of a message before
/// authentication begins with this byte.
const REJECTED: u8 = 0xff;

/// Which end of the stream this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Dialler,
    Listener,
}

/// What this peer brings to every connection.
#[derive(Clone)]
pub struct Config {
    pub identity: Identity,
    pub card: SignedCard,
    pub mesh: MeshId,
    /// The accepted passwords' keys; the first is used for dialling. Never empty: without a password, one of zeros.
    pub psks: Vec<Psk>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("identity", &self.identity).field("mesh", &self.mesh).finish_non_exhaustive()
    }
}

/// The other end, proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    pub signed: SignedCard,
    pub card: Card,
    /// Names this connection at both ends, for the tie-break.
    pub uid: u64,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// Comes first, once.
    Connected(Box<Connected>),
    Message(Message),
}

/// The machine; see the module's drawing.
pub struct Connection {
    config: Arc<Config>,
    role: Role,
    seed: [u8; 32],
    state: State,
    /// Bytes of an incomplete header, message or record.
    received: Vec<u8>,
    /// Handshake bytes to send, before any record.
    outbox: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    deadline: Option<Instant>,
}

enum State {
    Header,
    Handshake(Handshake),
    Open(Session),
    Failed(Error),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Header => "header",
            State::Handshake(_) => "handshake",
            State::Open(_) => "open",
            State::Failed(_) => "failed",
        };
        f.debug_struct("Connection").field("role", &self.role).field("state", &state).finish_non_exhaustive()
    }
}

impl Connection {
    /// `seed` must be unpredictable and used for this connection only: the ephemeral key is drawn from it.
    pub fn new(role: Role, config: Arc<Config>, seed: [u8; 32], now: Instant) -> Self {
        Self {
            config,
            role,
            seed,
            state: State::Header,
            received: Vec::new(),
            outbox: VecDeque::from([Versions::OURS.header().to_vec()]),
            events: VecDeque::new(),
            deadline: Some(now + HANDSHAKE_TIMEOUT),
        }
    }

    /// Takes bytes from the stream, any number of them.
    ///
    /// # Errors
    /// The connection is over, with the same error for ever; drain [`Self::poll_transmit`], then close the stream.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        self.received.extend_from_slice(bytes);
        let received = std::mem::take(&mut self.received);
        let mut position = 0;
        loop {
            match self.step(&received[position..]) {
                Ok(0) => break,
                Ok(consumed) => position += consumed,
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.received = received;
        self.received.drain(..position);
        Ok(())
    }

    /// # Errors
    /// When the handshake has not ended in time.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self.deadline {
            Some(deadline) if deadline <= now => Err(self.fail(Error::Deadline(HANDSHAKE_TIMEOUT))),
            _ => Ok(()),
        }
    }

    /// Queues one message.
    ///
    /// # Errors
    /// Before the other end has proved itself, and when too much waits to be sent already; the connection is over in
    /// either case.
    pub fn send(&mut self, message: &Message) -> Result<(), Error> {
        self.send_encoded(&message.encode())
    }

    /// The same for a message that is encoded already.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_encoded(&mut self, message: &[u8]) -> Result<(), Error> {
        let queued = match &mut self.state {
            State::Open(session) => session.queue(message),
            State::Header | State::Handshake(_) => Err(Error::NotOpen),
            State::Failed(error) => Err(error.clone()),
        };
        queued.map_err(|error| self.fail(error))
    }

    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// The next bytes for the stream. Ask when the stream can take them: what is not asked for shares records.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front().or_else(|| match &mut self.state {
            State::Open(session) => session.next_record(),
            State::Header | State::Handshake(_) | State::Failed(_) => None,
        })
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes queued and not yet taken by [`Self::poll_transmit`].
    pub fn backlog_bytes(&self) -> usize {
        let sealed: usize = self.outbox.iter().map(Vec::len).sum();
        sealed + if let State::Open(session) = &self.state { session.backlog() } else { 0 }
    }

    fn fail(&mut self, error: Error) -> Error {
        if error == Error::WrongPassword {
            self.outbox.push_back(vec![REJECTED]);
        }
        self.deadline = None;
        self.received = Vec::new();
        self.state = State::Failed(error.clone());
        error
    }

    /// Consumes one header, message or record from the front of `received`; 0 when it is incomplete.
    fn step(&mut self, received: &[u8]) -> Result<usize, Error> {
        if let State::Header = self.state {
            return self.handle_header(received);
        }
        let limit = match &self.state {
            State::Handshake(handshake) if handshake.awaits_welcome() && received.first() == Some(&REJECTED) => {
                return Err(Error::Rejected);
            }
            State::Handshake(_) => PREAUTH_MAX_BYTES,
            State::Header | State::Open(_) | State::Failed(_) => RECORD_MAX_BYTES,
        };
        let Some((length, rest)) = received.split_first_chunk::<2>() else { return Ok(0) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > limit {
            return Err(Error::TooLong { bytes: length, limit });
        }
        let Some(message) = rest.get(..length) else { return Ok(0) };
        self.handle_message(message)?;
        Ok(2 + length)
    }

    fn handle_header(&mut self, received: &[u8]) -> Result<usize, Error> {
        let Some(theirs) = Versions::parse(received)? else { return Ok(0) };
        let ours = Versions::OURS;
        // The one version that this peer speaks: a range that has it in common needs no further choice.
        ours.common(theirs)?;
        let prologue = match self.role {
            Role::Dialler => [ours.min, ours.max, theirs.min, theirs.max],
            Role::Listener => [theirs.min, theirs.max, ours.min, ours.max],
        };
        let outbox = &mut self.outbox;
        let handshake = Handshake::start(self.config.clone(), self.role, prologue, self.seed, &mut |message| {
            outbox.push_back(message);
        })?;
        self.state = State::Handshake(handshake);
        Ok(HEADER_BYTES)
    }

    fn handle_message(&mut self, message: &[u8]) -> Result<(), Error> {
        let outbox = &mut self.outbox;
        let events = &mut self.events;
        self.state = match std::mem::replace(&mut self.state, State::Header) {
            State::Handshake(handshake) => match handshake.handle_message(message, &mut |out| outbox.push_back(out))? {
                Progress::Waiting(handshake) => State::Handshake(handshake),
                Progress::Opened(opened) => {
                    let Opened { transport, signed, card, uid } = *opened;
                    self.deadline = None;
                    events.push_back(Event::Connected(Box::new(Connected { signed, card, uid })));
                    State::Open(Session::new(transport))
                }
            },
            State::Open(mut session) => {
                session.open(message)?;
                session.take_messages(|message| {
                    events.push_back(Event::Message(Message::decode(message)?));
                    Ok(())
                })?;
                State::Open(session)
            }
            unchanged @ (State::Header | State::Failed(_)) => unchanged,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
