//! Addresses: pools, of which each network has one, and single addresses of them.
//!
//! A pool's id is all that there is to know of it, so nothing has to be kept:
//!
//! ```text
//!   10.32.0.0/12                 all of a subnet
//!   10.32.0.0/12,10.32.4.0/22    a part of it: docker network create --subnet … --ip-range …
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::Deserialize;

use super::{Answer, Fault};
use crate::wish::Cidr;

/// The one space that our addresses are in.
pub const ADDRESS_SPACE: &str = "weave-rs";
/// What an address is for, and that it is for a gateway.
const PURPOSE: &str = "RequestAddressType";
const GATEWAY: &str = "com.docker.network.gateway";

/// From where a network's addresses come. IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub subnet: Cidr,
    /// Where containers are given theirs unless one is named: `--ip-range`.
    pub part: Option<Cidr>,
}

/// What is asked of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A pool for a network.
    Pool(Asked),
    ReleasePool(Pool),
    /// An address of a pool, or this one.
    Address {
        pool: Pool,
        wanted: Option<Ipv4Addr>,
    },
    ReleaseAddress(Ipv4Addr),
}

/// The pool that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    This(Pool),
    /// One that nothing else on this host uses. An engine that is told of another asks again, for ever.
    Any,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RequestPool {
    pool: String,
    sub_pool: String,
    v6: bool,
}

#[derive(Deserialize)]
struct ReleasePool {
    #[serde(rename = "PoolID")]
    pool: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RequestAddress {
    #[serde(rename = "PoolID")]
    pool: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReleaseAddress {
    address: String,
}

pub(super) fn decode(name: &str, body: &[u8]) -> Result<super::Request, Fault> {
    let request = match name {
        "GetCapabilities" => return Ok(super::Request::Fixed(Answer::AddressCapabilities)),
        "GetDefaultAddressSpaces" => return Ok(super::Request::Fixed(Answer::AddressSpaces)),
        "RequestPool" => Request::Pool(serde_json::from_slice::<RequestPool>(body)?.asked()?),
        "ReleasePool" => Request::ReleasePool(serde_json::from_slice::<ReleasePool>(body)?.pool.parse()?),
        "RequestAddress" => return serde_json::from_slice::<RequestAddress>(body)?.request(),
        "ReleaseAddress" => {
            let ReleaseAddress { address } = serde_json::from_slice(body)?;
            Request::ReleaseAddress(address.parse().map_err(|_| Fault::NoAddress(address))?)
        }
        _ => return Err(Fault::UnknownMethod),
    };
    Ok(super::Request::Ipam(request))
}

impl RequestPool {
    fn asked(&self) -> Result<Asked, Fault> {
        match (self.v6, self.pool.as_str(), self.sub_pool.as_str()) {
            (true, ..) => Err(Fault::Ipv6),
            (false, "", "") => Ok(Asked::Any),
            (false, "", part) => Err(Fault::NoSubnet(part.to_owned())),
            (false, subnet, "") => Ok(Asked::This(Pool { subnet: parse_subnet(subnet)?, part: None })),
            (false, subnet, part) => Ok(Asked::This(Pool::part(parse_subnet(subnet)?, parse_subnet(part)?)?)),
        }
    }
}

impl RequestAddress {
    /// A gateway gets the network's own address, which no container has: an engine wants one, and its containers none.
    fn request(self) -> Result<super::Request, Fault> {
        let pool: Pool = self.pool.parse()?;
        let is_gateway = self.options.unwrap_or_default().get(PURPOSE).is_some_and(|purpose| purpose == GATEWAY);
        let wanted = match self.address.as_str() {
            "" if is_gateway => return Ok(super::Request::Fixed(Answer::Address(pool.subnet))),
            "" => None,
            _ if is_gateway => return Err(Fault::Gateway),
            text => Some(text.parse().map_err(|_| Fault::NoAddress(text.to_owned()))?),
        };
        Ok(super::Request::Ipam(Request::Address { pool, wanted }))
    }
}

impl Pool {
    fn part(subnet: Cidr, part: Cidr) -> Result<Self, Fault> {
        let is_inside = part.prefix_length >= subnet.prefix_length && network(part, subnet.prefix_length) == subnet;
        if is_inside { Ok(Self { subnet, part: Some(part) }) } else { Err(Fault::PartElsewhere { part, subnet }) }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            None => self.subnet.fmt(f),
            Some(part) => write!(f, "{},{part}", self.subnet),
        }
    }
}

impl FromStr for Pool {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let parse = |text: &str| match text.split_once(',') {
            None => Ok(Self { subnet: parse_subnet(text)?, part: None }),
            Some((subnet, part)) => Self::part(parse_subnet(subnet)?, parse_subnet(part)?),
        };
        parse(text).map_err(|_: Fault| Fault::NoPool(text.to_owned()))
    }
}

fn parse_subnet(text: &str) -> Result<Cidr, Fault> {
    let parsed: Option<Cidr> = text.parse().ok();
    match parsed {
        Some(Cidr { address: IpAddr::V6(_), .. }) => Err(Fault::Ipv6),
        Some(subnet) if network(subnet, subnet.prefix_length) == subnet => Ok(subnet),
        Some(_) | None => Err(Fault::NoSubnet(text.to_owned())),
    }
}

/// The network of this length that an address is in.
fn network(Cidr { address, .. }: Cidr, prefix_length: u8) -> Cidr {
    let IpAddr::V4(address) = address else { return Cidr { address, prefix_length } };
    let host_bits = u32::MAX.checked_shr(prefix_length.into()).unwrap_or(0);
    Cidr { address: Ipv4Addr::from_bits(address.to_bits() & !host_bits).into(), prefix_length }
}
