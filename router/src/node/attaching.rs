//! Attaching and detaching, as control sees it: one container at a time, answered when the kernel is ready for it.
//!
//! ```text
//!   request ─► queue ─► job: veth (a thread in the container's namespace) ─► ledger, endpoints, plan ─► applied ─► answer
//! ```

use std::future::pending;

use tokio::task::JoinHandle;
use tracing::{info, warn};
use weave_datapath::linux::kernel::Generation;
use weave_datapath::linux::veth::{self, AttachSpec, Attached};
use weave_mesh::card::Subnet;

use super::Control;
use crate::attach::{AttachError, Container, distinct};
use crate::fabric::Loom;
use crate::request::Reply;

/// Attachments that wait for their turn.
const JOBS_MAX: usize = 256;

pub(super) type Answer = Result<Vec<Subnet>, AttachError>;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    Attach,
    Detach,
}

/// One request.
#[derive(Debug)]
pub(super) struct Job {
    errand: Errand,
    container: Container,
    addresses: Vec<Subnet>,
    /// What it is called from now on; `None` leaves it as it was.
    name: Option<Option<String>>,
    /// What the container has when the work begins.
    before: Vec<Subnet>,
    reply: Reply<Answer>,
}

/// What became of the first job in the queue.
pub(super) type Done = Result<Option<Attached>, AttachError>;

/// An answer that is due when the kernel has a plan.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) generation: Generation,
    pub(super) addresses: Vec<Subnet>,
    pub(super) reply: Reply<Answer>,
}

impl Job {
    pub(super) const fn attach(
        container: Container,
        addresses: Vec<Subnet>,
        name: Option<String>,
        reply: Reply<Answer>,
    ) -> Self {
        Self { errand: Errand::Attach, container, addresses, name: Some(name), before: Vec::new(), reply }
    }

    pub(super) const fn detach(container: Container, addresses: Vec<Subnet>, reply: Reply<Answer>) -> Self {
        Self { errand: Errand::Detach, container, addresses, name: None, before: Vec::new(), reply }
    }

    /// The work inside the container's namespace; it blocks.
    fn work(&self, loom: &Loom) -> impl FnOnce() -> Done + Send + 'static {
        let (errand, netns, addresses) = (self.errand, self.container.netns.clone(), self.addresses.clone());
        let (mtu, resolver) = (loom.mtu, loom.resolver);
        move || {
            let netns = veth::open(netns)?;
            match errand {
                Errand::Attach => Ok(Some(veth::attach(&netns, &AttachSpec { mtu, mac: None, addresses, resolver })?)),
                Errand::Detach => Ok(veth::detach(&netns, &addresses)?),
            }
        }
    }
}

/// The end of the job under way; never without one.
pub(super) async fn finished(job: &mut Option<JoinHandle<Done>>) -> Done {
    let Some(handle) = job else { return pending().await };
    let ended = handle.await;
    *job = None;
    ended.unwrap_or_else(|error| Err(AttachError::Died(error.to_string())))
}

impl Control {
    pub(super) fn enqueue(&mut self, mut job: Job) {
        let admitted = match job.errand {
            _ if self.jobs.len() >= JOBS_MAX => Err(AttachError::Busy(JOBS_MAX)),
            Errand::Attach => distinct(std::mem::take(&mut job.addresses)).map(|addresses| job.addresses = addresses),
            Errand::Detach => Ok(()),
        };
        match admitted {
            Ok(()) => self.jobs.push_back(job),
            Err(error) => drop(job.reply.send(Err(error))),
        }
        self.start_job();
    }

    /// Starts the first job of the queue that may be done.
    fn start_job(&mut self) {
        while self.job.is_none()
            && let Some(job) = self.jobs.front_mut()
        {
            let admitted = match job.errand {
                Errand::Attach => {
                    let (ledger, exposure) = (&self.ledger, &self.exposure);
                    ledger.admit(&job.container, &job.addresses).and_then(|()| exposure.admit_container(&job.addresses))
                }
                Errand::Detach => Ok(()),
            };
            match admitted {
                Ok(()) => {
                    job.before = self.ledger.addresses(&job.container);
                    self.job = Some(tokio::task::spawn_blocking(job.work(self.weaving.loom())));
                }
                Err(error) => {
                    if let Some(job) = self.jobs.pop_front() {
                        let _ = job.reply.send(Err(error));
                    }
                }
            }
        }
    }

    pub(super) fn handle_done(&mut self, done: Done) {
        let Some(job) = self.jobs.pop_front() else { return };
        match done.and_then(|port| self.record(&job, port)) {
            Ok(addresses) => {
                info!(addresses = addresses.len(), errand = ?job.errand, "container ports changed");
                let generation = self.weave();
                self.waiting.push(Waiting { generation, addresses, reply: job.reply });
            }
            Err(error) => {
                warn!(%error, errand = ?job.errand, "container ports not changed");
                let _ = job.reply.send(Err(error));
            }
        }
        self.answer_waiting();
        self.start_job();
    }

    /// Writes down what the container has, and tells what it gained or lost.
    fn record(&mut self, job: &Job, port: Option<Attached>) -> Answer {
        match &port {
            Some(port) => self.ledger.record(&job.container, port, job.name.clone(), self.node.next_attach_time()),
            None => {
                self.ledger.remove_container(&job.container);
                self.forget_names_of(&job.container.label);
            }
        }
        self.store.write_ledger(&self.ledger)?;
        let after = self.ledger.addresses(&job.container);
        if job.errand == Errand::Attach {
            return Ok(job.addresses.clone());
        }
        let lost: Vec<_> = job.before.iter().filter(|subnet| !after.contains(subnet)).copied().collect();
        self.release_all(&job.container.label, &lost);
        if port.is_none() {
            // Also what it was given and never had.
            let _ = self.release(&job.container.label, None);
        }
        Ok(lost)
    }

    /// Answers everybody whose plan the kernel has.
    pub(super) fn answer_waiting(&mut self) {
        let applied = self.weaving.applied();
        for waiting in self.waiting.extract_if(.., |waiting| waiting.generation <= applied) {
            let _ = waiting.reply.send(Ok(waiting.addresses));
        }
    }
}
