//! Peers that nobody gave, for life: a list is asked for again and again, and control makes of it what it says.
//!
//! ```text
//!   cloud.rs  AWS      ──► machines: whom to dial, who is gone, who makes the first ring ─┐
//!   file.rs   a file   ──► targets ───────────────────────────────────────────────────────┼─► Request::Discovered ──► node
//!   names.rs  DNS, service.rs ► targets─────────────────────────────────────────────────────┘         │
//!   place.rs  which of them, settled at the start
//!      ▲                                                                     what to ask for next ◄─┘
//!      └── when: Polling, of mesh/src/roster
//! ```
//!
//! Invariants: a list that cannot be had changes nothing and stops nothing; it is said in the log when it begins and when it
//! ends, and in `status` as long as it lasts.

mod cloud;
mod file;
mod names;
mod place;
mod service;
mod shown;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand_core::{OsRng, RngCore};
use tracing::{info, warn};
use weave_mesh::connector::Target;
use weave_mesh::roster::{self, Outcome, Polling};

use crate::request::{Request, Requester, Stopping};

pub use self::place::Place;
pub use self::shown::{Discovered, DiscoveryPart};

use self::cloud::Machines;
use self::file::PeerFile;
use self::names::PeerName;

/// What a list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum List {
    Machines(roster::Listing),
    /// Whom to dial; they count as if an operator had given them.
    Targets(BTreeSet<Target>),
}

impl List {
    fn len(&self) -> usize {
        match self {
            Self::Machines(listing) => listing.instances.len(),
            Self::Targets(targets) => targets.len(),
        }
    }
}

/// What control wants of the next answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A first ring waits for it.
    pub is_urgent: bool,
    /// Machines that should be asked for by name: they are not listed any more, and may live.
    pub also: BTreeSet<String>,
}

/// A list that could not be had, or not whole.
#[derive(Debug)]
struct Trouble {
    text: String,
    is_throttled: bool,
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self { text, is_throttled: false }
    }
}

/// Where the list is.
#[derive(Clone, Debug)]
pub enum Source {
    Nowhere,
    Aws(Box<weave_aws::Settings>),
    File(PathBuf),
    Dns { name: Target, resolv_conf: PathBuf },
}

/// The same, as it is asked.
#[derive(Debug)]
enum Asked {
    Machines(Box<Machines>),
    File(PeerFile),
    Names(PeerName),
}

impl Asked {
    fn of(source: Source) -> Option<Self> {
        match source {
            Source::Nowhere => None,
            Source::Aws(settings) => Some(Self::Machines(Box::new(Machines::new(*settings)))),
            Source::File(path) => Some(Self::File(PeerFile::new(path))),
            Source::Dns { name, resolv_conf } => Some(Self::Names(PeerName::new(&name, resolv_conf))),
        }
    }

    /// The list, with what it lacks.
    async fn list(&mut self, also: &BTreeSet<String>) -> Result<(List, Option<String>), Trouble> {
        match self {
            Self::Machines(machines) => machines.list(also).await,
            Self::File(file) => Ok((List::Targets(file.read()?), None)),
            Self::Names(name) => Ok((List::Targets(name.resolve().await?), None)),
        }
    }

    /// A file is looked at more often than anybody else's service.
    fn delay(&self, polling: &mut Polling, outcome: Outcome) -> Duration {
        match self {
            Self::File(_) => file::INTERVAL,
            Self::Machines(_) | Self::Names(_) => polling.next(outcome),
        }
    }
}

/// Asks for the list until control ends.
pub async fn follow(source: Source, requester: Requester, discovered: Arc<Discovered>) {
    let Some(mut asked) = Asked::of(source) else { return };
    let mut polling = Polling::new(OsRng.next_u64());
    let mut wanted = Wanted::default();
    loop {
        let outcome = match asked.list(&wanted.also).await {
            Ok((list, lacking)) => {
                let instances = list.len();
                note(&discovered, Some(instances), lacking);
                let told = requester.ask(|reply| Request::Discovered { list, reply }).await;
                let Ok(next) = told.map_err(|Stopping| ()) else { return };
                wanted = next;
                Outcome::Answered { instances, is_urgent: wanted.is_urgent }
            }
            Err(Trouble { text, is_throttled }) => {
                note(&discovered, None, Some(text));
                if is_throttled { Outcome::Throttled } else { Outcome::Failed }
            }
        };
        tokio::time::sleep(asked.delay(&mut polling, outcome)).await;
    }
}

/// What is wrong is said once, as long as it is the same.
fn note(discovered: &Discovered, listed: Option<usize>, problem: Option<String>) {
    match (discovered.note(listed, problem.clone()), problem) {
        (false, _) => {}
        (true, Some(problem)) => warn!(problem, "peers cannot be discovered as they should"),
        (true, None) => info!(listed, "peers are discovered"),
    }
}
