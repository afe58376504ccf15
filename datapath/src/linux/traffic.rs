//! What a device has carried, as the kernel counts it: the fast path's frames never come to user space.

use std::io;

use netlink_packet_route::link::{LinkAttribute, Stats64};

use super::netlink::{Netlink, NetlinkError};
use crate::plan::LinkName;

/// Totals since the device was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub frames_in: u64,
    pub bytes_in: u64,
    pub frames_out: u64,
    pub bytes_out: u64,
}

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    #[error("cannot open netlink: {0}")]
    Open(#[from] io::Error),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Of `link`; nothing when there is no such device.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn traffic(link: &LinkName) -> Result<Traffic, TrafficError> {
    let found = Netlink::open()?.link(link.as_str())?;
    let stats = found.iter().flat_map(|link| &link.attributes).find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(*stats),
        _ => None,
    });
    Ok(stats.map_or_else(Traffic::default, |Stats64 { rx_packets, rx_bytes, tx_packets, tx_bytes, .. }| Traffic {
        frames_in: rx_packets,
        bytes_in: rx_bytes,
        frames_out: tx_packets,
        bytes_out: tx_bytes,
    }))
}
