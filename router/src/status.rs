//! What the daemon is doing, as one value: every command that shows something renders a part of it, as text or as JSON.
//!
//! ```text
//!   control ── Snapshot ──► status/text.rs     `status …`, `peers`: the original's columns
//!                      ├──► serde              `--json`: the fields below, in snake case
//!                      ├──► status/report.rs   `report`: the original's field names
//!                      └──► status/why.rs      `why PEER`: prose
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::discovery::DiscoveryPart;
use crate::shown::Shown;

pub use self::docker::{DockerPart, EnginePart, RuntimeUse};
pub use self::gather::{About, CarrierChanges, DnsMaterial, Material, Tallies};
pub use self::ipam::{Election, Ipam, IpamOwner, IpamProblem, IpamWaiting};

mod docker;
mod gather;
mod ipam;
pub mod ps;
pub mod report;
pub mod text;
pub mod time;
pub mod titles;
pub mod waits;
pub mod why;

/// A peer as it is printed: `name(nickname)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PeerLabel {
    pub name: String,
    pub nickname: String,
}

impl fmt::Display for PeerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}({})", self.name, Shown(&self.nickname)))
    }
}

/// Everything there is to show.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub version: &'static str,
    pub ready: bool,
    pub router: Router,
    pub targets: Vec<String>,
    pub connections: Vec<Connection>,
    pub peers: Vec<Peer>,
    pub paths: Vec<Path>,
    pub endpoints: Vec<Endpoint>,
    /// Absent when no addresses are given.
    pub ipam: Option<Ipam>,
    /// Absent with `--no-dns`.
    pub dns: Option<Dns>,
    pub docker: DockerPart,
    pub discovery: DiscoveryPart,
    /// Conditions that a human should know of, such as a mesh without a password.
    pub warnings: Vec<String>,
    /// Dropped frames and datagrams by reason, over the life of the daemon.
    pub counters: BTreeMap<String, u64>,
}

/// This host's router.
#[derive(Clone, Debug, Serialize)]
pub struct Router {
    pub name: String,
    pub nickname: String,
    /// The public key that is this peer's identity, in hexadecimal.
    pub key: String,
    pub mesh: String,
    pub protocol: u8,
    pub port: u16,
    pub encryption: bool,
    pub peer_discovery: bool,
    pub trusted_subnets: Vec<String>,
    pub bridge: String,
    pub mtu: u32,
    pub fast_path: bool,
    pub connection_limit: usize,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Outbound,
    Inbound,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    Established,
    Pending,
    Retrying,
    Failed,
    Connecting,
    Waiting,
}

impl ConnectionState {
    /// In the order in which `status` counts them.
    pub const ALL: [Self; 6] =
        [Self::Established, Self::Pending, Self::Retrying, Self::Failed, Self::Connecting, Self::Waiting];
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Established => "established",
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
        })
    }
}

/// A TCP connection to a neighbour, or an attempt at one.
#[derive(Clone, Debug, Serialize)]
pub struct Connection {
    pub direction: Direction,
    pub address: String,
    pub state: ConnectionState,
    pub peer: Option<PeerLabel>,
    /// How frames travel to that peer, once connected.
    pub carrier: Option<Carrier>,
    pub encrypted: bool,
    pub mtu: u32,
    /// Why there is no connection and when the next attempt is.
    pub info: String,
}

/// How frames travel to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    Fastdp,
    Sleeve,
}

impl Carrier {
    pub const ALL: [Self; 2] = [Self::Fastdp, Self::Sleeve];
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fastdp => "fastdp",
            Self::Sleeve => "sleeve",
        })
    }
}

/// A peer of the mesh, this host included.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    pub label: PeerLabel,
    pub key: String,
    pub is_self: bool,
    pub reachable: bool,
    /// Its set's (incarnation, counter).
    pub version: (u64, u64),
    pub addresses: Vec<String>,
    pub connections: Vec<PeerConnection>,
}

/// A connection between two peers, as the first of them publishes it.
#[derive(Clone, Debug, Serialize)]
pub struct PeerConnection {
    pub direction: Direction,
    pub address: String,
    pub peer: PeerLabel,
    /// Whether both ends publish it.
    pub established: bool,
}

/// The data path to one peer.
#[derive(Clone, Debug, Serialize)]
pub struct Path {
    pub peer: PeerLabel,
    pub key: String,
    pub carrier: Carrier,
    pub encrypted: bool,
    pub mtu: u32,
    /// What was found out about sizes, and what happens to longer packets.
    pub mtu_reason: String,
    pub sends: Sends,
    /// When this carrier was chosen, in seconds since 1970.
    pub since: u64,
    pub reason: String,
    /// What would change it.
    pub outlook: String,
    /// Where sleeve datagrams go.
    pub remote: Option<String>,
    pub relay: Option<PeerLabel>,
    pub session_age_seconds: Option<u64>,
}

/// How sleeve's datagrams leave.
#[derive(Clone, Debug, Serialize)]
pub struct Sends {
    /// Many in one call that kernel or device cuts, else one by one.
    pub segmented: bool,
    /// Segmented sends were in use, or tried, and did harm.
    pub fallen_back: bool,
    /// Seconds since 1970.
    pub since: u64,
    pub reason: String,
}

impl fmt::Display for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.segmented { "segmented" } else { "plain" };
        write!(f, "{kind} sends since {}: {}", time::rfc3339(self.since), self.reason)
    }
}

/// A station on the overlay.
#[derive(Clone, Debug, Serialize)]
pub struct Endpoint {
    pub mac: String,
    pub addresses: Vec<String>,
    pub container: String,
    pub peer: PeerLabel,
    pub state: EndpointState,
}

/// How names are served, and which there are.
#[derive(Clone, Debug, Serialize)]
pub struct Dns {
    pub domain: String,
    /// The servers that are asked for everything else.
    pub upstream: Vec<String>,
    /// Where containers are to ask.
    pub address: String,
    pub listening: Vec<String>,
    /// Seconds.
    pub ttl: u32,
    /// Sorted by name, origin, container, address.
    pub entries: Vec<DnsEntry>,
}

/// One address of a name.
#[derive(Clone, Debug, Serialize)]
pub struct DnsEntry {
    pub hostname: String,
    pub address: String,
    /// Empty for a name that belongs to none.
    pub container_id: String,
    pub origin: PeerLabel,
}

/// What is known of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    Local,
    Remote,
    /// Its host is unreachable; its entries are kept for a while.
    Held,
    /// Another owner claims its MAC or address and won.
    Conflicting,
}

impl EndpointState {
    pub const ALL: [Self; 4] = [Self::Local, Self::Remote, Self::Held, Self::Conflicting];
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Held => "held",
            Self::Conflicting => "conflicting",
        })
    }
}
