//! The packet thread's brain: every session and every carrier choice of this host, without a clock or a socket.

mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weave_mesh::identity::{Identity, PeerKey};
use weave_mesh::name::MeshId;
use weave_mesh::noise::Psk;
use weave_mesh::time::{Instant, UnixTime};

pub use status::{Event, PathCounters, PathStatus, SessionStatus, Warning};

use crate::batch::{DatagramBatch, FrameBatch, Outbox};
use crate::drops::Drops;
pub use crate::sleeve::route::Via;
use crate::sleeve::seal::Cipher;
use crate::tables::Tables;

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Config {
    pub identity: Identity,
    pub mesh: MeshId,
    /// The first is mixed into our answers, all are tried on the answers of others. Empty without a password.
    pub psks: Vec<Psk>,
    /// Best first, e.g. [`Cipher::of_this_machine`].
    pub ciphers: Vec<Cipher>,
    /// The overlay's MTU: the longest IP packet of a container.
    pub mtu: u16,
    /// The last number stored on [`Event::ReserveTimestamp`], zero if none.
    pub timestamp_floor: u64,
}

/// All sleeves and carrier choices of one host.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    tables: Arc<Tables>,
    drops: Drops,
}

impl Engine {
    /// `seed` is the source of every key: 32 octets from the operating system in a daemon.
    pub fn new(config: Config, tables: Arc<Tables>, _seed: [u8; 32], _now: Instant, _wall: UnixTime) -> Self {
        Self { config, tables, drops: Drops::default() }
    }

    /// Replaces the snapshot.
    pub fn set_tables(&mut self, tables: Arc<Tables>, _now: Instant) {
        self.tables = tables;
    }

    /// Frames read from the TAP.
    pub fn handle_frames(&mut self, _frames: &FrameBatch, _now: Instant, _out: &mut Outbox) {}

    /// Datagrams read from the UDP socket; they are opened in place.
    pub fn handle_datagrams(&mut self, _datagrams: &mut DatagramBatch, _now: Instant, _out: &mut Outbox) {}

    /// A frame of ethertype [`ETHERTYPE_HEARTBEAT`](crate::heartbeat::ETHERTYPE) read from the bridge's packet socket.
    pub fn handle_heartbeat(&mut self, _frame: &[u8], _now: Instant, _out: &mut Outbox) {}

    /// How long ago the kernel last carried a frame to each fast-path peer (`used` age of its VXLAN entries).
    pub fn note_traffic(&mut self, _used: &BTreeMap<PeerKey, Duration>, _now: Instant) {}

    /// Call when [`Self::poll_timeout`] has passed; earlier is a no-op.
    pub fn handle_timeout(&mut self, _now: Instant, _out: &mut Outbox) {}

    /// The earliest deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Every peer's path, by key.
    pub fn paths(&self) -> Vec<PathStatus> {
        Vec::new()
    }

    pub fn drops(&self) -> &Drops {
        &self.drops
    }
}
