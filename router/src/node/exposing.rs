//! This host on the overlay, as control sees it: what is written down of it, and hiding it again, which is answered when
//! the kernel has it. Exposing is an operation as attaching is: `attaching.rs`.

use std::net::SocketAddr;

use tracing::{error, info};
use weave_datapath::linux::kernel::Generation;
use weave_mesh::card::Subnet;
use weave_mesh::store::ENDPOINT_NAME_MAX_BYTES;

use super::Control;
use super::attaching::Answer;
use crate::attach::AttachError;
use crate::expose::{Exposure, HOST_LABEL, Terms};
use crate::request::Reply;

/// How addresses are to be exposed.
#[derive(Clone, Debug)]
pub struct Manner {
    pub terms: Terms,
    /// The name under which DNS has the addresses.
    pub name: Option<String>,
}

/// An answer that is due when the kernel has a plan.
#[derive(Debug)]
pub(super) struct Waiting {
    generation: Generation,
    addresses: Vec<Subnet>,
    reply: Reply<Answer>,
}

impl Control {
    pub(super) fn hide(&mut self, addresses: &[Subnet], networks: &[Subnet], reply: Reply<Answer>) {
        let before = self.exposure.clone();
        let hidden = self.exposure.remove(addresses, networks);
        let kept = self.keep_exposure(before);
        if kept.is_ok() {
            self.release_all(HOST_LABEL, &hidden);
        }
        self.settle_exposure(kept.map(|()| hidden), reply);
    }

    /// Writes down that `addresses` are exposed; returns those that were not.
    pub(super) fn note_exposed(&mut self, addresses: &[Subnet], manner: &Manner) -> Answer {
        let underlay: Vec<_> = self.node.card().addresses.iter().map(SocketAddr::ip).collect();
        if let Some(name) = manner.name.as_ref().filter(|name| !(1..=ENDPOINT_NAME_MAX_BYTES).contains(&name.len())) {
            return Err(AttachError::UnusableName(name.clone()));
        }
        self.exposure.admit(addresses, &self.ledger, &underlay)?;
        let before = self.exposure.clone();
        for subnet in addresses {
            self.exposure.insert(*subnet, manner.terms, manner.name.as_deref(), self.node.next_attach_time());
        }
        let gained = addresses.iter().filter(|subnet| !before.holds(subnet.address)).copied().collect();
        self.keep_exposure(before).map(|()| gained)
    }

    /// Addresses that the kernel did not take after all.
    pub(super) fn unexpose(&mut self, gained: &[Subnet]) {
        if gained.is_empty() {
            return;
        }
        self.exposure.remove(gained, &[]);
        if let Err(error) = self.store.write_exposure(&self.exposure) {
            error!(%error, "cannot write down that addresses are not exposed");
        }
        self.weaving.touch(self.clock.now());
    }

    /// What cannot be written down is as it was `before`: after a restart the address books would say otherwise.
    fn keep_exposure(&mut self, before: Exposure) -> Result<(), AttachError> {
        self.store.write_exposure(&self.exposure).map_err(|error| {
            self.exposure = before;
            AttachError::from(error)
        })
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

    /// Answers everybody whose plan the kernel has.
    pub(super) fn answer_waiting(&mut self) {
        let applied = self.weaving.applied();
        for waiting in self.waiting.extract_if(.., |waiting| waiting.generation <= applied) {
            let _ = waiting.reply.send(Ok(waiting.addresses));
        }
    }
}
