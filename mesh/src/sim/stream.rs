//! TCP streams between simulated hosts, and the part of a daemon that runs them: dial, accept, read, write, close.
//!
//! ```text
//!  Output::Dial ─► Syn ──► accept ─► Accepted ──► handshake ──► Input::Connected ──► Input::Message …
//!                   │ nobody listens: Refused                                       │
//!                   └ no path: TimedOut                      Output::Close ─► End ──┴─► Input::Closed
//! ```
//! With [`Fidelity::Streams`] each end runs a [`Connection`] and bytes cross; with [`Fidelity::Messages`] the messages
//! cross as they are, and their encoded length is counted.
//!
//! Invariant: as in a daemon, every dial is answered. A host that fell silent sends no reset, so each end gives up a
//! handshake at its deadline, with a machine or without.

mod close;
mod talk;

use std::collections::VecDeque;
use std::time::Duration;

use super::queue::Event;
use super::{HostId, World};
use crate::card::SignedCard;
use crate::connection::Connection;
use crate::connector::{ConnectionId, Destination, Dial, DialError, DialId};
use crate::time::Instant;
use crate::wire::Message;

/// How long a dial waits for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(pub(super) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Dialler,
    Listener,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

/// What travels towards one end.
#[derive(Debug)]
pub(super) enum Payload {
    /// The stream is open; for the dialler.
    Accepted,
    Bytes(Vec<u8>),
    /// The handshake without its machine: the sender's card.
    Card(Box<SignedCard>),
    Messages(Vec<Message>),
    /// The other end closed, or its host knows nothing of the stream.
    End(&'static str),
}

#[derive(Debug)]
pub(super) struct Stream {
    dialler: End,
    listener: End,
    /// Stands for the hash of the handshake when no machine computes one.
    uid: u64,
}

/// One end of a stream.
#[derive(Debug)]
struct End {
    host: HostId,
    boot: u32,
    connection: ConnectionId,
    dial: Option<DialId>,
    stage: Stage,
    machine: Option<Box<Connection>>,
    /// When the last payload on its way here arrives: the next one is not earlier.
    in_order: Instant,
    /// What a partition holds up.
    stalled: VecDeque<Payload>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    /// The node knows it.
    Connected,
    Closed,
}

impl Stream {
    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Dialler => &mut self.dialler,
            Side::Listener => &mut self.listener,
        }
    }

    pub(super) const fn hosts(&self) -> (HostId, HostId) {
        (self.dialler.host, self.listener.host)
    }

    fn is_over(&self) -> bool {
        self.dialler.stage == Stage::Closed && self.listener.stage == Stage::Closed
    }
}

impl World {
    /// The daemon of `from` dials.
    pub(super) fn dial(&mut self, from: HostId, dial: Dial) {
        let boot = self.host(from).boot;
        let listener = match &dial.destination {
            Destination::Address(address) => self.tenant(*address),
            Destination::Name { .. } => None,
        };
        let (at, event) = match listener {
            None => {
                let error = DialError::Connect(format!("no route to {}", dial.destination));
                (self.now, Event::DialFailed { host: from, boot, dial: dial.id, error })
            }
            Some(to) if self.cuts.are_apart(from, to) || !self.host(to).is_powered => {
                let error = DialError::Connect("timed out".into());
                (self.now + CONNECT_TIMEOUT, Event::DialFailed { host: from, boot, dial: dial.id, error })
            }
            Some(to) => {
                let at = self.now + self.options.network.travel_of_syn(&mut self.dice);
                (at, Event::Syn { from, boot, dial: dial.id, to })
            }
        };
        self.queue.push(at, event);
    }

    /// A dial arrives.
    pub(super) fn handle_syn(&mut self, from: HostId, boot: u32, dial: DialId, to: HostId) {
        let Some(daemon) = &mut self.hosts[to.0].daemon else {
            let error = DialError::Connect("connection refused".into());
            let at = self.now + self.options.network.latency(&mut self.dice);
            self.queue.push(at, Event::DialFailed { host: from, boot, dial, error });
            return;
        };
        let connection = ConnectionId(daemon.next_connection);
        daemon.next_connection += 1;
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        daemon.connections.insert(connection, (id, Side::Listener));
        let end = |host, boot, connection, dial| End {
            host,
            boot,
            connection,
            dial,
            stage: Stage::Handshake,
            machine: None,
            in_order: Instant::ZERO,
            stalled: VecDeque::new(),
        };
        let listener = end(to, self.hosts[to.0].boot, connection, None);
        // The dialler's daemon numbers its end when it learns that the stream is open.
        let dialler = end(from, boot, ConnectionId(u64::MAX), Some(dial));
        self.streams.insert(id, Stream { dialler, listener, uid: self.dice.number() });
        self.start_handshake(id, Side::Listener);
        self.transmit(id, Side::Dialler, Payload::Accepted, 0, Duration::ZERO);
        self.flush(id, Side::Listener);
    }

    /// Sends `payload` of `bytes` towards `side`, in order, `extra` later than the network alone would.
    fn transmit(&mut self, id: StreamId, side: Side, payload: Payload, bytes: usize, extra: Duration) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let from = stream.end(side.other()).host;
        let end = stream.end(side);
        let messages = if let Payload::Messages(messages) = &payload { messages.len() } else { 0 };
        self.traffic.count(from, bytes, messages);
        let network = &self.options.network;
        let left = self.hosts[from.0].uplink.send(bytes, network, self.now);
        let at = (left + extra + network.travel(&mut self.dice)).max(end.in_order);
        end.in_order = at;
        self.trace.mix(at, from, end.host, &(bytes as u64).to_le_bytes());
        let is_reset = bytes > 0 && self.dice.happens(self.options.network.reset);
        self.queue.push(at, Event::Arrive { stream: id, side, payload });
        if is_reset {
            self.reset(id);
        }
    }

    /// Cuts a stream at both ends.
    pub(super) fn reset(&mut self, id: StreamId) {
        for side in [Side::Dialler, Side::Listener] {
            self.queue.push(self.now, Event::Arrive { stream: id, side, payload: Payload::End("connection reset") });
        }
    }

    /// Something reaches one end of a stream.
    pub(super) fn handle_arrival(&mut self, id: StreamId, side: Side, payload: Payload) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (dialler, listener) = stream.hosts();
        let end = stream.end(side);
        if self.cuts.are_apart(dialler, listener) {
            end.stalled.push_back(payload);
            return;
        }
        let host = &self.hosts[end.host.0];
        let is_alive = host.daemon.is_some() && host.boot == end.boot && end.stage != Stage::Closed;
        match payload {
            Payload::End(why) => self.close_end(id, side, why),
            _ if is_alive => self.handle_payload(id, side, payload),
            // The host of a daemon that is gone says so; a host without power says nothing.
            _ if host.is_powered => {
                end.stage = Stage::Closed;
                self.transmit(id, side.other(), Payload::End("connection reset"), 0, Duration::ZERO);
            }
            _ => {}
        }
    }

    fn connection(&self, host: HostId, connection: ConnectionId) -> Option<(StreamId, Side)> {
        self.hosts[host.0].daemon.as_ref()?.connections.get(&connection).copied()
    }

    /// What a partition held up is sent again.
    pub(super) fn resume_streams(&mut self) {
        let mut resumed = Vec::new();
        for (id, stream) in &mut self.streams {
            let (dialler, listener) = stream.hosts();
            if self.cuts.are_apart(dialler, listener) {
                continue;
            }
            for side in [Side::Dialler, Side::Listener] {
                resumed.extend(stream.end(side).stalled.drain(..).map(|payload| (*id, side, payload)));
            }
        }
        for (id, side, payload) in resumed {
            self.transmit(id, side, payload, 0, Duration::ZERO);
        }
    }
}
