//! Heartbeats of the fast path, as raw Ethernet frames of an experimental ethertype.
//!
//! ```text
//!   send:     this socket ──► VXLAN device ──► underlay ──► VXLAN device of the peer ──► its bridge
//!   receive:  bridge (our own MAC) ──► this socket
//! ```
//!
//! Devices come and go: the VXLAN device exists only while the plan has one, and either may be deleted and made again.
//! So indices are looked up when used, and the bridge's is compared with the one bound to.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use socket2::{SockAddr, SockAddrStorage};

use crate::heartbeat;
use crate::plan::LinkName;

/// A heartbeat could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("device `{0}` does not exist")]
    NoDevice(LinkName),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The socket for heartbeat frames of one bridge.
#[derive(Debug)]
pub struct PacketSocket {
    socket: socket2::Socket,
    bridge: LinkName,
    vxlan: LinkName,
    bound: Option<u32>,
}

impl PacketSocket {
    /// Opens the socket; neither device need exist yet.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open(bridge: LinkName, vxlan: LinkName) -> io::Result<Self> {
        // Frames of every device of the host would arrive otherwise.
        let mut this = Self { socket: unbound(SocketFlags::NONBLOCK)?, bridge, vxlan, bound: None };
        this.follow_bridge()?;
        Ok(this)
    }

    /// Binds to the bridge that has its name now, if that is another than before.
    ///
    /// # Errors
    /// As `bind(2)`; the bridge may vanish in between.
    pub fn follow_bridge(&mut self) -> io::Result<()> {
        let index = self.index_of(&self.bridge);
        if index == self.bound {
            return Ok(());
        }
        if let Some(index) = index {
            self.socket.bind(&link_address(index, heartbeat::ETHERTYPE))?;
        }
        self.bound = index;
        Ok(())
    }

    /// Reads one frame, or returns `None` when none waits. The length is the frame's own, which may exceed the buffer.
    ///
    /// # Errors
    /// `ENETDOWN` once after the bridge went down; later frames still arrive.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::net::recv(&self.socket, buffer, RecvFlags::TRUNC) {
            Ok((_, length)) => Ok(Some(length)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends one whole Ethernet frame through the VXLAN device.
    ///
    /// # Errors
    /// When the device is absent or down, or its queue is full.
    pub fn send(&self, frame: &[u8]) -> Result<(), SendError> {
        let index = self.index_of(&self.vxlan).ok_or_else(|| SendError::NoDevice(self.vxlan.clone()))?;
        self.socket.send_to_with_flags(
            frame,
            &link_address(index, heartbeat::ETHERTYPE),
            SendFlags::DONTWAIT.bits() as c_int,
        )?;
        Ok(())
    }

    fn index_of(&self, name: &LinkName) -> Option<u32> {
        rustix::net::netdevice::name_to_index(&self.socket, name.as_str()).ok()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A raw socket that receives nothing until it is bound: of protocol 0.
pub(super) fn unbound(flags: SocketFlags) -> io::Result<socket2::Socket> {
    let flags = flags | SocketFlags::CLOEXEC;
    let socket: OwnedFd = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    Ok(socket.into())
}

/// The address of a device for frames of one ethertype.
pub(super) fn link_address(index: u32, ethertype: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is one of the socket address types, and all-zero bytes are a valid one.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as libc::sa_family_t;
    link.sll_protocol = ethertype.to_be();
    link.sll_ifindex = index as c_int;
    // SAFETY: the storage was filled as a `sockaddr_ll` of this length.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}
