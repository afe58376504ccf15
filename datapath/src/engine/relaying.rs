//! Passing envelopes on for others.

use weave_mesh::time::Instant;

use crate::batch::Outbox;
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::peers::Slot;
use crate::sleeve::relay::Envelope;

impl Engine {
    /// `previous` handed us a packet for somebody else.
    pub(super) fn pass_on(
        &mut self,
        previous: Slot,
        mut envelope: Envelope,
        packet: &[u8],
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Drop> {
        envelope.hops_left = envelope.hops_left.checked_sub(1).filter(|left| *left > 0).ok_or(Drop::HopLimit)?;
        let destination = self.peers.by_relay_id(envelope.destination).ok_or(Drop::RelayNoWay)?;
        let sender = self.peers.get_mut(previous).ok_or(Drop::RelayNoWay)?;
        if !sender.allowance.take(sender.relay_id, envelope.source, packet.len(), now) {
            return Err(Drop::RelayRate);
        }
        sender.counters.relayed += 1;
        let next_hop = self.next_hop(previous, destination, now);
        let Some(next_hop) = next_hop else {
            self.note_use(destination, now, now);
            self.arm(destination, now);
            return Err(Drop::RelayNoWay);
        };
        self.note_use(next_hop, now, now);
        self.send_envelope(next_hop, &envelope, packet, now, out)
    }

    /// The destination itself, else one of the peers that lead to it, but never back.
    fn next_hop(&self, previous: Slot, destination: Slot, now: Instant) -> Option<Slot> {
        let leads_on =
            |slot: &Slot| *slot != previous && self.peers.get(*slot).is_some_and(|peer| peer.straight(now).is_some());
        let relays = self.peers.get(destination)?.entry.relays.iter().filter_map(|key| self.peers.by_key(key));
        std::iter::once(destination).chain(relays).find(leads_on)
    }

    pub(super) fn note_use(&mut self, slot: Slot, at: Instant, now: Instant) {
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.note_use(at, now);
        }
    }
}
