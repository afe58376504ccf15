//! Everything that touches a frame.

pub mod batch;
pub mod drops;
pub mod engine;
pub mod ethernet;
pub mod guard;
pub mod heartbeat;
#[cfg(feature = "linux")]
pub mod linux;
pub mod overlay;
pub mod plan;
pub mod sleeve;
pub mod tables;
