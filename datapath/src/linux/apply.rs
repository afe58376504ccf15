//! Carries out the steps of a plan.
//!
//! A step that fails does not keep the others from being tried: one entry that the kernel refuses must not cut off
//! every other container. Only the guard does: what it is for must not be opened without it. Without what all devices have
//! in common nothing goes on; without the chains of one device that device is left as it is.
//!
//! ```text
//!   guard a, guard b, unguard c ─► one transaction ─┬─► done
//!                                                   └► refused: each alone      before Linux 6.16, when one device is gone
//! ```

use std::collections::BTreeMap;
use std::io;

use super::firewall::{self, FirewallError};
use super::garp::Announcer;
use super::netlink::{Netlink, NetlinkError};
use super::sysctl::{self, SysctlError};
use crate::plan::{HOST_LINK_PREFIX, LinkName, Step};

/// Why a step could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error("device `{0}` does not exist")]
    NoDevice(LinkName),
    #[error("cannot announce an address: {0}")]
    Announce(io::Error),
}

/// A step that failed, and why.
#[derive(Debug)]
pub struct Failure<'a> {
    pub step: &'a Step,
    pub error: ApplyError,
}

/// Carries out `steps` in order. The answer is what failed.
pub fn apply<'a>(netlink: &mut Netlink, announcer: &Announcer, steps: &'a [Step]) -> Vec<Failure<'a>> {
    let mut apply = Apply { netlink, announcer, indices: BTreeMap::new() };
    let mut failures = Vec::new();
    for group in steps.chunk_by(|step, next| is_of_one_device(step) && is_of_one_device(next)) {
        if group.len() > 1
            && firewall::run_nft(&group.iter().filter_map(Step::device_script).collect::<String>()).is_ok()
        {
            continue;
        }
        for step in group {
            if opens_unguarded(&failures, step) {
                continue;
            }
            let Err(error) = apply.step(step) else { continue };
            failures.push(Failure { step, error });
            if matches!(step, Step::InstallGuard(_)) {
                return failures;
            }
        }
    }
    failures
}

fn is_of_one_device(step: &Step) -> bool {
    matches!(step, Step::GuardDevice { .. } | Step::UnguardDevice { .. })
}

/// Whether a step is about a device whose guard failed.
fn opens_unguarded(failures: &[Failure<'_>], step: &Step) -> bool {
    let is_unguarded = |failure: &Failure<'_>| match failure.step {
        Step::GuardDevice { device, .. } => step.opened() == Some(device),
        _ => false,
    };
    failures.iter().any(is_unguarded)
}

struct Apply<'a> {
    netlink: &'a mut Netlink,
    announcer: &'a Announcer,
    /// Of the devices used so far: thousands of entries go to a handful of devices.
    indices: BTreeMap<LinkName, u32>,
}

impl Apply<'_> {
    fn step(&mut self, step: &Step) -> Result<(), ApplyError> {
        match step {
            Step::InstallGuard(guard) => firewall::run_nft(&guard.script())?,
            Step::GuardDevice { .. } | Step::UnguardDevice { .. } => {
                step.device_script().map_or(Ok(()), |script| firewall::run_nft(&script))?;
            }
            Step::CreateBridge { name, mac } => self.netlink.create_bridge(name, *mac)?,
            Step::CreateVxlan { name, vxlan, mtu } => self.netlink.create_vxlan(name, vxlan, *mtu)?,
            Step::DeleteLink { link } => {
                self.indices.remove(link);
                self.netlink.delete_link(link.as_str())?;
            }
            Step::SetMac { link, mac } => self.netlink.set_mac(link.as_str(), *mac)?,
            Step::SetMtu { link, mtu } => self.netlink.set_mtu(link.as_str(), *mtu)?,
            Step::DisableSnooping { bridge } => self.netlink.disable_snooping(bridge.as_str())?,
            Step::TuneIpv6 { link } => sysctl::tune_ipv6(link.as_str())?,
            Step::Plug { link, bridge } => {
                let index = self.index(bridge)?;
                sysctl::disable_ipv6(link.as_str())?;
                self.netlink.plug(link.as_str(), index)?;
                if link.as_str().starts_with(HOST_LINK_PREFIX) {
                    self.netlink.mark_owner(link.as_str(), bridge)?;
                }
            }
            Step::SetPortFlags { link, flags } => self.netlink.set_port_flags(link.as_str(), *flags)?,
            Step::BringUp { link } => {
                self.netlink.bring_up(link.as_str())?;
                self.netlink.wait_for_carrier(link.as_str())?;
            }
            entry => self.entry(entry)?,
        }
        Ok(())
    }

    /// The steps that change an entry of a table.
    fn entry(&mut self, step: &Step) -> Result<(), ApplyError> {
        match step {
            Step::AddAddress { link, subnet } => {
                sysctl::promote_secondaries(link.as_str())?;
                let link = self.index(link)?;
                self.netlink.add_address(link, *subnet)?;
            }
            Step::RemoveAddress { link, subnet } => {
                let link = self.index(link)?;
                self.netlink.remove_address(link, *subnet)?;
            }
            Step::SetBridgeFdb { mac, port } => {
                let port = self.index(port)?;
                self.netlink.set_bridge_fdb(port, *mac)?;
            }
            Step::RemoveBridgeFdb { mac, port } => {
                let port = self.index(port)?;
                self.netlink.remove_bridge_fdb(port, *mac)?;
            }
            Step::SetVxlanFdb { link, mac, remote } => {
                let link = self.index(link)?;
                self.netlink.set_vxlan_fdb(link, *mac, *remote)?;
            }
            Step::RemoveVxlanFdb { link, mac, remote } => {
                let link = self.index(link)?;
                self.netlink.remove_vxlan_fdb(link, *mac, *remote)?;
            }
            Step::AddFlood { link, remote } => {
                let link = self.index(link)?;
                self.netlink.add_flood(link, *remote)?;
            }
            Step::RemoveFlood { link, remote } => {
                let link = self.index(link)?;
                self.netlink.remove_flood(link, *remote)?;
            }
            Step::SetNeighbour { bridge, address, mac } => {
                let bridge = self.index(bridge)?;
                self.netlink.set_neighbour(bridge, *address, *mac)?;
            }
            Step::RemoveNeighbour { bridge, address } => {
                let bridge = self.index(bridge)?;
                self.netlink.remove_neighbour(bridge, *address)?;
            }
            Step::ServeResolver { bridge } => {
                sysctl::let_strangers_in(bridge.as_str())?;
                let bridge = self.index(bridge)?;
                self.netlink.add_resolver(bridge)?;
            }
            Step::RemoveResolver { bridge } => {
                let bridge = self.index(bridge)?;
                self.netlink.remove_resolver(bridge)?;
            }
            Step::Announce { bridge, address, mac } => {
                let bridge = self.index(bridge)?;
                self.announcer.announce(bridge, *address, *mac).map_err(ApplyError::Announce)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn index(&mut self, link: &LinkName) -> Result<u32, ApplyError> {
        if let Some(index) = self.indices.get(link) {
            return Ok(*index);
        }
        let index = self.netlink.link_index(link.as_str())?.ok_or_else(|| ApplyError::NoDevice(link.clone()))?;
        self.indices.insert(link.clone(), index);
        Ok(index)
    }
}
