//! Containers on the network: what a target names, what is wanted for it, and what this host has attached.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use weave_datapath::linux::veth;
use weave_docker::wish::{self, WANTED_MAX};
use weave_docker::{Docker, DockerError, Inspected};
use weave_mesh::card::Subnet;
use weave_mesh::ipam::{Cidr, InvalidCidr};
use weave_mesh::name::MacAddr;
use weave_mesh::store::{ENDPOINT_ADDRESSES_MAX, ENDPOINT_NAME_MAX_BYTES};

use crate::naming::Called;
use crate::request::AddressError;

pub use self::chain::{Chain, Next};
pub use self::endpoint::Endpoint;
pub use self::grace::{GRACE, Grace};
pub use self::ledger::{Attachment, Ledger, Left, Routes, Tenant};
pub use self::networks::{Networks, TooManyNetworks};
pub use self::remembered::{Manual, Remembered};

mod chain;
pub mod endpoint;
mod grace;
mod ledger;
mod networks;
mod remembered;

/// The longest target, octets: a path.
const TARGET_MAX_BYTES: usize = 4_096;

/// Why a container was not attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("`{0}` is no target: give a Docker container, pid:N, or netns:/run/netns/NAME")]
    NoTarget(String),
    #[error("no address given, and --ipalloc-range is empty; give ADDRESS/LENGTH, such as 10.32.0.1/12")]
    NoAddress,
    #[error("{address} is held by container {holder} on this host; detach it there first")]
    AddressTaken { address: IpAddr, holder: String },
    #[error("{address} given twice with different prefix lengths; give one of them")]
    TwoLengths { address: IpAddr },
    #[error("{}/{} contains this host's own address {own}: choose another network", subnet.address, subnet.prefix_len)]
    UnderlayTaken { subnet: Subnet, own: IpAddr },
    #[error("{0} is this host's own address: choose another for the container")]
    OwnAddress(IpAddr),
    #[error("{0}")]
    UnusableAddress(String),
    #[error("a network namespace takes at most {ENDPOINT_ADDRESSES_MAX} addresses; detach some first")]
    TooManyAddresses,
    #[error("`{0}` is no name: give 1 to {ENDPOINT_NAME_MAX_BYTES} octets, such as gate.weave.local")]
    UnusableName(String),
    #[error("a host exposes at most {0} addresses; hide some first")]
    TooManyExposed(usize),
    #[error("this host has {0} attached containers, as many as it takes; detach some first")]
    TooManyContainers(usize),
    #[error("{0} attachments are waiting already; try again")]
    Busy(usize),
    #[error("nothing came of opening {subject} within {} s; is its file system reachable?", .limit.as_secs())]
    Hangs { subject: &'static str, limit: Duration },
    #[error("the container ended while it was attached")]
    Gone,
    #[error("this host has no endpoint {0}; start the container again")]
    NoEndpoint(Endpoint),
    #[error("endpoint {0} is there already, with another address; start the container again")]
    EndpointTaken(Endpoint),
    #[error("{0} was not asked for; make the network with --ipam-driver as well as with --driver")]
    NotAsked(IpAddr),
    #[error("another container of this host has the MAC address {0}; leave it out, or choose another")]
    MacTaken(MacAddr),
    #[error("{address} is in use by {holder}")]
    InUse { address: IpAddr, holder: String },
    #[error(transparent)]
    Networks(#[from] TooManyNetworks),
    #[error("the kernel did not open the port: {0}")]
    Closed(String),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Docker(#[from] DockerError),
    #[error(transparent)]
    Port(#[from] veth::AttachError),
    #[error("cannot write down the attachment: {0}")]
    Store(#[from] crate::store::FileError),
}

/// What the operator names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Name or id of a Docker container.
    Docker(String),
    Process(u32),
    Namespace(PathBuf),
}

impl FromStr for Subject {
    type Err = AttachError;

    fn from_str(text: &str) -> Result<Self, AttachError> {
        let invalid = || AttachError::NoTarget(text.chars().take(TARGET_MAX_BYTES).collect());
        if text.is_empty() || text.len() > TARGET_MAX_BYTES {
            return Err(invalid());
        }
        match text.split_once(':') {
            Some(("pid", number)) => number.parse().map(Self::Process).map_err(|_| invalid()),
            Some(("netns", path)) if path.starts_with('/') => Ok(Self::Namespace(path.into())),
            Some(_) => Err(invalid()),
            None if Docker::is_container_name(text) => Ok(Self::Docker(text.to_owned())),
            None => Err(invalid()),
        }
    }
}

impl Subject {
    /// Finds the network namespace; asks Docker for its containers.
    ///
    /// # Errors
    /// When Docker cannot be asked or does not run such a container.
    pub async fn resolve(self, docker: &Docker) -> Result<Container, AttachError> {
        match self {
            Self::Docker(name) => Ok(docker.inspect(&name).await?.into()),
            Self::Process(pid) => {
                let label = format!("pid:{pid}");
                Ok(Container { label, netns: process_netns(pid), ..Container::default() })
            }
            Self::Namespace(path) => {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let called = Called { name, ..Called::default() };
                let label = format!("netns:{}", path.display());
                Ok(Container { label, netns: path, called, ..Container::default() })
            }
        }
    }
}

/// Where the namespace of a process is.
pub fn process_netns(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// An address as a caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `ADDRESS/LENGTH`, `ip:ADDRESS/LENGTH`: this one.
    This(Subnet),
    /// `net:SUBNET`, or `net:default`: one of the subnet.
    In(Option<Cidr>),
}

impl FromStr for Wanted {
    type Err = AttachError;

    fn from_str(text: &str) -> Result<Self, AttachError> {
        let word: Result<wish::Wanted, _> = text.parse();
        word.map_err(|error| unusable(&error))?.try_into()
    }
}

impl TryFrom<wish::Wanted> for Wanted {
    type Error = AttachError;

    fn try_from(wanted: wish::Wanted) -> Result<Self, AttachError> {
        match wanted {
            wish::Wanted::This(wish::Cidr { address, prefix_length }) => {
                Ok(Self::This(Subnet { address, prefix_len: prefix_length }))
            }
            wish::Wanted::In(subnet) => {
                let subnet = subnet.to_string().parse().map_err(|error: InvalidCidr| unusable(&error))?;
                Ok(Self::In(Some(subnet)))
            }
            wish::Wanted::Default => Ok(Self::In(None)),
        }
    }
}

fn unusable(error: &dyn fmt::Display) -> AttachError {
    AttachError::UnusableAddress(error.to_string())
}

impl Wanted {
    /// What a container asks for; one of the default subnet where it asks for nothing in particular.
    ///
    /// # Errors
    /// When one of them is of no use.
    pub fn of(wishes: &[wish::Wanted]) -> Result<Vec<Self>, AttachError> {
        let default = [wish::Wanted::Default];
        let wishes = if wishes.is_empty() { &default } else { wishes };
        wishes.iter().copied().map(Self::try_from).collect()
    }
}

// Whoever asks for more is told so before anything is done.
const _: () = assert!(WANTED_MAX == ENDPOINT_ADDRESSES_MAX);

/// A container that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its Docker id, or the target as it was given.
    pub label: String,
    pub netns: PathBuf,
    pub called: Called,
    /// What it is called may not be all: its engine is to be asked when it answers.
    pub provisional: bool,
}

impl From<Inspected> for Container {
    fn from(Inspected { id, pid, hostname, name, .. }: Inspected) -> Self {
        let called = Called { hostname, name, ..Called::default() };
        Self { label: id, netns: process_netns(pid), called, provisional: false }
    }
}

impl Container {
    /// Gets no name, now or at a later start.
    #[must_use]
    pub fn nameless(self) -> Self {
        Self { called: Called::default(), provisional: false, ..self }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Addresses as `attach` accepts them: at least one, each once.
///
/// # Errors
/// When there is none, or one of them twice with different lengths.
pub fn distinct(addresses: Vec<Subnet>) -> Result<Vec<Subnet>, AttachError> {
    let mut distinct: Vec<Subnet> = Vec::with_capacity(addresses.len());
    for subnet in addresses {
        match distinct.iter().find(|known| known.address == subnet.address) {
            Some(known) if *known == subnet => {}
            Some(_) => return Err(AttachError::TwoLengths { address: subnet.address }),
            None => distinct.push(subnet),
        }
    }
    if distinct.is_empty() { Err(AttachError::NoAddress) } else { Ok(distinct) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse_subnet;

    #[test]
    fn a_target_is_a_container_a_process_or_a_namespace() {
        let parsed = |text: &str| text.parse::<Subject>().ok();

        assert_eq!(parsed("web-1"), Some(Subject::Docker("web-1".to_owned())));
        assert_eq!(parsed("pid:42"), Some(Subject::Process(42)));
        assert_eq!(parsed("netns:/run/netns/a"), Some(Subject::Namespace("/run/netns/a".into())));
        for text in ["", "pid:", "pid:-1", "netns:a", "a/b", "a b", "../x", "host:x"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_is_named_or_wanted_from_a_subnet() {
        let parsed = |text: &str| text.parse::<Wanted>().ok();
        let this = parsed("10.32.0.1/12");

        assert!(matches!(this, Some(Wanted::This(_))));
        assert_eq!(parsed("ip:10.32.0.1/12"), this);
        assert!(matches!(parsed("fd00::1/64"), Some(Wanted::This(_))));
        assert_eq!(parsed("net:default"), Some(Wanted::In(None)));
        assert_eq!(parsed("net:10.40.0.0/24"), Some(Wanted::In("10.40.0.0/24".parse().ok())));
        for text in ["net:", "ip:", "net:x", "10.32.0.1", "web"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn attaching_without_an_address_says_what_to_give() {
        let error = distinct(Vec::new()).unwrap_err();

        assert!(error.to_string().contains("10.32.0.1/12"));
    }

    #[test]
    fn an_address_given_twice_counts_once() {
        let [a, b, c] = ["10.32.0.1/12", "10.32.0.2/12", "10.32.0.1/16"].map(|text| parse_subnet(text).unwrap());

        assert_eq!(distinct(vec![a, b, a]).unwrap(), [a, b]);
        assert!(matches!(distinct(vec![a, c]), Err(AttachError::TwoLengths { .. })));
    }
}
