//! Sleeve: Ethernet in UDP, sealed end to end, on the port that control uses for TCP.
//!
//! ```text
//!   packet.rs     the bytes of a datagram            cookie.rs    who may cost us a handshake
//!   handshake.rs  two messages, fresh keys           attempt.rs   when a handshake is tried, and by which way
//!   session.rs    keys in use, their generations     route.rs     the way packets take to a peer
//!   seal.rs       ciphers      replay.rs  window     relay.rs     envelopes through a third peer
//!   index.rs      index -> session                   waiting.rs   frames before there is a session
//!   memory.rs     handshakes seen                    path_mtu.rs  how long a frame may be
//!   rate.rs       token buckets                      canary.rs    whether segmented sends arrive
//! ```

pub mod attempt;
pub mod canary;
pub mod cookie;
pub mod handshake;
pub mod index;
pub mod memory;
pub mod packet;
pub mod path_mtu;
pub mod rate;
pub mod relay;
pub mod replay;
pub mod route;
pub mod seal;
pub mod session;
pub mod waiting;
