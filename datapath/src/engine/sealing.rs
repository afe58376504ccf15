//! Sealing packets where they are sent from.
//!
//! ```text
//!   Content ─► room in the outbox: [ header │ written here, sealed in place │ tag ]                       straight
//!                                  [ header │ envelope │ header │ the same │ tag │ tag ]  two sessions    by a relay
//! ```

use std::net::SocketAddr;

use weave_mesh::identity::PeerKey;
use weave_mesh::time::Instant;

use crate::batch::{Outbox, SendMode};
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::peer::Peer;
use crate::engine::peers::Slot;
use crate::sleeve::packet::{DATA_HEADER_BYTES, Payload};
use crate::sleeve::relay::{ENVELOPE_BYTES, Envelope, HOPS_MAX, RELAY_OVERHEAD_BYTES, RelayId};
use crate::sleeve::route::Via;
use crate::sleeve::seal::TAG_BYTES;
use crate::sleeve::session::{OVERHEAD_BYTES, Session};

/// The longest datagram: an IPv4 packet's 65,535 less its headers.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// How a packet leaves us, as [`Arrival`](super::inbound::Arrival) is how one came.
#[derive(Debug)]
pub(super) struct Departure<'a> {
    /// Whose packet it is.
    pub(super) slot: Slot,
    pub(super) via: Via,
    pub(super) now: Instant,
    pub(super) out: &'a mut Outbox,
}

/// What is in it: `write` fills `bytes` octets where they will be sealed.
#[derive(Debug)]
pub(super) struct Content<W> {
    pub(super) payload: Payload,
    pub(super) bytes: usize,
    pub(super) write: W,
}

impl Engine {
    /// Seals `parts`, one after the other, in the peer's current session and sends them.
    pub(super) fn send_parts(
        &mut self,
        to: &mut Departure<'_>,
        payload: Payload,
        parts: [&[u8]; 2],
    ) -> Result<(), Drop> {
        let write = |room: &mut [u8]| {
            let (head, tail) = room.split_at_mut(parts[0].len());
            head.copy_from_slice(parts[0]);
            tail.copy_from_slice(parts[1]);
        };
        self.send(to, Content { payload, bytes: parts[0].len() + parts[1].len(), write })
    }

    /// Has the content written where it is sealed in the peer's current session, and sends it.
    pub(super) fn send(
        &mut self,
        to: &mut Departure<'_>,
        content: Content<impl FnOnce(&mut [u8])>,
    ) -> Result<(), Drop> {
        if OVERHEAD_BYTES + content.bytes + RELAY_OVERHEAD_BYTES > DATAGRAM_BYTES_MAX {
            return Err(Drop::TooLong);
        }
        match to.via {
            Via::Direct(address) => self.send_straight(to, address, content),
            Via::Relay(key) => self.send_relayed(to, &key, content),
        }
    }

    fn send_straight(
        &mut self,
        to: &mut Departure<'_>,
        address: SocketAddr,
        content: Content<impl FnOnce(&mut [u8])>,
    ) -> Result<(), Drop> {
        let peer = self.peers.get_mut(to.slot).ok_or(Drop::NoWay)?;
        let mode = mode_of(content.payload, peer);
        let session = usable(peer, to.now)?;
        let room = to.out.datagram(address, mode, OVERHEAD_BYTES + content.bytes).map_err(|_| Drop::OutboxFull)?;
        content.seal(session, room);
        Ok(())
    }

    fn send_relayed(
        &mut self,
        to: &mut Departure<'_>,
        relay: &PeerKey,
        content: Content<impl FnOnce(&mut [u8])>,
    ) -> Result<(), Drop> {
        let relay = self.peers.by_key(relay).ok_or(Drop::NoWay)?;
        let (peer, relay) = self.peers.pair_mut(to.slot, relay).ok_or(Drop::NoWay)?;
        let address = relay.straight(to.now).ok_or(Drop::NoWay)?;
        let envelope = Envelope { hops_left: HOPS_MAX, source: self.relay_id, destination: peer.relay_id };
        let mode = mode_of(content.payload, relay);
        let (session, outer) = (usable(peer, to.now)?, usable(relay, to.now)?);
        let bytes = OVERHEAD_BYTES + content.bytes + RELAY_OVERHEAD_BYTES;
        let room = to.out.datagram(address, mode, bytes).map_err(|_| Drop::OutboxFull)?;
        let inner = DATA_HEADER_BYTES + ENVELOPE_BYTES..room.len() - TAG_BYTES;
        room[DATA_HEADER_BYTES..inner.start].copy_from_slice(&envelope.encode());
        content.seal(session, &mut room[inner]);
        outer.seal(Payload::Envelope, room);
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
                let room = out.datagram(address, SendMode::Plain, bytes.len()).map_err(|_| Drop::OutboxFull)?;
                room.copy_from_slice(bytes);
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
        let mut to = Departure { slot: next_hop, via: Via::Direct(address), now, out };
        self.send_parts(&mut to, Payload::Envelope, [&envelope.encode(), packet])
    }
}

impl<W: FnOnce(&mut [u8])> Content<W> {
    /// Fills `packet`, which has room for header and tag around the content.
    fn seal(self, session: &mut Session, packet: &mut [u8]) {
        (self.write)(&mut packet[DATA_HEADER_BYTES..][..self.bytes]);
        session.seal(self.payload, packet);
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
