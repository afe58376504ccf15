//! Devices: making, changing, plugging and removing them.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, InfoVxlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage, VxlanDf,
};
use rustix::io::Errno;
use weave_mesh::name::MacAddr;

use super::{Netlink, NetlinkError, unless};
use crate::plan::{LinkName, PortFlags, VxlanPlan};

/// The far end of a veth pair, made straight inside its namespace: it is never seen in ours, where udev or a network
/// manager would take hold of it.
#[derive(Debug)]
pub(in crate::linux) struct VethPeer<'a, N> {
    pub(in crate::linux) netns: &'a N,
    pub(in crate::linux) name: &'a str,
    pub(in crate::linux) mac: Option<MacAddr>,
}

impl Netlink {
    /// All devices of the namespace.
    pub(in crate::linux) fn links(&mut self) -> Result<Vec<LinkMessage>, NetlinkError> {
        let replies = self.dump("list devices", &RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| if let RouteNetlinkMessage::NewLink(link) = reply { Some(link) } else { None })
            .collect())
    }

    /// The index of the device `name`, if there is one.
    pub(in crate::linux) fn link_index(&mut self, name: &str) -> Result<Option<u32>, NetlinkError> {
        Ok(self.link(name)?.map(|link| link.header.index))
    }

    /// The device `name`, if there is one.
    pub(in crate::linux) fn link(&mut self, name: &str) -> Result<Option<LinkMessage>, NetlinkError> {
        self.ask_for_link(name, named(name, []))
    }

    /// The device that `question` tells by its name or index, if there is one. `name`: for an error.
    pub(super) fn ask_for_link(
        &mut self,
        name: &str,
        question: LinkMessage,
    ) -> Result<Option<LinkMessage>, NetlinkError> {
        match self.exchange(RouteNetlinkMessage::GetLink(question), netlink_packet_core::NLM_F_ACK) {
            Ok(reply) => Ok(reply.messages.into_iter().find_map(|reply| match reply {
                RouteNetlinkMessage::NewLink(link) => Some(link),
                _ => None,
            })),
            Err(cause) if cause.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(None),
            Err(cause) => Err(NetlinkError { doing: "look up device", subject: name.to_owned(), cause }),
        }
    }

    pub(in crate::linux) fn create_bridge(&mut self, name: &LinkName, mac: MacAddr) -> Result<(), NetlinkError> {
        let info = vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ];
        let message = named(name.as_str(), [LinkAttribute::Address(mac.0.to_vec()), LinkAttribute::LinkInfo(info)]);
        self.create("add bridge", name.as_str(), message)
    }

    pub(in crate::linux) fn create_vxlan(
        &mut self,
        name: &LinkName,
        vxlan: &VxlanPlan,
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        // The family of the local address is the family of the underlay, also when it is unspecified.
        let local = match vxlan.local {
            IpAddr::V4(address) => InfoVxlan::Local(address),
            IpAddr::V6(address) => InfoVxlan::Local6(address),
        };
        let info = vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(vec![
                InfoVxlan::Id(vxlan.vni),
                local,
                InfoVxlan::Port(vxlan.port),
                InfoVxlan::Learning(false),
                InfoVxlan::Df(VxlanDf::Set),
            ])),
        ];
        let message = named(name.as_str(), [LinkAttribute::Mtu(mtu), LinkAttribute::LinkInfo(info)]);
        self.create("add VXLAN device", name.as_str(), message)?;
        // The kernel takes it for a device that exists, not with the request that makes one.
        self.change("set the alias of", name.as_str(), [LinkAttribute::IfAlias(vxlan_alias(vxlan.local).to_owned())])
    }

    /// Makes a pair of which this end stays here, down and without a bridge.
    pub(in crate::linux) fn create_veth<N: AsFd>(
        &mut self,
        host: &LinkName,
        mtu: u32,
        peer: &VethPeer<'_, N>,
    ) -> Result<(), NetlinkError> {
        let mut inside =
            named(peer.name, [LinkAttribute::Mtu(mtu), LinkAttribute::NetNsFd(peer.netns.as_fd().as_raw_fd())]);
        inside.attributes.extend(peer.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        let info = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inside)))];
        let message = named(host.as_str(), [LinkAttribute::Mtu(mtu), LinkAttribute::LinkInfo(info)]);
        self.create("add veth pair", host.as_str(), message)
    }

    fn create(&mut self, doing: &'static str, name: &str, message: LinkMessage) -> Result<(), NetlinkError> {
        self.request(doing, format_args!("`{name}`"), RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Removes a device; one that is not there is no error.
    pub(in crate::linux) fn delete_link(&mut self, name: &str) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelLink(named(name, []));
        unless(Errno::NODEV, self.request("remove device", format_args!("`{name}`"), message, 0))
    }

    pub(in crate::linux) fn set_mac(&mut self, name: &str, mac: MacAddr) -> Result<(), NetlinkError> {
        self.change("set the MAC of", name, [LinkAttribute::Address(mac.0.to_vec())])
    }

    pub(in crate::linux) fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        self.change("set the MTU of", name, [LinkAttribute::Mtu(mtu)])
    }

    pub(in crate::linux) fn disable_snooping(&mut self, bridge: &str) -> Result<(), NetlinkError> {
        let info = vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ];
        self.change("disable multicast snooping of", bridge, [LinkAttribute::LinkInfo(info)])
    }

    /// Makes `name` a port of the bridge with this index.
    pub(in crate::linux) fn plug(&mut self, name: &str, bridge_index: u32) -> Result<(), NetlinkError> {
        self.change("plug into the bridge", name, [LinkAttribute::Controller(bridge_index)])
    }

    /// Writes whose port this is where it stays readable when the bridge is gone.
    pub(in crate::linux) fn mark_owner(&mut self, name: &str, bridge: &LinkName) -> Result<(), NetlinkError> {
        self.change("mark", name, [LinkAttribute::IfAlias(owner_mark(bridge))])
    }

    pub(in crate::linux) fn set_port_flags(&mut self, name: &str, flags: PortFlags) -> Result<(), NetlinkError> {
        let data = vec![
            InfoBridgePort::Isolated(flags.isolated),
            InfoBridgePort::Locked(flags.locked),
            InfoBridgePort::Learning(flags.learning),
            InfoBridgePort::UnicastFlood(flags.unicast_flood),
            InfoBridgePort::MulticastFlood(flags.multicast_flood),
            InfoBridgePort::BroadcastFlood(flags.broadcast_flood),
            InfoBridgePort::NeighSupress(flags.neighbour_suppression),
        ];
        let info = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(InfoPortData::BridgePort(data))];
        self.change("set the port flags of", name, [LinkAttribute::LinkInfo(info)])
    }

    pub(in crate::linux) fn bring_up(&mut self, name: &str) -> Result<(), NetlinkError> {
        let mut message = named(name, []);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request("bring up", format_args!("`{name}`"), RouteNetlinkMessage::NewLink(message), 0)
    }

    fn change<const N: usize>(
        &mut self,
        doing: &'static str,
        name: &str,
        attributes: [LinkAttribute; N],
    ) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewLink(named(name, attributes));
        self.request(doing, format_args!("`{name}`"), message, 0)
    }
}

/// How a VXLAN device tells the family of its underlay: what it has as local address is not shown while unspecified.
pub(in crate::linux) const fn vxlan_alias(local: IpAddr) -> &'static str {
    match local {
        IpAddr::V4(_) => "weave-rs fast path over IPv4",
        IpAddr::V6(_) => "weave-rs fast path over IPv6",
    }
}

/// The alias of a port of `bridge`.
pub(in crate::linux) fn owner_mark(bridge: &LinkName) -> String {
    format!("weave-rs {bridge}")
}

fn named<const N: usize>(name: &str, attributes: [LinkAttribute; N]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(attributes);
    message
}
