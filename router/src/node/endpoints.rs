//! Endpoints of Docker's networks, as control sees them: what Docker tells before there is a container, and what is found
//! out of it afterwards.
//!
//! ```text
//!   address asked for ─► endpoint made ─► joined (attaching.rs) ─► started: whose is it? ─► its names
//!   docker:…             endpoint:…, in the ledger                  from the engine (following.rs)
//! ```
//!
//! Docker gives all of it back, one by one; what it gave up on while nobody listened is found by counting, and so is what
//! our books have lost.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use tracing::warn;
use weave_datapath::linux::veth::Attached;
use weave_datapath::plan::{LinkName, Resolver};
use weave_docker::Health;
use weave_docker::events::{Census, ContainerEvent, Resident};
use weave_docker::plugin::Mac;
use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::Control;
use super::addressing::cidr;
use super::attaching::any_mac;
use crate::attach::endpoint::is_asked;
use crate::attach::{AttachError, Container, Endpoint, Routes};
use crate::request::{Holder, NetworkRequest};

impl Control {
    pub(super) fn handle_network(&mut self, request: NetworkRequest) {
        match request {
            NetworkRequest::CreateEndpoint { endpoint, address, mac, reply } => {
                let _ = reply.send(self.create_endpoint(&endpoint, address, mac));
            }
            NetworkRequest::ReturnAddress { address, reply } => drop(reply.send(self.return_address(address))),
            NetworkRequest::SetMulticast { network, is_routed, reply } => {
                let _ = reply.send(self.set_multicast(&network, is_routed));
            }
            NetworkRequest::Route { endpoint, network, reply } => drop(reply.send(self.route(&endpoint, &network))),
        }
    }

    /// Asked twice it answers twice.
    fn create_endpoint(
        &mut self,
        endpoint: &Endpoint,
        address: Subnet,
        mac: Option<MacAddr>,
    ) -> Result<MacAddr, AttachError> {
        let host_link = endpoint.ends()?.host;
        if let Some(known) = self.ledger.get(host_link.as_str()) {
            let is_same = known.holder == endpoint.label() && known.addresses == [address];
            return if is_same { Ok(known.mac) } else { Err(AttachError::EndpointTaken(endpoint.clone())) };
        }
        let not_asked = || AttachError::NotAsked(address.address);
        let IpAddr::V4(number) = address.address else { return Err(not_asked()) };
        let holder = self.holder(address.address).filter(|holder| is_asked(&holder.container)).ok_or_else(not_asked)?;
        self.ledger.admit(host_link.as_str(), &endpoint.container(""), &[address])?;
        let mac = self.free_mac(mac)?;
        self.ledger.expect(endpoint, &Attached { host_link: host_link.clone(), mac, addresses: vec![address] });
        if let Err(error) = self.store.write_ledger(&self.ledger) {
            self.ledger.remove(host_link.as_str());
            return Err(error.into());
        }
        self.node.pass_on(&holder.container, &endpoint.label(), &[number], self.clock.now());
        Ok(mac)
    }

    fn free_mac(&self, wanted: Option<MacAddr>) -> Result<MacAddr, AttachError> {
        match wanted {
            Some(mac) if self.ledger.has_mac(mac) => Err(AttachError::MacTaken(mac)),
            Some(mac) => Ok(mac),
            None => Ok(any_mac()),
        }
    }

    /// What Docker has no more is free; what was free already is no matter.
    fn return_address(&mut self, address: Ipv4Addr) -> Result<(), AttachError> {
        let Some(Holder { container, .. }) = self.holder(address.into()) else { return Ok(()) };
        let is_dockers = is_asked(&container) || Endpoint::of_label(&container).is_some();
        if !is_dockers || self.ledger.knows(&container) {
            return Err(AttachError::InUse { address: address.into(), holder: container });
        }
        if self.ledger.forget_endpoint(&container) {
            self.keep_ledger();
        }
        let _ = self.release(&container, Some(address));
        Ok(())
    }

    fn route(&mut self, endpoint: &Endpoint, network: &str) -> Routes {
        let resolver = self.weaving.loom().resolver == Resolver::Served;
        let routes =
            self.ledger.route(endpoint, Routes { resolver, multicast: self.networks.routes_multicast(network) });
        self.keep_ledger();
        routes
    }

    fn set_multicast(&mut self, network: &str, is_routed: bool) -> Result<(), AttachError> {
        let before = self.networks.clone();
        self.networks.set_multicast(network, is_routed)?;
        if self.networks != before
            && let Err(error) = self.store.write_networks(&self.networks)
        {
            self.networks = before;
            return Err(error.into());
        }
        Ok(())
    }

    /// Endpoints that no container has are given up, unless one joins after all; those of containers that run are not.
    pub(super) fn count_endpoints(&mut self, census: &Census) {
        let seated = census.values().flat_map(|it| &it.endpoints);
        let seated: BTreeSet<String> = seated.map(|found| Endpoint::new(&found.id).label()).collect();
        let filed = self.node.all_addresses().into_keys().filter(|label| Endpoint::of_label(label).is_some());
        for endpoint in filed.chain(self.ledger.endpoints()).collect::<BTreeSet<String>>() {
            let is_seated = seated.contains(&endpoint);
            let event = if is_seated { ContainerEvent::Started(Health::default()) } else { ContainerEvent::Died };
            self.handle_container_event(&endpoint, event);
        }
    }

    /// Ports that no book has, since the state directory was lost: what they have is what the engine says of containers that
    /// run.
    pub(super) fn adopt_endpoints(&mut self, census: &Census) {
        let before = self.orphans.len();
        for found in census.values().flat_map(|it| &it.endpoints) {
            if let Ok(ends) = Endpoint::new(&found.id).ends()
                && self.orphans.remove(&ends.host)
            {
                self.adopt_endpoint(found, ends.host);
            }
        }
        if self.orphans.len() < before {
            self.keep_ledger();
            self.publish_endpoints();
            self.weaving.touch(self.clock.now());
        }
    }

    fn adopt_endpoint(&mut self, found: &weave_docker::Endpoint, host_link: LinkName) {
        let endpoint = Endpoint::new(&found.id);
        let (Some(address), Some(Mac(mac))) = (found.address, found.mac) else { return };
        let address = Subnet { address: address.address, prefix_len: address.prefix_length };
        let container = endpoint.container("");
        let admitted = self.ledger.admit(host_link.as_str(), &container, &[address]);
        let is_anothers = self.holder(address.address).is_some_and(|holder| holder.container != endpoint.label());
        let (Ok(()), false, Some(held)) = (admitted, is_anothers, cidr(address)) else {
            warn!(%endpoint, address = %address.address, "an address is another's by now: its container is closed");
            return;
        };
        let port = Attached { host_link, mac: MacAddr(mac), addresses: vec![address] };
        warn!(%endpoint, port = %port.host_link, address = %address.address, "a container that no book has was found, and is kept");
        self.ledger.expect(&endpoint, &port);
        self.ledger.plan(&container, &port, None, self.node.next_attach_time());
        self.ledger.settle(&port);
        self.node.resume_containers(&[(endpoint.label(), held)], self.clock.now());
    }

    /// Of which containers it is to be told what they are called.
    pub(super) fn unnamed(&self, census: &Census) -> Vec<String> {
        let strangers: BTreeSet<&str> = self.ledger.strangers().collect();
        let is_strange = |it: &Resident| {
            it.endpoints.iter().any(|found| strangers.contains(Endpoint::new(&found.id).label().as_str()))
        };
        let strange = census.iter().filter(|(_, resident)| is_strange(resident)).map(|(id, _)| id.clone());
        self.ledger.nameless().into_iter().chain(strange).collect()
    }

    /// Whether a container may be the one of an endpoint of which nobody knows whose it is.
    pub(super) fn may_be_a_strangers(&self, event: ContainerEvent) -> bool {
        let is_new = matches!(event, ContainerEvent::Started(_) | ContainerEvent::Connected);
        is_new && self.ledger.strangers().next().is_some()
    }

    /// A container that was found running has these endpoints, and is called so on them.
    pub(super) fn introduce(&mut self, container: &Container, endpoints: Vec<(Endpoint, Vec<String>)>) {
        for (endpoint, aliases) in endpoints {
            let mut there = container.clone();
            there.called.aliases = aliases;
            self.ledger.introduce(&endpoint, &there);
            self.revive(&endpoint.label());
        }
    }
}
