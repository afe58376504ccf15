//! What the kernel leaves to whoever carries a frame: cutting it into segments, finishing its checksum; and the way
//! back.
//!
//! ```text
//!   TAP read ─► vnet.rs: header ─► segment.rs: Outgoing ─┬─ whole frame ──────────────────────► seal
//!                                                        └─ super-frame ─► cut, each segment ─► seal
//!   open ─► coalesce.rs: Deliveries, consecutive segments of one flow become one super-frame ─► TAP write
//! ```
//!
//! A transport checksum that the kernel left unfinished holds the sum over the pseudo-header, and stays that way until
//! the receiving host's kernel: the seal covers what a checksum would. A frame that came with a finished one keeps it.

pub mod checksum;
pub mod coalesce;
pub mod layout;
pub mod segment;
pub mod vnet;

#[cfg(test)]
mod tests;
