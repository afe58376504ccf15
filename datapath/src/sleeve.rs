//! Sleeve: Ethernet in UDP, sealed end to end.

pub mod cookie;
pub mod packet;
pub mod rate;
pub mod relay;
pub mod replay;
pub mod seal;
