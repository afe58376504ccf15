//! The ports of Docker's endpoints: written down when Docker makes an endpoint, with a tenant while a container has it.
//!
//! ```text
//!   expect ─► waits ─► plan, settle ─► open ─► close ─► waits ─► remove
//!                        └ the container, once Docker tells: introduce
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use weave_datapath::linux::veth::Attached;
use weave_mesh::name::MacAddr;

use super::{Attachment, Ledger};
use crate::attach::{Container, Endpoint};

/// Routes that a container has beside those to its subnets. Each goes by one of its ports: Docker can make it once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// To where its host answers for names.
    pub resolver: bool,
    /// All IPv4 multicast.
    pub multicast: bool,
}

impl Ledger {
    /// Writes down what the port of an endpoint is going to have.
    pub fn expect(&mut self, endpoint: &Endpoint, port: &Attached) {
        let entry = Attachment {
            mac: port.mac,
            addresses: port.addresses.clone(),
            holder: endpoint.label(),
            tenants: Vec::new(),
            attached: 0,
            routes: Routes::default(),
        };
        self.entries.insert(port.host_link.to_string(), entry);
    }

    /// A port is gone: what it was. That of an endpoint stays written down as long as Docker has the endpoint.
    pub fn close(&mut self, host_link: &str) -> Option<Attachment> {
        let entry = self.entries.get_mut(host_link)?;
        if !entry.is_endpoint() {
            return self.remove(host_link);
        }
        let before = entry.clone();
        (entry.tenants, entry.routes) = (Vec::new(), Routes::default());
        Some(before)
    }

    /// Which of the `wanted` routes go by an endpoint that a container has joined: those that go by none of its others.
    pub fn route(&mut self, endpoint: &Endpoint, wanted: Routes) -> Routes {
        let label = endpoint.label();
        let sandbox = |entry: &Attachment| entry.tenants.first().map(|tenant| tenant.netns.clone());
        let Some(own) = self.entries.values().find(|entry| entry.holder == label).and_then(sandbox) else {
            return Routes::default();
        };
        let others = self.entries.values().filter(|entry| entry.is_endpoint() && entry.holder != label);
        let routes: Vec<Routes> =
            others.filter(|entry| sandbox(entry).as_ref() == Some(&own)).map(|entry| entry.routes).collect();
        let routes = Routes {
            resolver: wanted.resolver && !routes.iter().any(|it| it.resolver),
            multicast: wanted.multicast && !routes.iter().any(|it| it.multicast),
        };
        self.entries.values_mut().filter(|entry| entry.holder == label).for_each(|entry| entry.routes = routes);
        routes
    }

    /// Docker has the endpoint of this label no more; one with a container behind it stays. Whether it was there.
    pub fn forget_endpoint(&mut self, label: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| !(entry.is_endpoint() && entry.holder == label && entry.tenants.is_empty()));
        self.entries.len() < before
    }

    /// The labels of all endpoints.
    pub fn endpoints(&self) -> BTreeSet<String> {
        let endpoints = self.entries.values().filter(|entry| entry.is_endpoint());
        endpoints.map(|entry| entry.holder.clone()).collect()
    }

    /// The endpoint's container is this one.
    pub fn introduce(&mut self, endpoint: &Endpoint, container: &Container) {
        let label = endpoint.label();
        let its = self.entries.values_mut().filter(|entry| entry.holder == label);
        for tenant in its.flat_map(|entry| &mut entry.tenants) {
            tenant.container.clone_from(&container.label);
            tenant.called = Some(container.called.clone());
        }
    }

    /// The endpoints that have a container of which nothing else is known.
    pub fn strangers(&self) -> impl Iterator<Item = &str> {
        let is_strange = |entry: &&Attachment| entry.tenants.iter().any(|tenant| tenant.container == entry.holder);
        self.entries.values().filter(|entry| entry.is_endpoint()).filter(is_strange).map(|entry| entry.holder.as_str())
    }

    pub fn has_mac(&self, mac: MacAddr) -> bool {
        self.entries.values().any(|entry| entry.mac == mac)
    }

    /// Brings endpoints up to date: nobody is behind a port but where `is_open` says so. Whether anything has changed.
    pub fn revisit(&mut self, is_open: impl Fn(&Endpoint) -> bool) -> bool {
        let mut has_changed = false;
        for entry in self.entries.values_mut().filter(|entry| !entry.tenants.is_empty()) {
            let closed = Endpoint::of_label(&entry.holder).filter(|endpoint| !is_open(endpoint));
            if closed.is_some() {
                (entry.tenants, entry.routes) = (Vec::new(), Routes::default());
                has_changed = true;
            }
        }
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse_subnet;
    use crate::naming::Called;

    const LINK: &str = "vethwepl2000000";

    fn endpoint() -> Endpoint {
        Endpoint::new("0123456789abcdef".repeat(4))
    }

    fn port() -> Attached {
        let addresses = vec![parse_subnet("10.32.0.5/12").unwrap()];
        Attached { host_link: LINK.parse().unwrap(), mac: MacAddr([2, 0, 0, 0, 0, 1]), addresses }
    }

    fn web() -> Container {
        let called = Called { name: Some("web".to_owned()), aliases: vec!["db".to_owned()], ..Called::default() };
        Container { label: "a".repeat(64), netns: "/proc/1/ns/net".into(), called, provisional: false }
    }

    /// With a container behind it.
    fn open() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.expect(&endpoint(), &port());
        ledger.plan(&endpoint().container("/sandbox/1"), &port(), None, 7);
        ledger.settle(&port());
        ledger
    }

    #[test]
    fn an_endpoint_is_made_with_its_container_and_waits_without() {
        let mut ledger = Ledger::default();
        let label = endpoint().label();
        ledger.expect(&endpoint(), &port());
        assert!(!ledger.is_made(LINK) && !ledger.knows(&label));

        ledger.plan(&endpoint().container("/sandbox/1"), &port(), None, 7);
        assert!(!ledger.is_made(LINK), "it is yet to be made");
        ledger.settle(&port());
        assert!(ledger.is_made(LINK) && ledger.knows(&label));
        assert!(!ledger.forget_endpoint(&label), "somebody is behind it");

        assert_eq!(ledger.close(LINK).map(|entry| entry.tenants.len()), Some(1));
        assert!(!ledger.is_made(LINK) && ledger.get(LINK).is_some());
        assert!(ledger.forget_endpoint(&label));
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn a_join_that_fails_leaves_it_waiting() {
        let mut ledger = Ledger::default();
        ledger.expect(&endpoint(), &port());
        let before = ledger.get(LINK).cloned();
        ledger.plan(&endpoint().container("/sandbox/1"), &port(), None, 7);

        ledger.restore(LINK, before.clone());

        assert!(ledger.get(LINK).cloned() == before && !ledger.is_made(LINK));
    }

    #[test]
    fn its_container_is_a_stranger_until_docker_tells_who_it_is() {
        let mut ledger = open();
        assert_eq!(ledger.strangers().collect::<Vec<_>>(), [endpoint().label()]);

        ledger.introduce(&endpoint(), &web());
        ledger.name_within(&"weave.local".parse().unwrap());

        assert_eq!(ledger.strangers().count(), 0);
        let tenant = &ledger.get(LINK).unwrap().tenants[0];
        assert_eq!(
            (&tenant.container, &tenant.names[..]),
            (&web().label, &["web.weave.local.", "db.weave.local."].map(str::to_owned)[..])
        );
        assert_eq!(ledger.addresses(&web()), port().addresses);
    }

    #[test]
    fn its_container_may_have_a_port_of_its_own_beside() {
        let mut ledger = open();
        ledger.introduce(&endpoint(), &web());

        assert_eq!(ledger.port_of(&web().label), None);
        let taken = ledger.admit("vethwepl0000001", &web(), &port().addresses);
        assert!(taken.is_err(), "an address has one port, also where both are one container's");
        assert!(ledger.admit(LINK, &endpoint().container("/sandbox/1"), &port().addresses).is_ok());
    }

    #[test]
    fn a_route_goes_by_one_of_a_containers_ports_and_by_another_when_that_is_gone() {
        let mut ledger = open();
        let (other, link) = (Endpoint::new("f".repeat(64)), "vethwepl3000000");
        let second =
            Attached { host_link: link.parse().unwrap(), mac: MacAddr([2, 0, 0, 0, 0, 2]), addresses: Vec::new() };
        let all = Routes { resolver: true, multicast: true };
        ledger.expect(&other, &second);
        assert_eq!(ledger.route(&other, all), Routes::default(), "nobody is behind it");

        assert_eq!(ledger.route(&endpoint(), Routes { multicast: false, ..all }), Routes { multicast: false, ..all });
        ledger.plan(&other.container("/sandbox/1"), &second, None, 7);
        assert_eq!(ledger.route(&other, all), Routes { resolver: false, ..all });
        ledger.close(LINK);
        assert_eq!(ledger.route(&other, all), all);
        ledger.close(link);
        ledger.plan(&other.container("/sandbox/2"), &second, None, 7);
        ledger.plan(&endpoint().container("/sandbox/1"), &port(), None, 7);
        assert_eq!([ledger.route(&other, all), ledger.route(&endpoint(), all)], [all, all], "two containers");
    }

    #[test]
    fn at_a_start_nobody_is_behind_a_port_that_is_not_open() {
        let mut ledger = open();

        assert!(ledger.refresh(|_, _| None).is_empty());
        assert!(!ledger.revisit(|_| true));
        assert!(ledger.is_made(LINK));
        assert!(ledger.revisit(|_| false));
        assert!(!ledger.is_made(LINK) && ledger.endpoints().contains(&endpoint().label()));
    }
}
