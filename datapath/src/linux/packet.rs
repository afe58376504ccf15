//! The packet thread: owns the TAP, the UDP socket, the packet socket and the engine that decides about what they carry.
//!
//! ```text
//!             Tables, requests (inbox.rs, woken by an eventfd)
//!                        │
//!   TAP ────────►┌───────▼────────┐────────► TAP
//!   UDP 6783 ───►│ worker.rs      │────────► UDP 6783
//!   bridge ─────►│   └── Engine   │────────► VXLAN device (heartbeats)
//!                └───────┬────────┘
//!                        └──► Event (a bounded channel)
//! ```
//!
//! - Control never waits for the thread, nor the thread for control: events that find the channel full stay in the engine.
//! - The lock of the inbox is taken when its eventfd was signalled, never per frame.
//! - An error of a descriptor is counted and survived; the thread ends only when told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use weave_mesh::identity::PeerKey;

use crate::drops::Drops;
use crate::engine::{Engine, Event, PathStatus};
use crate::linux::clock::Clock;
use crate::linux::packet_socket::PacketSocket;
use crate::linux::tap::Tap;
use crate::linux::udp::UdpSocket;
use crate::tables::Tables;

pub use counters::Counters;
use inbox::Inbox;
use worker::Worker;

mod complaint;
mod counters;
mod inbox;
mod worker;

/// Events that may wait for control; more stay in the engine.
const EVENTS_MAX: usize = 256;

/// What the thread owns beside the engine.
#[derive(Debug)]
pub struct Devices {
    pub tap: Tap,
    pub udp: UdpSocket,
    pub heartbeats: PacketSocket,
}

/// Handle to the packet thread. Dropping it ends the thread; the TAP device stays.
#[derive(Debug)]
pub struct PacketThread {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread knows, as of one moment.
#[derive(Clone, Debug)]
pub struct Status {
    pub paths: Vec<PathStatus>,
    pub drops: Drops,
    pub counters: Counters,
}

/// The packet thread answers no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    #[error("packet thread has ended")]
    Ended,
    #[error("too many requests wait for the packet thread; ask again")]
    Busy,
}

impl PacketThread {
    /// Starts the thread in the network namespace of the calling one. `mtu` is the overlay's, which sizes the buffers.
    /// The channel of events closes when the thread ends.
    ///
    /// # Errors
    /// When the kernel has no descriptor or thread left for us.
    pub fn spawn(
        engine: Engine,
        devices: Devices,
        mtu: u16,
        clock: Clock,
    ) -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let inbox = Arc::new(Inbox::new()?);
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let of_thread = Arc::clone(&inbox);
        let thread = std::thread::Builder::new()
            .name("packet".to_owned())
            .spawn(move || Worker::new(engine, devices, mtu, clock, of_thread, events).run())?;
        Ok((Self { inbox, thread: Some(thread) }, receiver))
    }

    /// Replaces the snapshot; of several in a row only the last need take effect.
    pub fn set_tables(&self, tables: Arc<Tables>) {
        self.inbox.post(|requests| requests.tables = Some(tables));
    }

    /// How long ago the kernel last carried a frame to each fast-path peer.
    pub fn note_traffic(&self, used: BTreeMap<PeerKey, Duration>) {
        self.inbox.post(|requests| requests.traffic = Some(used));
    }

    /// Asks the thread what it knows.
    ///
    /// # Errors
    /// When the thread has ended, or cannot keep up with requests.
    pub async fn status(&self) -> Result<Status, StatusError> {
        self.inbox.ask()?.await.map_err(|_| StatusError::Ended)
    }

    /// Ends the thread and waits until it has; descriptors are closed then.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.inbox.post(|requests| requests.end = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("packet thread panicked");
        }
    }
}

impl Drop for PacketThread {
    fn drop(&mut self) {
        self.end();
    }
}
