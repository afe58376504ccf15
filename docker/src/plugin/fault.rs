//! Why a request of an engine is not served, in words for whoever called `docker`.

use crate::wish::Cidr;

/// A request that is not understood, or that cannot be met by anybody.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("there is no such method")]
    UnknownMethod,
    #[error("Docker asks what cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("`{0}` is no id of Docker's")]
    NoId(String),
    #[error("`{0}` is no pool of ours; make the network anew")]
    NoPool(String),
    #[error("`{0}` is no IPv4 address")]
    NoAddress(String),
    #[error("`{0}` is no IPv4 subnet; give one such as 10.32.1.0/24")]
    NoSubnet(String),
    #[error("--ip-range {part} does not lie in --subnet {subnet}; choose a part of it")]
    PartElsewhere { part: Cidr, subnet: Cidr },
    #[error("there is no IPv6 on networks of weave-rs yet; leave --ipv6 and IPv6 subnets out")]
    Ipv6,
    #[error("networks of weave-rs have no gateway, since they need none; leave --gateway out")]
    Gateway,
    #[error(
        "the addresses are not ours, and so would be given on other hosts, too; give the same --ipam-driver as --driver"
    )]
    ForeignAddresses,
    #[error("`{0}` is no MAC address that a container can have; leave it out, or give one such as 02:42:0a:20:00:01")]
    NoMac(String),
    #[error("works.weave.multicast is true or false, and not `{0}`")]
    NoSwitch(String),
    #[error("there is no option `{0}`; works.weave.multicast is the one that there is")]
    NoOption(String),
}
