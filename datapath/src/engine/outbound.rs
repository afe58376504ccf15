//! Frames from the TAP to other hosts: which peer, and in how many pieces. What becomes of a piece: `sealing.rs`.
//!
//! ```text
//!   frame ─► who owns the destination? ─┬─ a peer ───────────► session? ─┬─ yes ─► seal ─► straight, or in an envelope
//!                                       ├─ a group ─► each peer by sleeve │  no ─► wait, and agree on one
//!                                       └─ nobody: drop
//! ```

use weave_mesh::time::Instant;

use crate::batch::Outbox;
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::peers::Slot;
use crate::engine::sealing::{Content, Departure};
use crate::engine::stations::Station;
use crate::ethernet::Ethernet;
use crate::heartbeat;
use crate::offload::segment::{Cut, Outgoing, Shape, Sum};
use crate::sleeve::packet::Payload;

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
                let done = self.send_frame(&mut Departure { slot, via, now, out }, frame);
                self.count(done);
            }
            None => self.wait(slot, frame, now, out),
        }
    }

    /// Seals a frame whole, or each of its segments.
    fn send_frame(&mut self, to: &mut Departure<'_>, frame: &Outgoing<'_>) -> Result<(), Drop> {
        let limit = self.peers.get(to.slot).ok_or(Drop::NoWay)?.frame_bytes_max();
        let bytes = frame.bytes;
        match frame.shape {
            Shape::Whole(sum) if bytes.len() <= limit => {
                let payload = if sum == Sum::Left { Payload::UnsummedFrame } else { Payload::Frame };
                let write = |room: &mut [u8]| sum.write(bytes, room);
                self.seal_frame(to, Content { payload, bytes: bytes.len(), write })
            }
            Shape::Whole(sum) => match Cut::of_whole(sum, bytes) {
                Some(cut) => self.send_segments(to, cut, bytes, limit),
                None => self.fit(to, &sum.finished(bytes)),
            },
            Shape::Super(cut) => self.send_segments(to, cut, bytes, limit),
        }
    }

    fn send_segments(&mut self, to: &mut Departure<'_>, cut: Cut, bytes: &[u8], limit: usize) -> Result<(), Drop> {
        for segment in cut.segments(bytes, limit) {
            if segment.bytes() <= limit {
                let write = |room: &mut [u8]| segment.write(room);
                self.seal_frame(to, Content { payload: Payload::UnsummedFrame, bytes: segment.bytes(), write })?;
            } else {
                let done = self.fit(to, &segment.finished());
                self.count(done);
            }
        }
        Ok(())
    }

    /// Seals a frame whose checksums are finished.
    pub(super) fn send_whole(&mut self, to: &mut Departure<'_>, frame: &[u8]) -> Result<(), Drop> {
        let write = |room: &mut [u8]| room.copy_from_slice(frame);
        self.seal_frame(to, Content { payload: Payload::Frame, bytes: frame.len(), write })
    }

    fn seal_frame(&mut self, to: &mut Departure<'_>, frame: Content<impl FnOnce(&mut [u8])>) -> Result<(), Drop> {
        let bytes = frame.bytes as u64;
        self.send(to, frame)?;
        if let Some(peer) = self.peers.get_mut(to.slot) {
            peer.counters.frames_out += 1;
            peer.counters.bytes_out += bytes;
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
            let done = self.send_frame(&mut Departure { slot, via, now, out }, &frame);
            self.count(done);
        }
    }
}
