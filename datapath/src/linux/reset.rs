//! Removes everything that daemons of one bridge have left in the kernel, and nothing else.

use std::io;

use super::firewall::{self, FirewallError};
use super::netlink::{Netlink, NetlinkError};
use super::observe::observe;
use crate::guard;
use crate::plan::{BridgeNames, HOST_LINK_PREFIX, LinkKind, LinkName, ObservedLink};

/// What could not be removed. The rest is removed all the same, and a repetition tries again.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    #[error("cannot open netlink: {0}")]
    Open(io::Error),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
}

/// Removes the ports of attached containers, the overlay ports, the bridge, our tables and our two accepts. Devices
/// plugged into the bridge by hand stay, without a bridge; a device that only has one of our names stays too.
///
/// # Errors
/// Everything that failed; what could be removed is.
pub fn reset(names: &BridgeNames) -> Result<(), Vec<ResetError>> {
    let mut errors = Vec::new();
    match Netlink::open() {
        Ok(mut netlink) => remove_links(&mut netlink, names, &mut errors),
        Err(cause) => errors.push(ResetError::Open(cause)),
    }
    // Last: as long as a port exists, its guard does.
    errors.extend(firewall::run_nft(&guard::removal()).err().map(ResetError::from));
    errors.extend(firewall::remove_accepts(&names.bridge).err().map(ResetError::from));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn remove_links(netlink: &mut Netlink, names: &BridgeNames, errors: &mut Vec<ResetError>) {
    let links = match observe(netlink, names) {
        Ok(observed) => observed.links,
        Err(error) => return errors.push(error.into()),
    };
    if let Some(bridge) = links.get(&names.bridge) {
        // The rule outlives the bridge.
        errors.extend(netlink.remove_resolver(bridge.index).err().map(ResetError::from));
    }
    let (bridges, ports): (Vec<_>, Vec<_>) =
        links.iter().filter(|(name, link)| is_ours(name, link, names)).partition(|(name, _)| **name == names.bridge);
    for (name, _) in ports.into_iter().chain(bridges) {
        errors.extend(netlink.delete_link(name.as_str()).err().map(ResetError::from));
    }
}

fn is_ours(name: &LinkName, link: &ObservedLink, names: &BridgeNames) -> bool {
    match link.kind {
        LinkKind::Bridge { .. } => *name == names.bridge,
        LinkKind::Vxlan { .. } => *name == names.vxlan,
        LinkKind::Tap => *name == names.tap,
        // One without a bridge lost it when somebody removed ours.
        LinkKind::Veth => name.as_str().starts_with(HOST_LINK_PREFIX),
        LinkKind::Foreign => false,
    }
}
