//! Size probes: sealed packets as long as a frame, which say how long frames to a peer may be.
//!
//! ```text
//!   drive ─► sleeve/path_mtu.rs: which sizes now? ─► sealed like frames, padded ──► peer ─► answer: nonce, size
//!                                                                                             │
//!            outbound.rs: what fits? ◄── limit ◄── sleeve/path_mtu.rs ◄───────────────────────┘
//! ```
//!
//! An answer is shorter than any probe, and comes back the way the probe came.

use weave_mesh::time::Instant;

use crate::batch::Outbox;
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::inbound::Arrival;
use crate::engine::peers::Slot;
use crate::engine::sealing::{Content, Departure};
use crate::heartbeat;
use crate::sleeve::packet::{NONCE_BYTES, Payload, SIZE_ANSWER_BYTES};

impl Engine {
    /// Sends the size probes that are due to a peer.
    pub(super) fn size_up(&mut self, slot: Slot, now: Instant, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let way = peer.way();
        peer.path_mtu.follow(way, now);
        let Some(via) = way else { return };
        let in_use = peer.uses_sleeve(now);
        peer.path_mtu.handle_timeout(in_use, &mut self.rng, now);
        while let Some(probe) = self.peers.get_mut(slot).and_then(|peer| peer.path_mtu.poll_probe()) {
            let write = |room: &mut [u8]| {
                let (nonce, padding) = room.split_at_mut(NONCE_BYTES);
                nonce.copy_from_slice(&probe.nonce.to_be_bytes());
                padding.fill(0);
            };
            let content = Content { payload: Payload::SizeProbe, bytes: probe.size.max(NONCE_BYTES), write };
            let done = self.send(&mut Departure { slot, via, now, out }, content);
            self.count(done);
        }
    }

    /// Says which size arrived, if a frame of that size could be delivered here.
    pub(super) fn answer_size_probe(
        &mut self,
        slot: Slot,
        payload: &[u8],
        arrival: &mut Arrival<'_>,
    ) -> Result<(), Drop> {
        if payload.len() > heartbeat::frame_bytes(self.config.mtu) {
            return Err(Drop::LongerThanOurs);
        }
        let nonce = payload.first_chunk::<NONCE_BYTES>().filter(|_| payload.len() >= SIZE_ANSWER_BYTES);
        let size = u16::try_from(payload.len()).map_err(|_| Drop::MalformedDatagram)?;
        let parts: [&[u8]; 2] = [nonce.ok_or(Drop::MalformedDatagram)?, &size.to_be_bytes()];
        self.send_parts(&mut arrival.back(slot), Payload::SizeAnswer, parts)
    }

    pub(super) fn take_size_answer(&mut self, slot: Slot, payload: &[u8], now: Instant) -> Result<(), Drop> {
        let answer: &[u8; SIZE_ANSWER_BYTES] = payload.try_into().map_err(|_| Drop::MalformedDatagram)?;
        let &[n0, n1, n2, n3, n4, n5, n6, n7, s0, s1] = answer;
        let nonce = u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
        let size = usize::from(u16::from_be_bytes([s0, s1]));
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.path_mtu.handle_answer(nonce, size, &mut self.rng, now);
        }
        self.arm(slot, now);
        Ok(())
    }
}
