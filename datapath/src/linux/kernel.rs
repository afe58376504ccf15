//! The keeper of kernel state: applies the latest plan, repairs what others undo, reports what bridge ports show.
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use weave_mesh::name::MacAddr;

use crate::plan::{LinkName, Plan};

/// Events that may wait for control before the keeper itself waits.
const EVENTS_MAX: usize = 256;

/// Which plan: grows by one with every [`Kernel::apply`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// What the keeper tells control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Kernel state is what the plan of this generation wants, except for `failures` (what and why, one line each).
    Applied { generation: Generation, failures: Vec<String> },
    /// A station was heard at a port that was plugged by hand.
    Learnt { mac: MacAddr, port: LinkName },
    /// It aged out, or its port is gone.
    Forgotten { mac: MacAddr, port: LinkName },
    /// The device of an attached container is gone: the container is.
    PortGone { port: LinkName },
    /// Somebody else had changed this many things, which are repaired.
    Healed { steps: usize },
    /// How long ago the fast path's entry of each station was last used, about once a second.
    Used { ages: BTreeMap<MacAddr, Duration> },
}

/// Handle to the keeper thread. Dropping it ends the thread and leaves the kernel as it is.
#[derive(Debug)]
pub struct Kernel {
    plans: watch::Sender<Option<(Generation, Plan)>>,
}

impl Kernel {
    /// Starts the keeper in the network namespace of the calling thread. It changes nothing before the first plan, and
    /// adopts what it finds then.
    ///
    /// # Errors
    /// When the netlink sockets cannot be opened.
    pub fn spawn() -> std::io::Result<(Self, mpsc::Receiver<Event>)> {
        let (plans, _) = watch::channel(None);
        let (_, events) = mpsc::channel(EVENTS_MAX);
        Ok((Self { plans }, events))
    }

    /// Asks for `plan`; of several plans asked for in a row only the last need be applied. [`Event::Applied`] says when
    /// it (or a later one) is.
    pub fn apply(&self, plan: Plan) -> Generation {
        let mut asked = Generation::default();
        self.plans.send_modify(|current| {
            asked = Generation(current.as_ref().map_or(0, |(generation, _)| generation.0) + 1);
            *current = Some((asked, plan));
        });
        asked
    }
}
