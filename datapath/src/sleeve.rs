//! Sleeve: Ethernet in UDP, sealed end to end.

pub mod seal;
