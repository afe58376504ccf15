//! The keeper of kernel state: applies the latest plan, repairs what others undo, reports what bridge ports show.
//!
//! ```text
//!   Kernel::apply ── latest wins ──►┐─► usher thread: new stations, at once
//!   kernel: link, FDB, neighbour ──►│ keeper thread: dump ► diff ► steps ──► Applied, Healed
//!           nftables changed ──────►│                  └► ports ───────────► Learnt, Forgotten, PortGone
//!   slow timer ────────────────────►┘ VXLAN entries, every second ─────────► Used
//!   kernel: address, route ──────────► underlay.rs ────────────────────────► Underlay
//!                                     firewalls and routes of others ──────► Obstacles
//! ```
//!
//! Invariants:
//! - it starts from a dump and never from memory: what is there already is adopted, what was flushed comes back;
//! - a lost notification (overrun) is no more than a notification, since each ends in a dump;
//! - control never waits for it, nor for the kernel's lock, which another tool may hold for long.

mod firewalls;
mod keeper;
mod underlay;
mod usher;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use weave_mesh::name::MacAddr;

use crate::plan::{LinkName, Plan};
use keeper::Keeper;

/// Events that may wait for control before the keeper itself waits.
const EVENTS_MAX: usize = 256;

/// Which plan: grows by one with every [`Kernel::apply`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// What the keeper tells control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Kernel state is what the plan of this generation wants, except for `failures` (what and why, one line each).
    /// Comes again when the failures of a generation change; failed steps are tried again with every check.
    /// `closed` are the ports of containers that are not as the plan wants them.
    Applied { generation: Generation, failures: Vec<String>, closed: BTreeSet<LinkName> },
    /// A station was heard at a port that was plugged by hand.
    Learnt { mac: MacAddr, port: LinkName },
    /// It aged out, or its port is gone.
    Forgotten { mac: MacAddr, port: LinkName },
    /// The device of an attached container is gone: the container is. `generation` is the plan that names it.
    PortGone { port: LinkName, generation: Generation },
    /// This many things were not as an applied plan wants them (somebody changed them, a device came late), and are.
    Healed { steps: usize },
    /// This host has these underlay addresses, best first: once at the start, and whenever they have changed.
    Underlay { addresses: Vec<IpAddr> },
    /// What is in the way and not ours to change, in sentences; comes again when they change.
    Obstacles { told: Vec<String> },
    /// How long ago the fast path's entry of each station was last used, about once a second.
    Used { ages: BTreeMap<MacAddr, Duration> },
}

/// Handle to the keeper and its usher. Dropping it ends their threads and leaves the kernel as it is.
#[derive(Debug)]
pub struct Kernel {
    plans: watch::Sender<Option<(Generation, Arc<Plan>)>>,
    threads: [JoinHandle<()>; 2],
}

impl Kernel {
    /// Starts both in the network namespace of the calling thread. They change nothing before the first plan.
    ///
    /// # Errors
    /// When the netlink sockets cannot be opened.
    pub fn spawn() -> io::Result<(Self, mpsc::Receiver<Event>)> {
        let (plans, plans_in) = watch::channel(None);
        let (events_out, events) = mpsc::channel(EVENTS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let keeper = {
            let _inside = runtime.enter();
            Keeper::new(plans_in.clone(), events_out)?
        };
        let usher = usher::spawn(plans_in)?;
        let keeper =
            std::thread::Builder::new().name("kernel".to_owned()).spawn(move || runtime.block_on(keeper.run()))?;
        Ok((Self { plans, threads: [keeper, usher] }, events))
    }

    /// Asks for `plan`; of several plans asked for in a row only the last need be applied. [`Event::Applied`] says when
    /// it (or a later one) is.
    pub fn apply(&self, plan: Plan) -> Generation {
        let mut asked = Generation::default();
        self.plans.send_modify(|current| {
            asked = Generation(current.as_ref().map_or(0, |(generation, _)| generation.0) + 1);
            *current = Some((asked, Arc::new(plan)));
        });
        asked
    }

    /// Ends both and waits until they change nothing more; a reset must not be healed.
    pub fn stop(self) {
        drop(self.plans);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a kernel thread panicked");
            }
        }
    }
}
