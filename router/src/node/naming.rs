//! Names, as control sees them: what this host's containers are called, and what is handed to the threads that answer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tracing::error;
use weave_mesh::dns::folded;
use weave_mesh::store::HostName;

use super::Control;
use crate::attach::Container;
use crate::dns::Published;
use crate::naming::{NameError, NamesChange, Pattern};
use crate::status::DnsMaterial;

impl Control {
    /// Hands the names of the mesh to those who answer, if they or those who may ask are others than before. What is
    /// asked after this returned is answered from them.
    pub(super) fn serve_names(&mut self) {
        let Some(dns) = &self.dns else { return };
        let (published, names) = (dns.published(), self.node.names());
        let attached = self.attached_addresses();
        if !Arc::ptr_eq(&published.names, &names) || *published.attached != attached {
            dns.publish(Published { names, attached: Arc::new(attached) });
        }
    }

    fn attached_addresses(&self) -> BTreeSet<IpAddr> {
        let addresses = self.ledger.entries().flat_map(|(_, entry)| &entry.addresses);
        addresses.map(|subnet| subnet.address).collect()
    }

    /// The bridge at which names are served may be another one.
    pub(super) fn note_bridge(&self) {
        if let Some(dns) = &self.dns {
            dns.note_moved();
        }
    }

    /// What is shown of names.
    pub(super) fn dns_material(&self) -> Option<DnsMaterial> {
        let (dns, config) = (self.dns.as_ref()?, self.about.dns.as_ref()?);
        Some(DnsMaterial {
            config: config.clone(),
            servers: dns.servers(),
            listening: dns.listening(),
            names: Arc::clone(&dns.published().names),
        })
    }

    /// The name that attaching gives `container`.
    pub(super) fn own_name(&self, container: &Container) -> Option<String> {
        container.called.within(&self.about.dns.as_ref()?.domain)
    }

    /// A container that was found running is called so, whichever of its ports are ours.
    pub(super) fn call(&mut self, container: &Container) {
        self.ledger.call(container);
        if let Some(config) = &self.about.dns {
            self.ledger.name_within(&config.domain);
        }
        self.keep_ledger();
        self.publish_endpoints();
    }

    /// Gives `name`, else its own, to `addresses`, else to all that the container has. Returns what there is to say.
    pub(super) fn add_name(
        &mut self,
        container: &Container,
        mut addresses: Vec<IpAddr>,
        name: Option<String>,
    ) -> Result<Option<String>, NameError> {
        let domain = self.about.dns.as_ref().ok_or(NameError::NoDns)?.domain.clone();
        let name = name.or_else(|| self.own_name(container));
        let name = name.ok_or_else(|| NameError::NoName(container.label.clone()))?;
        if domain.host(&folded(&name)?).is_none() {
            return Ok(Some(format!("{name} does not lie in {domain} and is not answered here\n")));
        }
        if addresses.is_empty() {
            addresses = self.ledger.addresses(container).iter().map(|subnet| subnet.address).collect();
        }
        if addresses.is_empty() {
            return Err(NameError::NoAddress(container.label.clone()));
        }
        let label = &container.label;
        let host_name = |address| HostName { name: name.clone(), address, container: label.clone() };
        let change = self.host_names.add(addresses.into_iter().map(host_name))?;
        self.keep_host_names(change)?;
        Ok(None)
    }

    /// Takes names away, those of attached containers too.
    pub(super) fn remove_names(&mut self, pattern: &Pattern) -> Result<(), NameError> {
        if self.about.dns.is_none() {
            return Err(NameError::NoDns);
        }
        let change = self.host_names.remove(pattern);
        self.keep_host_names(change)?;
        if self.ledger.remove_names(pattern) {
            self.keep_ledger();
            self.publish_endpoints();
        }
        Ok(())
    }

    /// A container is gone, and the names that were given to it by hand with it.
    pub(super) fn forget_names_of(&mut self, container: &str) {
        let pattern = Pattern { container: Some(container.to_owned()), ..Pattern::default() };
        let change = self.host_names.remove(&pattern);
        if change == NamesChange::default() {
            return;
        }
        self.publish_host_names(change);
        if let Err(error) = self.store.write_host_names(&self.host_names) {
            error!(%error, "cannot write down that the names of a container are gone");
        }
    }

    /// Writes down the names given by hand, and publishes what is other than before; it is taken back when it cannot be
    /// written down.
    fn keep_host_names(&mut self, change: NamesChange) -> Result<(), NameError> {
        if change == NamesChange::default() {
            return Ok(());
        }
        if let Err(error) = self.store.write_host_names(&self.host_names) {
            self.host_names.undo(change);
            return Err(error.into());
        }
        self.publish_host_names(change);
        Ok(())
    }

    /// Those that were written down before this daemon was started.
    pub(super) fn publish_all_host_names(&mut self) {
        let new = self.host_names.iter().cloned().collect();
        self.publish_host_names(NamesChange { new, gone: Vec::new() });
    }

    /// Whoever asks this host from here on is answered so.
    fn publish_host_names(&mut self, NamesChange { gone, new }: NamesChange) {
        if let Err(error) = self.node.change_host_names(&gone, new, self.clock.now()) {
            error!(%error, "some names are not published");
        }
        self.serve_names();
    }
}
