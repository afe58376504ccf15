//! What peers agree on, as pure state machines.
//!
//! Nothing here reads a clock, opens a socket or file, or draws a random number of its own: time and a seed come from
//! outside, so that a whole cluster runs in one thread under a virtual clock (module `sim`).
//!
//! ```text
//!   inputs ── handle_*(…, now) ──► machine ── poll_output() ──► Persist | Dial | Send | Close | Event, in order
//!                                     └────── poll_timeout() ─► the earliest deadline
//! ```
//!
//! The contract of a machine:
//! - a plain struct; `handle_*` takes an input and the time, never blocks, never calls back;
//! - outputs are carried out in order: a `Persist` is durable before a later `Send` that relies on it;
//! - `poll_timeout` may be early, never late; `handle_timeout` before its time is a no-op;
//! - no iteration over hash maps, no globals: the same seed and inputs give the same outputs;
//! - every queue and map has a limit, named beside it.
#![forbid(unsafe_code)]

mod allowance;
pub mod card;
pub mod connection;
pub mod connector;
pub mod degree;
pub mod dns;
pub mod identity;
pub mod ipam;
pub mod letter;
pub mod members;
pub mod name;
pub mod node;
pub mod noise;
mod pace;
pub mod roster;
pub mod routes;
pub mod sim;
pub mod store;
pub mod time;
pub mod topology;
pub mod verifier;
pub mod wire;
