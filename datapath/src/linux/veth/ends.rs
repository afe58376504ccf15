//! A port that is made before its container: both ends on the host, one of them for Docker to move.
//!
//! ```text
//!   made              Docker moves it                 Docker moves it back
//!   vethwepg2k3f9zq ─────────────────► ethwe0 ─────────────────────────► vethwepg2k3f9zq
//!        │                               │                                      │
//!   vethwepl2k3f9zq ─ bridge        vethwepl2k3f9zq ─ bridge            vethwepl2k3f9zq ─ bridge
//! ```
//!
//! Invariants:
//! - no such port has the name of one that is named after a namespace: those begin with 0 or 1, these do not;
//! - nothing is done inside the container: name, address and routes are Docker's to set.

use weave_mesh::name::MacAddr;

use super::{AttachError, BASE, numbered};
use crate::linux::netlink::{Netlink, VethPeer};
use crate::linux::netns::Netns;
use crate::plan::{FAR_LINK_PREFIX, HOST_LINK_PREFIX, LinkName};

/// The first number of seven digits that no namespace has.
const FIRST: u64 = 2 * BASE.pow(6);
const NUMBERS: u64 = BASE.pow(7) - FIRST;
/// Hexadecimal digits of an id that make a number.
const ID_DIGITS: usize = 15;

/// The two ends of the port of an endpoint of Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The port of the bridge.
    pub host: LinkName,
    /// The container's, while it is on the host.
    pub far: LinkName,
}

impl Ends {
    /// The same for the same id. Of 4,096 endpoints two have one name with a chance of one in ten thousand.
    ///
    /// # Errors
    /// When it is no id of Docker's, which are hexadecimal.
    pub fn of(endpoint: &str) -> Result<Self, AttachError> {
        let bad = || AttachError::NoEndpoint(endpoint.to_owned());
        let digits = endpoint.get(..ID_DIGITS).filter(|digits| digits.bytes().all(|it| it.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(bad)?;
        let number = FIRST + u64::from_str_radix(digits, 16).map_err(|_| bad())? % NUMBERS;
        Ok(Self { host: numbered(HOST_LINK_PREFIX, number)?, far: numbered(FAR_LINK_PREFIX, number)? })
    }

    /// Makes the pair. One that was there is of no use any more, whoever has its other end.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn make(&self, mtu: u32, mac: MacAddr) -> Result<(), AttachError> {
        let mut netlink = Netlink::open().map_err(AttachError::Thread)?;
        netlink.delete_link(self.host.as_str())?;
        let here = Netns::current().map_err(AttachError::Enter)?;
        let far = VethPeer { netns: &here, name: self.far.as_str(), mac: Some(mac) };
        Ok(netlink.create_veth(&self.host, mtu, &far)?)
    }

    /// Whether a container has the other end.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn are_apart(&self) -> Result<bool, AttachError> {
        let mut netlink = Netlink::open().map_err(AttachError::Thread)?;
        let (host, far) = (netlink.link_index(self.host.as_str())?, netlink.link_index(self.far.as_str())?);
        Ok(host.is_some() && far.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::super::host_link;
    use super::*;

    #[test]
    fn an_endpoint_has_the_name_of_no_namespace_and_keeps_it() {
        let highest = host_link(u64::from(u32::MAX)).unwrap();
        for id in ["0".repeat(64), "f".repeat(64), "0123456789abcdef".repeat(4)] {
            let ends = Ends::of(&id).unwrap();
            assert!(ends.host > highest, "{ends:?}");
            assert_eq!(ends.host.as_str().strip_prefix("vethwepl"), ends.far.as_str().strip_prefix("vethwepg"));
            assert_eq!(Ends::of(&id).unwrap(), ends);
        }
        for id in ["", "0123", "0123456789abcdg0", "endpoint:0123456789", "ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ", "+12345678901234"]
        {
            assert!(matches!(Ends::of(id), Err(AttachError::NoEndpoint(_))), "{id}");
        }
    }
}
