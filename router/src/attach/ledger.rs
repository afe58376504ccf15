//! The ports of this host's containers, as they are written down: one for each network namespace, with everybody who
//! shares it.
//!
//! ```text
//!   namespace ─ port vethwepl… ─┬─ MAC, addresses, filed under the id of its holder
//!                               └─ tenants: containers, each with its own name
//!   endpoint of Docker's ─ the same, with one tenant while a container has it, and none before and after
//! ```
//!
//! Invariants:
//! - no two ports of namespaces share a tenant, and no two of any kind a host-side device, a MAC or an address; the port of
//!   a namespace has a tenant at least;
//! - a port is written down before it is made, so what the disk lacks is not in the kernel either; what the disk has
//!   beyond the kernel is left out at the next start;
//! - an entry's `attached` time is higher than that of every endpoint that was known when it last gained an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weave_datapath::linux::veth::Attached;
use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;
use weave_mesh::store::ENDPOINT_ADDRESSES_MAX;

use super::{AttachError, Container, Endpoint};
use crate::config::DnsDomain;
use crate::naming::{Called, Pattern};
use crate::status::titles;

pub use self::endpoints::Routes;

mod endpoints;

/// How many containers one host attaches.
const TENANTS_MAX: usize = 4_096;

/// The port of one network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub mac: MacAddr,
    pub addresses: Vec<Subnet>,
    /// Under whose id the addresses are filed: whoever came first. It stays when he goes and others are left.
    pub holder: String,
    /// Oldest first.
    pub tenants: Vec<Tenant>,
    /// Lamport time of the last change; of two claims to an address the higher one wins.
    pub attached: u64,
    /// Which of its container's routes go by it, where Docker makes them.
    pub routes: Routes,
}

/// A container behind a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    pub container: String,
    pub netns: PathBuf,
    /// The names that lead to all addresses of the port.
    pub names: Vec<String>,
    /// What it is named after; its engine is to be asked where it is unknown.
    pub called: Option<Called>,
}

impl Attachment {
    /// Whether nobody but `container` is behind it.
    fn is_of(&self, container: &str) -> bool {
        if self.is_endpoint() {
            return self.holder == container;
        }
        self.tenants.iter().all(|tenant| tenant.container == container)
    }

    /// Whether it is one of an endpoint of Docker's, and no namespace's.
    pub fn is_endpoint(&self) -> bool {
        Endpoint::of_label(&self.holder).is_some()
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|subnet| subnet.address == address)
    }

    /// How it is called in messages.
    fn title(&self) -> String {
        let called = |tenant: &Tenant| titles::container(&tenant.container, tenant.names.first().map(String::as_str));
        self.tenants.first().map_or_else(|| titles::container(&self.holder, None), called)
    }
}

/// Who is left behind a port that somebody has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Others,
    Nobody,
}

/// All ports, by host-side device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    entries: BTreeMap<String, Attachment>,
    /// Those that are yet to be made.
    #[serde(skip)]
    planned: BTreeSet<String>,
}

impl Ledger {
    /// Whether the port `host_link`, there or to come, may have `addresses` for `container`.
    ///
    /// # Errors
    /// Names another container that holds one of them.
    pub fn admit(&self, host_link: &str, container: &Container, addresses: &[Subnet]) -> Result<(), AttachError> {
        // What a container had in a former namespace goes along.
        let others = || {
            let entries =
                self.entries.iter().filter(|(link, entry)| *link != host_link && !entry.is_of(&container.label));
            entries.map(|(_, entry)| entry)
        };
        for Subnet { address, .. } in addresses {
            if let Some(other) = others().find(|entry| entry.has(*address)) {
                return Err(AttachError::AddressTaken { address: *address, holder: other.title() });
            }
        }
        let known = self.entries.get(host_link);
        let gained = addresses.iter().filter(|subnet| known.is_none_or(|entry| !entry.has(subnet.address))).count();
        if known.map_or(0, |entry| entry.addresses.len()) + gained > ENDPOINT_ADDRESSES_MAX {
            return Err(AttachError::TooManyAddresses);
        }
        let is_known = known.is_some_and(|entry| entry.tenants.iter().any(|known| known.container == container.label));
        // Whoever waits for a container is going to have one.
        let tenants = self.entries.values().map(|entry| entry.tenants.len().max(1)).sum();
        if !is_known && tenants >= TENANTS_MAX { Err(AttachError::TooManyContainers(tenants)) } else { Ok(()) }
    }

    /// What the container is called that has an address.
    pub fn holder(&self, address: IpAddr) -> Option<String> {
        self.entries.values().find(|entry| entry.has(address)).map(Attachment::title)
    }

    pub fn get(&self, host_link: &str) -> Option<&Attachment> {
        self.entries.get(host_link)
    }

    /// The port that `container` is behind, by its namespace.
    pub fn port_of(&self, container: &str) -> Option<&str> {
        let is_its = |entry: &Attachment| {
            !entry.is_endpoint() && entry.tenants.iter().any(|tenant| tenant.container == container)
        };
        self.entries.iter().find(|(_, entry)| is_its(entry)).map(|(host_link, _)| host_link.as_str())
    }

    /// Whether a port stands that `container` is behind, or under whose id its addresses are filed.
    pub fn knows(&self, container: &str) -> bool {
        let is_its = |entry: &Attachment| entry.holder == container && !entry.tenants.is_empty();
        self.port_of(container).is_some() || self.entries.values().any(is_its)
    }

    /// The ports whose addresses are filed under the id of `container`.
    pub fn filed_under(&self, container: &str) -> Vec<String> {
        let its = self.entries.iter().filter(|(_, entry)| entry.holder == container);
        its.map(|(host_link, _)| host_link.clone()).collect()
    }

    /// Writes down a container that was found running, with what its port has.
    pub fn adopt(&mut self, container: &Container, port: &Attached) {
        self.plan(container, port, None, 0);
        self.settle(port);
    }

    fn tenants_mut(&mut self) -> impl Iterator<Item = &mut Tenant> {
        self.entries.values_mut().flat_map(|entry| &mut entry.tenants)
    }

    /// Names every container of which it is known what it is called: the domain may be another one than before.
    pub fn name_within(&mut self, domain: &DnsDomain) {
        for tenant in self.tenants_mut() {
            if let Some(called) = &tenant.called {
                tenant.names = called.all_within(domain);
            }
        }
    }

    /// Those of which it is not.
    pub fn nameless(&self) -> Vec<String> {
        let tenants = self.entries.values().flat_map(|entry| &entry.tenants);
        tenants.filter(|tenant| tenant.called.is_none()).map(|tenant| tenant.container.clone()).collect()
    }

    /// What `container` is called, if that was not known.
    pub fn call(&mut self, container: &Container) {
        let is_its = |tenant: &&mut Tenant| tenant.container == container.label && tenant.called.is_none();
        for tenant in self.tenants_mut().filter(is_its) {
            tenant.called = Some(container.called.clone());
            tenant.netns.clone_from(&container.netns);
        }
    }

    /// Writes down what the port of `container` is going to have beside what it has; `name` is what the container is
    /// called from now on. `clock` is the highest Lamport time in use anywhere.
    pub fn plan(&mut self, container: &Container, port: &Attached, name: Option<String>, clock: u64) {
        let host_link = port.host_link.to_string();
        let clock = clock.max(self.clock());
        if self.entries.get(&host_link).is_none_or(|entry| entry.tenants.is_empty()) {
            self.planned.insert(host_link.clone());
        }
        let entry = self.entries.entry(host_link).or_insert_with(|| Attachment {
            mac: port.mac,
            addresses: Vec::new(),
            holder: container.label.clone(),
            tenants: Vec::new(),
            attached: 0,
            routes: Routes::default(),
        });
        let gained: Vec<Subnet> = port.addresses.iter().filter(|it| !entry.addresses.contains(it)).copied().collect();
        if !gained.is_empty() || entry.mac != port.mac || entry.attached == 0 {
            entry.attached = clock.saturating_add(1);
        }
        entry.mac = port.mac;
        entry.addresses.extend(gained);
        let called = (!container.provisional).then(|| container.called.clone());
        let (netns, names) = (container.netns.clone(), name.into_iter().collect());
        let tenant = Tenant { container: container.label.clone(), netns, names, called };
        match entry.tenants.iter_mut().find(|known| known.container == tenant.container) {
            Some(known) => *known = tenant,
            None => entry.tenants.push(tenant),
        }
    }

    /// The port is as `found`: made, or with less than before.
    pub fn settle(&mut self, found: &Attached) {
        self.planned.remove(found.host_link.as_str());
        if let Some(entry) = self.entries.get_mut(found.host_link.as_str()) {
            (entry.mac, entry.addresses) = (found.mac, found.addresses.clone());
        }
    }

    /// Puts an entry back as it was before [`Self::plan`], unless its port is gone meanwhile.
    pub fn restore(&mut self, host_link: &str, before: Option<Attachment>) {
        self.planned.remove(host_link);
        match (before, self.entries.get_mut(host_link)) {
            (Some(before), Some(entry)) => *entry = before,
            (None, Some(_)) => drop(self.entries.remove(host_link)),
            (_, None) => {}
        }
    }

    /// `container` is not behind this port any more; without anybody else it is no port.
    pub fn leave(&mut self, host_link: &str, container: &str) -> Left {
        let Some(entry) = self.entries.get_mut(host_link) else { return Left::Nobody };
        entry.tenants.retain(|tenant| tenant.container != container);
        if !entry.tenants.is_empty() {
            return Left::Others;
        }
        self.remove(host_link);
        Left::Nobody
    }

    /// The addresses of a port are filed under the id of the oldest of its tenants from now on, who is the answer.
    pub fn pass_on(&mut self, host_link: &str) -> Option<(String, Vec<Subnet>)> {
        let entry = self.entries.get_mut(host_link)?;
        entry.holder.clone_from(&entry.tenants.first()?.container);
        Some((entry.holder.clone(), entry.addresses.clone()))
    }

    /// Removes a port that is gone.
    pub fn remove(&mut self, host_link: &str) -> Option<Attachment> {
        self.planned.remove(host_link);
        self.entries.remove(host_link)
    }

    /// Takes names away; returns whether there were any. A name goes with its container, not with one address.
    pub fn remove_names(&mut self, pattern: &Pattern) -> bool {
        let mut removed = false;
        for tenant in self.tenants_mut() {
            let before = tenant.names.len();
            tenant.names.retain(|name| !pattern.matches(&tenant.container, None, name));
            if tenant.names.len() < before {
                // Nor does it get them back at the next start.
                tenant.called = Some(Called { aliases: tenant.names.clone(), ..Called::default() });
                removed = true;
            }
        }
        removed
    }

    /// What a container has; empty when it is not attached.
    pub fn addresses(&self, container: &Container) -> Vec<Subnet> {
        let is_its = |entry: &&Attachment| entry.tenants.iter().any(|tenant| tenant.container == container.label);
        self.entries.values().filter(is_its).flat_map(|entry| entry.addresses.clone()).collect()
    }

    /// Brings every port up to what `inspect` finds behind the namespace of one of its tenants; tenants that do not lead
    /// to it are gone, and so are ports without any. Returns the containers that are.
    pub fn refresh(&mut self, inspect: impl Fn(&str, &Path) -> Option<Attached>) -> Vec<String> {
        let mut gone = Vec::new();
        self.entries.retain(|host_link, entry| {
            if entry.is_endpoint() {
                return true;
            }
            entry.tenants.retain(|tenant| match inspect(host_link, &tenant.netns) {
                Some(found) => {
                    (entry.mac, entry.addresses) = (found.mac, found.addresses);
                    true
                }
                None => {
                    gone.push(tenant.container.clone());
                    false
                }
            });
            !entry.tenants.is_empty()
        });
        gone
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, &Attachment)> {
        self.entries.iter().map(|(host_link, entry)| (host_link.as_str(), entry))
    }

    /// Whether a port that is written down has been made.
    pub fn is_made(&self, host_link: &str) -> bool {
        let has_tenants = self.entries.get(host_link).is_some_and(|entry| !entry.tenants.is_empty());
        has_tenants && !self.is_planned(host_link)
    }

    /// Whether a port that is written down has yet to be made.
    pub fn is_planned(&self, host_link: &str) -> bool {
        self.planned.contains(host_link)
    }

    fn clock(&self) -> u64 {
        self.entries.values().map(|entry| entry.attached).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
