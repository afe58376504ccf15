//! The kernel state that one host of the mesh wants, as plain values, and the way there.
//!
//! ```text
//!   Plan ────────────┐                             ┌─► Step, Step, Step … ── linux/apply.rs ──► kernel
//!                    ├─► diff(&Observed, &Plan) ───┤                                              │
//!   Observed ────────┘                             └─► Conflict                                   │
//!      ▲                                                                                          │
//!      └───────────────────────────── linux/observe.rs (dump) ◄───────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - a plan is the whole truth: what it does not name is removed from *our* devices, and nothing else is touched;
//! - `diff` of a plan and the state that its steps produce is empty;
//! - steps add before they remove: no frame finds neither the old entry nor the new one;
//! - a device that the guard guards is neither plugged nor up before its guard is there.

mod diff;
mod exposed;
mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod link_name;
mod newcomers;
mod observed;
mod obstacles;
mod step;

pub use diff::{Conflict, diff};
pub use exposed::{Accept, Crossing, IpVersion, Metadata, Opening};
pub use filter::{Action, Change, Filter};
pub use link_name::{BridgeNames, FAR_LINK_PREFIX, HOST_LINK_PREFIX, InvalidLinkName, LinkName};
pub use newcomers::{Newcomer, newcomers};
pub use observed::{
    BridgeFdbEntry, GuardedDevice, InstalledGuard, Keep, LinkKind, NeighbourEntry, Observed, ObservedLink, Serving,
};
pub use obstacles::{ForwardChain, Route};
pub use step::Step;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use crate::guard;

/// Desired kernel state of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The bridge, and its two overlay ports. The TAP is made by the packet thread; the plan only plugs it.
    pub names: BridgeNames,
    pub bridge: BridgePlan,
    /// The fast path; absent with `--no-fastdp`, or when a password is set and no subnet is trusted.
    pub vxlan: Option<VxlanPlan>,
    /// Attached containers, by the name of their host-side device. Any other port of the bridge except the two overlay
    /// ports is plugged by hand: it learns, and what it learns is reported.
    pub ports: BTreeMap<LinkName, PortPlan>,
    /// Where frames for a remote station leave: one entry per remote endpoint and per peer's bridge.
    pub bridge_fdb: BTreeMap<MacAddr, OverlayPort>,
    /// Where the peer behind a remote station hears VXLAN. Kept while the peer is on sleeve, else its fast path could not
    /// be probed.
    pub vxlan_fdb: BTreeMap<MacAddr, SocketAddr>,
    /// Peers that get broadcast and multicast frames over the fast path.
    pub flood: BTreeSet<SocketAddr>,
    /// Addresses of all endpoints, local ones included: queries for them are answered on this host.
    pub neighbours: BTreeMap<IpAddr, MacAddr>,
    /// The networks between which and the rest of the world this host forwards, by their first address.
    pub exposed: BTreeMap<Subnet, Opening>,
    /// From where containers get their addresses, if this host gives any: the overlay's, exposed or not.
    pub range: Option<Subnet>,
    /// Where containers find the resolver of their host; on the bridge, and unknown to the rest of the overlay.
    pub resolver: Resolver,
    /// What is let through beyond the addresses of [`ports`](Self::ports).
    pub guard: guard::Rules,
}

/// The bridge that containers are attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgePlan {
    /// The peer's name; heartbeats of the fast path are sent to it.
    pub mac: MacAddr,
    /// Of the bridge and of both overlay ports.
    pub mtu: u32,
    /// The host's own addresses on the overlay; link-local ones are the kernel's.
    pub addresses: BTreeSet<Subnet>,
}

/// The VXLAN device that carries the fast path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanPlan {
    /// From the mesh id: a host that inherits another mesh's address does not hear it.
    pub vni: u32,
    /// The UDP port at which this host hears VXLAN. Other peers may hear it at others.
    pub port: u16,
    /// The underlay source address. An unspecified one lets the kernel choose, and its family is the family of the
    /// underlay: a VXLAN device speaks one of the two, and is made anew for the other.
    pub local: IpAddr,
}

/// Where containers find the resolver of their host: the same on every host, and never on the wire between two.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 65, 53);

/// Whether names are served at [`RESOLVER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolver {
    Served,
    Absent,
}

/// One attached container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// The container's own MAC, the only source that its port accepts.
    pub mac: MacAddr,
    /// The addresses it may use as source, with their subnets. Its IPv6 link-local address (from the MAC) is added by
    /// the guard.
    pub addresses: BTreeSet<Subnet>,
}

/// By which overlay port frames for a station leave the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OverlayPort {
    /// The kernel's fast path.
    Vxlan,
    /// Sleeve: the packet thread.
    Tap,
}

/// The switches of a bridge port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFlags {
    /// Frames do not pass between two isolated ports: what came over one carrier never leaves over the other.
    pub isolated: bool,
    /// Frames are dropped unless the FDB has their source at this port.
    pub locked: bool,
    pub learning: bool,
    /// Unknown unicast leaves by this port.
    pub unicast_flood: bool,
    pub multicast_flood: bool,
    pub broadcast_flood: bool,
    /// ARP and ND for known neighbours are answered instead of sent out of this port.
    pub neighbour_suppression: bool,
}

impl PortFlags {
    pub const OVERLAY: Self = Self {
        isolated: true,
        locked: false,
        learning: false,
        unicast_flood: false,
        multicast_flood: true,
        broadcast_flood: true,
        neighbour_suppression: true,
    };

    pub const ATTACHED: Self = Self { isolated: false, locked: true, neighbour_suppression: false, ..Self::OVERLAY };
}

impl Plan {
    /// The device of an overlay port.
    pub fn overlay_link(&self, port: OverlayPort) -> &LinkName {
        match port {
            OverlayPort::Vxlan => &self.names.vxlan,
            OverlayPort::Tap => &self.names.tap,
        }
    }
}
