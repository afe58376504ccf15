//! A batch from each descriptor that has something, handed to the engine.

use std::io;

use super::Worker;
use crate::batch::{DatagramBatch, FrameBatch};
use crate::linux::udp;

/// Frames read from the TAP before anything else gets its turn.
const BATCH_FRAMES: usize = 128;
/// Octets likewise: what the second level of a processor's cache holds, with the datagrams made of it.
const BATCH_FRAME_BYTES: usize = 4 * FRAME_BYTES_MAX;
/// A super-frame, and one octet to tell a frame that was cut short.
const FRAME_BYTES_MAX: usize = 14 + 8 + 65_535 + 1;
/// Heartbeats likewise.
const BATCH_HEARTBEATS: usize = 64;
/// Datagrams, or trains of them, received before anything else gets its turn.
const BATCH_TRAINS: usize = 32;
/// The most that the kernel hands over as one train, or one datagram.
const TRAIN_SLOT_BYTES: usize = 65_536;

/// What [`Worker::take_frames`] reads to.
pub(super) fn frame_batch() -> FrameBatch {
    FrameBatch::packed(BATCH_FRAMES, BATCH_FRAME_BYTES, FRAME_BYTES_MAX)
}

/// What [`Worker::take_datagrams`] receives to.
pub(super) fn datagram_batch() -> DatagramBatch {
    DatagramBatch::new(BATCH_TRAINS, TRAIN_SLOT_BYTES)
}

impl Worker {
    pub(super) fn take_frames(&mut self) {
        self.frames.clear();
        while let Some(room) = self.frames.room() {
            let room_bytes = room.len();
            match self.devices.tap.receive(room) {
                Ok(Some((header, length))) if length < room_bytes => {
                    self.counters.frames_in += 1;
                    self.counters.frame_bytes_in += length as u64;
                    self.frames.push_offloaded(header, length);
                }
                Ok(Some(_)) => self.counters.frames_too_long += 1,
                Ok(None) => break,
                Err(error) => {
                    self.lose_tap(&error);
                    break;
                }
            }
        }
        if !self.frames.is_empty() {
            let now = self.clock.now();
            self.engine.handle_frames(&self.frames, now, &mut self.out);
            self.flush(now);
        }
    }

    /// A TAP that cannot be read is gone: it has been deleted, since one that is merely down has nothing to read.
    fn lose_tap(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::Interrupted {
            return;
        }
        let now = self.clock.now();
        self.counters.read_errors += 1;
        self.complaints.tap_read.log(error, now);
        self.tap_is_lost = true;
        self.next_maintenance = now;
    }

    pub(super) fn take_datagrams(&mut self) {
        self.datagrams.clear();
        let result = self.receiver.receive(&self.devices.udp, self.datagrams.rooms());
        for udp::Arrival { length, segment_bytes, source } in self.receiver.arrivals() {
            self.counters.datagrams_in += length.div_ceil(segment_bytes.max(1)).max(1) as u64;
            self.counters.datagram_bytes_in += length as u64;
            self.datagrams.push(length, segment_bytes, source);
        }
        let now = self.clock.now();
        match result {
            Ok(0) => {}
            Ok(_) => {
                self.engine.handle_datagrams(&mut self.datagrams, now, &mut self.out);
                self.flush(now);
            }
            Err(error) => {
                self.counters.read_errors += 1;
                self.complaints.udp_read.log(&error, now);
            }
        }
    }

    pub(super) fn take_heartbeats(&mut self) {
        let now = self.clock.now();
        for _ in 0..BATCH_HEARTBEATS {
            match self.devices.heartbeats.receive(&mut self.heartbeat) {
                Ok(Some(length)) => {
                    self.counters.heartbeats_in += 1;
                    let frame = self.heartbeat.get(..length).unwrap_or_default();
                    self.engine.handle_heartbeat(frame, now, &mut self.out);
                }
                Ok(None) => break,
                Err(error) => {
                    self.counters.read_errors += 1;
                    self.complaints.heartbeat_read.log(&error, now);
                    break;
                }
            }
        }
        self.flush(now);
    }
}
