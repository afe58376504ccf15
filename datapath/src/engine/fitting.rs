//! Frames that are longer than their path takes.
//!
//! ```text
//!   outbound.rs ─► longer than the limit ─┬─ may be cut ──► fragments, each sealed ────────────► Outbox
//!                                         ├─ may not ─────► ICMP to the sender ────────────────► Outbox, to the TAP
//!                                         │                 while sizes are being tried: sent, it may arrive
//!                                         └─ else ────────► dropped, and counted
//! ```

use rand_core::RngCore;
use weave_mesh::time::Instant;

use crate::batch::Outbox;
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::peer::Slot;
use crate::oversize::{Remedy, fragment, remedy, too_big};
use crate::sleeve::route::Via;

/// ICMP messages about one peer's path in a second: more would help nobody who heeds them.
pub(super) const TOLD_PER_SECOND: u32 = 100;

impl Engine {
    /// Sends a frame, whose checksums are finished, as far as its path takes it.
    pub(super) fn fit(
        &mut self,
        slot: Slot,
        frame: &[u8],
        via: Via,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        let limit = peer.frame_bytes_max();
        match remedy(frame) {
            Remedy::Fragment => self.send_fragments(slot, frame, limit, via, now, out),
            // What is told is remembered for ten minutes, so it has to be right.
            Remedy::Tell if !peer.path_mtu.is_exact() => self.send_whole(slot, frame, via, now, out),
            Remedy::Tell => {
                let answer = too_big(frame, limit).map_err(|_| Drop::TooBigUntold)?;
                if !peer.told.take(1, TOLD_PER_SECOND, now) {
                    return Err(Drop::TooBigToldOften);
                }
                out.frame(answer.len()).map_err(|_| Drop::OutboxFull)?.copy_from_slice(&answer);
                Err(Drop::TooBigTold)
            }
            Remedy::Nothing => Err(Drop::TooBigUntold),
        }
    }

    fn send_fragments(
        &mut self,
        slot: Slot,
        frame: &[u8],
        limit: usize,
        via: Via,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        let id = self.rng.next_u32();
        let mut done = Ok(());
        let send = |piece: &[u8]| {
            if done.is_ok() {
                done = self.send_whole(slot, piece, via, now, out);
            }
        };
        fragment(frame, limit, id, send).map_err(|_| Drop::TooBigUntold)?;
        done
    }
}
