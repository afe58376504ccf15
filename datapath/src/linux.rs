//! The half that touches the kernel: devices, namespaces, tables.
//!
//! ```text
//!   Plan ──► kernel.rs (a thread) ─┬─► observe.rs ── dump ─────► netlink.rs ──► kernel
//!              ▲    │              ├─► plan::diff                    ▲
//!   control ───┘    └─► Event      └─► apply.rs ── steps ────────────┤
//!                                                └► nft (guard)      │
//!   attach ──► veth.rs (a thread inside the target namespace) ───────┘
//! ```

pub mod kernel;
pub mod netns;
pub mod veth;
