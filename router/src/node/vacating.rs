//! Addresses of containers that do not run: given up at once when somebody asks for one by name, or detaches them.
//!
//! Invariant: nothing is taken from a container that has a port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weave_mesh::card::Subnet;
use weave_mesh::ipam::Cidr;

use super::Control;
use crate::attach::Container;
use crate::request::Holder;

/// The fewest letters of an id that tell it; `ps` shows 12.
const ID_LETTERS_MIN: usize = 6;

impl Control {
    /// Who holds an address on this host, attached or not. Goes through all that is held: for an address that somebody
    /// named.
    pub(super) fn holder(&self, address: IpAddr) -> Option<Holder> {
        let has_it = |it: &Subnet| it.address == address;
        let attached = self.ledger.entries().find(|(_, entry)| entry.addresses.iter().any(has_it));
        match attached {
            Some((port, entry)) => Some(Holder { container: entry.holder.clone(), port: Some(port.to_owned()) }),
            None => filed(&self.node.all_addresses(), address).map(|container| Holder { container, port: None }),
        }
    }

    /// Frees an address of a container that does not run, and whose port, if it had one, is gone by now.
    pub(super) fn vacate(&mut self, holder: &Holder, address: IpAddr) {
        if let Some(port) = &holder.port {
            self.handle_port_gone(port, self.weaving.applied());
        }
        let prefix_len = if address.is_ipv4() { 32 } else { 128 };
        self.forget_manual(&holder.container, &[Subnet { address, prefix_len }]);
        let IpAddr::V4(number) = address else { return };
        if self.ledger.holder(address).is_none() {
            // What it gave up meanwhile is free already.
            let _ = self.release(&holder.container, Some(number));
        }
    }

    /// The container that a target means of which there is no namespace: by its engine's `id`, or as it is known here.
    pub(super) fn recall(&self, target: &str, id: Option<&str>) -> Option<Container> {
        let held = self.node.all_addresses();
        let known = held.keys().map(String::as_str);
        let is_it = |label: &&str| match id {
            Some(id) => *label == id,
            None => *label == target || is_short_for(target, label),
        };
        let mut found = known.filter(is_it);
        let label = found.next().filter(|_| found.next().is_none()).or(id)?.to_owned();
        Some(Container { label, ..Container::default() })
    }
}

fn filed(held: &BTreeMap<String, Vec<Cidr>>, address: IpAddr) -> Option<String> {
    let has = |addresses: &[Cidr]| addresses.iter().any(|held| IpAddr::from(held.address()) == address);
    held.iter().find(|(_, addresses)| has(addresses)).map(|(container, _)| container.clone())
}

fn is_short_for(text: &str, label: &str) -> bool {
    text.len() >= ID_LETTERS_MIN && weave_docker::is_id(label) && label.starts_with(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_by_its_beginning_and_nothing_else_is() {
        let id = "0123456789abcdef".repeat(4);

        assert!(is_short_for(&id[..12], &id));
        assert!(!is_short_for(&id[..3], &id));
        assert!(!is_short_for("netns:/run", "netns:/run/netns/a"));
    }
}
