//! Where names are served.
//!
//! ```text
//!   169.254.65.53 ─┬─ on the bridge ── for containers: answers leave by the bridge, to which no route leads
//!                  └─ on lo ────────── for this host
//!   docker0, or each --dns-listen-address, by whatever device questions come
//! ```
//!
//! A socket bound to a device looks for routes by that device only, and where there is none the kernel takes the asker to
//! be on its link (Linux, `ip_route_output_key_hash_rcu`). So names need no route, table or rule on this host; a rule, be
//! it never used, makes the kernel look up every packet of every container in a slower way.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Socket, Type};
use weave_datapath::linux::interfaces::Interface;
use weave_datapath::plan::RESOLVER;

use super::asker::DOCKER_BRIDGE;
use crate::config::BridgeName;

const PORT: u16 = 53;
const LOOPBACK: &str = "lo";

/// An address, and the one device by which questions come and answers leave; `None` stands for all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub(super) address: SocketAddr,
    device: Option<Device>,
}

/// A device that is made anew is another one: sockets stay bound to that which is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Device {
    index: u32,
    name: String,
}

impl Place {
    pub(super) const fn anywhere(address: SocketAddr) -> Self {
        Self { address, device: None }
    }

    fn resolver_on(interface: &Interface) -> Self {
        let device = Device { index: interface.index, name: interface.name.clone() };
        Self { address: SocketAddr::new(RESOLVER.into(), PORT), device: Some(device) }
    }

    pub(super) fn bind(&self, kind: Type) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), kind.nonblocking(), None)?;
        if kind == Type::STREAM {
            socket.set_reuse_address(true)?;
        }
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.name.as_bytes()))?;
        }
        socket.bind(&self.address.into())?;
        Ok(socket)
    }
}

impl Display for Place {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match &self.device {
            Some(device) => write!(formatter, "{} on {}", self.address, device.name),
            None => self.address.fmt(formatter),
        }
    }
}

/// Where names are to be served on a host with these `interfaces`.
pub(super) fn wanted(listen: &[SocketAddr], bridge: &BridgeName, interfaces: &[Interface]) -> BTreeSet<Place> {
    let resolver = interfaces
        .iter()
        .find(|interface| interface.name == bridge.as_ref() && interface.subnet.address == IpAddr::from(RESOLVER));
    let loopback = interfaces.iter().find(|interface| interface.name == LOOPBACK).filter(|_| resolver.is_some());
    let docker = interfaces.iter().find(|interface| interface.name == DOCKER_BRIDGE).filter(|_| listen.is_empty());
    let docker = docker.map(|interface| SocketAddr::new(interface.subnet.address, PORT));
    let anywhere = listen.iter().copied().chain(docker).map(Place::anywhere);
    [resolver, loopback].into_iter().flatten().map(Place::resolver_on).chain(anywhere).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse_subnet;

    fn interface(name: &str, index: u32, subnet: &str) -> Interface {
        Interface { name: name.to_owned(), index, is_bridge: false, subnet: parse_subnet(subnet).unwrap() }
    }

    fn told(listen: &[&str], interfaces: &[Interface]) -> Vec<String> {
        let listen: Vec<SocketAddr> = listen.iter().map(|address| address.parse().unwrap()).collect();
        wanted(&listen, &"weave".parse().unwrap(), interfaces).iter().map(Place::to_string).collect()
    }

    #[test]
    fn containers_and_this_host_are_served_at_the_resolvers_address_once_the_bridge_has_it() {
        let mut interfaces = vec![
            interface("lo", 1, "127.0.0.1/8"),
            interface("weave", 7, "10.32.0.1/12"),
            interface("other", 8, "169.254.65.53/32"),
        ];
        assert_eq!(told(&[], &interfaces), Vec::<String>::new());

        interfaces.push(interface("weave", 7, "169.254.65.53/32"));
        assert_eq!(told(&[], &interfaces), ["169.254.65.53:53 on lo", "169.254.65.53:53 on weave"]);
    }

    #[test]
    fn dockers_bridge_is_served_unless_other_addresses_are_given() {
        let interfaces = [interface("lo", 1, "127.0.0.1/8"), interface("docker0", 3, "172.17.0.1/16")];

        assert_eq!(told(&[], &interfaces), ["172.17.0.1:53"]);
        assert_eq!(told(&["127.0.0.1:5353"], &interfaces), ["127.0.0.1:5353"]);
    }

    #[test]
    fn a_bridge_that_was_made_anew_is_another_place() {
        let place = |index| Place::resolver_on(&interface("weave", index, "169.254.65.53/32"));

        assert_ne!(place(7), place(9));
    }
}
