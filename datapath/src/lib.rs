//! Everything that touches a frame. Read this first: the life of one, from a container on host A to one on host B.
//!
//! ```text
//!   container A                                                                                        container B
//!      │ veth                                                                                               ▲ veth
//!      ▼                                                                                                    │
//!   guard.rs (nft): own MAC, own addresses, known ethertypes?                                               │
//!      │                                                                                                    │
//!   bridge ── destination's FDB entry, programmed by plan.rs ─┬─► VXLAN device ──── kernel to kernel ────► bridge
//!      │                                                      │   (fast path: frames never come here)       ▲
//!      │                                                      ▼                                             │
//!      │                                                 linux/tap                                     linux/tap
//!      │                                                      │ FrameBatch                                  ▲ Outbox
//!      │                                                      ▼                                             │
//!      │   ethernet.rs ─► engine/outbound.rs: which peer? ─► sleeve/session.rs, seal.rs                     │
//!      │                                                      │ Outbox                                      │
//!      │                                                      ▼                                             │
//!      │                          linux/udp ── underlay, straight or by relay ──► linux/udp                 │
//!      │                                                                             │ DatagramBatch        │
//!      │                                                                             ▼                      │
//!      │          sleeve/packet.rs ─► session.rs, replay.rs, seal.rs ─► engine/inbound.rs: whose frame? ────┘
//!      │
//!      └── heartbeat.rs: probes take the fast path, overlay.rs judges it, control programs the bridge accordingly
//! ```
//!
//! The pure half (this file's modules without `linux`) neither reads a clock nor opens anything: [`engine::Engine`]
//! takes batches and the time, and fills an outbox. The other half, feature `linux`, owns devices and descriptors.
//! Control publishes [`tables::Tables`] and never waits for a packet thread, nor that for control.

pub mod batch;
pub mod drops;
pub mod engine;
pub mod ethernet;
pub mod guard;
pub mod heartbeat;
#[cfg(feature = "linux")]
pub mod linux;
pub mod offload;
pub mod overlay;
pub mod oversize;
pub mod plan;
pub mod sleeve;
pub mod tables;
