//! Frames that are longer than their path takes.
//!
//! ```text
//!   outbound.rs ─► longer than the limit ─┬─ may be cut ──► fragments, each sealed ────────────► Outbox
//!                                         ├─ may not ─────► ICMP to the sender ────────────────► Outbox, to the TAP
//!                                         │                 while sizes are being tried: sent, it may arrive
//!                                         └─ else ────────► dropped, and counted
//! ```

use rand_core::RngCore;

use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::sealing::Departure;
use crate::oversize::{Remedy, fragment, remedy, too_big};

/// ICMP messages about one peer's path in a second: more would help nobody who heeds them.
pub(super) const TOLD_PER_SECOND: u32 = 100;

impl Engine {
    /// Sends a frame, whose checksums are finished, as far as its path takes it.
    pub(super) fn fit(&mut self, to: &mut Departure<'_>, frame: &[u8]) -> Result<(), Drop> {
        let Some(peer) = self.peers.get(to.slot) else { return Ok(()) };
        let limit = peer.frame_bytes_max();
        match remedy(frame) {
            Remedy::Fragment => self.send_fragments(to, frame, limit),
            // What is told is remembered for ten minutes, so it has to be right.
            Remedy::Tell if !peer.path_mtu.is_exact() => self.send_whole(to, frame),
            Remedy::Tell => Err(self.tell(to, frame, limit)),
            Remedy::Nothing => Err(Drop::TooBigUntold),
        }
    }

    /// Tells a frame's sender how long its packets may be, and says how the frame is to be counted.
    fn tell(&mut self, to: &mut Departure<'_>, frame: &[u8], limit: usize) -> Drop {
        let Ok(answer) = too_big(frame, limit) else { return Drop::TooBigUntold };
        let may = self.peers.get_mut(to.slot).is_some_and(|peer| peer.told.take(1, TOLD_PER_SECOND, to.now));
        if !may {
            return Drop::TooBigToldOften;
        }
        let Ok(room) = to.out.frame(answer.len()) else { return Drop::OutboxFull };
        room.copy_from_slice(&answer);
        Drop::TooBigTold
    }

    fn send_fragments(&mut self, to: &mut Departure<'_>, frame: &[u8], limit: usize) -> Result<(), Drop> {
        let id = self.rng.next_u32();
        let mut done = Ok(());
        let send = |piece: &[u8]| {
            if done.is_ok() {
                done = self.send_whole(to, piece);
            }
        };
        fragment(frame, limit, id, send).map_err(|_| Drop::TooBigUntold)?;
        done
    }
}
