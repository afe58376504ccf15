//! The underlay socket (UDP 6783): sealed datagrams from and to other routers.
//!
//! ```text
//!   kernel ── recvmmsg, UDP_GRO ──► slots of the caller        trains of the caller ── sendmmsg, UDP_SEGMENT ──► kernel
//! ```
//!
//! One socket serves both families unless a local address was asked for. Addresses are IPv4 or IPv6 proper outside this
//! module; the mapped form (`::ffff:a.b.c.d`) never leaves it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

pub use exchange::Exchange;
pub use outcome::SendOutcome;
pub use receive::{Arrival, Receiver};
pub use send::Sender;

mod address;
mod exchange;
mod outcome;
mod receive;
mod send;

/// Why the underlay socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "UDP port {port} is in use; stop what holds it (`ss -lunp 'sport = :{port}'` tells) or choose another --port"
    )]
    Busy { port: u16 },
    #[error("{0} is no address of this host; correct --host")]
    NotLocal(IpAddr),
    #[error("cannot open a UDP socket at {address}: {source}")]
    Open { address: SocketAddr, source: io::Error },
}

/// The bound, non-blocking underlay socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    family: Family,
}

/// Which addresses the socket speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    /// IPv6, and IPv4 in mapped form.
    Dual,
    V6,
}

impl UdpSocket {
    /// Binds to `port` at `host`, or at every address of both families without one. A host without IPv6 gets IPv4.
    ///
    /// # Errors
    /// When the port is taken or `host` is not an address of this machine.
    pub fn bind(host: Option<IpAddr>, port: u16) -> Result<Self, Error> {
        match host {
            Some(host @ IpAddr::V4(_)) => Self::open(Family::V4, host, port),
            Some(host @ IpAddr::V6(_)) => Self::open(Family::V6, host, port),
            None => match Self::open(Family::Dual, Ipv6Addr::UNSPECIFIED.into(), port) {
                Err(Error::Open { source, .. }) if is_family_missing(&source) => {
                    Self::open(Family::V4, Ipv4Addr::UNSPECIFIED.into(), port)
                }
                bound => bound,
            },
        }
    }

    fn open(family: Family, host: IpAddr, port: u16) -> Result<Self, Error> {
        let address = SocketAddr::new(host, port);
        let bound = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
            if family != Family::V4 {
                socket.set_only_v6(family == Family::V6)?;
            }
            forbid_fragmentation(&socket, family)?;
            enlarge_buffers(&socket)?;
            receive_coalesced(&socket)?;
            socket.bind(&address.into())?;
            Ok(socket)
        };
        match bound() {
            Ok(socket) => Ok(Self { socket, family }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Error::Busy { port }),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && !host.is_unspecified() => {
                Err(Error::NotLocal(host))
            }
            Err(source) => Err(Error::Open { address, source }),
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sets DF on every datagram, and sends whatever the device takes: the path MTU that the kernel has from ICMP, true or
/// forged, is not asked (`ip(7)`: `IP_PMTUDISC_PROBE`, Linux 2.6.22). What fits is for size probes to find out; nobody
/// fragments.
fn forbid_fragmentation(socket: &Socket, family: Family) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
        .or_else(|error| if family == Family::V6 { Ok(()) } else { Err(error) })?;
    if family == Family::V4 {
        return Ok(());
    }
    set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
}

/// Room for about 20 ms of datagrams at 3 Gbit/s, beyond the system's limit where the capability allows.
fn enlarge_buffers(socket: &Socket) -> io::Result<()> {
    let bytes = BUFFER_BYTES as libc::c_int;
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| socket.set_recv_buffer_size(BUFFER_BYTES))?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| socket.set_send_buffer_size(BUFFER_BYTES))
}

/// Has equal datagrams of one source handed over together. A kernel before 5.0 cannot, and hands over each alone.
fn receive_coalesced(socket: &Socket) -> io::Result<()> {
    match set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        done => done,
    }
}

fn set_option(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open and the option's value is an integer of `length` bytes.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the kernel runs without IPv6 (not built, or disabled at boot or by sysctl).
fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// wireguard-go measured 4.1 -> 5.3 Gbit/s and no TCP retransmissions with buffers of this size.
const BUFFER_BYTES: usize = 7 << 20;

/// Messages per system call, each a datagram or a train; more gains nothing measurable and only adds latency for the
/// first of them.
pub const MAX_BATCH: usize = 64;

#[cfg(test)]
mod tests;
