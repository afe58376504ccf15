//! Notifications of the kernel: that something around our bridge changed, not what.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;

use crate::linux::netlink::messages;
use crate::linux::observe::link_name;
use crate::plan::{BridgeNames, HOST_LINK_PREFIX, Observed};

/// `RTNLGRP_LINK`, `RTNLGRP_NEIGH`, `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR`.
const ROUTE_GROUPS: [u32; 4] = [1, 3, 5, 9];
/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_IFADDR` and `RTNLGRP_IPV6_ROUTE`.
const UNDERLAY_GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// `NFNLGRP_NFTABLES`.
const TABLE_GROUPS: [u32; 1] = [7];
/// Datagrams read before others have their turn; what is left then is part of the dump that follows.
const DATAGRAMS_PER_TURN: usize = 256;
const RECEIVE_BYTES: usize = 32 * 1024;

/// One subscription.
pub(super) struct Watcher {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
}

impl Watcher {
    /// Of devices, forwarding entries, neighbours and addresses.
    pub(super) fn of_links() -> io::Result<Self> {
        Self::open(NETLINK_ROUTE, &ROUTE_GROUPS)
    }

    /// Of devices, addresses and routes.
    pub(super) fn of_underlay() -> io::Result<Self> {
        Self::open(NETLINK_ROUTE, &UNDERLAY_GROUPS)
    }

    /// Of nftables, through which iptables goes too on most hosts.
    pub(super) fn of_tables() -> io::Result<Self> {
        Self::open(NETLINK_NETFILTER, &TABLE_GROUPS)
    }

    fn open(protocol: isize, groups: &[u32]) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        // SAFETY: a `Socket` has one descriptor, which is open and the same until it is dropped.
        let socket = unsafe { AsyncFd::register(socket) }?;
        Ok(Self { socket, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Waits until something came since the last call; whoever waited reads all of it.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await?.clear_ready();
        Ok(())
    }

    /// Reads what waits, and whether any of it was `relevant`. An overrun is.
    pub(super) fn drain(&mut self, relevant: impl Fn(&RouteNetlinkMessage) -> bool) -> bool {
        let mut any = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.receive() {
                Ok(Some(length)) => {
                    any |= messages(&self.buffer[..length]).any(|message| match message.payload {
                        NetlinkPayload::InnerMessage(inner) => relevant(&inner),
                        _ => false,
                    });
                }
                Ok(None) => break,
                Err(_) => any = true,
            }
        }
        any
    }

    /// Throws away what waits; whether there was anything.
    pub(super) fn discard(&mut self) -> bool {
        let mut any = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.receive() {
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => any = true,
            }
        }
        any
    }

    fn receive(&mut self) -> io::Result<Option<usize>> {
        let result = self.socket.get_ref().recv(&mut &mut self.buffer[..], 0);
        match result {
            Ok(length) => Ok(Some(length.min(self.buffer.len()))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

/// Which notifications concern us.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Of the devices around our bridge.
    indices: BTreeSet<u32>,
}

impl Interest {
    pub(super) fn in_devices_of(observed: &Observed) -> Self {
        Self { indices: observed.links.values().map(|link| link.index).collect() }
    }

    pub(super) fn includes(&self, message: &RouteNetlinkMessage, names: &BridgeNames) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => self.includes_link(link, names),
            RouteNetlinkMessage::NewNeighbour(message) | RouteNetlinkMessage::DelNeighbour(message) => {
                self.indices.contains(&message.header.ifindex)
            }
            RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message) => {
                self.indices.contains(&message.header.index)
            }
            _ => false,
        }
    }

    fn includes_link(&self, link: &LinkMessage, names: &BridgeNames) -> bool {
        let controller = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => Some(*index),
            _ => None,
        });
        self.indices.contains(&link.header.index)
            || controller.is_some_and(|index| self.indices.contains(&index))
            || link_name(link).is_some_and(|name| {
                [&names.bridge, &names.vxlan, &names.tap].contains(&&name)
                    || name.as_str().starts_with(HOST_LINK_PREFIX)
            })
    }
}
