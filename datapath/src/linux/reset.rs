//! Removes everything that daemons of one bridge have left in the kernel, and nothing else.

use std::collections::BTreeSet;
use std::io;

use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::firewall::{self, FirewallError};
use super::netlink::link::owner_mark;
use super::netlink::{Netlink, NetlinkError};
use super::observe::{link_name, observe};
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

/// Removes the ports of attached containers, the overlay ports, the bridge, our tables and our accepts. Devices plugged
/// into the bridge by hand stay, without a bridge; a device that only has one of our names stays too, and so does all
/// that belongs to a daemon with another bridge.
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
    errors.extend(firewall::run_nft(&guard::removal(&names.bridge)).err().map(ResetError::from));
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
    let strangers = match others_ports(netlink, &names.bridge) {
        Ok(strangers) => strangers,
        Err(error) => return errors.push(error.into()),
    };
    let ours = links.iter().filter(|(name, link)| is_ours(name, link, names) && !strangers.contains(*name));
    let (bridges, ports): (Vec<_>, Vec<_>) = ours.partition(|(name, _)| **name == names.bridge);
    for (name, _) in ports.into_iter().chain(bridges) {
        errors.extend(netlink.delete_link(name.as_str()).err().map(ResetError::from));
    }
}

/// Containers' ports of other bridges, and those that lost one which was not ours.
fn others_ports(netlink: &mut Netlink, bridge: &LinkName) -> Result<BTreeSet<LinkName>, NetlinkError> {
    let (own, mark) = (netlink.link_index(bridge.as_str())?, owner_mark(bridge));
    let is_anothers = |link: &LinkMessage| {
        let (mut controller, mut alias) = (None, None);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Controller(index) => controller = Some(*index),
                LinkAttribute::IfAlias(text) => alias = Some(text),
                _ => {}
            }
        }
        controller.map_or_else(|| alias.is_some_and(|alias| *alias != mark), |index| Some(index) != own)
    };
    let anothers = netlink.links()?.into_iter().filter(is_anothers).filter_map(|link| link_name(&link));
    Ok(anothers.filter(|name| name.as_str().starts_with(HOST_LINK_PREFIX)).collect())
}

fn is_ours(name: &LinkName, link: &ObservedLink, names: &BridgeNames) -> bool {
    match link.kind {
        LinkKind::Bridge { .. } => *name == names.bridge,
        LinkKind::Vxlan { .. } => *name == names.vxlan,
        LinkKind::Tap => *name == names.tap,
        // One without a bridge lost it when somebody removed ours, or was about to be plugged.
        LinkKind::Veth => name.as_str().starts_with(HOST_LINK_PREFIX),
        LinkKind::Foreign => false,
    }
}
