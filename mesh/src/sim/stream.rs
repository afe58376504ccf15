//! TCP streams between simulated hosts, and the part of a daemon that runs them: dial, accept, read, write, close.
//!
//! ```text
//!  Output::Dial ─► Syn ──► accept ─► Accepted ──► handshake ──► Input::Connected ──► Input::Message …
//!                   │ nobody listens: Refused                                       │
//!                   └ no path: TimedOut                      Output::Close ─► End ──┴─► Input::Closed
//! ```
//! With [`Fidelity::Streams`] each end runs a [`Connection`] and bytes cross; with [`Fidelity::Messages`] the messages
//! cross as they are, and their encoded length is counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::input::Input;
use super::{Event, Fidelity, HostId, World, host};
use crate::card::SignedCard;
use crate::connection::{self, Connection, Role};
use crate::connector::{ConnectionId, Destination, Dial, DialError, DialId};
use crate::node::{CloseReason, Link};
use crate::time::Instant;
use crate::wire::Message;

/// How long a dial waits for an answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Octets of the handshake apart from the cards, by sender: header, lengths, keys and tags.
const DIALLER_HANDSHAKE_BYTES: usize = 7 + 2 + 48 + 2 + 64;
const LISTENER_HANDSHAKE_BYTES: usize = 7 + 2 + 112 + 2 + 16;
/// Octets that a record adds to its messages: length and tag.
const RECORD_BYTES: usize = 2 + 16;
/// Octets that a message adds: its length.
const MESSAGE_LENGTH_BYTES: usize = 2;

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
            Destination::Address(address) => host::host_at(*address),
            Destination::Name { .. } => None,
        };
        let (at, event) = match listener.filter(|listener| listener.0 < self.hosts.len()) {
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
        self.push(at, event);
    }

    /// A dial arrives.
    pub(super) fn handle_syn(&mut self, from: HostId, boot: u32, dial: DialId, to: HostId) {
        let Some(daemon) = &mut self.hosts[to.0].daemon else {
            let error = DialError::Connect("connection refused".into());
            let at = self.now + self.options.network.latency(&mut self.dice);
            self.push(at, Event::DialFailed { host: from, boot, dial, error });
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
        self.start_machine(id, Side::Listener);
        self.transmit(id, Side::Dialler, Payload::Accepted, 0, Duration::ZERO);
        self.flush(id, Side::Listener);
    }

    fn start_machine(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        let Some(daemon) = &mut self.hosts[end.host.0].daemon else { return };
        if self.options.fidelity == Fidelity::Messages {
            return;
        }
        let card = daemon.node.signed_card();
        let config = match &daemon.connection_config {
            Some(config) if config.card == card => Arc::clone(config),
            _ => Arc::new(connection::Config {
                identity: daemon.identity.clone(),
                card,
                mesh: self.options.mesh,
                psks: self.options.psks.clone(),
            }),
        };
        daemon.connection_config = Some(Arc::clone(&config));
        let role = match side {
            Side::Dialler => Role::Dialler,
            Side::Listener => Role::Listener,
        };
        let machine = Connection::new(role, config, self.dice.bytes(), self.now);
        let deadline = machine.poll_timeout();
        end.machine = Some(Box::new(machine));
        if let Some(deadline) = deadline {
            self.push(deadline, Event::HandshakeTimer { stream: id, side });
        }
    }

    pub(super) fn handle_handshake_timer(&mut self, id: StreamId, side: Side) {
        let now = self.now;
        let Some(machine) = self.machine(id, side) else { return };
        if let Err(error) = machine.handle_timeout(now) {
            self.fail(id, side, error);
        }
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
        self.push(at, Event::Arrive { stream: id, side, payload });
        if is_reset {
            self.reset(id);
        }
    }

    /// Cuts a stream at both ends.
    pub(super) fn reset(&mut self, id: StreamId) {
        for side in [Side::Dialler, Side::Listener] {
            self.push(self.now, Event::Arrive { stream: id, side, payload: Payload::End("connection reset") });
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

    fn handle_payload(&mut self, id: StreamId, side: Side, payload: Payload) {
        match payload {
            Payload::Accepted => self.handle_accepted(id),
            Payload::Bytes(bytes) => self.handle_bytes(id, side, &bytes),
            Payload::Card(card) => {
                if side == Side::Listener {
                    self.send_card(id, Side::Listener, Duration::ZERO);
                }
                self.connected(id, side, *card);
            }
            Payload::Messages(messages) => {
                for message in messages {
                    self.hand_over(id, side, message);
                }
            }
            Payload::End(_) => {}
        }
    }

    fn handle_accepted(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let host = stream.dialler.host;
        let Some(daemon) = &mut self.hosts[host.0].daemon else { return };
        let connection = ConnectionId(daemon.next_connection);
        daemon.next_connection += 1;
        daemon.connections.insert(connection, (id, Side::Dialler));
        stream.dialler.connection = connection;
        match self.options.fidelity {
            Fidelity::Streams => {
                self.start_machine(id, Side::Dialler);
                self.flush(id, Side::Dialler);
            }
            Fidelity::Messages => {
                // The dialler's card is the third message of the handshake: one round trip later.
                let network = &self.options.network;
                let round_trip = network.latency(&mut self.dice) + network.latency(&mut self.dice);
                self.send_card(id, Side::Dialler, round_trip);
            }
        }
    }

    fn send_card(&mut self, id: StreamId, from: Side, extra: Duration) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let host = stream.end(from).host;
        let Some(daemon) = &self.hosts[host.0].daemon else { return };
        let card = daemon.node.signed_card();
        let bytes = postcard::to_stdvec(&card).map_or(0, |encoded| encoded.len());
        let overhead = match from {
            Side::Dialler => DIALLER_HANDSHAKE_BYTES,
            Side::Listener => LISTENER_HANDSHAKE_BYTES,
        };
        self.transmit(id, from.other(), Payload::Card(Box::new(card)), bytes + overhead, extra);
    }

    fn handle_bytes(&mut self, id: StreamId, side: Side, bytes: &[u8]) {
        let Some(machine) = self.machine(id, side) else { return };
        let result = machine.handle_bytes(bytes);
        while let Some(event) = self.machine(id, side).and_then(Connection::poll_event) {
            match event {
                connection::Event::Connected(connected) => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.uid = connected.uid;
                    }
                    self.connected(id, side, connected.signed);
                }
                connection::Event::Message(message) => self.hand_over(id, side, message),
            }
        }
        match result {
            Ok(()) => self.flush(id, side),
            Err(error) => self.fail(id, side, error),
        }
    }

    fn machine(&mut self, id: StreamId, side: Side) -> Option<&mut Connection> {
        self.streams.get_mut(&id)?.end(side).machine.as_deref_mut()
    }

    fn connected(&mut self, id: StreamId, side: Side, card: SignedCard) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (uid, remote) = (stream.uid, stream.end(side.other()).host);
        let end = stream.end(side);
        if end.stage != Stage::Handshake {
            return;
        }
        end.stage = Stage::Connected;
        let remote = match side {
            Side::Dialler => host::address_of(remote),
            Side::Listener => (host::address_of(remote).ip(), ephemeral_port(id)).into(),
        };
        let link = Box::new(Link { dial: end.dial, remote, card, uid });
        let (host, connection) = (end.host, end.connection);
        self.feed(host, Input::Connected(connection, link));
    }

    fn hand_over(&mut self, id: StreamId, side: Side, message: Message) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        if end.stage == Stage::Connected {
            let (host, connection) = (end.host, end.connection);
            self.deliveries.count(host, &message);
            self.feed(host, Input::Message(connection, message));
        }
    }

    /// Sends messages of the daemon of `host`.
    pub(super) fn send(&mut self, host: HostId, connection: ConnectionId, messages: Vec<Message>) {
        let Some((id, side)) = self.connection(host, connection) else { return };
        match self.options.fidelity {
            Fidelity::Messages => {
                let encoded: usize =
                    messages.iter().map(|message| message.encoded_bytes() + MESSAGE_LENGTH_BYTES).sum();
                self.transmit(id, side.other(), Payload::Messages(messages), encoded + RECORD_BYTES, Duration::ZERO);
            }
            Fidelity::Streams => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                let Some(machine) = &mut stream.end(side).machine else { return };
                self.traffic.messages += messages.len() as u64;
                match messages.iter().try_for_each(|message| machine.send(message)) {
                    Ok(()) => self.flush(id, side),
                    Err(error) => self.fail(id, side, error),
                }
            }
        }
    }

    /// The daemon of `host` closes a connection.
    pub(super) fn close(&mut self, host: HostId, connection: ConnectionId) {
        let Some((id, side)) = self.connection(host, connection) else { return };
        self.shut(id, side);
    }

    fn shut(&mut self, id: StreamId, side: Side) {
        self.flush(id, side);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        end.stage = Stage::Closed;
        let (host, connection) = (end.host, end.connection);
        if let Some(daemon) = &mut self.hosts[host.0].daemon {
            daemon.connections.remove(&connection);
        }
        self.transmit(id, side.other(), Payload::End("closed by the other end"), 0, Duration::ZERO);
        self.forget_stream_if_over(id);
    }

    /// A machine failed: its last bytes go out, the stream is closed and the node told.
    fn fail(&mut self, id: StreamId, side: Side, error: connection::Error) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        let (stage, host, connection, dial) = (end.stage, end.host, end.connection, end.dial);
        self.shut(id, side);
        match (stage, dial) {
            (Stage::Connected, _) => {
                self.feed(host, Input::Closed(connection, CloseReason::Transport(error.to_string())));
            }
            (Stage::Handshake, Some(dial)) => self.feed(host, Input::DialFailed(dial, error.into())),
            (Stage::Handshake, None) => self.trace.note(self.now, host, host, format!("refused a stream: {error}")),
            (Stage::Closed, _) => {}
        }
    }

    /// The other end is gone.
    fn close_end(&mut self, id: StreamId, side: Side, why: &'static str) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        let (stage, host, boot, connection, dial) = (end.stage, end.host, end.boot, end.connection, end.dial);
        end.stage = Stage::Closed;
        self.forget_stream_if_over(id);
        let simulated = &mut self.hosts[host.0];
        if simulated.boot != boot {
            return;
        }
        let Some(daemon) = &mut simulated.daemon else { return };
        daemon.connections.remove(&connection);
        match (stage, dial) {
            (Stage::Connected, _) => self.feed(host, Input::Closed(connection, CloseReason::Transport(why.into()))),
            (Stage::Handshake, Some(dial)) => self.feed(host, Input::DialFailed(dial, DialError::Connect(why.into()))),
            (Stage::Handshake, None) | (Stage::Closed, _) => {}
        }
    }

    fn forget_stream_if_over(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(Stream::is_over) {
            self.streams.remove(&id);
        }
    }

    /// Everything that one end's machine has to send.
    fn flush(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(machine) = &mut stream.end(side).machine else { return };
        let bytes: Vec<u8> = std::iter::from_fn(|| machine.poll_transmit()).flatten().collect();
        if !bytes.is_empty() {
            let length = bytes.len();
            self.transmit(id, side.other(), Payload::Bytes(bytes), length, Duration::ZERO);
        }
    }

    fn connection(&self, host: HostId, connection: ConnectionId) -> Option<(StreamId, Side)> {
        self.hosts[host.0].daemon.as_ref()?.connections.get(&connection).copied()
    }

    /// The daemon of `host` is gone: its host resets the streams, unless it lost its power.
    pub(super) fn drop_streams(&mut self, host: HostId) {
        let ids: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| {
                let (a, b) = stream.hosts();
                a == host || b == host
            })
            .map(|(id, _)| *id)
            .collect();
        let is_powered = self.host(host).is_powered;
        for id in ids {
            for side in [Side::Dialler, Side::Listener] {
                let Some(stream) = self.streams.get_mut(&id) else { continue };
                let end = stream.end(side);
                if end.host == host && end.stage != Stage::Closed {
                    end.stage = Stage::Closed;
                    if is_powered {
                        self.transmit(id, side.other(), Payload::End("connection reset"), 0, Duration::ZERO);
                    }
                }
            }
            self.forget_stream_if_over(id);
        }
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

/// The port from which a dial seems to come.
fn ephemeral_port(id: StreamId) -> u16 {
    32_768 + (id.0 % 28_232) as u16
}
