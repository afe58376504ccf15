//! datapath

pub mod guard;
#[cfg(feature = "linux")]
pub mod linux;
pub mod plan;
