//! The real `weave-rs` on real kernel devices: every host of a test is a network namespace that the test makes itself.
//!
//! ```text
//!   host h1 (netns)              switch (netns)               host h2 (netns)
//!   weave-rs launch                                           weave-rs launch
//!   eth0 192.168.48.1 ──veth──── [bridge sw0] ────veth──── eth0 192.168.48.2
//!   [bridge weave]                nftables:                   [bridge weave]
//!     └─ethwe 10.32.0.1           the faults                    └─ethwe 10.32.0.2
//!        container (netns)                                         container (netns)
//! ```
//!
//! * [`topology`] makes switch, hosts, NAT and containers; dropping them removes every trace.
//! * [`wire`] is a bad cable between two of them, which knows segmented sends from plain ones.
//! * [`scene`] puts the usual daemons and containers on them, [`bad_path`] two of each on a bad wire.
//! * [`weave`] starts, kills, stops and asks the daemon of a host.
//! * [`cloud`] plays AWS, with hosts as its instances.
//! * [`docker`] runs a `dockerd` of the test's own on a host.
//! * [`member`] speaks the mesh's protocol with a real key, and lies.
//! * [`probe`] looks at the result: pings, streams with their longest gap, captures, forged frames.
//! * [`stranger`] is somebody on the underlay who is no member.
//!
//! Tests here need root, and fail with that reason without it. Nothing is skipped.

#![forbid(unsafe_code)]

#[cfg(feature = "wire")]
pub mod bad_path;
#[cfg(feature = "wire")]
pub mod cloud;
pub mod docker;
pub mod frame;
#[cfg(feature = "wire")]
pub mod member;
pub mod probe;
pub mod scene;
pub mod source;
#[cfg(feature = "wire")]
pub mod stranger;
pub mod topology;
pub mod weave;
#[cfg(feature = "wire")]
pub mod wire;
