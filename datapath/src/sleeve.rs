//! Sleeve: Ethernet in UDP, sealed end to end.

pub mod cookie;
pub mod handshake;
pub mod index;
pub mod packet;
pub mod rate;
pub mod relay;
pub mod replay;
pub mod seal;
pub mod session;
