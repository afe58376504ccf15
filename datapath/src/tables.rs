//! What control knows and the packet thread needs: one immutable snapshot, replaced as a whole.
//!
//! ```text
//!   mesh view + attachments + carriers ── fabric ──► Arc<Tables> ── channel ──► Engine::set_tables
//! ```
//!
//! Invariants:
//! - a snapshot is never changed after it was published; nobody waits for anybody;
//! - promotion of a peer programs the kernel first and says so in [`PeerEntry::applied`] afterwards; demotion says so
//!   here first and programs the kernel afterwards. So a broadcast may arrive twice for an instant, never not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weave_mesh::card::SignedCard;
use weave_mesh::identity::{Knock, NoiseKey, PeerKey};
use weave_mesh::name::{MacAddr, PeerName};

/// A snapshot of the overlay as this host sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    pub local: Local,
    /// Everybody else that is a member, reachable or held.
    pub peers: BTreeMap<PeerKey, PeerEntry>,
    /// Who owns a remote Ethernet address: endpoints' and bridges'.
    pub macs: BTreeMap<MacAddr, PeerKey>,
}

/// This host.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    pub key: PeerKey,
    /// Goes into every handshake; its incarnation is newer after every start.
    pub card: SignedCard,
    pub bridge_mac: MacAddr,
    /// Addresses that are ours alone: a frame from another host that claims one is dropped.
    pub macs: BTreeSet<MacAddr>,
    /// Its underlay addresses, as far as it lists them.
    pub addresses: Vec<IpAddr>,
}

/// Another host.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerEntry {
    pub name: PeerName,
    pub noise_key: NoiseKey,
    pub knock: Knock,
    /// Of the newest card seen; a handshake with an older one is a replay.
    pub incarnation: u64,
    /// Where its UDP port may be reached, best first: its card's, then those persisted from earlier sessions.
    pub addresses: Vec<SocketAddr>,
    /// Where heartbeats of the fast path are sent.
    pub bridge_mac: MacAddr,
    /// Next hops that have a direct session with us and a chain of such edges to the peer, best first.
    pub relays: Vec<PeerKey>,
    pub standing: Standing,
    /// What the kernel is programmed to; decides who gets a copy of a broadcast from us.
    pub applied: Carrier,
    pub fast: FastPath,
}

/// How near a peer is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// We hold a TCP connection: it gets a session and probes at once.
    Neighbour,
    /// Reachable by a chain of edges: it gets a session at first traffic.
    Member,
    /// Unreachable, its entries are held: sessions are tried at first traffic, broadcasts are not copied to it.
    Held,
}

/// What carries frames to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// Ethernet in UDP, sealed in user space.
    Sleeve,
    /// Kernel VXLAN.
    Fast,
}

impl std::fmt::Display for Carrier {
    /// The words of `status connections`, which are the original's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Sleeve => "sleeve",
            Self::Fast => "fastdp",
        })
    }
}

/// Whether the kernel may carry frames to a peer at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// To where the peer hears VXLAN.
    Allowed(SocketAddr),
    Forbidden(Why),
}

impl FastPath {
    /// Where VXLAN frames for the peer go, if any may.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Allowed(to) => Some(*to),
            Self::Forbidden(_) => None,
        }
    }
}

/// Why the fast path to a peer is not even tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("switched off here by --no-fastdp")]
    SwitchedOff,
    #[error("a password is set and VXLAN is not sealed; --trusted-subnets at both ends allows it")]
    NotTrusted,
    #[error("the peer has no underlay address of our family that VXLAN could be sent to")]
    NoAddress,
    #[error("the kernel has no usable VXLAN device")]
    NoDevice,
}
