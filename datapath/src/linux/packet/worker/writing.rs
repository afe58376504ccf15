//! What the engine left in the outbox, sent and written.

use weave_mesh::time::Instant;

use super::Worker;
use crate::offload::vnet::Header;

impl Worker {
    pub(super) fn flush(&mut self, now: Instant) {
        if self.out.is_empty() {
            return;
        }
        self.send_trains(now);
        self.write_deliveries(now);
        self.write_frames(now);
        self.send_heartbeats();
        self.out.clear();
    }

    fn send_trains(&mut self, now: Instant) {
        let refused = |destination, refusal| self.engine.handle_refusal(destination, refusal, now);
        let outcome = self.sender.send(&self.devices.udp, self.out.trains(), refused);
        self.counters.note_sent(outcome);
        if outcome.full + outcome.refused > 0 {
            self.complaints.udp_write.log(&"see the counters of dropped datagrams", now);
        }
    }

    fn write_deliveries(&mut self, now: Instant) {
        for delivery in self.out.deliveries(&self.datagrams) {
            let done = self.devices.tap.deliver(&delivery);
            self.counters.note_written(&done, delivery.frames, delivery.bytes);
            if let Err(error) = done {
                self.complaints.tap_write.log(&error, now);
            }
        }
    }

    fn write_frames(&mut self, now: Instant) {
        for frame in self.out.frames() {
            let done = self.devices.tap.send(Header::default(), frame);
            self.counters.note_written(&done, 1, frame.len());
            if let Err(error) = done {
                self.complaints.tap_write.log(&error, now);
            }
        }
    }

    fn send_heartbeats(&mut self) {
        for frame in self.out.heartbeats() {
            match self.devices.heartbeats.send(frame) {
                Ok(()) => self.counters.heartbeats_out += 1,
                // No line in the log: an unanswered heartbeat becomes the reason of a carrier, which is shown.
                Err(_) => self.counters.heartbeats_refused += 1,
            }
        }
    }
}
