//! Who may ask: this host, and containers on it. Nobody else is answered, so that no host is an open resolver.
//!
//! | source of a query | segment | why it may ask |
//! |---|---|---|
//! | loopback, any address of this host | host | the kernel drops these when they come from outside |
//! | networks of Docker's bridges (`docker0`, `br-…`) | that network | containers that are not, or not only, on the overlay |
//! | addresses of containers attached here | overlay | their queries to the resolver's address come in by the bridge |

use std::collections::BTreeSet;
use std::net::IpAddr;

use weave_datapath::linux::interfaces::Interface;
use weave_mesh::card::Subnet;

/// The bridge of Docker's default network.
pub(super) const DOCKER_BRIDGE: &str = "docker0";
/// How Docker calls the bridges of its other networks.
const DOCKER_NETWORK_PREFIX: &str = "br-";

/// Where an asker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    Host,
    /// The edge guard sees to it that every address is its container's own.
    Overlay,
    /// One of Docker's networks.
    Docker(Subnet),
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub source: IpAddr,
    pub segment: Segment,
}

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

    /// Who asks from `source`; nobody who may. `attached` are the addresses of containers attached on this host.
    pub fn find(&self, source: IpAddr, attached: &BTreeSet<IpAddr>) -> Option<Asker> {
        let source = source.to_canonical();
        let segment = if attached.contains(&source) {
            Segment::Overlay
        } else if source.is_loopback() || self.own.contains(&source) {
            Segment::Host
        } else {
            Segment::Docker(self.networks.iter().find(|network| network.contains(source))?.network())
        };
        Some(Asker { source, segment })
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
        let docker = |subnet: &str| Segment::Docker(parse_subnet(subnet).unwrap());
        let askers = Askers::of(&[
            interface("eth0", false, "192.0.2.7/24"),
            interface("docker0", true, "172.17.0.1/16"),
            interface("br-0123456789ab", true, "172.18.0.1/16"),
            interface("br0", true, "198.51.100.1/24"),
            interface("br-lan", false, "203.0.113.1/24"),
        ]);
        let attached = BTreeSet::from([IpAddr::from([10, 32, 0, 1])]);
        let segment = |source: &str| askers.find(source.parse().unwrap(), &attached).map(|asker| asker.segment);

        for source in ["127.0.0.1", "::1", "192.0.2.7"] {
            assert_eq!(segment(source), Some(Segment::Host), "{source}");
        }
        for source in ["10.32.0.1", "::ffff:10.32.0.1"] {
            assert_eq!(segment(source), Some(Segment::Overlay), "{source}");
        }
        assert_eq!(segment("172.17.0.9"), Some(docker("172.17.0.0/16")));
        assert_eq!(segment("172.18.0.9"), Some(docker("172.18.0.0/16")));
        for source in ["192.0.2.8", "198.51.100.2", "203.0.113.9", "10.32.0.2", "8.8.8.8", "2001:db8::1"] {
            assert_eq!(segment(source), None, "{source}");
        }
    }
}
