//! What crosses an open stream: the handshake, then messages.

use std::sync::Arc;
use std::time::Duration;

use super::{Payload, Side, Stage, StreamId};
use crate::card::SignedCard;
use crate::connection::{self, Connection, HANDSHAKE_TIMEOUT, Role};
use crate::connector::ConnectionId;
use crate::node::Link;
use crate::sim::queue::Event;
use crate::sim::{Fidelity, HostId, Input, World};
use crate::wire::Message;

/// Octets of the handshake apart from the cards, by sender: header, lengths, keys and tags.
const DIALLER_HANDSHAKE_BYTES: usize = 7 + 2 + 48 + 2 + 64;
const LISTENER_HANDSHAKE_BYTES: usize = 7 + 2 + 112 + 2 + 16;
/// Octets that a record adds to its messages: length and tag.
const RECORD_BYTES: usize = 2 + 16;
/// Octets that a message adds: its length.
const MESSAGE_LENGTH_BYTES: usize = 2;

impl World {
    /// From here on an end has so long to be connected, whatever of it is simulated.
    pub(super) fn start_handshake(&mut self, id: StreamId, side: Side) {
        if self.options.fidelity == Fidelity::Streams {
            self.start_machine(id, side);
        }
        self.queue.push(self.now + HANDSHAKE_TIMEOUT, Event::HandshakeTimer { stream: id, side });
    }

    fn start_machine(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        let Some(daemon) = &mut self.hosts[end.host.0].daemon else { return };
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
        end.machine = Some(Box::new(Connection::new(role, config, self.dice.bytes(), self.now)));
    }

    /// The handshake is given up, unless it ended meanwhile.
    pub(in crate::sim) fn handle_handshake_timer(&mut self, id: StreamId, side: Side) {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let end = stream.end(side);
        if end.stage != Stage::Handshake {
            return;
        }
        let without_machine = Err(connection::Error::Deadline(HANDSHAKE_TIMEOUT));
        let outcome = end.machine.as_mut().map_or(without_machine, |machine| machine.handle_timeout(now));
        if let Err(error) = outcome {
            self.fail(id, side, error);
        }
    }

    pub(super) fn handle_payload(&mut self, id: StreamId, side: Side, payload: Payload) {
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
        self.start_handshake(id, Side::Dialler);
        match self.options.fidelity {
            Fidelity::Streams => self.flush(id, Side::Dialler),
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
            Side::Dialler => self.hosts[remote.0].address,
            Side::Listener => (self.hosts[remote.0].address.ip(), ephemeral_port(id)).into(),
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
    pub(in crate::sim) fn send(&mut self, host: HostId, connection: ConnectionId, messages: Vec<Message>) {
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

    /// Everything that one end's machine has to send.
    pub(super) fn flush(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(machine) = &mut stream.end(side).machine else { return };
        let bytes: Vec<u8> = std::iter::from_fn(|| machine.poll_transmit()).flatten().collect();
        if !bytes.is_empty() {
            let length = bytes.len();
            self.transmit(id, side.other(), Payload::Bytes(bytes), length, Duration::ZERO);
        }
    }
}

/// The port from which a dial seems to come.
fn ephemeral_port(id: StreamId) -> u16 {
    32_768 + (id.0 % 28_232) as u16
}
