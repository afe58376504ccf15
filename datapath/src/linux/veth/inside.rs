//! The container's end of the pair. Everything here runs on a thread inside the container's namespace.

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::{AttachError, AttachSpec, CONTAINER_LINK};
use crate::linux::netlink::Netlink;
use crate::linux::netlink::address::subnet_of;
use crate::linux::netns::Netns;
use crate::linux::observe::mac_of;
use crate::linux::sysctl;
use crate::plan::Resolver;

/// Whether the container has an interface of our name.
pub(super) fn exists(netns: &Netns) -> Result<bool, AttachError> {
    run(netns, |netlink| Ok(netlink.link_index(CONTAINER_LINK)?.is_some()))
}

/// Gives `ethwe` what `spec` says and it lacks, and brings it up.
pub(super) fn furnish(netns: &Netns, spec: &AttachSpec) -> Result<(), AttachError> {
    run(netns, |netlink| {
        let index = netlink.link_index(CONTAINER_LINK)?.ok_or(AttachError::InterfaceGone)?;
        netlink.set_mtu(CONTAINER_LINK, spec.mtu)?;
        // Before it is up, since that is when it asks for routers and makes its link-local address: of the MAC, the
        // one that the guard lets out.
        sysctl::tune_ipv6(CONTAINER_LINK)?;
        sysctl::derive_link_local(CONTAINER_LINK)?;
        sysctl::promote_secondaries(CONTAINER_LINK)?;
        netlink.bring_up(CONTAINER_LINK)?;
        let present = addresses(netlink, index)?;
        for subnet in spec.addresses.iter().filter(|subnet| !present.contains(subnet)) {
            netlink.add_address(index, *subnet)?;
        }
        if spec.multicast_route {
            netlink.add_multicast_route(index)?;
        } else {
            netlink.remove_multicast_route(index)?;
        }
        if spec.resolver == Resolver::Served {
            netlink.add_resolver_route(index)?;
        }
        Ok(())
    })
}

/// The MAC and addresses of `ethwe`, if there is one.
pub(super) fn inspect(netns: &Netns) -> Result<Option<(MacAddr, Vec<Subnet>)>, AttachError> {
    run(netns, |netlink| {
        let Some(link) = netlink.link(CONTAINER_LINK)? else {
            return Ok(None);
        };
        let mac = mac_of(&link).ok_or(AttachError::InterfaceGone)?;
        Ok(Some((mac, addresses(netlink, link.header.index)?)))
    })
}

pub(super) fn remove_addresses(netns: &Netns, subnets: &[Subnet]) -> Result<(), AttachError> {
    run(netns, |netlink| {
        let index = netlink.link_index(CONTAINER_LINK)?.ok_or(AttachError::InterfaceGone)?;
        for subnet in subnets {
            netlink.remove_address(index, *subnet)?;
        }
        Ok(())
    })
}

fn run<T: Send>(
    netns: &Netns,
    work: impl FnOnce(&mut Netlink) -> Result<T, AttachError> + Send,
) -> Result<T, AttachError> {
    netns.run(|| work(&mut Netlink::open().map_err(AttachError::Thread)?)).map_err(AttachError::Enter)?
}

/// Of one device, without link-local ones, in the kernel's order: the first is its primary address.
fn addresses(netlink: &mut Netlink, index: u32) -> Result<Vec<Subnet>, AttachError> {
    let messages = netlink.addresses()?;
    Ok(messages.iter().filter(|message| message.header.index == index).filter_map(subnet_of).collect())
}
