//! One change of kernel state.

use std::net::{IpAddr, SocketAddr};

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::{LinkName, PortFlags, VxlanPlan};
use crate::guard::{self, Guard};

/// A change that [`diff`](super::diff) asks for. Every step may be repeated: the second time changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Replace our nftables tables by these, in one transaction.
    InstallGuard(Guard),
    /// Give a device these chains, and leave what others have alone.
    GuardDevice {
        bridge: LinkName,
        device: LinkName,
        chains: String,
    },
    /// Take the chains of a device away.
    UnguardDevice {
        bridge: LinkName,
        device: LinkName,
    },
    CreateBridge {
        name: LinkName,
        mac: MacAddr,
    },
    CreateVxlan {
        name: LinkName,
        vxlan: VxlanPlan,
        mtu: u32,
    },
    DeleteLink {
        link: LinkName,
    },
    SetMac {
        link: LinkName,
        mac: MacAddr,
    },
    SetMtu {
        link: LinkName,
        mtu: u32,
    },
    /// Multicast goes to every port; nobody on the overlay is cut off by somebody's query.
    DisableSnooping {
        bridge: LinkName,
    },
    /// IPv6 on, router advertisements ignored: a container cannot give this host an address or a route.
    TuneIpv6 {
        link: LinkName,
    },
    /// Make `link` a port of `bridge`, and of nothing else: the host's own IPv6 keeps off it.
    Plug {
        link: LinkName,
        bridge: LinkName,
    },
    SetPortFlags {
        link: LinkName,
        flags: PortFlags,
    },
    BringUp {
        link: LinkName,
    },
    /// The kernel adds the route to the address's network by itself.
    AddAddress {
        link: LinkName,
        subnet: Subnet,
    },
    RemoveAddress {
        link: LinkName,
        subnet: Subnet,
    },
    /// A sticky static entry: frames for `mac` leave by `port`, and no forged source moves it.
    SetBridgeFdb {
        mac: MacAddr,
        port: LinkName,
    },
    RemoveBridgeFdb {
        mac: MacAddr,
        port: LinkName,
    },
    SetVxlanFdb {
        link: LinkName,
        mac: MacAddr,
        remote: SocketAddr,
    },
    RemoveVxlanFdb {
        link: LinkName,
        mac: MacAddr,
        remote: SocketAddr,
    },
    AddFlood {
        link: LinkName,
        remote: SocketAddr,
    },
    RemoveFlood {
        link: LinkName,
        remote: SocketAddr,
    },
    SetNeighbour {
        bridge: LinkName,
        address: IpAddr,
        mac: MacAddr,
    },
    RemoveNeighbour {
        bridge: LinkName,
        address: IpAddr,
    },
    /// The resolver's address on the bridge, and no reverse-path filter that wants a route to whoever asks.
    ServeResolver {
        bridge: LinkName,
    },
    RemoveResolver {
        bridge: LinkName,
    },
    /// Tell the containers of this host which MAC `address` has: gratuitous ARP or unsolicited NA. Its own is swallowed by
    /// the suppression on the overlay ports.
    Announce {
        bridge: LinkName,
        address: IpAddr,
        mac: MacAddr,
    },
}

impl Step {
    /// What a step for the guard of one device is to nft: a script that may be part of a larger one.
    pub fn device_script(&self) -> Option<String> {
        match self {
            Self::GuardDevice { bridge, device, chains } => Some(guard::replacement(bridge, device, chains)),
            Self::UnguardDevice { bridge, device } => Some(guard::withdrawal(bridge, device)),
            _ => None,
        }
    }

    /// The device that this step guards, plugs or opens.
    pub fn opened(&self) -> Option<&LinkName> {
        match self {
            Self::GuardDevice { device, .. } => Some(device),
            Self::Plug { link, .. } | Self::SetPortFlags { link, .. } | Self::BringUp { link } => Some(link),
            Self::SetBridgeFdb { port, .. } => Some(port),
            _ => None,
        }
    }
}
