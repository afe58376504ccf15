//! Kernel state, dumped and reduced to what a plan may change.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, VxlanDf,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use weave_mesh::name::MacAddr;

use super::netlink::address::subnet_of;
use super::netlink::link::vxlan_alias;
use super::netlink::resolver::is_resolver;
use super::netlink::{Netlink, NetlinkError};
use super::sysctl;
use crate::plan::{
    BridgeFdbEntry, BridgeNames, HOST_LINK_PREFIX, Keep, LinkKind, LinkName, NeighbourEntry, Observed, ObservedLink,
    PortFlags, Serving,
};

/// Ticks per second in which the kernel counts ages towards user space (`USER_HZ`), the same on all machines.
const TICKS_PER_SECOND: u32 = 100;

/// The state around the bridge of `names`. What only the keeper knows (the guard's script) is empty.
///
/// # Errors
/// When the kernel refuses a dump.
pub fn observe(netlink: &mut Netlink, names: &BridgeNames) -> Result<Observed, NetlinkError> {
    let mut observed = Observed { links: links(netlink, names)?, ..Observed::default() };
    let Some(bridge) = observed.links.get(&names.bridge).map(|link| link.index) else {
        return Ok(observed);
    };
    let vxlan = observed.links.get(&names.vxlan).map(|link| link.index);
    let vxlan_port = observed.links.get(&names.vxlan).map_or(0, |link| match link.kind {
        LinkKind::Vxlan { port, .. } => port,
        _ => 0,
    });
    let link_of: BTreeMap<u32, &LinkName> = observed.links.iter().map(|(name, link)| (link.index, name)).collect();
    for message in netlink.fdb(None)? {
        let station = Station::read(&message);
        if vxlan == Some(station.link) && station.flags.contains(NeighbourFlags::Own) {
            let port = station.remote_port.unwrap_or(vxlan_port);
            match (station.mac, station.remote.map(|remote| SocketAddr::new(remote, port))) {
                (Some(MacAddr::ZERO), Some(remote)) => drop(observed.flood.insert(remote)),
                (Some(mac), Some(remote)) => drop(observed.vxlan_fdb.insert(mac, remote)),
                _ => {}
            }
        } else if station.controller == Some(bridge)
            && let (Some(mac), Some(&port)) = (station.mac, link_of.get(&station.link))
        {
            observed.bridge_fdb.insert(mac, BridgeFdbEntry { port: port.clone(), keep: station.keep() });
        }
    }
    let addresses = netlink.addresses()?;
    observed.addresses =
        addresses.iter().filter(|message| message.header.index == bridge).filter_map(subnet_of).collect();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let messages = netlink.neighbours(family, bridge)?;
        observed
            .neighbours
            .extend(messages.iter().filter(|message| message.header.ifindex == bridge).filter_map(neighbour));
    }
    if addresses.iter().any(|message| is_resolver(message, bridge)) {
        let is_heard = sysctl::lets_strangers_in(names.bridge.as_str());
        observed.resolver = if is_heard { Serving::Whole } else { Serving::Partly };
    }
    Ok(observed)
}

/// How long ago the VXLAN entry of each station was last used.
///
/// # Errors
/// When the kernel refuses the dump.
pub fn used_ages(netlink: &mut Netlink, vxlan: &LinkName) -> Result<BTreeMap<MacAddr, Duration>, NetlinkError> {
    let Some(index) = netlink.link_index(vxlan.as_str())? else {
        return Ok(BTreeMap::new());
    };
    let stations = netlink.fdb(Some(index))?;
    // The device's own addresses are listed too; they have no remote.
    let remote = stations.iter().map(Station::read).filter(|station| station.link == index && station.remote.is_some());
    Ok(remote.filter_map(|station| station.mac.zip(station.used)).filter(|(mac, _)| *mac != MacAddr::ZERO).collect())
}

/// The devices that concern the bridge of `names`.
fn links(netlink: &mut Netlink, names: &BridgeNames) -> Result<BTreeMap<LinkName, ObservedLink>, NetlinkError> {
    let messages = netlink.links()?;
    let named: Vec<(LinkName, &LinkMessage)> =
        messages.iter().filter_map(|message| Some((link_name(message)?, message))).collect();
    let bridge = named.iter().find(|(name, _)| *name == names.bridge).map(|(_, message)| message.header.index);
    let ours = [&names.bridge, &names.vxlan, &names.tap];
    Ok(named
        .into_iter()
        .map(|(name, message)| (link(&name, message, bridge), name))
        .filter(|(link, name)| {
            link.port.is_some() || ours.contains(&name) || name.as_str().starts_with(HOST_LINK_PREFIX)
        })
        .map(|(link, name)| (name, link))
        .collect())
}

pub(super) fn link_name(message: &LinkMessage) -> Option<LinkName> {
    let text = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })?;
    text.parse().ok()
}

fn link(name: &LinkName, message: &LinkMessage, bridge: Option<u32>) -> ObservedLink {
    let mut link = ObservedLink {
        index: message.header.index,
        kind: LinkKind::Foreign,
        mac: mac_of(message).unwrap_or_default(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        port: None,
    };
    let (mut controller, mut alias) = (None, "");
    let mut infos: &[LinkInfo] = &[];
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => controller = Some(*index),
            LinkAttribute::IfAlias(text) => alias = text,
            LinkAttribute::LinkInfo(list) => infos = list,
            _ => {}
        }
    }
    for info in infos {
        match info {
            LinkInfo::Kind(InfoKind::Veth) => link.kind = LinkKind::Veth,
            LinkInfo::Kind(InfoKind::Tun) => link.kind = LinkKind::Tap,
            LinkInfo::Data(InfoData::Bridge(data)) => link.kind = bridge_kind(name, data),
            LinkInfo::Data(InfoData::Vxlan(data)) => link.kind = vxlan_kind(data, alias),
            LinkInfo::PortData(InfoPortData::BridgePort(data)) if controller.is_some() && controller == bridge => {
                link.port = Some(port_flags(data));
            }
            _ => {}
        }
    }
    link
}

pub(super) fn mac_of(message: &LinkMessage) -> Option<MacAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(octets) => Some(MacAddr(octets.as_slice().try_into().ok()?)),
        _ => None,
    })
}

fn bridge_kind(name: &LinkName, data: &[InfoBridge]) -> LinkKind {
    let snooping = data.iter().any(|info| matches!(info, InfoBridge::MulticastSnooping(true)));
    LinkKind::Bridge { snooping, ipv6_tuned: sysctl::is_ipv6_tuned(name.as_str()) }
}

fn vxlan_kind(data: &[InfoVxlan], alias: &str) -> LinkKind {
    let unspecified = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let local = unspecified.into_iter().find(|local| vxlan_alias(*local) == alias);
    let (mut vni, mut port, mut local, mut df_set, mut learning) = (0, 0, local, false, false);
    for info in data {
        match info {
            InfoVxlan::Id(id) => vni = *id,
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::Local(address) => local = Some(IpAddr::V4(*address)),
            InfoVxlan::Local6(address) => local = Some(IpAddr::V6(*address)),
            InfoVxlan::Df(df) => df_set = *df == VxlanDf::Set,
            InfoVxlan::Learning(on) => learning = *on,
            _ => {}
        }
    }
    LinkKind::Vxlan { vni, port, local, df_set, learning }
}

fn port_flags(data: &[InfoBridgePort]) -> PortFlags {
    let mut flags = PortFlags {
        isolated: false,
        locked: false,
        learning: false,
        unicast_flood: false,
        multicast_flood: false,
        broadcast_flood: false,
        neighbour_suppression: false,
    };
    for info in data {
        match info {
            InfoBridgePort::Isolated(on) => flags.isolated = *on,
            InfoBridgePort::Locked(on) => flags.locked = *on,
            InfoBridgePort::Learning(on) => flags.learning = *on,
            InfoBridgePort::UnicastFlood(on) => flags.unicast_flood = *on,
            InfoBridgePort::MulticastFlood(on) => flags.multicast_flood = *on,
            InfoBridgePort::BroadcastFlood(on) => flags.broadcast_flood = *on,
            InfoBridgePort::NeighSupress(on) => flags.neighbour_suppression = *on,
            _ => {}
        }
    }
    flags
}

fn neighbour(message: &NeighbourMessage) -> Option<(IpAddr, NeighbourEntry)> {
    let station = Station::read(message);
    let permanent = station.state == NeighbourState::Permanent;
    Some((station.remote?, NeighbourEntry { mac: station.mac?, permanent }))
}

/// A neighbour message, taken apart.
pub(super) struct Station {
    pub(super) link: u32,
    pub(super) state: NeighbourState,
    pub(super) flags: NeighbourFlags,
    pub(super) mac: Option<MacAddr>,
    /// The IP address: of a neighbour, or behind a VXLAN entry.
    pub(super) remote: Option<IpAddr>,
    /// The UDP port behind a VXLAN entry, when it is not the device's own.
    remote_port: Option<u16>,
    /// The bridge that has the entry.
    pub(super) controller: Option<u32>,
    used: Option<Duration>,
}

impl Station {
    pub(super) fn read(message: &NeighbourMessage) -> Self {
        let header = &message.header;
        let mut station = Self {
            link: header.ifindex,
            state: header.state,
            flags: header.flags,
            mac: None,
            remote: None,
            remote_port: None,
            controller: None,
            used: None,
        };
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(octets) => {
                    station.mac = octets.as_slice().try_into().ok().map(MacAddr);
                }
                NeighbourAttribute::Destination(address) => station.remote = ip_address(address),
                NeighbourAttribute::Port(port) => station.remote_port = Some(*port),
                NeighbourAttribute::Controller(index) => station.controller = Some(*index),
                NeighbourAttribute::CacheInfo(info) => {
                    station.used = Some(Duration::from_secs(1) * info.used / TICKS_PER_SECOND);
                }
                _ => {}
            }
        }
        station
    }

    pub(super) fn keep(&self) -> Keep {
        match self.state {
            NeighbourState::Permanent => Keep::Own,
            NeighbourState::Noarp if self.flags.contains(NeighbourFlags::Sticky) => Keep::Sticky,
            NeighbourState::Noarp => Keep::Static,
            _ => Keep::Learnt,
        }
    }
}

/// The parser knows the family of a neighbour's address, but not of a VXLAN entry's.
fn ip_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some(IpAddr::V4(*address)),
        NeighbourAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        NeighbourAddress::Other(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(octets.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(octets.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}
