//! From which range containers get their addresses, and how it is first shared out among the peers.

use std::net::IpAddr;
use std::str::FromStr;

use weave_mesh::card::Subnet;
use weave_mesh::ipam::{self, Cidr, InvalidCidr, SUBNET_PREFIX_MAX};
use weave_mesh::name::PeerName;

use super::value::Network;

/// The range unless told otherwise.
const DEFAULT_RANGE: &str = "10.32.0.0/12";

/// Who chose something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chosen {
    ByDefault,
    ByOperator,
}

/// Everything that address allocation is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    pub config: ipam::Config,
    /// Who chose the range.
    chosen: Chosen,
    /// Who said how the range is first shared out.
    init_chosen: Chosen,
}

/// Options of allocation that are of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocationError {
    #[error("{option}: {source}")]
    NoSubnet { option: &'static str, source: InvalidCidr },
    #[error("{option} {given} has bits set beyond its prefix length; did you mean {meant}?")]
    HostBits { option: &'static str, given: Cidr, meant: Cidr },
    #[error("{option} {given} has fewer than 4 addresses; give a prefix length of at most {SUBNET_PREFIX_MAX}")]
    TooSmall { option: &'static str, given: Cidr },
    #[error("--ipalloc-range {0} is not for containers; choose a private network, such as {DEFAULT_RANGE}")]
    SpecialRange(Cidr),
    #[error("--ipalloc-default-subnet {subnet} has no address of --ipalloc-range {range}; choose a part of it")]
    SubnetElsewhere { subnet: Cidr, range: Cidr },
    #[error("--ipalloc-default-subnet means nothing without a range; leave it out, or give --ipalloc-range")]
    SubnetWithoutRange,
    #[error(
        "the default range {range} overlaps {}, to which this host has a route; choose another --ipalloc-range, the same \
         on all hosts, or give {range} to have it all the same", Network(*.route)
    )]
    RangeInUse { range: Cidr, route: Subnet },
}

impl Allocation {
    /// Nothing when `range` is empty: then there is no allocation.
    ///
    /// # Errors
    /// Names the option and the remedy.
    pub fn new(
        range: Option<&str>,
        default_subnet: Option<&str>,
        init: Option<Init>,
    ) -> Result<Option<Self>, AllocationError> {
        let (range, chosen) = match range.map(str::trim) {
            None => (subnet("--ipalloc-range", DEFAULT_RANGE)?, Chosen::ByDefault),
            Some("") if default_subnet.is_some() => return Err(AllocationError::SubnetWithoutRange),
            Some("") => return Ok(None),
            Some(text) => (subnet("--ipalloc-range", text)?, Chosen::ByOperator),
        };
        let first = range.address();
        if first.is_loopback() || first.octets()[0] == 0 || first.octets()[0] >= 224 {
            return Err(AllocationError::SpecialRange(range));
        }
        let default_subnet = match default_subnet {
            None => range,
            Some(text) => subnet("--ipalloc-default-subnet", text)?,
        };
        if range.range().intersection(default_subnet.range()).is_none() {
            return Err(AllocationError::SubnetElsewhere { subnet: default_subnet, range });
        }
        let init_chosen = if init.is_some() { Chosen::ByOperator } else { Chosen::ByDefault };
        let init = init.map_or(ipam::Init::Consensus(None), |init| init.0);
        Ok(Some(Self { config: ipam::Config { range, default_subnet, init }, chosen, init_chosen }))
    }

    /// The same where a cloud lists the machines: unless the operator said how, the listed ones share the range out.
    pub fn in_a_cloud(&self) -> ipam::Config {
        match self.init_chosen {
            Chosen::ByDefault => ipam::Config { init: ipam::Init::Listed, ..self.config.clone() },
            Chosen::ByOperator => self.config.clone(),
        }
    }

    /// From where containers get their addresses.
    pub fn range(&self) -> Subnet {
        let range = self.config.range;
        Subnet { address: range.address().into(), prefix_len: range.prefix_len() }
    }

    /// Compares the range with where this host sends packets already: an overlap is told of.
    ///
    /// # Errors
    /// When nobody chose the range.
    pub fn check_routes(&self, destinations: &[Subnet]) -> Result<Option<String>, AllocationError> {
        let range = self.config.range;
        let overlaps = |route: &&Subnet| match route.address {
            IpAddr::V4(address) => Cidr::new(address, route.prefix_len)
                .is_ok_and(|route| route.range().intersection(range.range()).is_some()),
            IpAddr::V6(_) => false,
        };
        match (destinations.iter().find(overlaps), self.chosen) {
            (None, _) => Ok(None),
            (Some(route), Chosen::ByDefault) => Err(AllocationError::RangeInUse { range, route: *route }),
            (Some(route), Chosen::ByOperator) => {
                let route = Network(*route);
                Ok(Some(format!("--ipalloc-range {range} overlaps {route}, to which this host has a route")))
            }
        }
    }
}

fn subnet(option: &'static str, text: &str) -> Result<Cidr, AllocationError> {
    let given: Cidr = text.trim().parse().map_err(|source| AllocationError::NoSubnet { option, source })?;
    if !given.is_subnet() {
        return Err(AllocationError::HostBits { option, given, meant: given.subnet() });
    }
    if given.hosts().is_none() {
        return Err(AllocationError::TooSmall { option, given });
    }
    Ok(given)
}

/// How the range is first shared out: `consensus`, `consensus=N`, `seed=NAME,…` or `observer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init(pub ipam::Init);

/// A text that is no way to begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is none of consensus, consensus=N (peers at first, at least 1), seed=NAME,… (names of peers) and observer"
)]
pub struct InvalidInit(String);

impl FromStr for Init {
    type Err = InvalidInit;

    fn from_str(text: &str) -> Result<Self, InvalidInit> {
        let invalid = || InvalidInit(text.to_owned());
        let init = match text.split_once('=') {
            None if text == "consensus" => ipam::Init::Consensus(None),
            None if text == "observer" => ipam::Init::Observer,
            Some(("consensus", number)) => {
                let number = number.parse().ok().filter(|number| *number > 0);
                ipam::Init::Consensus(Some(number.ok_or_else(invalid)?))
            }
            Some(("seed", names)) => {
                let names: Result<Vec<PeerName>, _> = names.split(',').map(|name| name.trim().parse()).collect();
                ipam::Init::Seed(names.map_err(|_| invalid())?)
            }
            None | Some(_) => return Err(invalid()),
        };
        Ok(Self(init))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse_subnet;

    fn consensus() -> Init {
        "consensus".parse().unwrap()
    }

    fn allocation(range: Option<&str>, default_subnet: Option<&str>) -> Result<Option<Allocation>, AllocationError> {
        Allocation::new(range, default_subnet, Some(consensus()))
    }

    #[test]
    fn in_a_cloud_the_listed_machines_share_the_range_out_unless_the_operator_said_how() {
        let init = |init| Allocation::new(None, None, init).unwrap().unwrap().in_a_cloud().init;

        assert_eq!(init(None), ipam::Init::Listed);
        assert_eq!(init(Some(consensus())), ipam::Init::Consensus(None));
    }

    #[test]
    fn a_range_is_there_unless_it_is_emptied() {
        let ranges = |range| allocation(range, None).unwrap().map(|allocation| allocation.config.range.to_string());

        assert_eq!(ranges(None).as_deref(), Some("10.32.0.0/12"));
        assert_eq!(ranges(Some("10.2.0.0/16")).as_deref(), Some("10.2.0.0/16"));
        assert_eq!(ranges(Some("")), None);
    }

    #[test]
    fn what_cannot_be_a_range_says_what_to_give() {
        for (range, default_subnet, remedy) in [
            (Some("10.2.0.1/16"), None, "did you mean 10.2.0.0/16?"),
            (Some("10.2.0.0/31"), None, "at most 30"),
            (Some("10.2.0.0"), None, "--ipalloc-range"),
            (Some("224.0.0.0/4"), None, "10.32.0.0/12"),
            (None, Some("10.2.0.0/16"), "10.32.0.0/12"),
            (Some(""), Some("10.2.0.0/16"), "leave it out"),
        ] {
            let error = allocation(range, default_subnet).unwrap_err().to_string();

            assert!(error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn a_default_subnet_may_be_wider_than_the_range() {
        let allocation = allocation(Some("10.32.1.0/24"), Some("10.32.0.0/12")).unwrap().unwrap();

        assert_eq!(allocation.config.default_subnet.to_string(), "10.32.0.0/12");
    }

    #[test]
    fn the_default_range_must_be_unused_and_a_chosen_one_need_not() {
        let routes = ["192.168.0.0/16", "10.40.0.0/16"].map(|text| parse_subnet(text).unwrap());
        let by_default = allocation(None, None).unwrap().unwrap();
        let by_operator = allocation(Some("10.32.0.0/12"), None).unwrap().unwrap();

        assert!(by_default.check_routes(&routes).unwrap_err().to_string().contains("10.40.0.0/16"));
        assert!(by_operator.check_routes(&routes).unwrap().unwrap().contains("10.40.0.0/16"));
        assert_eq!(by_default.check_routes(&routes[..1]), Ok(None));
    }

    #[test]
    fn a_beginning_is_by_consensus_by_seed_or_observed() {
        let parsed = |text: &str| text.parse::<Init>().map(|init| init.0);

        assert_eq!(parsed("consensus"), Ok(ipam::Init::Consensus(None)));
        assert_eq!(parsed("consensus=3"), Ok(ipam::Init::Consensus(Some(3))));
        assert_eq!(parsed("observer"), Ok(ipam::Init::Observer));
        assert!(matches!(parsed("seed=::1,::2"), Ok(ipam::Init::Seed(names)) if names.len() == 2));
        for text in ["", "consensus=0", "consensus=x", "seed=", "seed=host1", "observer=1"] {
            assert!(parsed(text).unwrap_err().to_string().contains("seed=NAME"), "{text}");
        }
    }
}
