//! Exposing this host on the overlay, and hiding it again, as control sees it: written down, woven, and answered when
//! the kernel has it.

use std::net::SocketAddr;

use tracing::info;
use weave_mesh::card::Subnet;
use weave_mesh::store::ENDPOINT_NAME_MAX_BYTES;

use super::Control;
use super::attaching::{Answer, Waiting};
use crate::attach::{AttachError, distinct};
use crate::expose::{HOST_LABEL, Nat};
use crate::request::Reply;

/// How addresses are to be exposed.
#[derive(Clone, Debug)]
pub struct Manner {
    pub nat: Nat,
    /// The name under which DNS has the addresses.
    pub name: Option<String>,
}

impl Control {
    pub(super) fn expose(&mut self, addresses: Vec<Subnet>, manner: &Manner, reply: Reply<Answer>) {
        let exposed = distinct(addresses).and_then(|addresses| self.note_exposed(addresses, manner));
        self.settle_exposure(exposed, reply);
    }

    pub(super) fn hide(&mut self, addresses: &[Subnet], reply: Reply<Answer>) {
        let hidden = self.exposure.remove(addresses);
        self.release_all(HOST_LABEL, &hidden);
        let kept = self.store.write_exposure(&self.exposure).map_err(AttachError::from);
        self.settle_exposure(kept.map(|()| hidden), reply);
    }

    fn note_exposed(&mut self, addresses: Vec<Subnet>, manner: &Manner) -> Answer {
        let underlay: Vec<_> = self.node.view().card.addresses.iter().map(SocketAddr::ip).collect();
        if let Some(name) = manner.name.as_ref().filter(|name| !(1..=ENDPOINT_NAME_MAX_BYTES).contains(&name.len())) {
            return Err(AttachError::UnusableName(name.clone()));
        }
        self.exposure.admit(&addresses, &self.ledger, &underlay)?;
        for subnet in &addresses {
            self.exposure.insert(*subnet, manner.nat, manner.name.as_deref(), self.node.next_attach_time());
        }
        self.store.write_exposure(&self.exposure)?;
        Ok(addresses)
    }

    fn settle_exposure(&mut self, changed: Answer, reply: Reply<Answer>) {
        match changed {
            Ok(addresses) => {
                info!(exposed = self.exposure.iter().count(), "this host's own addresses changed");
                let generation = self.weave();
                self.waiting.push(Waiting { generation, addresses, reply });
                self.answer_waiting();
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}
