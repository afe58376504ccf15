//! Containers that die: their addresses are free when they cannot come back and no port has them any more; or when
//! somebody asks for one by name (`vacating.rs`).
//!
//! ```text
//!   Docker: died ─── 30 s, not started again ──┐                 unless it was attached by hand
//!           destroyed, or unknown to Docker ───┴─► doomed ─── no port left ──► released
//!   pid:, netns:  port gone ──────────────────────────────────────────────────► released
//!   endpoint:     told by Docker, at once; or no container has it, 30 s, and its port is gone ─► released
//! ```

use std::collections::BTreeSet;

use tracing::info;
use weave_datapath::linux::kernel::Generation;
use weave_docker::events::{Census, ContainerEvent};

use super::Control;
use crate::attach::{Attachment, Grace};

/// Containers that are dead, and those whose port is waited for.
#[derive(Debug, Default)]
pub(super) struct Burying {
    pub(super) grace: Grace,
    doomed: BTreeSet<String>,
}

/// Whether a container is a namespace, and gone for good with it.
pub(super) fn is_namespace(container: &str) -> bool {
    container.starts_with("pid:") || container.starts_with("netns:")
}

impl Control {
    /// What Docker has now; the containers that it does not know are gone. The answer is who is to be found.
    pub(super) fn handle_census(&mut self, census: &Census) -> Vec<String> {
        self.adopt_endpoints(census);
        if self.faring.take_stock(census) {
            self.publish_endpoints();
        }
        let mut wanted = BTreeSet::new();
        for container in self.known_to_docker() {
            let event = match census.get(&container).map(|resident| resident.health) {
                Some(Some(health)) => ContainerEvent::Started(health),
                Some(None) => ContainerEvent::Died,
                None => ContainerEvent::Destroyed,
            };
            self.handle_container_event(&container, event);
            wanted.extend(Some(container).filter(|container| self.is_wanted(container, event)));
        }
        self.count_endpoints(census);
        wanted.extend(self.unnamed(census));
        wanted.into_iter().collect()
    }

    /// Ids that others made up live until they are freed.
    fn known_to_docker(&self) -> BTreeSet<String> {
        let tenants = self.ledger.entries().flat_map(|(_, entry)| &entry.tenants);
        let tenants = tenants.map(|tenant| tenant.container.clone());
        let remembered = self.remembered.containers().map(str::to_owned);
        let known = self.node.all_addresses().into_keys().chain(tenants).chain(remembered);
        known.filter(|container| weave_docker::is_id(container)).collect()
    }

    pub(super) fn handle_container_event(&mut self, container: &str, event: ContainerEvent) {
        match event {
            ContainerEvent::Started(health) => {
                self.note_health(container, health);
                self.revive(container);
            }
            ContainerEvent::Connected => self.revive(container),
            ContainerEvent::Fares(health) => self.note_health(container, health),
            ContainerEvent::Died => {
                self.note_departure(container);
                self.note_end(container, false);
                if !self.node.addresses(container).is_empty() {
                    self.burying.grace.handle_death(container, self.clock.now());
                }
            }
            ContainerEvent::Destroyed => {
                self.note_departure(container);
                self.note_end(container, true);
                self.forget_manual(container, &[]);
                if !self.node.addresses(container).is_empty() {
                    self.bury(container);
                }
            }
        }
    }

    /// A container that gets an address lives.
    pub(super) fn revive(&mut self, container: &str) {
        self.burying.grace.forget(container);
        self.burying.doomed.remove(container);
    }

    pub(super) fn bury_expired(&mut self) {
        for container in self.burying.grace.expired(self.clock.now()) {
            // Who was attached by hand is to have the same at its next start.
            if self.remembered.get(&container).is_none() {
                self.bury(&container);
            }
        }
    }

    /// Frees the addresses of a container that does not come back, now or with its port.
    fn bury(&mut self, container: &str) {
        self.burying.grace.forget(container);
        if self.ledger.knows(container) {
            self.burying.doomed.insert(container.to_owned());
            return;
        }
        self.burying.doomed.remove(container);
        info!(container, "container is gone for good, its addresses are free");
        let _ = self.release(container, None);
        if self.ledger.forget_endpoint(container) {
            self.keep_ledger();
        }
        self.forget_names_of(container);
    }

    /// A port's device is gone, and the namespace with everybody in it.
    pub(super) fn handle_port_gone(&mut self, host_link: &str, plan: Generation) {
        let is_another = !self.attaching.is_of(host_link, plan) || self.ledger.is_planned(host_link);
        // Who detaches a container takes its port away, and says what went with it.
        if is_another || self.attaching.takes_away(host_link) {
            return;
        }
        self.close_port(host_link, None);
    }

    /// Nobody is behind a port any more but its `heir`, who is about to have another of the same name.
    pub(super) fn close_port(&mut self, host_link: &str, heir: Option<&str>) {
        let Some(Attachment { holder, tenants, .. }) = self.ledger.close(host_link) else { return };
        self.attaching.forget_port(host_link);
        self.keep_ledger();
        let gone = tenants.into_iter().map(|tenant| tenant.container);
        for container in gone.filter(|container| heir != Some(container)) {
            self.forget_names_of(&container);
            info!(port = host_link, container, "container is gone");
        }
        if heir != Some(&holder) && (is_namespace(&holder) || self.burying.doomed.contains(&holder)) {
            self.bury(&holder);
        }
        // Its name must not wait for the fabric.
        self.publish_endpoints();
        self.weaving.touch(self.clock.now());
        self.note_port_gone(host_link);
    }
}
