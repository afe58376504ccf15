//! Trials of segmented sends: real trains sampled as they leave, made-up ones, questions and reports.
//!
//! ```text
//!   Outbox ─► sample_trains: first counter, length ─► sleeve/canary.rs ─► some leave plainly, for comparison
//!   drive ──► try_segmented: made-up trains, question ─► peer ─► take_canary: its replay window ─► report ─► take_report
//! ```
//!
//! What is judged is the straight way to a peer, also where that peer relays. Headers are not secret: a train says by
//! itself which session and counters it holds, and nothing is kept per packet.

use std::net::SocketAddr;

use weave_mesh::time::Instant;

use crate::batch::{Outbox, SendMode, Train};
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::inbound::Arrival;
use crate::engine::peers::Slot;
use crate::engine::status::Event;
use crate::sleeve::canary::question::{self, Message, Question, Report};
use crate::sleeve::canary::{Change, Stretch};
use crate::sleeve::packet::{DATA_HEADER_BYTES, DataHeader, Index, Packet, Payload, decode};
use crate::sleeve::route::Via;
use crate::sleeve::session::{OVERHEAD_BYTES, Session};

impl Engine {
    /// Shows the trains in an outbox to the canaries of their peers, before they leave.
    pub(super) fn sample_trains(&mut self, now: Instant, out: &mut Outbox) {
        let trains = out.trains().len();
        for at in 0..trains {
            if self.sample(&out.train(at), now) == Some(SendMode::Plain) {
                out.send_plainly(at);
            }
        }
    }

    /// How a train leaves whose peer's canary has a say in it.
    fn sample(&mut self, train: &Train<'_>, now: Instant) -> Option<SendMode> {
        let (session, stretch) = stretch_of(train)?;
        let slot = self.peers.by_address(train.destination)?;
        let peer = self.peers.get_mut(slot)?;
        let is_current = peer.sessions.current().is_some_and(|current| current.remote() == session);
        let began_plainly = train.mode == SendMode::Plain && peer.canary.mode() == SendMode::Segmented;
        if !is_current || began_plainly {
            return None;
        }
        let due = peer.canary.poll_timeout();
        let mode = peer.canary.train(stretch, train.destination, session, now);
        if peer.canary.poll_timeout() != due {
            self.arm(slot, now);
        }
        Some(mode)
    }

    /// Holds a trial with a peer if one is due.
    pub(super) fn try_segmented(&mut self, slot: Slot, now: Instant, out: &mut Outbox) {
        let Some((address, session)) = self.due_trial(slot, now) else { return };
        for mode in [SendMode::Segmented, SendMode::Plain] {
            for &datagrams in self.peers.get(slot).map_or(&[][..], |peer| peer.canary.made_up(mode)) {
                let done = self.make_up_train(slot, (address, mode), datagrams, out);
                self.count(done);
            }
        }
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let (question, change) = peer.canary.question(session, now);
        if let Some(question) = question {
            let done = self.ask(slot, address, &question, out);
            self.count(done);
        }
        self.announce_sends(slot, change);
    }

    /// Where the trial that is due is held, and in which session.
    fn due_trial(&mut self, slot: Slot, now: Instant) -> Option<(SocketAddr, Index)> {
        let peer = self.peers.get_mut(slot).filter(|peer| peer.canary.is_due(now))?;
        let (address, session) = (peer.straight(now), peer.sessions.current().map(Session::remote));
        let Some((address, session)) = address.zip(session) else {
            peer.canary.postpone(now);
            return None;
        };
        peer.canary.follow(address, session, now);
        peer.canary.is_due(now).then_some((address, session))
    }

    /// Sends datagrams as long as the longest frames, in a train of their own.
    fn make_up_train(
        &mut self,
        slot: Slot,
        to: (SocketAddr, SendMode),
        datagrams: usize,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        let peer = self.peers.get(slot).ok_or(Drop::NoWay)?;
        let (first, bytes) = (peer.sessions.current().map(Session::next_counter), peer.frame_bytes_max());
        out.close_trains();
        for _ in 0..datagrams {
            self.seal_canary(slot, to, bytes, question::make_up, out)?;
        }
        out.close_trains();
        if let Some((peer, first)) = self.peers.get_mut(slot).zip(first) {
            peer.canary.note_made_up(Stretch { first, count: datagrams as u8, has_equal_tail: true }, to.1);
        }
        Ok(())
    }

    fn ask(&mut self, slot: Slot, to: SocketAddr, question: &Question, out: &mut Outbox) -> Result<(), Drop> {
        let bytes = question.encode();
        let write = |room: &mut [u8]| room.copy_from_slice(&bytes);
        self.seal_canary(slot, (to, SendMode::Plain), bytes.len(), write, out)
    }

    fn seal_canary(
        &mut self,
        slot: Slot,
        (address, mode): (SocketAddr, SendMode),
        bytes: usize,
        write: impl FnOnce(&mut [u8]),
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        let session = self.peers.get_mut(slot).and_then(|peer| peer.sessions.current_mut()).ok_or(Drop::NoWay)?;
        let room = out.datagram(address, mode, OVERHEAD_BYTES + bytes).map_err(|_| Drop::OutboxFull)?;
        write(&mut room[DATA_HEADER_BYTES..][..bytes]);
        session.seal(Payload::Canary, room);
        Ok(())
    }

    /// Counts a made-up datagram, which opening it has done, or answers a question about the session it came in.
    pub(super) fn take_canary(
        &mut self,
        slot: Slot,
        session: Index,
        payload: &[u8],
        arrival: &mut Arrival<'_>,
    ) -> Result<(), Drop> {
        let Message::Question(question) = Message::decode(payload).map_err(|_| Drop::MalformedDatagram)? else {
            return Ok(());
        };
        let Via::Direct(_) = arrival.via() else { return Err(Drop::MalformedDatagram) };
        let session = self.peers.get_mut(slot).and_then(|peer| peer.sessions.get_mut(session));
        let report = question.answer(session.ok_or(Drop::NoSuchSession)?.window());
        self.send_parts(&mut arrival.back(slot), Payload::Report, [&report.encode(), &[]])
    }

    pub(super) fn take_report(&mut self, slot: Slot, payload: &[u8], now: Instant) -> Result<(), Drop> {
        let report = Report::decode(payload).map_err(|_| Drop::MalformedDatagram)?;
        let change = self.peers.get_mut(slot).and_then(|peer| peer.canary.report(&report, now));
        self.announce_sends(slot, change);
        self.arm(slot, now);
        Ok(())
    }

    /// Tells the log how a peer is sent to from now on, and why.
    pub(super) fn announce_sends(&mut self, slot: Slot, change: Option<Change>) {
        let (Some(Change { mode, reason }), Some(peer)) = (change, self.peers.get(slot)) else { return };
        self.emit(Event::SendsChanged { peer: peer.key, mode, reason });
    }
}

/// The session and the counters of a train of traffic, if it has two datagrams at least.
fn stretch_of(train: &Train<'_>) -> Option<(Index, Stretch)> {
    let count = u8::try_from(train.bytes.div_ceil(train.segment_bytes)).ok().filter(|count| *count > 1)?;
    let header = |datagram| match decode(datagram) {
        Ok(Packet::Data(header)) => Some(header),
        _ => None,
    };
    let first = header(train.datagrams().next()?).filter(|header| header.payload.is_traffic())?;
    let DataHeader { receiver, counter, .. } = header(train.datagrams().last()?)?;
    let is_one_run = receiver == first.receiver && counter == first.counter + u64::from(count) - 1;
    let has_equal_tail = train.bytes.is_multiple_of(train.segment_bytes);
    is_one_run.then_some((receiver, Stretch { first: first.counter, count, has_equal_tail }))
}
