//! The containers that this host has attached, as they are written down.
//!
//! Invariants:
//! - no two entries share a container, a host-side device, a MAC or an address;
//! - an entry's `attached` time is higher than that of every endpoint that was known when it last gained an address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weave_datapath::linux::veth::Attached;
use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::{AttachError, Container};
use crate::config::DnsDomain;
use crate::naming::{Called, Pattern};

/// How many containers one host attaches.
const ATTACHMENTS_MAX: usize = 4_096;

/// One attached container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub container: String,
    pub netns: PathBuf,
    pub mac: MacAddr,
    pub addresses: Vec<Subnet>,
    /// The name that leads to all of them.
    pub name: Option<String>,
    /// What it is named after; its engine is to be asked where it is unknown.
    pub called: Option<Called>,
    /// Lamport time of the last change; of two claims to an address the higher one wins.
    pub attached: u64,
}

impl Attachment {
    fn is_of(&self, container: &Container) -> bool {
        self.netns == container.netns || self.container == container.label
    }
}

/// All of them, by host-side device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    entries: BTreeMap<String, Attachment>,
}

impl Ledger {
    /// Whether `container` may have `addresses` on this host.
    ///
    /// # Errors
    /// Names another container that holds one of them.
    pub fn admit(&self, container: &Container, addresses: &[Subnet]) -> Result<(), AttachError> {
        let others = || self.entries.values().filter(|entry| !entry.is_of(container));
        let holder =
            |address: IpAddr| others().find(|entry| entry.addresses.iter().any(|subnet| subnet.address == address));
        for subnet in addresses {
            if let Some(other) = holder(subnet.address) {
                return Err(AttachError::AddressTaken { address: subnet.address, holder: other.container.clone() });
            }
        }
        let is_known = self.entries.values().any(|entry| entry.netns == container.netns);
        if !is_known && self.entries.len() >= ATTACHMENTS_MAX {
            return Err(AttachError::TooManyContainers(self.entries.len()));
        }
        Ok(())
    }

    pub fn has_port(&self, host_link: &str) -> bool {
        self.entries.contains_key(host_link)
    }

    /// Writes down a container that was found running, with what its port has.
    pub fn adopt(&mut self, container: &Container, port: &Attached, called: Option<Called>) {
        self.record(container, port, None, 0);
        if let Some(entry) = self.entries.get_mut(port.host_link.as_str()) {
            entry.called = called;
        }
    }

    /// Names every container of which it is known what it is called: the domain may be another one than before.
    pub fn name_within(&mut self, domain: &DnsDomain) {
        for entry in self.entries.values_mut() {
            if let Some(called) = &entry.called {
                entry.name = called.within(domain);
            }
        }
    }

    /// Those of which it is not.
    pub fn nameless(&self) -> Vec<String> {
        let nameless = self.entries.values().filter(|entry| entry.called.is_none());
        nameless.map(|entry| entry.container.clone()).collect()
    }

    /// What `container` is called, if that was not known.
    pub fn call(&mut self, container: &Container) {
        let its = |entry: &&mut Attachment| entry.container == container.label && entry.called.is_none();
        for entry in self.entries.values_mut().filter(its) {
            entry.called = Some(container.called.clone());
            entry.netns.clone_from(&container.netns);
        }
    }

    /// Which container has an address.
    pub fn holder(&self, address: IpAddr) -> Option<&str> {
        let has = |entry: &&Attachment| entry.addresses.iter().any(|subnet| subnet.address == address);
        self.entries.values().find(has).map(|entry| entry.container.as_str())
    }

    /// Writes down what a container has; `name` is what it is called from now on, `None` leaves it as it was. `clock` is
    /// the highest Lamport time in use anywhere.
    pub fn record(&mut self, container: &Container, port: &Attached, name: Option<Option<String>>, clock: u64) {
        let host_link = port.host_link.to_string();
        let known = self.entries.get(&host_link);
        let gains = known.is_none_or(|entry| {
            entry.mac != port.mac || port.addresses.iter().any(|subnet| !entry.addresses.contains(subnet))
        });
        let attached = match known {
            Some(entry) if !gains => entry.attached,
            Some(_) | None => clock.max(self.clock()).saturating_add(1),
        };
        let entry = Attachment {
            container: container.label.clone(),
            netns: container.netns.clone(),
            mac: port.mac,
            addresses: port.addresses.clone(),
            called: match &name {
                Some(_) => Some(container.called.clone()),
                None => known.and_then(|entry| entry.called.clone()),
            },
            name: name.unwrap_or_else(|| known.and_then(|entry| entry.name.clone())),
            attached,
        };
        // A container that was started again has another namespace; what its former one has left is closed.
        self.entries.retain(|_, other| other.container != entry.container);
        self.entries.insert(host_link, entry);
    }

    /// Removes the container behind a device that is gone.
    pub fn remove(&mut self, host_link: &str) -> Option<Attachment> {
        self.entries.remove(host_link)
    }

    /// Removes a container by its namespace.
    pub fn remove_container(&mut self, container: &Container) -> Option<Attachment> {
        let host_link = self.entries.iter().find(|(_, entry)| entry.netns == container.netns)?.0.clone();
        self.remove(&host_link)
    }

    /// Takes names away; returns whether there were any. A name goes with its container, not with one address.
    pub fn remove_names(&mut self, pattern: &Pattern) -> bool {
        let mut removed = false;
        for entry in self.entries.values_mut() {
            let matches = |name: &mut String| pattern.matches(&entry.container, None, name);
            if entry.name.take_if(matches).is_some() {
                // Nor does it get it back at the next start.
                entry.called = Some(Called::default());
                removed = true;
            }
        }
        removed
    }

    /// What a container has; empty when it is not attached.
    pub fn addresses(&self, container: &Container) -> Vec<Subnet> {
        let entry = self.entries.values().find(|entry| entry.netns == container.netns);
        entry.map(|entry| entry.addresses.clone()).unwrap_or_default()
    }

    /// Brings every entry up to what `inspect` finds behind its device and namespace, and drops those of which nothing
    /// is found; their containers are the answer.
    pub fn refresh(&mut self, inspect: impl Fn(&str, &Path) -> Option<Attached>) -> Vec<String> {
        let mut gone = Vec::new();
        self.entries.retain(|host_link, entry| match inspect(host_link, &entry.netns) {
            Some(port) => {
                entry.mac = port.mac;
                entry.addresses = port.addresses;
                true
            }
            None => {
                gone.push(entry.container.clone());
                false
            }
        });
        gone
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, &Attachment)> {
        self.entries.iter().map(|(host_link, entry)| (host_link.as_str(), entry))
    }

    fn clock(&self) -> u64 {
        self.entries.values().map(|entry| entry.attached).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse_subnet;

    fn container(name: &str) -> Container {
        Container { label: name.to_owned(), netns: format!("/run/netns/{name}").into(), ..Container::default() }
    }

    fn port(host_link: &str, addresses: &[&str]) -> Attached {
        Attached {
            host_link: host_link.parse().unwrap(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            addresses: addresses.iter().map(|text| parse_subnet(text).unwrap()).collect(),
        }
    }

    #[test]
    fn an_address_belongs_to_one_container_of_a_host() {
        let mut ledger = Ledger::default();
        ledger.record(&container("a"), &port("vethwepla", &["10.32.0.1/12"]), None, 0);
        let address = [parse_subnet("10.32.0.1/12").unwrap()];

        let again = ledger.admit(&container("a"), &address);
        let other = ledger.admit(&container("b"), &address);

        assert!(again.is_ok());
        assert_eq!(
            other.unwrap_err().to_string(),
            "10.32.0.1 is held by container a on this host; detach it there first"
        );
    }

    #[test]
    fn a_container_that_was_started_again_takes_its_address_along() {
        let mut ledger = Ledger::default();
        let again = Container { netns: "/proc/2/ns/net".into(), ..container("a") };
        let address = [parse_subnet("10.32.0.1/12").unwrap()];
        ledger.record(&container("a"), &port("vethwepla", &["10.32.0.1/12"]), None, 0);

        assert!(ledger.admit(&again, &address).is_ok());
        ledger.record(&again, &port("vethweplb", &["10.32.0.1/12"]), None, 0);

        assert_eq!(ledger.entries().map(|(host_link, _)| host_link).collect::<Vec<_>>(), ["vethweplb"]);
    }

    #[test]
    fn a_container_is_named_as_soon_as_there_is_a_domain_and_as_it_is_called() {
        let domain = "weave.local".parse().unwrap();
        let called = |name: &str| Called { hostname: None, name: Some(name.to_owned()) };
        let attached = |name: &str| Container { called: called(name), ..container(name) };
        let mut ledger = Ledger::default();
        ledger.record(&attached("a"), &port("vethwepla", &["10.32.0.1/12"]), Some(None), 0);
        ledger.adopt(&container("b"), &port("vethweplb", &["10.32.0.2/12"]), None);
        let names = |ledger: &Ledger| ledger.entries().map(|(_, entry)| entry.name.clone()).collect::<Vec<_>>();

        ledger.name_within(&domain);
        assert_eq!(names(&ledger), [Some("a.weave.local.".to_owned()), None]);
        assert_eq!(ledger.nameless(), ["b"]);
        ledger.call(&attached("b"));
        ledger.call(&Container { called: called("c"), ..container("b") });
        ledger.name_within(&domain);
        assert_eq!(names(&ledger)[1].as_deref(), Some("b.weave.local."));
        assert!(ledger.nameless().is_empty());

        assert!(ledger.remove_names(&Pattern::new(Some("a".to_owned()), None, None).unwrap()));
        ledger.name_within(&domain);
        assert_eq!(names(&ledger)[0], None, "a name that was taken away stays away");
    }

    #[test]
    fn a_gained_address_outranks_every_claim_known_so_far() {
        let mut ledger = Ledger::default();
        ledger.record(&container("a"), &port("vethwepla", &["10.32.0.1/12"]), None, 7);
        ledger.record(&container("b"), &port("vethweplb", &["10.32.0.2/12"]), None, 3);
        ledger.record(&container("a"), &port("vethwepla", &["10.32.0.1/12"]), None, 50);

        let times: Vec<_> = ledger.entries().map(|(_, entry)| entry.attached).collect();

        assert_eq!(times, [8, 9]);
    }
}
