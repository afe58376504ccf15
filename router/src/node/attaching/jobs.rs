//! Work in network namespaces, which may block: each piece on a thread of its own, and with a deadline.
//!
//! ```text
//!   look ──────────────► thread ─┐
//!   make, take ─► queue ─► thread ─┴─► finished, or given up at its deadline
//! ```
//!
//! Invariants:
//! - looking opens what a caller named, on whatever file system: it keeps nobody else waiting;
//! - what changes something works on a namespace that is open already, a few pieces at a time;
//! - nobody waits for a thread whose work was given up, not even the end of the daemon.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::warn;
use weave_datapath::linux::netns::Netns;
use weave_datapath::linux::veth::{self, AttachSpec, Attached, Ends, Found};
use weave_datapath::plan::LinkName;
use weave_mesh::card::Subnet;
use weave_mesh::time::Instant;

use super::OperationId;
use crate::attach::AttachError;

/// How long a piece of work may take; milliseconds are usual.
const DEADLINE: Duration = Duration::from_secs(10);
/// Threads that change something at the same time; the kernel does most of it one by one anyway.
const CHANGING_MAX: usize = 4;
/// Threads whose work was given up, before nothing more is looked at.
const LOST_MAX: usize = 32;

/// Where the container's end of a port is made.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Inside(Arc<Netns>),
    /// On the host.
    Here(Ends),
}

#[derive(Debug)]
pub(super) enum Work {
    Look(PathBuf),
    Make {
        netns: Arc<Netns>,
        spec: AttachSpec,
    },
    /// Both ends here, one of them for Docker to move.
    Pair {
        ends: Ends,
        mtu: u32,
        port: Attached,
    },
    Revert {
        place: Place,
        before: Option<Attached>,
    },
    /// These addresses, or all when there are none given.
    Take {
        netns: Arc<Netns>,
        addresses: Vec<Subnet>,
    },
    /// Of a namespace that cannot be opened, or of an endpoint.
    Remove(LinkName),
}

#[derive(Debug)]
pub(super) enum Outcome {
    Looked(Arc<Netns>, Found),
    Made(Made),
    /// What is left.
    Left(Option<Attached>),
    Reverted,
}

/// A port that was made or got more, and what it was before.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) place: Place,
    pub(super) before: Option<Attached>,
    pub(super) after: Attached,
}

pub(super) type Done = Result<Outcome, AttachError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobId(u64);

/// The end of a piece of work.
#[derive(Debug)]
pub(in crate::node) struct Finished {
    pub(super) job: JobId,
    pub(super) done: Done,
}

#[derive(Debug)]
struct Running {
    operation: OperationId,
    until: Instant,
    is_look: bool,
}

/// What runs, and what waits to.
#[derive(Debug)]
pub(super) struct Jobs {
    running: BTreeMap<JobId, Running>,
    /// As many as there are operations, which are limited.
    queue: VecDeque<(OperationId, Work)>,
    last: u64,
    /// Given up, and not ended yet.
    lost: usize,
    results: mpsc::Receiver<Finished>,
    /// A thread sends once, and waits until that is read.
    results_in: mpsc::Sender<Finished>,
}

impl Default for Jobs {
    fn default() -> Self {
        let (results_in, results) = mpsc::channel(LOST_MAX);
        Self { running: BTreeMap::new(), queue: VecDeque::new(), last: 0, lost: 0, results, results_in }
    }
}

impl Jobs {
    /// Starts `work` for an operation, now or in its turn.
    ///
    /// # Errors
    /// When too much hangs already, or there is no thread.
    pub(super) fn start(&mut self, operation: OperationId, work: Work, now: Instant) -> Result<(), AttachError> {
        if matches!(work, Work::Look(_)) {
            return if self.lost < LOST_MAX { self.run(operation, work, now) } else { Err(self.hang()) };
        }
        self.queue.push_back((operation, work));
        self.run_queued(now);
        Ok(())
    }

    fn hang(&self) -> AttachError {
        AttachError::Busy(self.lost)
    }

    fn run(&mut self, operation: OperationId, work: Work, now: Instant) -> Result<(), AttachError> {
        self.last += 1;
        let (id, is_look) = (JobId(self.last), matches!(work, Work::Look(_)));
        let results = self.results_in.clone();
        let thread = std::thread::Builder::new().name("namespace".to_owned());
        let started = thread.spawn(move || drop(results.blocking_send(Finished { job: id, done: work.carry_out() })));
        started.map_err(|error| AttachError::Port(veth::AttachError::Thread(error)))?;
        self.running.insert(id, Running { operation, until: now + DEADLINE, is_look });
        Ok(())
    }

    fn run_queued(&mut self, now: Instant) {
        while self.running.values().filter(|job| !job.is_look).count() < CHANGING_MAX
            && let Some((operation, work)) = self.queue.pop_front()
        {
            if let Err(error) = self.run(operation, work, now) {
                // Its operation learns of it as of any other failure.
                self.last += 1;
                let id = JobId(self.last);
                self.running.insert(id, Running { operation, until: now, is_look: false });
                warn!(%error, "cannot work in a namespace");
            }
        }
    }

    /// The next result; waits for ever when nothing runs.
    pub(super) async fn next(&mut self) -> Finished {
        match self.results.recv().await {
            Some(result) => result,
            // Never: the other end is ours.
            None => std::future::pending().await,
        }
    }

    /// Whose result it is; nobody's when it was given up.
    pub(super) fn finish(&mut self, id: JobId, now: Instant) -> Option<OperationId> {
        let Some(job) = self.running.remove(&id) else {
            self.lost = self.lost.saturating_sub(1);
            return None;
        };
        self.run_queued(now);
        Some(job.operation)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.running.values().map(|job| job.until).min()
    }

    /// Gives up what took too long; whose it was.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(OperationId, AttachError)> {
        let late: Vec<JobId> = self.running.iter().filter(|(_, job)| job.until <= now).map(|(id, _)| *id).collect();
        let late: Vec<Running> = late.iter().filter_map(|id| self.running.remove(id)).collect();
        self.lost += late.len();
        self.run_queued(now);
        let error = |job: &Running| AttachError::Hangs {
            subject: if job.is_look { "the container's namespace" } else { "the container's port" },
            limit: DEADLINE,
        };
        late.iter().map(|job| (job.operation, error(job))).collect()
    }
}

impl Work {
    fn carry_out(self) -> Done {
        match self {
            Self::Look(path) => {
                let netns = veth::open(path)?;
                let found = veth::look(&netns)?;
                Ok(Outcome::Looked(Arc::new(netns), found))
            }
            Self::Make { netns, spec } => {
                let before = veth::inspect(&netns)?;
                let after = veth::attach(&netns, &spec)?;
                Ok(Outcome::Made(Made { place: Place::Inside(netns), before, after }))
            }
            Self::Pair { ends, mtu, port } => {
                ends.make(mtu, port.mac)?;
                Ok(Outcome::Made(Made { place: Place::Here(ends), before: None, after: port }))
            }
            Self::Revert { place, before } => {
                match place {
                    Place::Inside(netns) => veth::revert(&netns, before.as_ref())?,
                    Place::Here(ends) => veth::remove(&ends.host)?,
                }
                Ok(Outcome::Reverted)
            }
            Self::Take { netns, addresses } => Ok(Outcome::Left(veth::detach(&netns, &addresses)?)),
            Self::Remove(host_link) => {
                veth::remove(&host_link)?;
                Ok(Outcome::Left(None))
            }
        }
    }
}
