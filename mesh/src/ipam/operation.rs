//! What callers ask of IPAM, what they are told, and what they wait for.

use std::net::Ipv4Addr;

use super::Cidr;
use crate::identity::PeerKey;

/// How many operations wait at most; each is a caller that is still there.
pub const OPERATIONS_MAX: usize = 4_096;

/// Names an operation; chosen by the caller, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// How an explicit address is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimMode {
    /// The address is ours first: its owner is asked for it if need be.
    Ask,
    /// A container has it already, whoever owns it: it is recorded, and its owner told.
    Found,
}

/// What an operation led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The container has this address, in the subnet that was asked for.
    Allocated(Cidr),
    Claimed,
    /// The ring exists.
    Ready,
    /// The dead peer owned so many addresses, and owns none any more.
    TakenOver {
        addresses: u64,
    },
    /// What we owned and could give was given; with nobody there, to nobody.
    HandedOver {
        to: Option<PeerKey>,
    },
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no addresses are managed here: the peer was launched with an empty --ipalloc-range")]
    Off,
    #[error("{0} is no subnet: bits behind its prefix are set")]
    HostBits(Cidr),
    #[error("subnet {0} has fewer than 4 addresses")]
    TooSmall(Cidr),
    #[error("subnet {subnet} is outside the range {range} of this mesh; see --ipalloc-range")]
    OutsideRange { subnet: Cidr, range: Cidr },
    #[error("address {address} is already owned by {container}")]
    Held { address: Ipv4Addr, container: String },
    #[error("address {address} is owned by other peer {peer}, where a container has it")]
    HeldElsewhere { address: Ipv4Addr, peer: PeerKey },
    #[error("{container} does not have address {address}")]
    NotHeld { container: String, address: Ipv4Addr },
    #[error("{container} has no address")]
    HoldsNone { container: String },
    #[error("{container} has as many addresses as one container may have")]
    TooManyAddresses { container: String },
    #[error("{OPERATIONS_MAX} operations wait already; try again")]
    TooMany,
    #[error("{container} gave up its addresses while it waited for one")]
    Released { container: String },
    #[error("peer {peer} is reachable from {from}, so it is not dead; stop it first, or run `weave-rs reset` there")]
    Reachable { peer: PeerKey, from: PeerKey },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Allocate { container: String, subnet: Cidr },
    Claim { container: String, address: Cidr, mode: ClaimMode },
    AwaitRing,
    TakeOver { peer: PeerKey, addresses: u64 },
    HandOver,
}

impl Operation {
    pub(super) const fn claimed(&self) -> Option<Cidr> {
        match self {
            Self::Claim { address, .. } => Some(*address),
            Self::Allocate { .. } | Self::AwaitRing | Self::TakeOver { .. } | Self::HandOver => None,
        }
    }

    pub(super) fn container(&self) -> Option<&str> {
        match self {
            Self::Allocate { container, .. } | Self::Claim { container, .. } => Some(container),
            Self::AwaitRing | Self::TakeOver { .. } | Self::HandOver => None,
        }
    }
}

/// What an operation waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The containers found running are not all known yet.
    Containers,
    /// There is no ring, and so many of so many peers needed to agree on one are reachable. `unmet` are of those that the
    /// operator gave or the cloud lists, and nobody answers there; `oldest` is the machine that has to be among them, when it
    /// is not there.
    Quorum { have: usize, need: usize, oldest: Option<String>, unmet: Vec<String> },
    /// There is no ring, and the cloud has not said twice alike which machines there are.
    Listing,
    /// There is no ring, nobody said how many agree on one, and all peers that the operator gave take no part in it.
    Electors,
    /// There is no ring, and we do not take part in making one.
    Ring,
    /// We were away, and have not heard yet whether what we owned is still ours.
    Comparison,
    /// Nobody reachable has an address to give; asked again from time to time.
    Space,
    /// A peer was asked for addresses.
    Peer(PeerKey),
    /// The owner of the address is not reachable.
    Unreachable(PeerKey),
    /// The peer was reached lately: it is called dead, and nobody believes it yet.
    Hold(PeerKey),
    /// These were asked to consent that a dead peer's addresses are taken over, and have not answered.
    Consent { heir: PeerKey, missing: Vec<PeerKey> },
}

/// Either the end of an operation, or what it waits for.
pub(super) type Attempt = Result<Result<Answer, Error>, Wait>;
