//! Who may ask: this host, and containers on it. Nobody else is answered, so that no host is an open resolver.
//!
//! | source of a query | why it may ask |
//! |---|---|
//! | loopback, any address of this host | the kernel drops these when they come from outside |
//! | networks of Docker's bridges (`docker0`, `br-…`) | containers that are not, or not only, on the overlay |
//! | addresses of containers attached here | their queries to the resolver's address come in by the bridge |

use std::collections::BTreeSet;
use std::net::IpAddr;

use weave_datapath::linux::interfaces::Interface;
use weave_mesh::card::Subnet;

/// The bridge of Docker's default network.
pub(super) const DOCKER_BRIDGE: &str = "docker0";
/// How Docker calls the bridges of its other networks.
const DOCKER_NETWORK_PREFIX: &str = "br-";

/// Addresses of this host and around it, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Askers {
    own: BTreeSet<IpAddr>,
    networks: Vec<Subnet>,
}

impl Askers {
    pub fn of(interfaces: &[Interface]) -> Self {
        let own = interfaces.iter().map(|interface| interface.subnet.address).collect();
        let is_docker = |interface: &&Interface| {
            interface.name == DOCKER_BRIDGE
                || (interface.is_bridge && interface.name.starts_with(DOCKER_NETWORK_PREFIX))
        };
        Self { own, networks: interfaces.iter().filter(is_docker).map(|interface| interface.subnet).collect() }
    }

    /// Whether `source` may ask. `attached` are the addresses of containers attached on this host.
    pub fn may_ask(&self, source: IpAddr, attached: &BTreeSet<IpAddr>) -> bool {
        let source = source.to_canonical();
        source.is_loopback()
            || attached.contains(&source)
            || self.own.contains(&source)
            || self.networks.iter().any(|network| network.contains(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse_subnet;

    fn interface(name: &str, is_bridge: bool, subnet: &str) -> Interface {
        Interface { name: name.to_owned(), index: 1, is_bridge, subnet: parse_subnet(subnet).unwrap() }
    }

    #[test]
    fn this_host_and_its_containers_may_ask_and_nobody_else() {
        let askers = Askers::of(&[
            interface("eth0", false, "192.0.2.7/24"),
            interface("docker0", true, "172.17.0.1/16"),
            interface("br-0123456789ab", true, "172.18.0.1/16"),
            interface("br0", true, "198.51.100.1/24"),
            interface("br-lan", false, "203.0.113.1/24"),
        ]);
        let attached = BTreeSet::from([IpAddr::from([10, 32, 0, 1])]);
        let may_ask = |source: &str| askers.may_ask(source.parse().unwrap(), &attached);

        for source in ["127.0.0.1", "::1", "192.0.2.7", "172.17.0.9", "172.18.0.9", "10.32.0.1", "::ffff:10.32.0.1"] {
            assert!(may_ask(source), "{source}");
        }
        for source in ["192.0.2.8", "198.51.100.2", "203.0.113.9", "10.32.0.2", "8.8.8.8", "2001:db8::1"] {
            assert!(!may_ask(source), "{source}");
        }
    }
}
