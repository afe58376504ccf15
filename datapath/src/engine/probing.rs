//! Probes of both carriers: sent at each tick, answered at once, counted when answered.
//!
//! ```text
//!   tick ─┬─ sleeve probe on the way in use ─────────► answer the same way ─► route: it works; carrier choice: evidence
//!         ├─ sleeve probes on other ways, if that one fails or is a relay ──► route: perhaps change
//!         └─ heartbeat, full size, by the VXLAN device ─► answer ───────────► carrier choice: evidence
//! ```

use std::time::Duration;

use weave_mesh::time::Instant;

use crate::batch::Outbox;
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::inbound::Arrival;
use crate::engine::peers::Slot;
use crate::engine::sealing::Departure;
use crate::heartbeat::{HEARTBEAT_BYTES, Heartbeat, Kind, frame_bytes};
use crate::sleeve::packet::{NONCE_BYTES, Payload};
use crate::sleeve::route::Via;

/// How long after a session came up its heartbeats begin: by then it is current at both ends.
pub(super) const SETTLE: Duration = Duration::from_millis(500);

impl Engine {
    /// Probes a peer by every carrier and way that matters now.
    pub(super) fn tick(&mut self, slot: Slot, now: Instant, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.tick_at = now + peer.tick_interval(now);
        let others = peer.route.others(&peer.entry.addresses, &peer.entry.relays, now);
        let settled = peer.sessions.current().is_some_and(|session| now.since(session.born()) >= SETTLE);
        let beats = settled && peer.is_fast_allowed();
        let way = peer.route.way();
        let nonce = way.and_then(|via| self.probe(slot, via, now, out));
        for via in others {
            self.probe(slot, via, now, out);
        }
        if let Some(nonce) = nonce.filter(|_| beats) {
            let sent = self.send_heartbeat(slot, Kind::Probe, nonce, out);
            if let Some(peer) = self.peers.get_mut(slot).filter(|_| sent.is_ok()) {
                peer.choice.tick(nonce, now);
            }
            self.count(sent);
        }
    }

    /// Sends a sleeve probe by `via` and returns its nonce.
    pub(super) fn probe(&mut self, slot: Slot, via: Via, now: Instant, out: &mut Outbox) -> Option<u64> {
        if let Via::Relay(relay) = via {
            self.is_relay_ready(&relay, now);
        }
        self.next_nonce += 1;
        let nonce = self.next_nonce;
        let done = self.send_parts(&mut Departure { slot, via, now, out }, Payload::Probe, [&nonce.to_be_bytes(), &[]]);
        self.count(done);
        self.peers.get_mut(slot)?.route.probe_sent(nonce, via, now);
        Some(nonce)
    }

    /// Answers the way the probe came, so that its answer proves that way in both directions.
    pub(super) fn answer_probe(&mut self, slot: Slot, payload: &[u8], arrival: &mut Arrival<'_>) -> Result<(), Drop> {
        let nonce: &[u8; NONCE_BYTES] = payload.try_into().map_err(|_| Drop::MalformedDatagram)?;
        self.send_parts(&mut arrival.back(slot), Payload::Answer, [nonce, &[]])
    }

    pub(super) fn take_answer(&mut self, slot: Slot, payload: &[u8], arrival: &Arrival<'_>) -> Result<(), Drop> {
        let nonce = u64::from_be_bytes(payload.try_into().map_err(|_| Drop::MalformedDatagram)?);
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        peer.route.answered(nonce, arrival.via(), arrival.now);
        peer.choice.sleeve_answered(nonce, arrival.now);
        self.report_session(slot);
        self.arm(slot, arrival.now);
        Ok(())
    }

    fn send_heartbeat(&mut self, slot: Slot, kind: Kind, nonce: u64, out: &mut Outbox) -> Result<(), Drop> {
        let Some(peer) = self.peers.get(slot) else { return Ok(()) };
        let session = peer.sessions.current().ok_or(Drop::NoWay)?;
        let len = match kind {
            Kind::Probe => frame_bytes(self.config.mtu),
            Kind::Answer => HEARTBEAT_BYTES,
        };
        let heartbeat = Heartbeat {
            destination: peer.entry.bridge_mac,
            source: self.tables.local.bridge_mac,
            kind,
            mesh: self.config.mesh,
            receiver: session.remote(),
            nonce,
        };
        let (key, _) = session.heartbeat_keys();
        heartbeat.encode(key, out.heartbeat(len).map_err(|_| Drop::OutboxFull)?);
        Ok(())
    }

    /// A heartbeat from the bridge's packet socket. It counts only under the session that is current here, and it was
    /// made under the one that is current there.
    pub(super) fn take_heartbeat(&mut self, frame: &[u8], now: Instant, out: &mut Outbox) -> Result<(), Drop> {
        let heartbeat = Heartbeat::decode(frame).map_err(|_| Drop::ForgedHeartbeat)?;
        let slot = self.indices.find(heartbeat.receiver).ok_or(Drop::ForgedHeartbeat)?;
        let peer = self.peers.get_mut(slot).ok_or(Drop::ForgedHeartbeat)?;
        let session = peer.sessions.current().filter(|session| session.local() == heartbeat.receiver);
        let (_, key) = session.ok_or(Drop::ForgedHeartbeat)?.heartbeat_keys();
        if heartbeat.mesh != self.config.mesh || !Heartbeat::is_authentic(key, frame) {
            return Err(Drop::ForgedHeartbeat);
        }
        match heartbeat.kind {
            Kind::Probe => self.send_heartbeat(slot, Kind::Answer, heartbeat.nonce, out),
            Kind::Answer => {
                let change = peer.choice.fast_answered(heartbeat.nonce, now);
                peer.hasten_tick(now);
                self.announce(slot, change);
                self.arm(slot, now);
                Ok(())
            }
        }
    }
}
