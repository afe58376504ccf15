//! What an earlier daemon left in the kernel and no book has, since the state directory was lost or is an old one: taken
//! into the books before anything is woven or allocated.
//!
//! ```text
//!   ports of the bridge ──── not in the ledger ────► who is behind them, with MAC and addresses ─► ledger
//!   addresses of the bridge ─ not in the exposure ─────────────────────────────────────────────► exposure
//!   names, and what endpoints of Docker's networks have: from the engine, as soon as it answers (`following.rs`)
//! ```
//!
//! Invariant: an address that our own tables led to another station is not adopted, whoever has it inside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tracing::warn;
use weave_datapath::linux::namespaces::Behind;
use weave_datapath::linux::veth::check_addresses;
use weave_datapath::plan::{HOST_LINK_PREFIX, LinkKind, LinkName, Observed};
use weave_mesh::card::Subnet;
use weave_mesh::ipam::Cidr;

use crate::attach::{Container, Ledger, process_netns};
use crate::expose::{Exposure, Nat, Terms};
use crate::naming::Called;

/// The ports of attached containers that `ledger` does not have.
pub fn unknown_ports(observed: &Observed, ledger: &Ledger) -> BTreeSet<LinkName> {
    let is_containers =
        |name: &LinkName| name.as_str().starts_with(HOST_LINK_PREFIX) && ledger.get(name.as_str()).is_none();
    let plugged = observed.links.iter().filter(|(_, link)| link.kind == LinkKind::Veth && link.port.is_some());
    plugged.map(|(name, _)| name.clone()).filter(is_containers).collect()
}

/// The books that are brought up to what the kernel has.
#[derive(Debug)]
pub struct Books<'a> {
    pub ledger: &'a mut Ledger,
    pub exposure: &'a mut Exposure,
    /// Under whose id addresses are filed.
    pub held: &'a BTreeMap<String, Vec<Cidr>>,
    /// This host's own addresses below the overlay.
    pub underlay: &'a [IpAddr],
}

impl Books<'_> {
    /// Takes in a container whose port was found; which engine's it is, `owner` finds out from a process..
    pub fn adopt(&mut self, mut found: Behind, observed: &Observed, owner: impl Fn(u32) -> Option<String>) {
        let container = self.identify(&found, owner);
        let mac = found.port.mac;
        let is_another =
            |address: &IpAddr| observed.neighbours.get(address).is_some_and(|it| it.permanent && it.mac != mac);
        let is_usable = |subnet: &Subnet| {
            let one = std::slice::from_ref(subnet);
            !is_another(&subnet.address)
                && !self.underlay.contains(&subnet.address)
                && check_addresses(one).is_ok()
                && self.exposure.admit_container(one).is_ok()
                && self.ledger.admit(found.port.host_link.as_str(), &container, one).is_ok()
        };
        let (adopted, refused): (Vec<Subnet>, Vec<Subnet>) = found.port.addresses.iter().partition(|it| is_usable(it));
        let port = found.port.host_link.clone();
        for Subnet { address, .. } in refused {
            warn!(%container, %port, %address, "an address of a container is not its own, and is closed");
        }
        warn!(%container, %port, addresses = ?texts(&adopted), "a container that no book has was found, and is kept");
        found.port.addresses = adopted;
        self.ledger.adopt(&container, &found.port);
    }

    /// Which container it is: one of an engine's by its processes, else whoever the address books name, else what names
    /// the namespace. What it is called may have to be asked of the engine.
    fn identify(&self, found: &Behind, owner: impl Fn(u32) -> Option<String>) -> Container {
        let owned = found.processes.iter().find_map(|process| Some((owner(*process)?, *process)));
        if let Some((label, process)) = owned {
            return Container { label, netns: process_netns(process), provisional: true, ..Container::default() };
        }
        let named = found.name.as_ref().or(found.sandbox.as_ref());
        let (label, netns) = match (named, found.processes.first()) {
            (Some(path), _) => (format!("netns:{}", path.display()), path.clone()),
            (None, Some(process)) => (format!("pid:{process}"), process_netns(*process)),
            (None, None) => (format!("netns:{}", found.port.host_link), PathBuf::new()),
        };
        let name = found.name.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let filed = found.port.addresses.iter().find_map(|subnet| self.filed(subnet.address));
        let label = filed.filter(|filed| !weave_docker::is_id(filed)).unwrap_or(label);
        let called = Called { name, ..Called::default() };
        Container { label, netns, called, provisional: false }
    }

    fn filed(&self, address: IpAddr) -> Option<String> {
        let is_it = |held: &Cidr| IpAddr::from(held.address()) == address;
        let held = self.held.iter().find(|(_, addresses)| addresses.iter().any(is_it));
        held.map(|(container, _)| container.clone())
    }

    /// Takes in the addresses of the bridge that are not exposed: they were, and how is lost.
    pub fn adopt_exposed(&mut self, observed: &Observed) {
        let unknown: Vec<Subnet> =
            observed.addresses.iter().filter(|subnet| !self.exposure.holds(subnet.address)).copied().collect();
        for subnet in unknown {
            match self.exposure.admit(&[subnet], self.ledger, self.underlay) {
                Ok(()) => {
                    warn!(address = %subnet.address, "this host is exposed, and no book has it: kept, with masquerading");
                    let terms = Terms { nat: Nat::Masquerade, allows_metadata: false };
                    self.exposure.insert(subnet, terms, None, 0);
                }
                Err(error) => warn!(%error, "an address of the bridge is not kept"),
            }
        }
    }
}

fn texts(addresses: &[Subnet]) -> Vec<String> {
    addresses.iter().map(|subnet| subnet.address.to_string()).collect()
}
