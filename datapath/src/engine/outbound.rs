//! Frames from the TAP to other hosts.
//!
//! ```text
//!   frame ─► who owns the destination? ─┬─ a peer ───────────► session? ─┬─ yes ─► seal ─► straight, or in an envelope
//!                                       ├─ a group ─► each peer by sleeve │  no ─► wait, and agree on one
//!                                       └─ nobody: drop
//! ```

use weave_mesh::time::Instant;

use crate::batch::{Outbox, SendMode};
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::peer::{Peer, Slot};
use crate::engine::stations::Station;
use crate::ethernet::Ethernet;
use crate::heartbeat;
use crate::offload::segment::{Cut, Outgoing, Shape, Sum};
use crate::sleeve::packet::{DATA_HEADER_BYTES, Payload};
use crate::sleeve::relay::{ENVELOPE_BYTES, Envelope, HOPS_MAX, RELAY_OVERHEAD_BYTES, RelayId};
use crate::sleeve::route::Via;
use crate::sleeve::seal::TAG_BYTES;
use crate::sleeve::session::{OVERHEAD_BYTES, Session};

/// The longest datagram: an IPv4 packet's 65,535 less its headers.
const DATAGRAM_BYTES_MAX: usize = 65_507;

impl Engine {
    pub(super) fn handle_frame(&mut self, frame: &Outgoing<'_>, now: Instant, out: &mut Outbox) {
        match self.destination_of(frame.bytes) {
            Err(why) => self.drops.count(why),
            Ok(Some(slot)) => self.forward(slot, frame, now, out),
            Ok(None) => {
                for at in 0..self.flood.len() {
                    self.flood_to(self.flood[at], frame, now, out);
                }
            }
        }
    }

    /// The peer that a frame goes to, or nothing if it goes to all.
    fn destination_of(&self, frame: &[u8]) -> Result<Option<Slot>, Drop> {
        let ethernet = Ethernet::parse(frame).ok_or(Drop::MalformedFrame)?;
        if ethernet.ethertype == heartbeat::ETHERTYPE {
            return Err(Drop::ReservedEthertype);
        }
        if let Some(Station::At(_)) = self.stations.find(ethernet.source) {
            return Err(Drop::Reflected);
        }
        if ethernet.destination.is_group() {
            return Ok(None);
        }
        match self.stations.find(ethernet.destination) {
            Some(Station::At(slot)) => Ok(Some(slot)),
            Some(Station::Here) | None => Err(Drop::NoSuchStation),
        }
    }

    fn forward(&mut self, slot: Slot, frame: &Outgoing<'_>, now: Instant, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let was_active = peer.is_active(now);
        peer.note_use(now, now);
        self.pass(slot, frame, now, out);
        if !was_active {
            self.arm(slot, now);
        }
    }

    fn flood_to(&mut self, slot: Slot, frame: &Outgoing<'_>, now: Instant, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.note_flood(now);
        self.pass(slot, frame, now, out);
    }

    /// Sends a frame, or keeps it until that is possible.
    fn pass(&mut self, slot: Slot, frame: &Outgoing<'_>, now: Instant, out: &mut Outbox) {
        let Some(peer) = self.peers.get(slot) else { return };
        let way = peer.route.way().filter(|_| peer.sessions.current().is_some_and(|session| session.can_seal(now)));
        match way {
            Some(via) => {
                let done = self.send_frame(slot, frame, via, now, out);
                self.count(done);
            }
            None => self.wait(slot, frame, now, out),
        }
    }

    /// Seals a frame whole, or each of its segments.
    fn send_frame(
        &mut self,
        slot: Slot,
        frame: &Outgoing<'_>,
        via: Via,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        let limit = self.peers.get(slot).ok_or(Drop::NoWay)?.frame_bytes_max();
        let bytes = frame.bytes;
        match frame.shape {
            Shape::Whole(sum) if bytes.len() <= limit => {
                let payload = if sum == Sum::Left { Payload::UnsummedFrame } else { Payload::Frame };
                self.seal_frame(slot, (payload, bytes.len()), |room| sum.write(bytes, room), via, now, out)
            }
            Shape::Whole(sum) => match Cut::of_whole(sum, bytes) {
                Some(cut) => self.send_segments(slot, (cut, bytes, limit), via, now, out),
                None => self.fit(slot, &sum.finished(bytes), via, now, out),
            },
            Shape::Super(cut) => self.send_segments(slot, (cut, bytes, limit), via, now, out),
        }
    }

    fn send_segments(
        &mut self,
        slot: Slot,
        (cut, bytes, limit): (Cut, &[u8], usize),
        via: Via,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        for segment in cut.segments(bytes, limit) {
            if segment.bytes() <= limit {
                let content = (Payload::UnsummedFrame, segment.bytes());
                self.seal_frame(slot, content, |room| segment.write(room), via, now, out)?;
            } else {
                let done = self.fit(slot, &segment.finished(), via, now, out);
                self.count(done);
            }
        }
        Ok(())
    }

    /// Seals a frame whose checksums are finished.
    pub(super) fn send_whole(
        &mut self,
        slot: Slot,
        frame: &[u8],
        via: Via,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        self.seal_frame(slot, (Payload::Frame, frame.len()), |room| room.copy_from_slice(frame), via, now, out)
    }

    fn seal_frame(
        &mut self,
        slot: Slot,
        (payload, bytes): (Payload, usize),
        write: impl FnOnce(&mut [u8]),
        via: Via,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        self.send_in_place(slot, (payload, bytes), write, via, now, out)?;
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.counters.frames_out += 1;
            peer.counters.bytes_out += bytes as u64;
        }
        Ok(())
    }

    /// Keeps a frame until there is a session, and sees to it that there will be.
    fn wait(&mut self, slot: Slot, frame: &Outgoing<'_>, now: Instant, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        for _ in 0..peer.waiting.push(frame, &mut self.waiting_bytes, now) {
            self.drops.count(Drop::QueueFull);
        }
        if !peer.attempts.is_active() {
            self.drive(slot, now, out);
        }
        self.arm(slot, now);
    }

    /// Sends the frames that waited for a session.
    pub(super) fn flush(&mut self, slot: Slot, now: Instant, out: &mut Outbox) {
        loop {
            let Some(peer) = self.peers.get_mut(slot) else { return };
            let Some(via) = peer.route.way() else { return };
            let Some(frame) = peer.waiting.pop(&mut self.waiting_bytes) else { return };
            let frame = Outgoing { bytes: &frame.bytes, shape: frame.shape };
            let done = self.send_frame(slot, &frame, via, now, out);
            self.count(done);
        }
    }

    /// Seals `parts`, one after the other, in the peer's current session and sends them by `via`.
    pub(super) fn send(
        &mut self,
        slot: Slot,
        payload: Payload,
        parts: [&[u8]; 2],
        via: Via,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        let write = |room: &mut [u8]| {
            let (head, tail) = room.split_at_mut(parts[0].len());
            head.copy_from_slice(parts[0]);
            tail.copy_from_slice(parts[1]);
        };
        self.send_in_place(slot, (payload, parts[0].len() + parts[1].len()), write, via, now, out)
    }

    /// Has `write` fill `bytes` octets where they are sealed in the peer's current session, and sends them by `via`.
    fn send_in_place(
        &mut self,
        slot: Slot,
        (payload, bytes): (Payload, usize),
        write: impl FnOnce(&mut [u8]),
        via: Via,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        let sealed_bytes = OVERHEAD_BYTES + bytes;
        if sealed_bytes + RELAY_OVERHEAD_BYTES > DATAGRAM_BYTES_MAX {
            return Err(Drop::TooLong);
        }
        match via {
            Via::Direct(address) => {
                let peer = self.peers.get_mut(slot).ok_or(Drop::NoWay)?;
                let mode = mode_of(payload, peer);
                let session = usable(peer, now)?;
                let room = out.datagram(address, mode, sealed_bytes).map_err(|_| Drop::OutboxFull)?;
                write(&mut room[DATA_HEADER_BYTES..][..bytes]);
                session.seal(payload, room);
            }
            Via::Relay(key) => {
                let relay = self.peers.by_key(&key).ok_or(Drop::NoWay)?;
                let (peer, relay) = self.peers.pair_mut(slot, relay).ok_or(Drop::NoWay)?;
                let address = relay.straight(now).ok_or(Drop::NoWay)?;
                let envelope = Envelope { hops_left: HOPS_MAX, source: self.relay_id, destination: peer.relay_id };
                let mode = mode_of(payload, relay);
                let (session, outer) = (usable(peer, now)?, usable(relay, now)?);
                let room =
                    out.datagram(address, mode, sealed_bytes + RELAY_OVERHEAD_BYTES).map_err(|_| Drop::OutboxFull)?;
                let inner = DATA_HEADER_BYTES + ENVELOPE_BYTES..room.len() - TAG_BYTES;
                room[DATA_HEADER_BYTES..inner.start].copy_from_slice(&envelope.encode());
                let inner = &mut room[inner];
                write(&mut inner[DATA_HEADER_BYTES..][..bytes]);
                session.seal(payload, inner);
                outer.seal(Payload::Envelope, room);
            }
        }
        Ok(())
    }

    /// Sends bytes that need no session of ours with their addressee: handshakes and cookies.
    pub(super) fn send_bare(
        &mut self,
        bytes: &[u8],
        destination: RelayId,
        via: Via,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        match via {
            Via::Direct(address) => {
                out.datagram(address, SendMode::Plain, bytes.len())
                    .map_err(|_| Drop::OutboxFull)?
                    .copy_from_slice(bytes);
                Ok(())
            }
            Via::Relay(key) => {
                let relay = self.peers.by_key(&key).ok_or(Drop::NoWay)?;
                let envelope = Envelope { hops_left: HOPS_MAX, source: self.relay_id, destination };
                self.send_envelope(relay, &envelope, bytes, now, out)
            }
        }
    }

    /// Sends an envelope and what is in it to the next hop, straight.
    pub(super) fn send_envelope(
        &mut self,
        next_hop: Slot,
        envelope: &Envelope,
        packet: &[u8],
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        let address = self.peers.get(next_hop).and_then(|peer| peer.straight(now)).ok_or(Drop::NoWay)?;
        self.send(next_hop, Payload::Envelope, [&envelope.encode(), packet], Via::Direct(address), now, out)
    }
}

/// How a packet leaves whose next hop is `peer`. Only what comes in numbers is worth a segmented send; a size probe may be
/// longer than anything that fits, and whatever judges the path must not share the fate of what it judges.
fn mode_of(payload: Payload, peer: &Peer) -> SendMode {
    if payload.is_traffic() { peer.send_mode() } else { SendMode::Plain }
}

fn usable(peer: &mut Peer, now: Instant) -> Result<&mut Session, Drop> {
    let session = peer.sessions.current_mut().ok_or(Drop::NoWay)?;
    if session.can_seal(now) { Ok(session) } else { Err(Drop::Exhausted) }
}
