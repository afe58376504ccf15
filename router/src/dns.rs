//! DNS for containers: names of the mesh from memory, everything else from the resolvers of this host.
//!
//! ```text
//!   control ── names, attached addresses ──► watch ─┐ immutable snapshots
//!                                                   ▼
//!   UDP 53 ── udp.rs, a thread for each address ── answer.rs ──► reply, in batches
//!                      │ outside the domain              ▲
//!                      ▼                                 │
//!   TCP 53 ── tcp.rs ──┴─► forward.rs ── cache.rs ── upstream servers of resolv.conf (resolv.rs), who of them
//!                          │                         answers (hearing.rs)
//!                          └ what each asker may use: budget.rs
//! ```
//!
//! Nothing here asks control or waits for it, and control waits for nothing here: a slow query delays no heartbeat.
//!
//! Invariants:
//! - only this host and its containers are answered (asker.rs); anybody else hears nothing;
//! - a name of the domain is never asked upstream, and no answer is about another name than the question's;
//! - everything that waits is counted and bounded, in all and for each asker: questions under way, connections, what one
//!   connection has asked.

pub use self::answer::{Responder, Verdict};
pub use self::asker::{Asker, Askers, Segment};
pub use self::budget::{Budget, Share};
pub use self::forward::Upstream;
pub use self::service::{Dns, DnsError, Published};

mod answer;
mod asker;
mod budget;
mod cache;
mod forward;
mod hearing;
mod places;
pub mod resolv;
mod service;
mod tcp;
mod udp;
pub mod wire;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Udp,
    Tcp,
}
