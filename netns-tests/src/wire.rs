//! A bad wire between two hosts: user space in the place of a network card that segments, and of the network behind it.
//!
//! ```text
//!   host h1                        thread of the test                         host h2
//!   eth0 (TAP, USO) ══════►  Direction: segmented or plain? faults  ══════►  eth0 (TAP, USO)
//!                   ◄══════  Direction of its own                   ◄══════
//! ```
//!
//! The hosts' kernels hand over a segmented UDP send as one super-packet with a virtio-net header, as they would to a
//! card that segments. So the wire knows which sends are segmented, and can do to them what broken cards, drivers and
//! hypervisors do, while it carries plain sends as they are. Kernels have no fault like that on offer; netem is absent here.
//!
//! Invariants: without faults a super-packet crosses whole; what the wire holds is bounded by [`HELD_MAX`]; all chance
//! comes from a seed; dropping the wire ends its thread.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::PipeFlags;
use weave_datapath::linux::tap::Tap;

use crate::topology::Namespace;
use direction::Direction;

mod cut;
mod direction;
mod faults;

pub use direction::{Counts, HELD_MAX};
pub use faults::{Bottleneck, Faults, Segmented};

/// Two TAP devices and the thread between them.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    /// Closing it ends the thread.
    end: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: [Mutex<Faults>; 2],
    counts: [Mutex<Counts>; 2],
}

/// Which way packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// From the first host to the second.
    There,
    /// From the second host to the first.
    Back,
}

impl Wire {
    /// Makes the device `interface` in both namespaces and starts to carry.
    pub(crate) fn between(a: &Namespace, b: &Namespace, interface: &str, seed: u64) -> Result<Self> {
        let name = interface.parse().map_err(|error| anyhow::anyhow!("{interface}: {error}"))?;
        let open = |namespace: &Namespace| namespace.enter(|| Ok(Tap::open(&name)?));
        let taps = [open(a)?, open(b)?];
        for namespace in [a, b] {
            // Room for a burst of plain datagrams, which a card's ring of descriptors has too.
            namespace.run(&format!("ip link set {interface} txqueuelen 4000"))?;
        }
        let shared = Arc::new(Shared::default());
        // Not for the programs that start meanwhile: one that lives on would keep the thread waiting.
        let (ended, end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("wire".to_owned())
            .spawn(move || carry(&taps, &ended, &of_thread, seed))?;
        Ok(Self { shared, end: Some(end), thread: Some(thread) })
    }

    /// Replaces the faults of one direction; the default has none.
    pub fn set_faults(&self, heading: Heading, faults: Faults) {
        *lock(&self.shared.faults[heading as usize]) = faults;
    }

    /// The same for both.
    pub fn set_all_faults(&self, faults: Faults) {
        self.set_faults(Heading::There, faults);
        self.set_faults(Heading::Back, faults);
    }

    /// What one direction has carried so far.
    pub fn counts(&self, heading: Heading) -> Counts {
        *lock(&self.shared.counts[heading as usize])
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread: each turn takes what one device has to say and gives what is due to the other.
fn carry(taps: &[Tap; 2], ended: &OwnedFd, shared: &Shared, seed: u64) {
    let mut directions = [Direction::new(seed), Direction::new(seed ^ u64::MAX)];
    loop {
        let now = Instant::now();
        let next = directions.iter().filter_map(Direction::due).min();
        let patience = next.map_or(IDLE, |due| due.saturating_duration_since(now).min(IDLE));
        let mut fds =
            [ended.as_fd(), taps[0].as_fd(), taps[1].as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        if poll(&mut fds, Some(&timespec(patience))).is_err() {
            continue;
        }
        if !fds[0].revents().is_empty() {
            return;
        }
        for (at, direction) in directions.iter_mut().enumerate() {
            let faults = *lock(&shared.faults[at]);
            direction.take(&taps[at], &faults, Instant::now());
            direction.give(&taps[1 - at], Instant::now());
            *lock(&shared.counts[at]) = direction.counts();
        }
    }
}

const IDLE: Duration = Duration::from_secs(1);

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
