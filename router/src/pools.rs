//! From which of our addresses a network of Docker's has its own. Pure.
//!
//! ```text
//!   --ipalloc-range           10.32.0.0/12
//!   └ docker network create   the default subnet, or --subnet 10.33.0.0/16    its containers' prefix length
//!     └ --ip-range            10.33.4.0/24                                    where they are given theirs
//! ```
//!
//! Invariant: a pool lies in the range, so none of its addresses is given twice in the mesh.

use std::net::{IpAddr, Ipv4Addr};

use weave_docker::plugin::Pool;
use weave_docker::wish::Cidr as DockerCidr;
use weave_mesh::ipam::{Cidr, Config, SUBNET_PREFIX_MAX};

/// Why a network cannot have these addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error(
        "the default subnet {0} is taken: another network of this host has it, or the host has a route to it; \
         give --subnet {0} to have it all the same, or another part of --ipalloc-range"
    )]
    Given(Cidr),
    #[error("{subnet} does not lie in --ipalloc-range {range}; choose a part of it")]
    Elsewhere { subnet: DockerCidr, range: Cidr },
    #[error("{0} has fewer than 4 addresses; give a prefix length of at most {SUBNET_PREFIX_MAX}")]
    TooSmall(DockerCidr),
    #[error("{address} does not lie in {subnet}, the subnet of its network")]
    NotInside { address: Ipv4Addr, subnet: DockerCidr },
}

/// What a network has that was made without a subnet.
pub fn default(config: &Config) -> Pool {
    let subnet = config.default_subnet;
    let subnet = DockerCidr { address: subnet.address().into(), prefix_length: subnet.prefix_len() };
    Pool { subnet, part: None }
}

/// A pool that was asked for, if a network may have it.
///
/// # Errors
/// When it has addresses that are not ours to give, or none.
pub fn checked(pool: Pool, config: &Config) -> Result<Pool, PoolError> {
    source(pool)?;
    let (subnet, range) = (ours(pool.subnet)?, config.range);
    let is_ours = range.range().covers(subnet.range()) || subnet == config.default_subnet;
    if is_ours { Ok(pool) } else { Err(PoolError::Elsewhere { subnet: pool.subnet, range }) }
}

/// From where a container on it is given an address.
///
/// # Errors
/// When that has none.
pub fn source(pool: Pool) -> Result<Cidr, PoolError> {
    let source = pool.part.unwrap_or(pool.subnet);
    let cidr = ours(source)?;
    if cidr.hosts().is_some() { Ok(cidr) } else { Err(PoolError::TooSmall(source)) }
}

/// An address that was asked for, with the prefix length of its pool.
///
/// # Errors
/// When it lies elsewhere.
pub fn member(pool: Pool, address: Ipv4Addr) -> Result<Cidr, PoolError> {
    let subnet = ours(pool.subnet)?;
    let outside = || PoolError::NotInside { address, subnet: pool.subnet };
    let is_inside = subnet.range().contains(address.into());
    Cidr::new(address, subnet.prefix_len()).ok().filter(|_| is_inside).ok_or_else(outside)
}

/// A subnet as the mesh knows it, which is IPv4.
fn ours(subnet: DockerCidr) -> Result<Cidr, PoolError> {
    let IpAddr::V4(address) = subnet.address else { return Err(PoolError::TooSmall(subnet)) };
    Cidr::new(address, subnet.prefix_length).map_err(|_| PoolError::TooSmall(subnet))
}

#[cfg(test)]
mod tests {
    use weave_mesh::ipam::Init;

    use super::*;

    fn config() -> Config {
        let [range, default_subnet] = ["10.32.0.0/12", "10.33.0.0/16"].map(|text| text.parse().unwrap());
        Config { range, default_subnet, init: Init::Consensus(None) }
    }

    fn check(pool: &str) -> Result<String, String> {
        let pool = pool.parse().unwrap();
        checked(pool, &config()).map(|pool| pool.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_network_has_a_part_of_the_range() {
        for pool in ["10.32.0.0/12", "10.40.1.0/24", "10.40.1.0/24,10.40.1.128/25", "10.33.0.0/16", "10.40.1.0/30"] {
            assert_eq!(check(pool), Ok(pool.to_owned()));
        }
        for pool in ["10.0.0.0/8", "172.18.0.0/16", "10.48.0.0/16"] {
            assert!(check(pool).unwrap_err().contains("--ipalloc-range 10.32.0.0/12"), "{pool}");
        }
        for pool in ["10.40.1.0/31", "10.40.1.0/24,10.40.1.7/32"] {
            assert!(check(pool).unwrap_err().contains("fewer than 4"), "{pool}");
        }
        assert_eq!(default(&config()).to_string(), "10.33.0.0/16");
    }

    #[test]
    fn a_default_subnet_beside_the_range_is_what_the_operator_wished() {
        let config = Config { default_subnet: "10.0.0.0/8".parse().unwrap(), ..config() };

        assert_eq!(checked("10.0.0.0/8".parse().unwrap(), &config), Ok(default(&config)));
    }

    #[test]
    fn containers_are_given_addresses_of_the_part_and_may_ask_for_any_of_the_subnet() {
        let pool: Pool = "10.40.0.0/16,10.40.4.0/24".parse().unwrap();

        assert_eq!(source(pool), Ok("10.40.4.0/24".parse().unwrap()));
        assert_eq!(member(pool, [10, 40, 9, 9].into()), Ok("10.40.9.9/16".parse().unwrap()));
        let error = member(pool, [10, 41, 0, 1].into()).unwrap_err().to_string();
        assert!(error.contains("10.41.0.1") && error.contains("10.40.0.0/16"), "{error}");
    }
}
