//! The packet thread and its descriptors on real devices. Needs root.
//!
//! ```text
//!   host                                                              host
//!   station ──veth── port ── [bridge weave] ── weave-tap   ══ UDP ══  weave-tap ── [bridge weave] ── port ── station
//! ```
#![cfg(feature = "linux")]

mod bridge;
mod devices;
mod offload;
mod thread;
