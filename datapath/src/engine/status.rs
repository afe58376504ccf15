//! What the engine tells the rest of the daemon: events as they happen, and the state of every path on request.

use std::time::Duration;

use weave_mesh::identity::PeerKey;
use weave_mesh::name::PeerName;
use weave_mesh::time::Instant;

use crate::batch::SendMode;
use crate::overlay::Reason;
use crate::sleeve::canary;
use crate::sleeve::path_mtu;
use crate::sleeve::route::Via;
use crate::sleeve::seal::Cipher;
use crate::tables::Carrier;

/// Something that control or the log must hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Program the kernel accordingly. Promotion: kernel, then tables; demotion: tables, then kernel.
    CarrierChanged {
        peer: PeerKey,
        carrier: Carrier,
        reason: Reason,
    },
    /// A session works, or works by another way than before. `Via::Direct` counts as a direct session, and its address
    /// as learnt from a live one.
    SessionUp {
        peer: PeerKey,
        via: Via,
    },
    SessionDown {
        peer: PeerKey,
    },
    /// Datagrams to the peer leave in another way than before. Nothing is to be done.
    SendsChanged {
        peer: PeerKey,
        mode: SendMode,
        reason: canary::Reason,
    },
    /// Store this number; after a restart it is [`Config::timestamp_floor`](crate::engine::Config::timestamp_floor).
    ReserveTimestamp(u64),
    Warning(Warning),
}

/// Unusual, still working, worth a human.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("handshake with {peer} failed: it uses another password; give both hosts a common one")]
    WrongPassword { peer: PeerKey },
    #[error("handshake with {peer} failed: it belongs to another mesh; start both with the same --mesh")]
    OtherMesh { peer: PeerKey },
    #[error("handshake with {peer} failed: the two have no cipher in common")]
    NoCommonCipher { peer: PeerKey },
    #[error("this host's clock jumped or the process was stopped for {stopped:?}: verdicts on paths start afresh")]
    ClockJumped { stopped: Duration },
}

/// One line of `status paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStatus {
    pub peer: PeerKey,
    pub name: PeerName,
    /// What the engine chose; the kernel follows.
    pub carrier: Carrier,
    /// When `carrier` last changed or was adopted.
    pub since: Instant,
    /// Why, in the operator's words.
    pub reason: Reason,
    /// The longest IP packet that fits, octets.
    pub mtu: u16,
    /// What is known of the sizes that sleeve may send.
    pub sizes: path_mtu::Status,
    /// How datagrams to it leave, since when, and why.
    pub sends: canary::Status,
    pub session: Option<SessionStatus>,
    pub counters: PathCounters,
}

/// The sleeve session of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    pub cipher: Cipher,
    pub age: Duration,
    /// The way its packets take, if any works.
    pub via: Option<Via>,
    /// Time between the last answered probe and its answer.
    pub round_trip: Option<Duration>,
}

/// What sleeve carried for one peer since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathCounters {
    pub frames_out: u64,
    pub bytes_out: u64,
    pub frames_in: u64,
    pub bytes_in: u64,
    /// Packets passed on for others, counted at the peer that handed them to us.
    pub relayed: u64,
    pub handshakes: u64,
    /// Segmented sends that the kernel refused; their datagrams went one by one.
    pub sends_refused: u64,
}
