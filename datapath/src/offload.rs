//! What the kernel leaves to whoever carries a frame.

pub mod checksum;
