//! What went through the descriptors, and what they refused. What the engine drops is counted by the engine.

use std::io;

use crate::linux::udp::SendOutcome;

/// Totals since the thread started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames read from the TAP.
    pub frames_in: u64,
    pub frame_bytes_in: u64,
    /// Frames written to the TAP.
    pub frames_out: u64,
    pub frame_bytes_out: u64,
    /// Frames that were longer than any of IP's.
    pub frames_too_long: u64,
    /// Frames that the TAP refused to take: it is down, or the kernel has no memory.
    pub frames_refused: u64,
    pub datagrams_in: u64,
    pub datagram_bytes_in: u64,
    pub datagrams_out: u64,
    /// Datagrams for which the socket or the device had no room.
    pub datagrams_no_room: u64,
    /// Datagrams without a route, or that this host's firewall stopped.
    pub datagrams_unreachable: u64,
    /// Datagrams longer than the device takes.
    pub datagrams_too_long: u64,
    /// Datagrams refused for any other reason.
    pub datagrams_refused: u64,
    /// Segmented sends that the kernel refused; their datagrams went one by one.
    pub sends_unsegmented: u64,
    pub heartbeats_in: u64,
    pub heartbeats_out: u64,
    /// Heartbeats that the VXLAN device did not take: it is absent, down or full.
    pub heartbeats_refused: u64,
    /// Errors of a descriptor that ended nothing.
    pub read_errors: u64,
}

impl Counters {
    /// What the descriptors refused, in the operator's words; the engine's own drops are in
    /// [`Drops`](crate::drops::Drops).
    pub const fn refusals(&self) -> [(&'static str, u64); 9] {
        [
            ("frame from a container is longer than IP allows", self.frames_too_long),
            ("frame for a container was refused by the TAP device", self.frames_refused),
            ("datagram found no room in the socket or the device", self.datagrams_no_room),
            ("datagram has no route or was stopped by this host's firewall", self.datagrams_unreachable),
            ("datagram is longer than the device takes", self.datagrams_too_long),
            ("datagram was refused by the kernel", self.datagrams_refused),
            ("segmented send was refused and repeated one by one", self.sends_unsegmented),
            ("heartbeat was refused by the VXLAN device", self.heartbeats_refused),
            ("descriptor reported an error", self.read_errors),
        ]
    }

    pub(super) const fn note_written(&mut self, done: &io::Result<()>, frames: usize, bytes: usize) {
        if done.is_ok() {
            self.frames_out += frames as u64;
            self.frame_bytes_out += bytes as u64;
        } else {
            self.frames_refused += frames as u64;
        }
    }

    pub(super) fn note_sent(&mut self, outcome: SendOutcome) {
        self.datagrams_out += outcome.sent;
        self.datagrams_no_room += outcome.full;
        self.datagrams_unreachable += outcome.unreachable;
        self.datagrams_too_long += outcome.too_long;
        self.datagrams_refused += outcome.refused;
        self.sends_unsegmented += outcome.unsegmented;
    }
}
