//! The daemon: everything that touches the outside world but frames. Sockets, files, HTTP.
//!
//! ```text
//!   control thread (node.rs)          owns the mesh machine; peers.rs brings it TCP, store.rs keeps its state,
//!        │  ▲                         fabric.rs turns its view into kernel plan and packet tables
//!        │  └── request.rs ◄── admin thread (api.rs, following.rs, attach.rs, discovery.rs): asks, never holds state of its own
//!        ├────► dns.rs: threads that answer names from a snapshot
//!        └────► datapath's packet thread and kernel keeper: snapshots in, events out
//! ```
//!
//! `launch` is the way in; `app.rs` has the order in which things start and stop.
#![forbid(unsafe_code)]

pub mod admin;
pub mod adoption;
pub mod api;
pub mod app;
pub mod attach;
pub mod config;
pub mod descriptors;
pub mod discovery;
pub mod dns;
pub mod expose;
pub mod fabric;
pub mod following;
pub mod metrics;
pub mod naming;
pub mod node;
pub mod parameter;
pub mod peers;
pub mod pools;
pub mod proxy;
pub mod request;
pub mod shown;
pub mod starts;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod watchdog;
