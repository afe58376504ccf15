//! Which name leads to which addresses, from what all peers publish.
//!
//! ```text
//!   our own names, sets of answering peers ──► Zone ── snapshot ──► Names, immutable, for the threads that answer
//!      container's endpoint: its names, its addresses                ├─ find("web.weave.local") ─► addresses
//!      HostName: one name given by hand, one address                 └─ pointers(10.32.0.1) ────► names
//! ```
//!
//! A peer answers from the moment it is reachable until it says goodbye, or until [`HOLD`] after it became unreachable:
//! a daemon that restarts in that time changes no answer. Our own names are answered before they are published: whoever
//! gives a name on a host and asks that host sees it, whatever the pace of publication.
//!
//! Invariants:
//! - what is found is what answering peers publish now and what was given here, nothing else;
//! - a change costs what changed: the names of one record, and the parts of the map that hold them;
//! - names are compared without regard to case and to a dot at their end, and shown as they were given.

use std::time::Duration;

pub use self::name::{InvalidName, LABELS_MAX, folded};
pub(crate) use self::names::is_naming;
pub use self::names::{Entry, Holder, Names};
pub use self::shuffle::shuffle_front;
pub(crate) use self::zone::Zone;

mod name;
mod names;
mod sharded;
mod shuffle;
mod zone;

/// How long the names of an unreachable peer are answered.
pub const HOLD: Duration = Duration::from_secs(5);
