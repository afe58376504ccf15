//! Kernel state as it is, reduced to what a plan may change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::{LinkName, PortFlags};

/// Kernel state around one bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The bridge, its two overlay ports, and every device that is plugged into the bridge or named in the plan.
    pub links: BTreeMap<LinkName, ObservedLink>,
    /// By station; a station has one entry.
    pub bridge_fdb: BTreeMap<MacAddr, BridgeFdbEntry>,
    pub vxlan_fdb: BTreeMap<MacAddr, SocketAddr>,
    pub flood: BTreeSet<SocketAddr>,
    /// Of the bridge device, without those that are valid on the link only.
    pub addresses: BTreeSet<Subnet>,
    /// Of the bridge device.
    pub neighbours: BTreeMap<IpAddr, NeighbourEntry>,
    /// How much there is of what serves the resolver's address.
    pub resolver: Serving,
    /// `None` when there are no tables of ours, or not as we left them.
    pub guard: Option<InstalledGuard>,
}

/// What our tables still are the result of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledGuard {
    /// What all devices have in common, as in [`Guard`](crate::guard::Guard).
    pub common: String,
    pub devices: BTreeMap<LinkName, GuardedDevice>,
}

/// A device that has its chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedDevice {
    /// The index that it had: another device of its name has to be guarded anew.
    pub index: u32,
    pub chains: String,
}

/// How much there is of an address on the bridge, and a reverse-path filter that lets questions to it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serving {
    #[default]
    Absent,
    Partly,
    Whole,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedLink {
    pub index: u32,
    pub kind: LinkKind,
    pub mac: MacAddr,
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Its flags as a port of our bridge; `None` when it is not plugged into it.
    pub port: Option<PortFlags>,
}

/// What a device is, as far as a plan cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    Bridge {
        snooping: bool,
        ipv6_tuned: bool,
    },
    /// `df_set` and not `learning` are how we make it. `local` is `None` when neither the kernel nor the device's alias
    /// tells it: it is not ours.
    Vxlan {
        vni: u32,
        port: u16,
        local: Option<IpAddr>,
        df_set: bool,
        learning: bool,
    },
    Tap,
    Veth,
    Foreign,
}

/// Where the bridge has a station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeFdbEntry {
    pub port: LinkName,
    pub keep: Keep,
}

/// Why the bridge has a station where it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The device's own address; never ours to change.
    Own,
    /// Put there by hand or by us, and moved by nobody.
    Sticky,
    /// Put there, but moved by the next frame with this source.
    Static,
    /// Learnt from a frame.
    Learnt,
}

/// What the bridge device knows about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourEntry {
    pub mac: MacAddr,
    /// Ours are permanent; the kernel's own come and go.
    pub permanent: bool,
}
