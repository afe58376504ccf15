//! Containers of Docker's that were attached by hand, at their next start.
//!
//! ```text
//!   attach ──► written down ◄── detach, `docker rm`, an address given to another: struck out
//!   Docker: started, or found running ──► where is it? ──► the answer is what it is to have, attached as by hand
//! ```

use tracing::{error, warn};
use weave_docker::events::ContainerEvent;
use weave_mesh::card::Subnet;

use super::Control;
use crate::attach::{Container, Manual};

impl Control {
    /// A container was attached by hand, so it is to be at every start. Other things than Docker's containers have one.
    pub(super) fn remember(&mut self, container: &str, manual: Manual) {
        if !weave_docker::is_id(container) {
            return;
        }
        if self.remembered.add(container, manual) {
            self.keep_remembered();
        }
        if self.remembered.get(container).is_none() {
            warn!(
                container,
                "too many containers are attached by hand: this one is not attached again when it restarts"
            );
        }
    }

    /// It is not to have these addresses any more, or none at all where none is given.
    pub(super) fn forget_manual(&mut self, container: &str, addresses: &[Subnet]) {
        let addresses: Vec<_> = addresses.iter().map(|subnet| subnet.address).collect();
        let is_all = addresses.is_empty();
        let is_less =
            if is_all { self.remembered.forget(container) } else { self.remembered.take(container, &addresses) };
        if is_less {
            self.keep_remembered();
        }
    }

    /// Whether somebody is to look where a container is, after this has happened to it.
    pub(super) fn is_wanted(&self, container: &str, event: ContainerEvent) -> bool {
        matches!(event, ContainerEvent::Started(_)) && self.remembered.get(container).is_some()
    }

    /// It runs, and this is where; what it is to have.
    pub(super) fn handle_found(&mut self, container: &Container) -> Option<Manual> {
        self.call(container);
        self.remembered.get(&container.label).cloned()
    }

    fn keep_remembered(&self) {
        if let Err(error) = self.store.write_remembered(&self.remembered) {
            error!(%error, "cannot write down which containers are to be attached again");
        }
    }
}
