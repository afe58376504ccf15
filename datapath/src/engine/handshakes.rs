//! Agreeing on sessions: our tries, other peers' tries, and both at once.
//!
//! When two peers try at the same time, both answer; the one with the higher key forgets its own try when it sees the
//! other's, so one session comes out. Should only one direction work, the try that arrives is the one that counts.

use weave_mesh::card::{Card, SignedCard};
use weave_mesh::identity::{NoiseKey, PeerKey};
use weave_mesh::time::Instant;

use crate::batch::Outbox;
use crate::drops::Drop;
use crate::engine::inbound::Arrival;
use crate::engine::peer::Verified;
use crate::engine::peers::Slot;
use crate::engine::probing::SETTLE;
use crate::engine::status::{Event, Warning};
use crate::engine::{Config, Engine};
use crate::sleeve::attempt::{Direction, UnderWay};
use crate::sleeve::cookie::{Neighbourhood, Verdict};
use crate::sleeve::handshake::{Agreement, Asked, Error, Initiator, Local};
use crate::sleeve::packet::{COOKIE_NONCE_BYTES, Index, Macs, encode_initiation, encode_response};
use crate::sleeve::route::Via;
use crate::sleeve::session::{Role, Session};
use crate::tables::Tables;

impl Engine {
    /// Sends whatever first messages are due to a peer.
    pub(super) fn send_due_initiations(&mut self, slot: Slot, now: Instant, out: &mut Outbox) {
        let answer_time = self.answer_times.least();
        let due = |engine: &mut Self| engine.peers.get_mut(slot)?.attempts.due(answer_time, &mut engine.rng, now);
        while let Some(direction) = due(self) {
            let ways = self.ways_to_try(slot, direction, now);
            if !ways.is_empty() {
                let done = self.send_initiation(slot, direction, &ways, now, out);
                self.count(done);
            }
        }
    }

    fn ways_to_try(&mut self, slot: Slot, direction: Direction, now: Instant) -> Vec<Via> {
        let Some(peer) = self.peers.get_mut(slot) else { return Vec::new() };
        match direction {
            Direction::Straight => peer.route.to_try(&peer.entry.addresses).into_iter().map(Via::Direct).collect(),
            Direction::Relayed => {
                let relay = peer.route.next_relay(&peer.entry.relays);
                relay.filter(|relay| self.is_relay_ready(relay, now)).map(Via::Relay).into_iter().collect()
            }
        }
    }

    /// Whether packets can be relayed by `relay` now; if not, it gets a session of ours.
    pub(super) fn is_relay_ready(&mut self, relay: &PeerKey, now: Instant) -> bool {
        let Some(slot) = self.peers.by_key(relay) else { return false };
        self.note_use(slot, now, now);
        self.arm(slot, now);
        self.peers.get(slot).is_some_and(|peer| peer.straight(now).is_some())
    }

    /// One first message, sent by each of `ways`: the other end answers the copy that comes first.
    fn send_initiation(
        &mut self,
        slot: Slot,
        direction: Direction,
        ways: &[Via],
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        let timestamp = self.next_timestamp(now);
        let peer = self.peers.get(slot).ok_or(Drop::NoWay)?;
        let (responder, relay_id) = (peer.entry.noise_key, peer.relay_id);
        let local = local(&self.config, &self.tables);
        let (initiator, noise) =
            Initiator::start(local, &responder, timestamp, &mut self.rng).map_err(|_| Drop::NoWay)?;
        let index = self.indices.allocate(slot, &mut self.rng).ok_or(Drop::NoWay)?;
        let mut message = encode_initiation(index, &noise);
        let peer = self.peers.get_mut(slot).ok_or(Drop::NoWay)?;
        let mac1 = peer.responder.append_macs(&mut message, peer.attempts.cookie(direction, now));
        peer.attempts.sent(UnderWay::new(index, direction, initiator, mac1, now));
        for via in ways {
            let done = self.send_bare(&message, relay_id, *via, now, out);
            self.count(done);
        }
        Ok(())
    }

    /// Newer than that of every first message before, whatever the wall clock does; stored ahead of its use.
    fn next_timestamp(&mut self, now: Instant) -> u64 {
        let (timestamp, reserve) = self.clock.next(now);
        if let Some(upto) = reserve {
            self.emit(Event::ReserveTimestamp(upto));
        }
        timestamp
    }

    /// Somebody wants a session.
    pub(super) fn handle_initiation(
        &mut self,
        sender: Index,
        noise: &[u8],
        macs: &Macs<'_>,
        arrival: &mut Arrival<'_>,
    ) -> Result<(), Drop> {
        self.pass_gate(sender, macs, arrival)?;
        let local = local(&self.config, &self.tables);
        let asked = Asked::read(local, noise, &mut self.rng).map_err(|_| Drop::ForgedHandshake)?;
        let slot = self.peers.by_noise_key(&asked.remote).ok_or(Drop::StrangersHandshake)?;
        let incarnation = self.check_card(slot, &asked.card, &asked.remote, arrival.now)?;
        let peer = self.peers.get_mut(slot).ok_or(Drop::StrangersHandshake)?;
        if !peer.memory.admit(incarnation, asked.timestamp) {
            return Err(Drop::ReplayedHandshake);
        }
        if peer.key < self.config.identity.key() {
            peer.attempts.yield_to_peer(arrival.now);
        }
        self.release_retired(slot);
        self.answer(slot, asked, sender, arrival)
    }

    /// Whether a first message may cost us anything; if that takes a cookie, it is sent.
    fn pass_gate(&mut self, sender: Index, macs: &Macs<'_>, arrival: &mut Arrival<'_>) -> Result<(), Drop> {
        let (peers, source) = (&self.peers, arrival.source());
        let neighbourhood = || match source.relayed_for {
            None if !peers.is_someone_at(source.address.ip()) => Neighbourhood::Stranger,
            None | Some(_) => Neighbourhood::Peer,
        };
        match self.gate.check(sender, macs, &source, neighbourhood, &mut self.rng, arrival.now) {
            Verdict::Admit => Ok(()),
            Verdict::Forged => Err(Drop::ForgedHandshake),
            Verdict::TooMany => Err(Drop::Overloaded),
            Verdict::Challenge(reply) => {
                // A straight answer needs no name.
                let destination = arrival.relayed.map_or(self.relay_id, |(_, sender)| sender);
                self.send_bare(&reply, destination, arrival.via(), arrival.now, arrival.out)?;
                Err(Drop::Overloaded)
            }
        }
    }

    fn answer(&mut self, slot: Slot, asked: Asked, sender: Index, arrival: &mut Arrival<'_>) -> Result<(), Drop> {
        let now = arrival.now;
        let answer = asked.answer(local(&self.config, &self.tables), &self.config.psks[0]);
        let (noise, agreement) = answer.map_err(|error| self.refuse(slot, error, now))?;
        let index = self.indices.allocate(slot, &mut self.rng).ok_or(Drop::NoWay)?;
        let mut message = encode_response(index, sender, &noise);
        let peer = self.peers.get_mut(slot).ok_or(Drop::StrangersHandshake)?;
        peer.responder.append_macs(&mut message, None);
        peer.sessions.offer(Session::new(&agreement, Role::Responder, index, sender, now));
        let relay_id = peer.relay_id;
        self.release_retired(slot);
        self.arm(slot, now);
        self.send_bare(&message, relay_id, arrival.via(), now, arrival.out)
    }

    /// An answer to one of our first messages.
    pub(super) fn handle_response(
        &mut self,
        (sender, receiver): (Index, Index),
        noise: &[u8],
        macs: &Macs<'_>,
        arrival: &mut Arrival<'_>,
    ) -> Result<(), Drop> {
        if !self.gate.keys().is_mac1_right(macs) {
            return Err(Drop::ForgedHandshake);
        }
        let slot = self.indices.find(receiver).ok_or(Drop::StaleHandshake)?;
        let agreement = self.finish(slot, receiver, noise, arrival.now)?;
        let peer = self.peers.get_mut(slot).ok_or(Drop::StaleHandshake)?;
        peer.attempts.end(Some(receiver));
        peer.sessions.adopt(Session::new(&agreement, Role::Initiator, receiver, sender, arrival.now));
        self.session_is_up(slot, arrival.via(), arrival.now, arrival.out);
        self.probe(slot, arrival.via(), arrival.now, arrival.out);
        Ok(())
    }

    /// What was agreed on with a peer that is who we think it is.
    fn finish(&mut self, slot: Slot, receiver: Index, noise: &[u8], now: Instant) -> Result<Agreement, Drop> {
        let peer = self.peers.get_mut(slot).ok_or(Drop::StaleHandshake)?;
        let message = peer.attempts.get_mut(receiver).ok_or(Drop::StaleHandshake)?;
        let finished = message.initiator.finish(&self.config.psks, noise);
        match &finished {
            Ok(_) => self.answer_times.note(message, now),
            Err(_) => {
                peer.attempts.refused(receiver);
                self.release_retired(slot);
            }
        }
        let agreement = finished.map_err(|error| self.refuse(slot, error, now))?;
        let noise_key = self.peers.get(slot).ok_or(Drop::StaleHandshake)?.entry.noise_key;
        let incarnation = self.check_card(slot, &agreement.card, &noise_key, now)?;
        self.peers.get_mut(slot).ok_or(Drop::StaleHandshake)?.memory.see_incarnation(incarnation);
        Ok(agreement)
    }

    /// A responder is busy and wants proof that we receive at our address.
    pub(super) fn handle_cookie(
        &mut self,
        receiver: Index,
        nonce: &[u8; COOKIE_NONCE_BYTES],
        sealed: &[u8; 32],
        now: Instant,
    ) -> Result<(), Drop> {
        let slot = self.indices.find(receiver).ok_or(Drop::StaleHandshake)?;
        let peer = self.peers.get_mut(slot).ok_or(Drop::StaleHandshake)?;
        let message = peer.attempts.get_mut(receiver).ok_or(Drop::StaleHandshake)?;
        let (mac1, direction) = (message.mac1, message.direction);
        let cookie = peer.responder.open_cookie(&mac1, nonce, sealed).ok_or(Drop::ForgedHandshake)?;
        peer.attempts.keep_cookie(direction, cookie, now);
        self.arm(slot, now);
        Ok(())
    }

    /// Both ends hold the keys and know it, by `via`.
    pub(super) fn session_is_up(&mut self, slot: Slot, via: Via, now: Instant, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.attempts.end(peer.sessions.current().map(Session::local));
        peer.route.proven(via, now);
        peer.choice.distrust();
        peer.tick_at = now + SETTLE;
        peer.counters.handshakes += 1;
        if let Via::Direct(address) = via {
            self.peers.learn_address(slot, address);
        }
        self.release_retired(slot);
        self.flush(slot, now, out);
        self.size_up(slot, now, out);
        self.report_session(slot);
        self.arm(slot, now);
    }

    /// The incarnation of a card that is its owner's and names the static key that the handshake has proved.
    fn check_card(&mut self, slot: Slot, card: &SignedCard, proved: &NoiseKey, now: Instant) -> Result<u64, Drop> {
        let hash = card.hash();
        let peer = self.peers.get_mut(slot).ok_or(Drop::StrangersHandshake)?;
        if let Some(known) = peer.verified.filter(|known| known.hash == hash && known.noise_key == *proved) {
            return Ok(known.incarnation);
        }
        let key = peer.key;
        let Card { mesh, key: named, noise_key, incarnation, .. } =
            card.verify(self.config.identity.scheme()).map_err(|_| Drop::ForgedHandshake)?;
        if mesh != self.config.mesh {
            self.warn(slot, Warning::OtherMesh { peer: key }, now);
            return Err(Drop::OtherMesh);
        }
        if named != key || noise_key != *proved {
            return Err(Drop::ForgedHandshake);
        }
        peer.verified = Some(Verified { hash, noise_key, incarnation });
        Ok(incarnation)
    }

    /// How a handshake that failed is counted; the operator hears of what he may have to mend.
    fn refuse(&mut self, slot: Slot, error: Error, now: Instant) -> Drop {
        let Some(peer) = self.peers.get(slot).map(|peer| peer.key) else { return Drop::StrangersHandshake };
        let (why, warning) = match error {
            Error::WrongPassword => (Drop::WrongPassword, Warning::WrongPassword { peer }),
            Error::NoCommonCipher => (Drop::NoCommonCipher, Warning::NoCommonCipher { peer }),
            Error::Forged | Error::Malformed => return Drop::ForgedHandshake,
        };
        self.warn(slot, warning, now);
        why
    }
}

/// What this host brings to a handshake.
fn local<'a>(config: &'a Config, tables: &'a Tables) -> Local<'a> {
    Local { identity: &config.identity, card: &tables.local.card, ciphers: &config.ciphers }
}
