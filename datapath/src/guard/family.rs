//! The two families of addresses, in nft's words.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr};

use weave_mesh::card::Subnet;

/// Displayed as the name of the header that has the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Those of this family.
    pub(super) fn addresses(self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<String> {
        let own = addresses.into_iter().filter(|address| Self::of(*address) == self);
        own.map(|address| address.to_string()).collect()
    }

    /// Those of this family.
    pub(super) fn networks<'a>(self, networks: impl IntoIterator<Item = &'a Subnet>) -> Vec<String> {
        let own = networks.into_iter().filter(|network| Self::of(network.address) == self);
        own.map(|Subnet { address, prefix_len }| format!("{address}/{prefix_len}")).collect()
    }

    /// The addresses by which a sender in `network` reaches many.
    pub(super) fn everybody_in(self, network: Subnet) -> Option<Vec<String>> {
        match (self, network.address) {
            (Self::V4, IpAddr::V4(first)) => {
                let host_bits = u32::MAX.checked_shr(u32::from(network.prefix_len)).unwrap_or(0);
                let last = Ipv4Addr::from_bits(first.to_bits() | host_bits);
                Some(vec![last.to_string(), Ipv4Addr::BROADCAST.to_string(), "224.0.0.0/4".to_owned()])
            }
            (Self::V6, IpAddr::V6(_)) => Some(vec!["ff00::/8".to_owned()]),
            _ => None,
        }
    }

    /// Where clouds tell an instance who it is and what it may do: all that is link-local (Amazon, Google, Oracle and
    /// others; the credentials of containers too), Azure's, Alibaba's, and Amazon's for IPv6.
    pub(super) const fn metadata(self) -> &'static str {
        match self {
            Self::V4 => "{ 100.100.100.200, 168.63.129.16, 169.254.0.0/16 }",
            Self::V6 => "{ fd00:ec2::/32, fe80::/10 }",
        }
    }
}

impl Display for Family {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        })
    }
}
