//! The Linux half on real devices. Every test has network namespaces of its own, which go when it ends; it needs root,
//! and fails without.
#![cfg(feature = "linux")]

mod fastpath;
mod guard;
mod keeper;
mod lab;
mod mtu;
mod plan;
mod reset;
mod veth;
