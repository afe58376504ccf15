//! Forwarding entries of bridge and VXLAN device, and neighbours of the bridge device.
//!
//! All three are "neighbours" to the kernel; flags and family tell them apart.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use weave_mesh::name::MacAddr;

use super::{Netlink, NetlinkError, unless};

impl Netlink {
    /// The forwarding entries of all bridges and VXLAN devices, or of the VXLAN device with this index.
    pub(in crate::linux) fn fdb(&mut self, vxlan_index: Option<u32>) -> Result<Vec<NeighbourMessage>, NetlinkError> {
        self.neighbours(AddressFamily::Bridge, vxlan_index.unwrap_or_default())
    }

    /// The neighbours of all devices, of one address family.
    pub(in crate::linux) fn neighbours(
        &mut self,
        family: AddressFamily,
        index: u32,
    ) -> Result<Vec<NeighbourMessage>, NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader { family, ifindex: index, ..NeighbourHeader::default() };
        let replies = self.dump("list neighbours", &RouteNetlinkMessage::GetNeighbour(message))?;
        Ok(replies
            .into_iter()
            .filter_map(|reply| match reply {
                RouteNetlinkMessage::NewNeighbour(neighbour) => Some(neighbour),
                _ => None,
            })
            .collect())
    }

    /// Puts `mac` at the bridge port with this index, wherever it was, and keeps it there.
    pub(in crate::linux) fn set_bridge_fdb(&mut self, port: u32, mac: MacAddr) -> Result<(), NetlinkError> {
        let flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
        let message = station(port, mac, flags, NeighbourState::Noarp);
        self.request(
            "set the bridge entry of",
            mac,
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// The same, unless the bridge has `mac` somewhere already.
    pub(in crate::linux) fn add_bridge_fdb(&mut self, port: u32, mac: MacAddr) -> Result<(), NetlinkError> {
        let flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
        self.add("add the bridge entry of", mac, station(port, mac, flags, NeighbourState::Noarp))
    }

    pub(in crate::linux) fn remove_bridge_fdb(&mut self, port: u32, mac: MacAddr) -> Result<(), NetlinkError> {
        let message = station(port, mac, NeighbourFlags::Controller, NeighbourState::None);
        self.forget("remove the bridge entry of", mac, message)
    }

    /// Sends frames for `mac` to `remote`, wherever they went.
    pub(in crate::linux) fn set_vxlan_fdb(
        &mut self,
        vxlan: u32,
        mac: MacAddr,
        remote: SocketAddr,
    ) -> Result<(), NetlinkError> {
        let message = remote_station(vxlan, mac, remote);
        self.request(
            "set the VXLAN entry of",
            mac,
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    /// The same, unless they go somewhere already.
    pub(in crate::linux) fn add_vxlan_fdb(
        &mut self,
        vxlan: u32,
        mac: MacAddr,
        remote: SocketAddr,
    ) -> Result<(), NetlinkError> {
        self.add("add the VXLAN entry of", mac, remote_station(vxlan, mac, remote))
    }

    pub(in crate::linux) fn remove_vxlan_fdb(
        &mut self,
        vxlan: u32,
        mac: MacAddr,
        remote: SocketAddr,
    ) -> Result<(), NetlinkError> {
        self.forget("remove the VXLAN entry of", mac, remote_station(vxlan, mac, remote))
    }

    /// Sends a copy of every broadcast and multicast frame to `remote` too.
    pub(in crate::linux) fn add_flood(&mut self, vxlan: u32, remote: SocketAddr) -> Result<(), NetlinkError> {
        let message = remote_station(vxlan, MacAddr::ZERO, remote);
        let result = self.request(
            "add the flood entry of",
            remote,
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_APPEND,
        );
        unless(Errno::EXIST, result)
    }

    pub(in crate::linux) fn remove_flood(&mut self, vxlan: u32, remote: SocketAddr) -> Result<(), NetlinkError> {
        self.forget("remove the flood entry of", remote, remote_station(vxlan, MacAddr::ZERO, remote))
    }

    pub(in crate::linux) fn set_neighbour(
        &mut self,
        link: u32,
        address: IpAddr,
        mac: MacAddr,
    ) -> Result<(), NetlinkError> {
        let mut message = neighbour(link, address, NeighbourState::Permanent);
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.request(
            "set the neighbour",
            address,
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }

    pub(in crate::linux) fn remove_neighbour(&mut self, link: u32, address: IpAddr) -> Result<(), NetlinkError> {
        self.forget("remove the neighbour", address, neighbour(link, address, NeighbourState::None))
    }

    /// Adds an entry. Whatever is there in its place stays, and is no failure.
    fn add(
        &mut self,
        doing: &'static str,
        subject: impl Display,
        message: NeighbourMessage,
    ) -> Result<(), NetlinkError> {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        unless(Errno::EXIST, self.request(doing, subject, RouteNetlinkMessage::NewNeighbour(message), flags))
    }

    /// Removes an entry. One that is gone already is no failure.
    fn forget(
        &mut self,
        doing: &'static str,
        subject: impl Display,
        message: NeighbourMessage,
    ) -> Result<(), NetlinkError> {
        unless(Errno::NOENT, self.request(doing, subject, RouteNetlinkMessage::DelNeighbour(message), 0))
    }
}

fn station(link: u32, mac: MacAddr, flags: NeighbourFlags, state: NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header =
        NeighbourHeader { family: AddressFamily::Bridge, ifindex: link, state, flags, kind: RouteType::Unspec };
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    message
}

fn remote_station(vxlan: u32, mac: MacAddr, remote: SocketAddr) -> NeighbourMessage {
    let mut message = station(vxlan, mac, NeighbourFlags::Own, NeighbourState::Permanent);
    message.attributes.push(NeighbourAttribute::Destination(remote.ip().into()));
    message.attributes.push(NeighbourAttribute::Port(remote.port()));
    message
}

fn neighbour(link: u32, address: IpAddr, state: NeighbourState) -> NeighbourMessage {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader { family, ifindex: link, state, ..NeighbourHeader::default() };
    message.attributes = vec![NeighbourAttribute::Destination(address.into())];
    message
}
