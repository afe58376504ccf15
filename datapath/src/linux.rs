//! The half that touches the kernel: devices, namespaces, tables.
//!
//! ```text
//!   Plan ──► kernel.rs (a thread) ─┬─► observe.rs ── dump ─────► netlink.rs ──► kernel
//!              ▲    │              ├─► plan::diff                    ▲
//!   control ───┘    └─► Event      └─► apply.rs ── steps ────────────┤
//!                                                └► nft (guard)      │
//!   attach ──► veth.rs (a thread inside the target namespace) ───────┘
//!
//!   Tables ──► packet.rs (a thread) ─┬─► tap.rs ────────────► bridge
//!              ▲    │                ├─► udp.rs ────────────► underlay
//!   control ───┘    └─► Event        └─► packet_socket.rs ──► VXLAN device
//! ```

pub mod apply;
pub mod capability;
pub mod clock;
mod errno;
pub mod firewall;
pub mod garp;
pub mod interfaces;
pub mod kernel;
pub mod mtu;
pub mod namespaces;
pub mod netlink;
pub mod netns;
pub mod observe;
pub mod packet;
pub mod packet_socket;
pub mod reset;
mod sysctl;
pub mod tap;
pub mod traffic;
pub mod udp;
pub mod underlay;
pub mod veth;
