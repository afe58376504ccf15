//! The loop of the packet thread: one turn takes at most one batch from each descriptor, so that none starves another.
//!
//! ```text
//!   ┌─► requests ─► timers ─► events ─► wait ─► TAP batch ─► UDP batch ─► heartbeats ─┐
//!   └──────────────────────────────────────────────────────────────────────────────────┘
//!                 every call of the engine is followed by sending what it put in the outbox
//! ```

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc::{self, error::TrySendError};
use weave_mesh::time::Instant;

use super::complaint::Complaint;
use super::counters::Counters;
use super::inbox::Inbox;
use super::{Devices, Status};
use crate::batch::{DatagramBatch, FrameBatch, Outbox};
use crate::engine::{Engine, Event};
use crate::heartbeat;
use crate::linux::clock::Clock;
use crate::linux::tap::Tap;
use crate::linux::udp;
use crate::offload::vnet::Header;

/// Everything the thread owns.
pub(super) struct Worker {
    engine: Engine,
    devices: Devices,
    clock: Clock,
    inbox: Arc<Inbox>,
    events: mpsc::Sender<Event>,
    /// The TAP was deleted under us; a new one is tried for at every turn of maintenance.
    tap_is_lost: bool,
    /// Control has not taken the events that wait; look again soon.
    events_wait: bool,
    next_maintenance: Instant,
    frames: FrameBatch,
    datagrams: DatagramBatch,
    heartbeat: Box<[u8]>,
    out: Outbox,
    receiver: udp::Receiver,
    sender: udp::Sender,
    counters: Counters,
    complaints: Complaints,
}

/// Which descriptors have something for us.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    inbox: bool,
    tap: bool,
    udp: bool,
    heartbeats: bool,
}

struct Complaints {
    tap_read: Complaint,
    tap_write: Complaint,
    tap_reopen: Complaint,
    udp_read: Complaint,
    udp_write: Complaint,
    heartbeat_read: Complaint,
    wait: Complaint,
}

impl Worker {
    pub(super) fn new(
        engine: Engine,
        devices: Devices,
        mtu: u16,
        clock: Clock,
        inbox: Arc<Inbox>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let mut out = Outbox::new();
        out.set_merge(devices.tap.merge());
        Self {
            engine,
            devices,
            clock,
            inbox,
            events,
            tap_is_lost: false,
            events_wait: false,
            next_maintenance: clock.now(),
            frames: FrameBatch::packed(BATCH_FRAMES, BATCH_FRAME_BYTES, FRAME_BYTES_MAX),
            datagrams: DatagramBatch::new(BATCH_TRAINS, TRAIN_SLOT_BYTES),
            heartbeat: vec![0; heartbeat::frame_bytes(mtu)].into(),
            out,
            receiver: udp::Receiver::default(),
            sender: udp::Sender::default(),
            counters: Counters::default(),
            complaints: Complaints {
                tap_read: Complaint::new("cannot read from the TAP device"),
                tap_write: Complaint::new("the TAP device refuses frames"),
                tap_reopen: Complaint::new("the TAP device was deleted and cannot be made again"),
                udp_read: Complaint::new("cannot receive from the UDP socket"),
                udp_write: Complaint::new("the UDP socket has no room or refuses datagrams"),
                heartbeat_read: Complaint::new("cannot receive heartbeats from the bridge"),
                wait: Complaint::new("cannot wait for descriptors"),
            },
        }
    }

    pub(super) fn run(mut self) {
        let mut ready = Ready { inbox: true, ..Ready::default() };
        while !(ready.inbox && self.take_requests()) {
            self.fire_timers();
            self.pass_events();
            ready = self.wait();
            if ready.tap {
                self.take_frames();
            }
            if ready.udp {
                self.take_datagrams();
            }
            if ready.heartbeats {
                self.take_heartbeats();
            }
        }
    }

    /// Does what control asked for; true when that is to end.
    fn take_requests(&mut self) -> bool {
        let requests = self.inbox.take();
        let now = self.clock.now();
        if let Some(tables) = requests.tables {
            self.engine.set_tables(tables, now);
        }
        if let Some(used) = requests.traffic {
            self.engine.note_traffic(&used, now);
        }
        for answer in requests.status {
            let (paths, drops) = (self.engine.paths(now), self.engine.drops().clone());
            // Whoever asked may have gone.
            let _ = answer.send(Status { paths, drops, counters: self.counters });
        }
        requests.end
    }

    fn fire_timers(&mut self) {
        let now = self.clock.now();
        if now >= self.next_maintenance {
            self.next_maintenance = now + MAINTENANCE_INTERVAL;
            self.follow_devices(now);
        }
        if self.engine.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.engine.handle_timeout(now, &mut self.out);
            self.flush(now);
        }
    }

    /// Finds devices again that somebody deleted and the plan made anew.
    fn follow_devices(&mut self, now: Instant) {
        if let Err(error) = self.devices.heartbeats.follow_bridge() {
            self.complaints.heartbeat_read.log(&error, now);
        }
        if self.tap_is_lost {
            match Tap::open(self.devices.tap.name()) {
                Ok(tap) => {
                    self.out.set_merge(tap.merge());
                    (self.devices.tap, self.tap_is_lost) = (tap, false);
                }
                Err(error) => self.complaints.tap_reopen.log(&error, now),
            }
        }
    }

    /// Hands events to control while it has room for them.
    fn pass_events(&mut self) {
        self.events_wait = false;
        loop {
            match self.events.try_reserve() {
                Ok(room) => match self.engine.poll_event() {
                    Some(event) => room.send(event),
                    None => return,
                },
                Err(TrySendError::Full(())) => {
                    self.events_wait = true;
                    return;
                }
                // Control is going away, and ends this thread in a moment.
                Err(TrySendError::Closed(())) => {
                    if self.engine.poll_event().is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Sleeps until a descriptor has something, or the next deadline.
    fn wait(&mut self) -> Ready {
        let now = self.clock.now();
        let mut deadline = self.next_maintenance.min(self.engine.poll_timeout().unwrap_or(self.next_maintenance));
        if self.events_wait {
            deadline = deadline.min(now + EVENTS_RETRY);
        }
        let Devices { tap, udp, heartbeats } = &self.devices;
        let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = [watch((*self.inbox).as_fd()), watch(udp.as_fd()), watch(heartbeats.as_fd()), watch(tap.as_fd())];
        // A deleted TAP would report its error without end.
        let watched = if self.tap_is_lost { &mut fds[..3] } else { &mut fds[..] };
        let result = poll(watched, Some(&timespec(deadline.since(now))));
        let [inbox, udp, heartbeats, tap] = fds.map(|fd| !fd.revents().is_empty());
        match result {
            Ok(_) => Ready { inbox, tap, udp, heartbeats },
            Err(rustix::io::Errno::INTR) => Ready::default(),
            Err(error) => {
                self.complaints.wait.log(&error, now);
                // Out of kernel memory: look at everything, none of it blocks.
                Ready { inbox: true, tap: !self.tap_is_lost, udp: true, heartbeats: true }
            }
        }
    }

    fn take_frames(&mut self) {
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

    fn take_datagrams(&mut self) {
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

    fn take_heartbeats(&mut self) {
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

    /// Sends and writes what the engine left in the outbox.
    fn flush(&mut self, now: Instant) {
        if self.out.is_empty() {
            return;
        }
        let refused = |destination, refusal| self.engine.handle_refusal(destination, refusal, now);
        let outcome = self.sender.send(&self.devices.udp, self.out.trains(), refused);
        self.counters.note_sent(outcome);
        if outcome.full + outcome.refused > 0 {
            self.complaints.udp_write.log(&"see the counters of dropped datagrams", now);
        }
        for delivery in self.out.deliveries(&self.datagrams) {
            let done = self.devices.tap.deliver(&delivery);
            self.counters.note_written(&done, delivery.frames, delivery.bytes);
            if let Err(error) = done {
                self.complaints.tap_write.log(&error, now);
            }
        }
        for frame in self.out.frames() {
            let done = self.devices.tap.send(Header::default(), frame);
            self.counters.note_written(&done, 1, frame.len());
            if let Err(error) = done {
                self.complaints.tap_write.log(&error, now);
            }
        }
        for frame in self.out.heartbeats() {
            match self.devices.heartbeats.send(frame) {
                Ok(()) => self.counters.heartbeats_out += 1,
                // No line in the log: an unanswered heartbeat becomes the reason of a carrier, which is shown.
                Err(_) => self.counters.heartbeats_refused += 1,
            }
        }
        self.out.clear();
    }
}

impl Drop for Worker {
    /// Also when the thread panics.
    fn drop(&mut self) {
        self.inbox.close();
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

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
/// How often to look for devices that were replaced.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// How soon to offer events again to a control task that had no room for them.
const EVENTS_RETRY: Duration = Duration::from_millis(10);
