//! Datagrams from other hosts.
//!
//! ```text
//!   datagram ─► decode ─┬─ data ─► session by index ─► open ─┬─ frame ────► whose addresses are these? ─► TAP
//!                       │                                    ├─ envelope ─► for us: decode again; else pass on
//!                       │                                    └─ probe, answer, of either kind
//!                       └─ initiation, response, cookie ─► handshakes.rs
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use weave_mesh::identity::PeerKey;
use weave_mesh::time::Instant;

use crate::batch::Outbox;
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::peers::Slot;
use crate::engine::sealing::Departure;
use crate::engine::stations::Station;
use crate::ethernet::Ethernet;
use crate::heartbeat;
use crate::sleeve::cookie::Source;
use crate::sleeve::packet::{DATA_HEADER_BYTES, DataHeader, Index, Packet, Payload, decode};
use crate::sleeve::relay::{ENVELOPE_BYTES, Envelope, RelayId};
use crate::sleeve::route::Via;

/// A session that is younger is not replaced because of packets under indices that we do not know: these may be late
/// packets of the one before.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// How a packet came to us, when, and where what it asks for is to go.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    /// The source of the datagram.
    pub(super) address: SocketAddr,
    /// Where the packet begins in its batch.
    at: usize,
    /// The peer whose envelope it was in, and the sender that the envelope names.
    pub(super) relayed: Option<(PeerKey, RelayId)>,
    pub(super) now: Instant,
    pub(super) out: &'a mut Outbox,
}

impl<'a> Arrival<'a> {
    /// As a datagram of its own, from `at` on in its batch.
    pub(super) const fn straight(address: SocketAddr, at: usize, now: Instant, out: &'a mut Outbox) -> Self {
        Self { address, at, relayed: None, now, out }
    }

    /// The way back.
    pub(super) fn via(&self) -> Via {
        self.relayed.map_or(Via::Direct(self.address), |(relay, _)| Via::Relay(relay))
    }

    /// An answer to the peer at `slot`, by the way back.
    pub(super) fn back(&mut self, slot: Slot) -> Departure<'_> {
        Departure { slot, via: self.via(), now: self.now, out: self.out }
    }

    /// What a cookie is bound to.
    pub(super) fn source(&self) -> Source {
        Source { address: self.address, relayed_for: self.relayed.map(|(_, sender)| sender) }
    }
}

impl Engine {
    pub(super) fn handle_datagram(&mut self, bytes: &mut [u8], mut arrival: Arrival<'_>) {
        let done = self.handle_packet(bytes, &mut arrival);
        self.count(done);
    }

    fn handle_packet(&mut self, bytes: &mut [u8], arrival: &mut Arrival<'_>) -> Result<(), Drop> {
        let header = match decode(bytes).map_err(|_| Drop::MalformedDatagram)? {
            Packet::Data(header) => header,
            Packet::Initiation { sender, noise, macs } => return self.handle_initiation(sender, noise, &macs, arrival),
            Packet::Response { sender, receiver, noise, macs } => {
                return self.handle_response((sender, receiver), noise, &macs, arrival);
            }
            Packet::Cookie { receiver, nonce, sealed } => {
                return self.handle_cookie(receiver, nonce, sealed, arrival.now);
            }
        };
        self.handle_data(header, bytes, arrival)
    }

    fn handle_data(&mut self, header: DataHeader, bytes: &mut [u8], arrival: &mut Arrival<'_>) -> Result<(), Drop> {
        let found = self.indices.find(header.receiver).and_then(|slot| Some((slot, self.peers.get_mut(slot)?)));
        let session = found.and_then(|(slot, peer)| Some((slot, peer.sessions.get_mut(header.receiver)?)));
        let Some((slot, session)) = session else {
            self.suspect_lost_session(arrival);
            return Err(Drop::NoSuchSession);
        };
        let opened = session.open(header, bytes, arrival.now)?;
        self.note_opened(slot, header.receiver, opened.is_newest, arrival);
        self.take(slot, header, opened.payload, arrival)
    }

    /// An authentic packet proves that both ends hold the keys, and says where its sender is.
    fn note_opened(&mut self, slot: Slot, session: Index, is_newest: bool, arrival: &mut Arrival<'_>) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let confirmed = peer.sessions.confirm(session);
        let is_current = peer.sessions.current().is_some_and(|current| current.local() == session);
        if is_newest && is_current {
            self.heard(slot, arrival);
        }
        if confirmed {
            self.session_is_up(slot, arrival.via(), arrival.now, arrival.out);
        }
    }

    fn take(
        &mut self,
        slot: Slot,
        header: DataHeader,
        payload: &mut [u8],
        arrival: &mut Arrival<'_>,
    ) -> Result<(), Drop> {
        match header.payload {
            Payload::Frame | Payload::UnsummedFrame => self.deliver(slot, header.payload, payload, arrival),
            Payload::Envelope => self.open_envelope(slot, payload, arrival),
            Payload::Probe => self.answer_probe(slot, payload, arrival),
            Payload::Answer => self.take_answer(slot, payload, arrival),
            Payload::SizeProbe => self.answer_size_probe(slot, payload, arrival),
            Payload::SizeAnswer => self.take_size_answer(slot, payload, arrival.now),
            Payload::Canary => self.take_canary(slot, header.receiver, payload, arrival),
            Payload::Report => self.take_report(slot, payload, arrival.now),
        }
    }

    fn heard(&mut self, slot: Slot, arrival: &Arrival<'_>) {
        let (via, now) = (arrival.via(), arrival.now);
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if peer.route.is_where_heard(via) {
            return;
        }
        peer.route.heard(via, now);
        if let Via::Direct(address) = via {
            peer.tick_at = peer.tick_at.min(now);
            self.peers.learn_address(slot, address);
        }
        self.report_session(slot);
        self.arm(slot, now);
    }

    /// A packet under an index of nobody, from where a peer is known to be: one of us has lost the session.
    fn suspect_lost_session(&mut self, arrival: &mut Arrival<'_>) {
        let now = arrival.now;
        let sender = match arrival.relayed {
            Some((_, sender)) => self.peers.by_relay_id(sender),
            None => self.peers.by_address(arrival.address),
        };
        let Some((slot, peer)) = sender.and_then(|slot| Some((slot, self.peers.get_mut(slot)?))) else { return };
        let settled = peer.sessions.current().is_none_or(|session| now.since(session.born()) >= SETTLED_AFTER);
        if settled && !peer.attempts.is_active() {
            peer.note_use(now, now);
            peer.attempts.begin(now);
            self.drive(slot, now, arrival.out);
            self.arm(slot, now);
        }
    }

    /// Hands a frame to this host's bridge, unless its addresses belong to somebody else.
    fn deliver(&mut self, slot: Slot, payload: Payload, frame: &[u8], arrival: &mut Arrival<'_>) -> Result<(), Drop> {
        let ethernet = Ethernet::parse(frame).ok_or(Drop::MalformedFrame)?;
        if ethernet.ethertype == heartbeat::ETHERTYPE {
            return Err(Drop::ReservedEthertype);
        }
        if self.stations.find(ethernet.source).is_some_and(|owner| owner != Station::At(slot)) {
            return Err(Drop::ForeignSource);
        }
        if let Some(Station::At(_)) = self.stations.find(ethernet.destination) {
            return Err(Drop::NotForUs);
        }
        let (at, deliveries) = (arrival.at + DATA_HEADER_BYTES, &mut arrival.out.deliveries);
        if payload == Payload::Frame {
            deliveries.push(at, frame);
        } else if !deliveries.push_unsummed(at, frame) {
            return Err(Drop::MalformedFrame);
        }
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.counters.frames_in += 1;
            peer.counters.bytes_in += frame.len() as u64;
        }
        Ok(())
    }

    /// An envelope came in the session of `previous`.
    fn open_envelope(&mut self, previous: Slot, payload: &mut [u8], arrival: &mut Arrival<'_>) -> Result<(), Drop> {
        let (envelope, packet) = Envelope::decode(payload).map_err(|_| Drop::MalformedEnvelope)?;
        let Arrival { address, at, relayed, now, ref mut out } = *arrival;
        if relayed.is_some() {
            return Err(Drop::MalformedEnvelope);
        }
        if envelope.destination != self.relay_id {
            return self.pass_on(previous, envelope, packet, now, out);
        }
        let relay = self.peers.get(previous).ok_or(Drop::NoWay)?.key;
        let (at, relayed) = (at + DATA_HEADER_BYTES + ENVELOPE_BYTES, Some((relay, envelope.source)));
        self.handle_packet(packet, &mut Arrival { address, at, relayed, now, out })
    }
}
