//! The loop of the packet thread: one turn takes at most one batch from each descriptor, so that none starves another.
//!
//! ```text
//!   ┌─► requests ─► timers ─► events ─► wait ─► TAP batch ─► UDP batch ─► heartbeats ─┐
//!   └──────────────────────────────────────────────────────────────────────────────────┘
//!                 every call of the engine is followed by sending what it put in the outbox
//! ```

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc::{self, error::TrySendError};
use weave_mesh::time::Instant;

use super::complaint::Complaints;
use super::counters::Counters;
use super::inbox::Inbox;
use super::{Devices, Status};
use crate::batch::{DatagramBatch, FrameBatch, Outbox};
use crate::engine::{Engine, Event};
use crate::heartbeat;
use crate::linux::clock::Clock;
use crate::linux::tap::Tap;
use crate::linux::udp;

mod reading;
mod writing;

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
            frames: reading::frame_batch(),
            datagrams: reading::datagram_batch(),
            heartbeat: vec![0; heartbeat::frame_bytes(mtu)].into(),
            out,
            receiver: udp::Receiver::default(),
            sender: udp::Sender::default(),
            counters: Counters::default(),
            complaints: Complaints::default(),
        }
    }

    /// Requests come before frames: a frame for a new station comes after the tables that know it.
    pub(super) fn run(mut self) {
        let mut ready = Ready { inbox: true, ..Ready::default() };
        while !(ready.inbox && self.take_requests()) {
            if ready.tap {
                self.take_frames();
            }
            if ready.udp {
                self.take_datagrams();
            }
            if ready.heartbeats {
                self.take_heartbeats();
            }
            self.fire_timers();
            self.pass_events();
            ready = self.wait();
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

/// How often to look for devices that were replaced.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// How soon to offer events again to a control task that had no room for them.
const EVENTS_RETRY: Duration = Duration::from_millis(10);
