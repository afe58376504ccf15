//! A container's port: a veth pair between the bridge and the container's network namespace.
//!
//! ```text
//!   container namespace                    host namespace
//!   ethwe  MAC, addresses, 224.0.0.0/4 ──── vethwepl1ul4w9x ─ ─► bridge
//! ```
//!
//! Where Docker makes the container's network (`ends.rs`), the container's end is made on the host, and Docker moves it.
//!
//! It leads nowhere until a plan with its [`PortPlan`](crate::plan::PortPlan) is applied: the plan guards it first and
//! plugs it into the bridge then.

mod ends;
mod inside;

pub use self::ends::Ends;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::netlink::{Netlink, NetlinkError, VethPeer};
use super::netns::Netns;
use super::sysctl::SysctlError;
use crate::plan::{HOST_LINK_PREFIX, InvalidLinkName, LinkName, Resolver};

/// The interface inside a container.
pub const CONTAINER_LINK: &str = "ethwe";
/// Addresses on one container.
pub const ADDRESSES_MAX: usize = 64;
/// Of the digits at the end of a device's name.
const BASE: u64 = 36;

/// What to give a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachSpec {
    pub mtu: u32,
    /// Of `ethwe`; chosen by the kernel when absent. An interface that exists keeps its own.
    pub mac: Option<MacAddr>,
    pub addresses: Vec<Subnet>,
    /// Whether it gets a route to the resolver of its host.
    pub resolver: Resolver,
    /// Whether all IPv4 multicast of the container leaves by its port.
    pub multicast_route: bool,
}

/// What is in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The host side of its port, there or to come.
    pub host_link: LinkName,
    pub port: Option<Attached>,
}

/// An attached container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub host_link: LinkName,
    pub mac: MacAddr,
    /// All addresses of its interface except link-local ones.
    pub addresses: Vec<Subnet>,
}

/// Why a container could not be attached, detached or looked at.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("cannot open network namespace {}: {cause}; is the container running?", path.display())]
    Open { path: PathBuf, cause: io::Error },
    #[error("the target has the network namespace of the host itself (--net=host): it cannot be attached")]
    HostNamespace,
    #[error("cannot enter the network namespace: {0}; the daemon needs CAP_SYS_ADMIN, so run it as root")]
    Enter(io::Error),
    #[error("the container has an interface `{CONTAINER_LINK}` that is not ours: remove it first")]
    ForeignInterface,
    #[error("`{CONTAINER_LINK}` vanished from the container: attach it again")]
    InterfaceGone,
    #[error("{address}/{prefix_len} cannot be used on the overlay: give a unicast address such as 10.32.0.1/12")]
    UnusableAddress { address: IpAddr, prefix_len: u8 },
    #[error("more than {ADDRESSES_MAX} addresses at once")]
    TooManyAddresses,
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error("{number} makes an unusable device name: {cause}")]
    HostLink { number: u64, cause: InvalidLinkName },
    #[error("`{0}` is no id of an endpoint of Docker's")]
    NoEndpoint(String),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Opens the namespace of a container.
///
/// # Errors
/// When there is none.
pub fn open(path: impl Into<PathBuf>) -> Result<Netns, AttachError> {
    let path = path.into();
    Netns::open(&path).map_err(|cause| AttachError::Open { path, cause })
}

/// Gives the container behind `netns` the addresses of `spec`, and its port if it has none yet. What it has already
/// stays. Blocks for a few milliseconds.
///
/// # Errors
/// Says what is missing; what was done half is taken back.
pub fn attach(netns: &Netns, spec: &AttachSpec) -> Result<Attached, AttachError> {
    check_addresses(&spec.addresses)?;
    let mut port = Port::of(netns)?;
    let before = port.inspect()?;
    let attached = port.make(spec).and_then(|()| port.furnish(spec));
    if attached.is_err()
        && let Err(error) = port.revert(before.as_ref())
    {
        tracing::warn!(%error, "a half-made port stays");
    }
    attached
}

/// Makes the port what it was before [`attach`], or removes it if there was none.
///
/// # Errors
/// Says what is missing. A port that is gone is no error.
pub fn revert(netns: &Netns, before: Option<&Attached>) -> Result<(), AttachError> {
    Port::of(netns)?.revert(before)
}

/// Removes a port whose namespace cannot be opened any more.
///
/// # Errors
/// When the kernel refuses. A port that is gone is no error.
pub fn remove(host_link: &LinkName) -> Result<(), AttachError> {
    Ok(Netlink::open().map_err(AttachError::Thread)?.delete_link(host_link.as_str())?)
}

/// Takes `addresses` away, or all when there are none given; with the last one its port goes. The answer is what is
/// left.
///
/// # Errors
/// Says what is missing. A container that is not attached is no error.
pub fn detach(netns: &Netns, addresses: &[Subnet]) -> Result<Option<Attached>, AttachError> {
    let mut port = Port::of(netns)?;
    let Some(attached) = port.inspect()? else {
        return Ok(None);
    };
    let kept: Vec<Subnet> = attached
        .addresses
        .iter()
        .filter(|subnet| !addresses.is_empty() && !addresses.contains(subnet))
        .copied()
        .collect();
    if kept.is_empty() {
        port.netlink.delete_link(port.host_link.as_str())?;
        return Ok(None);
    }
    inside::remove_addresses(netns, addresses)?;
    Ok(Some(Attached { addresses: kept, ..attached }))
}

/// How a container is attached, if it is.
///
/// # Errors
/// Says what is missing.
pub fn inspect(netns: &Netns) -> Result<Option<Attached>, AttachError> {
    Port::of(netns)?.inspect()
}

/// The same, and which port is the container's.
///
/// # Errors
/// Says what is missing.
pub fn look(netns: &Netns) -> Result<Found, AttachError> {
    let mut port = Port::of(netns)?;
    let found = port.inspect()?;
    Ok(Found { host_link: port.host_link, port: found })
}

/// The host side of one container.
struct Port<'a> {
    netns: &'a Netns,
    netlink: Netlink,
    host_link: LinkName,
}

impl<'a> Port<'a> {
    fn of(netns: &'a Netns) -> Result<Self, AttachError> {
        if Netns::current().map_err(AttachError::Enter)? == *netns {
            return Err(AttachError::HostNamespace);
        }
        let host_link = host_link(netns.inode())?;
        Ok(Self { netns, netlink: Netlink::open().map_err(AttachError::Thread)?, host_link })
    }

    /// Both ends of the pair, unless they exist.
    fn make(&mut self, spec: &AttachSpec) -> Result<(), AttachError> {
        let outside = self.netlink.link_index(self.host_link.as_str())?.is_some();
        match (outside, inside::exists(self.netns)?) {
            (true, true) => return Ok(()),
            (false, true) => return Err(AttachError::ForeignInterface),
            // Its other end was renamed or moved away; the pair is of no use any more.
            (true, false) => self.netlink.delete_link(self.host_link.as_str())?,
            (false, false) => {}
        }
        let peer = VethPeer { netns: self.netns, name: CONTAINER_LINK, mac: spec.mac };
        Ok(self.netlink.create_veth(&self.host_link, spec.mtu, &peer)?)
    }

    fn furnish(&mut self, spec: &AttachSpec) -> Result<Attached, AttachError> {
        inside::furnish(self.netns, spec)?;
        self.netlink.set_mtu(self.host_link.as_str(), spec.mtu)?;
        self.inspect()?.ok_or(AttachError::InterfaceGone)
    }

    fn revert(&mut self, before: Option<&Attached>) -> Result<(), AttachError> {
        let Some(before) = before else {
            return Ok(self.netlink.delete_link(self.host_link.as_str())?);
        };
        let Some(present) = self.inspect()? else { return Ok(()) };
        let gained: Vec<Subnet> =
            present.addresses.iter().filter(|subnet| !before.addresses.contains(subnet)).copied().collect();
        inside::remove_addresses(self.netns, &gained)
    }

    fn inspect(&mut self) -> Result<Option<Attached>, AttachError> {
        if self.netlink.link_index(self.host_link.as_str())?.is_none() {
            return Ok(None);
        }
        let inside = inside::inspect(self.netns)?;
        Ok(inside.map(|(mac, addresses)| Attached { host_link: self.host_link.clone(), mac, addresses }))
    }
}

/// The same for the same namespace: seven digits hold any of the kernel's 32-bit namespace numbers.
pub(in crate::linux) fn host_link(inode: u64) -> Result<LinkName, AttachError> {
    numbered(HOST_LINK_PREFIX, u64::from(inode as u32))
}

/// A name with seven digits behind `prefix`.
fn numbered(prefix: &str, number: u64) -> Result<LinkName, AttachError> {
    const DIGITS: &[u8; BASE as usize] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rest = number;
    let mut digits = ['0'; 7];
    for digit in digits.iter_mut().rev() {
        *digit = char::from(DIGITS[(rest % BASE) as usize]);
        rest /= BASE;
    }
    let name = prefix.chars().chain(digits).collect::<String>();
    name.parse().map_err(|cause| AttachError::HostLink { number, cause })
}

/// Whether addresses can be given to a container or to the host.
///
/// # Errors
/// When there are too many, or one is no unicast address with room beside it.
pub fn check_addresses(addresses: &[Subnet]) -> Result<(), AttachError> {
    if addresses.len() > ADDRESSES_MAX {
        return Err(AttachError::TooManyAddresses);
    }
    match addresses.iter().find(|subnet| !is_usable(**subnet)) {
        Some(&Subnet { address, prefix_len }) => Err(AttachError::UnusableAddress { address, prefix_len }),
        None => Ok(()),
    }
}

/// A unicast address that a container on the overlay can have, neither the first (the network) nor the last (broadcast)
/// of its subnet.
fn is_usable(subnet: Subnet) -> bool {
    match subnet.address {
        IpAddr::V4(address) => {
            let host_bits = u32::MAX.checked_shr(u32::from(subnet.prefix_len)).unwrap_or(0);
            let host = address.to_bits() & host_bits;
            let at_an_end = subnet.prefix_len < 31 && (host == 0 || host == host_bits);
            let special = address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_link_local()
                || address.is_broadcast();
            (1..=32).contains(&subnet.prefix_len) && !at_an_end && !special
        }
        IpAddr::V6(address) => {
            let special = address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some();
            (1..=128).contains(&subnet.prefix_len) && !special
        }
    }
}

impl fmt::Debug for Port<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("host_link", &self.host_link).finish_non_exhaustive()
    }
}
