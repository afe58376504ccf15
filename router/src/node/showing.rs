//! Status, as control gives it: what is shown is in force. A container that `status endpoints` lists can be reached.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;
use weave_datapath::linux::kernel::Generation;
use weave_mesh::node::View;
use weave_mesh::time::Instant;

use super::{Control, Readiness};
use crate::expose;
use crate::request::Reply;
use crate::status::Material;

/// A kernel that takes longer to follow is itself worth showing.
const KERNEL_TIMEOUT: Duration = Duration::from_millis(500);

/// A view that waits until the kernel has the plan made of it.
#[derive(Debug)]
pub(super) struct Showing {
    generation: Generation,
    pub(super) until: Instant,
    view: View,
    reply: Reply<Material>,
}

impl Control {
    pub(super) fn show(&mut self, reply: Reply<Material>) {
        let generation = self.weave();
        let (until, view) = (self.clock.now() + KERNEL_TIMEOUT, self.node.view());
        self.showings.push(Showing { generation, until, view, reply });
    }

    /// Answers whom the kernel has kept waiting long enough.
    pub(super) fn answer_showings(&mut self, now: Instant) {
        let applied = self.weaving.applied();
        let is_due = |showing: &mut Showing| showing.generation <= applied || showing.until <= now;
        let due: Vec<_> = self.showings.extract_if(.., is_due).collect();
        for Showing { view, reply, .. } in due {
            self.answer(view, reply);
        }
    }

    /// The packet thread is asked by a task of its own, so that control waits for nobody.
    fn answer(&self, view: View, reply: Reply<Material>) {
        let packets = Arc::clone(&self.packets);
        let (about, warnings) = (self.about.clone(), self.warnings());
        let ready = self.readiness == Readiness::Ready;
        let (ipam, tallies) = (self.node.ipam_view(), self.tallies);
        let dns = self.dns_material();
        let (now, wall) = (self.clock.now(), self.clock.wall());
        tokio::spawn(async move {
            match packets.status().await {
                Ok(packets) => {
                    let _ =
                        reply.send(Material { about, ready, view, ipam, packets, tallies, dns, warnings, now, wall });
                }
                // The asker sees the closed channel.
                Err(error) => warn!(%error, "no status from the packet thread"),
            }
        });
    }

    fn warnings(&self) -> Vec<String> {
        let clear = "no password: whoever reaches the port can join, and frames travel in clear; see `weave-rs genkey`";
        let clear = (!self.about.has_password).then(|| clear.to_owned());
        let kept_in = "this host is exposed and does not forward: containers reach it, and nothing behind it; \
                       see `sysctl net.ipv4.ip_forward`";
        let kept_in = (!self.exposure.is_empty() && !expose::host_forwards()).then(|| kept_in.to_owned());
        clear.into_iter().chain(kept_in).chain(self.weaving.complaints().cloned()).collect()
    }
}
