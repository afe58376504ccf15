//! From kernel state as it is to kernel state as it should be, in the order that loses no frame.
//!
//! ```text
//!   VXLAN device ► guard ► bridge, its addresses ► ports plugged ► entries set ► announcements ► entries removed ► devices removed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::{
    HOST_LINK_PREFIX, InstalledGuard, Keep, LinkKind, LinkName, Observed, ObservedLink, OverlayPort, Plan, PortFlags,
    Resolver, Serving, Step, VxlanPlan,
};
use crate::guard::Guard;

/// A device of the planned name that is something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device `{name}` exists and is no {expected}: remove it or choose another --bridge")]
pub struct Conflict {
    pub name: LinkName,
    pub expected: &'static str,
}

/// The steps from `observed` to `plan`.
///
/// # Errors
/// When a name of ours is taken by a device that is not ours.
pub fn diff(observed: &Observed, plan: &Plan) -> Result<Vec<Step>, Conflict> {
    let mut diff = Diff { observed, plan, vxlan_kept: true, steps: Vec::new(), removals: Vec::new() };
    diff.vxlan()?;
    diff.guard();
    diff.bridge()?;
    diff.addresses();
    diff.vxlan_port();
    diff.tap()?;
    diff.attached_ports();
    diff.vxlan_fdb();
    diff.bridge_fdb();
    diff.flood();
    diff.neighbours();
    diff.resolver();
    diff.surplus_vxlan();
    diff.steps.append(&mut diff.removals);
    Ok(diff.steps)
}

struct Diff<'a> {
    observed: &'a Observed,
    plan: &'a Plan,
    /// Whether the VXLAN device stays, and with it the entries that were observed on it.
    vxlan_kept: bool,
    steps: Vec<Step>,
    /// What comes last.
    removals: Vec<Step>,
}

impl Diff<'_> {
    /// All of it, where what devices have in common is not as it should be; else device by device. What a dead
    /// container leaves is removed when the plan does not name it any more.
    fn guard(&mut self) {
        let wanted = Guard::of(self.plan, &self.guarded());
        let Some(seen) = self.observed.guard.as_ref().filter(|seen| seen.common == wanted.common) else {
            return self.steps.push(Step::InstallGuard(wanted));
        };
        let bridge = &self.plan.names.bridge;
        let is_surplus =
            |device: &&LinkName| !wanted.chains.contains_key(*device) && !self.plan.ports.contains_key(*device);
        for device in seen.devices.keys().filter(is_surplus) {
            self.steps.push(Step::UnguardDevice { bridge: bridge.clone(), device: device.clone() });
        }
        for (device, chains) in wanted.chains {
            if !self.is_guarded(seen, &device, &chains) {
                self.steps.push(Step::GuardDevice { bridge: bridge.clone(), device, chains });
            }
        }
    }

    /// The ports that exist and are ours: those of the plan, and those on the bridge that it does not name.
    fn guarded(&self) -> BTreeSet<LinkName> {
        let overlay = [OverlayPort::Vxlan, OverlayPort::Tap].into_iter().filter(|port| self.will_exist(*port));
        let is_container = |(name, link): &(&LinkName, &ObservedLink)| {
            self.plan.ports.contains_key(name) || (name.as_str().starts_with(HOST_LINK_PREFIX) && link.port.is_some())
        };
        let containers = self.observed.links.iter().filter(is_container).map(|(name, _)| name.clone());
        overlay.map(|port| self.plan.overlay_link(port).clone()).chain(containers).collect()
    }

    /// Whether `device` is still the one that was given `chains`.
    fn is_guarded(&self, seen: &InstalledGuard, device: &LinkName, chains: &str) -> bool {
        let link = self.observed.links.get(device).filter(|_| self.survives(device));
        let guarded = seen.devices.get(device);
        link.zip(guarded).is_some_and(|(link, guarded)| link.index == guarded.index && guarded.chains == chains)
    }

    fn bridge(&mut self) -> Result<(), Conflict> {
        let (name, mac) = (&self.plan.names.bridge, self.plan.bridge.mac);
        let seen = self.observed.links.get(name);
        let (snooping, ipv6_tuned) = match seen.map(|link| &link.kind) {
            None => (false, false),
            Some(LinkKind::Bridge { snooping, ipv6_tuned }) => (*snooping, *ipv6_tuned),
            Some(_) => return Err(Conflict { name: name.clone(), expected: "bridge" }),
        };
        match seen {
            None => self.steps.push(Step::CreateBridge { name: name.clone(), mac }),
            Some(link) if link.mac != mac => self.steps.push(Step::SetMac { link: name.clone(), mac }),
            Some(_) => {}
        }
        if snooping {
            self.steps.push(Step::DisableSnooping { bridge: name.clone() });
        }
        if !ipv6_tuned {
            self.steps.push(Step::TuneIpv6 { link: name.clone() });
        }
        self.mtu(name, seen);
        self.up(name, seen);
        Ok(())
    }

    fn addresses(&mut self) {
        let (link, wanted) = (&self.plan.names.bridge, &self.plan.bridge.addresses);
        let step = |subnet: &Subnet| (link.clone(), *subnet);
        let added = wanted.difference(&self.observed.addresses).map(step);
        self.steps.extend(added.map(|(link, subnet)| Step::AddAddress { link, subnet }));
        let removed = self.observed.addresses.difference(wanted).map(step);
        self.removals.extend(removed.map(|(link, subnet)| Step::RemoveAddress { link, subnet }));
    }

    fn vxlan(&mut self) -> Result<(), Conflict> {
        let name = &self.plan.names.vxlan;
        let mut seen = self.observed.links.get(name);
        let Some(vxlan) = &self.plan.vxlan else {
            return Ok(());
        };
        match seen.map(|link| &link.kind) {
            None => self.vxlan_kept = false,
            Some(kind) if is_wanted(kind, vxlan) => {}
            Some(LinkKind::Vxlan { .. }) => {
                self.steps.push(Step::DeleteLink { link: name.clone() });
                self.vxlan_kept = false;
                seen = None;
            }
            Some(_) => return Err(Conflict { name: name.clone(), expected: "VXLAN device" }),
        }
        match seen {
            None => {
                self.steps.push(Step::CreateVxlan {
                    name: name.clone(),
                    vxlan: vxlan.clone(),
                    mtu: self.plan.bridge.mtu,
                });
            }
            Some(_) => self.mtu(name, seen),
        }
        Ok(())
    }

    fn vxlan_port(&mut self) {
        if self.plan.vxlan.is_some() {
            let name = &self.plan.names.vxlan;
            let seen = self.observed.links.get(name).filter(|_| self.survives(name));
            self.port(name, seen, PortFlags::OVERLAY);
        }
    }

    fn tap(&mut self) -> Result<(), Conflict> {
        let name = &self.plan.names.tap;
        match self.observed.links.get(name) {
            None => Ok(()), // the packet thread has not made it yet
            Some(link) if link.kind == LinkKind::Tap => {
                self.mtu(name, Some(link));
                self.port(name, Some(link), PortFlags::OVERLAY);
                Ok(())
            }
            Some(_) => Err(Conflict { name: name.clone(), expected: "TAP device" }),
        }
    }

    /// A port whose device is gone is left out: its container is gone, and the next plan will not name it.
    fn attached_ports(&mut self) {
        for (name, port) in &self.plan.ports {
            let Some(seen) = self.observed.links.get(name) else { continue };
            self.plug(name, Some(seen), PortFlags::ATTACHED);
            if self
                .observed
                .bridge_fdb
                .get(&port.mac)
                .is_none_or(|entry| (&entry.port, entry.keep) != (name, Keep::Sticky))
            {
                self.steps.push(Step::SetBridgeFdb { mac: port.mac, port: name.clone() });
            }
            self.up(name, Some(seen));
        }
    }

    fn vxlan_fdb(&mut self) {
        if self.plan.vxlan.is_none() {
            return;
        }
        let link = &self.plan.names.vxlan;
        let nothing = BTreeMap::new();
        let seen = if self.vxlan_kept { &self.observed.vxlan_fdb } else { &nothing };
        for (&mac, &remote) in &self.plan.vxlan_fdb {
            if seen.get(&mac) != Some(&remote) {
                self.steps.push(Step::SetVxlanFdb { link: link.clone(), mac, remote });
            }
        }
        for (&mac, &remote) in seen {
            if !self.plan.vxlan_fdb.contains_key(&mac) {
                self.removals.push(Step::RemoveVxlanFdb { link: link.clone(), mac, remote });
            }
        }
    }

    fn bridge_fdb(&mut self) {
        let own: BTreeSet<MacAddr> = self.plan.ports.values().map(|port| port.mac).collect();
        for (&mac, &port) in &self.plan.bridge_fdb {
            let link = self.plan.overlay_link(port);
            if !self.will_exist(port) {
                continue;
            }
            let seen = self.observed.bridge_fdb.get(&mac).filter(|entry| self.survives(&entry.port));
            // An address of this host or of its containers never leads away, whoever claims it.
            let local = own.contains(&mac) || seen.is_some_and(|entry| entry.keep == Keep::Own);
            if !local && seen.is_none_or(|entry| (&entry.port, entry.keep) != (link, Keep::Sticky)) {
                self.steps.push(Step::SetBridgeFdb { mac, port: link.clone() });
            }
        }
        for (&mac, entry) in &self.observed.bridge_fdb {
            let wanted = own.contains(&mac) || self.plan.bridge_fdb.contains_key(&mac);
            let ours = matches!(entry.keep, Keep::Sticky | Keep::Static) && self.is_our_port(&entry.port);
            if !wanted && ours && self.survives(&entry.port) {
                self.removals.push(Step::RemoveBridgeFdb { mac, port: entry.port.clone() });
            }
        }
    }

    fn flood(&mut self) {
        if self.plan.vxlan.is_none() {
            return;
        }
        let nothing = BTreeSet::new();
        let seen = if self.vxlan_kept { &self.observed.flood } else { &nothing };
        let step = |remote: &SocketAddr| (self.plan.names.vxlan.clone(), *remote);
        let added = self.plan.flood.difference(seen).map(step);
        self.steps.extend(added.map(|(link, remote)| Step::AddFlood { link, remote }));
        let removed = seen.difference(&self.plan.flood).map(step);
        self.removals.extend(removed.map(|(link, remote)| Step::RemoveFlood { link, remote }));
    }

    fn neighbours(&mut self) {
        let mut announcements = Vec::new();
        let bridge = &self.plan.names.bridge;
        for (&address, &mac) in &self.plan.neighbours {
            let seen = self.observed.neighbours.get(&address);
            if seen.is_none_or(|entry| !entry.permanent || entry.mac != mac) {
                self.steps.push(Step::SetNeighbour { bridge: bridge.clone(), address, mac });
                // Also what is new to us: a container may have asked for the address while it was another's, before we heard.
                announcements.push(Step::Announce { bridge: bridge.clone(), address, mac });
            }
        }
        self.steps.append(&mut announcements);
        for (&address, entry) in &self.observed.neighbours {
            if entry.permanent && !self.plan.neighbours.contains_key(&address) {
                self.removals.push(Step::RemoveNeighbour { bridge: bridge.clone(), address });
            }
        }
    }

    fn resolver(&mut self) {
        let bridge = self.plan.names.bridge.clone();
        match (self.plan.resolver, self.observed.resolver) {
            (Resolver::Served, Serving::Whole) | (Resolver::Absent, Serving::Absent) => {}
            (Resolver::Served, Serving::Absent | Serving::Partly) => self.steps.push(Step::ServeResolver { bridge }),
            (Resolver::Absent, Serving::Whole | Serving::Partly) => self.removals.push(Step::RemoveResolver { bridge }),
        }
    }

    /// A VXLAN device that the plan does not want goes when no entry leads to it any more.
    fn surplus_vxlan(&mut self) {
        let name = &self.plan.names.vxlan;
        let seen = self.observed.links.get(name);
        if self.plan.vxlan.is_none() && seen.is_some_and(|link| matches!(link.kind, LinkKind::Vxlan { .. })) {
            self.removals.push(Step::DeleteLink { link: name.clone() });
        }
    }

    fn mtu(&mut self, name: &LinkName, seen: Option<&ObservedLink>) {
        let mtu = self.plan.bridge.mtu;
        if seen.is_none_or(|link| link.mtu != mtu) {
            self.steps.push(Step::SetMtu { link: name.clone(), mtu });
        }
    }

    /// An open port does harm before its flags are right, so it comes up last.
    fn port(&mut self, name: &LinkName, seen: Option<&ObservedLink>, flags: PortFlags) {
        self.plug(name, seen, flags);
        self.up(name, seen);
    }

    fn plug(&mut self, name: &LinkName, seen: Option<&ObservedLink>, flags: PortFlags) {
        let seen = seen.and_then(|link| link.port);
        if seen.is_none() {
            self.steps.push(Step::Plug { link: name.clone(), bridge: self.plan.names.bridge.clone() });
        }
        if seen != Some(flags) {
            self.steps.push(Step::SetPortFlags { link: name.clone(), flags });
        }
    }

    fn up(&mut self, name: &LinkName, seen: Option<&ObservedLink>) {
        if !seen.is_some_and(|link| link.up) {
            self.steps.push(Step::BringUp { link: name.clone() });
        }
    }

    /// Whether the device of this overlay port exists after the steps so far.
    fn will_exist(&self, port: OverlayPort) -> bool {
        match port {
            OverlayPort::Vxlan => self.plan.vxlan.is_some(),
            OverlayPort::Tap => self.observed.links.contains_key(&self.plan.names.tap),
        }
    }

    /// Whether what was observed on this port is still there after the steps so far.
    fn survives(&self, port: &LinkName) -> bool {
        self.vxlan_kept || port != &self.plan.names.vxlan
    }

    /// Entries on hand-plugged ports belong to whoever plugged them.
    fn is_our_port(&self, port: &LinkName) -> bool {
        [&self.plan.names.vxlan, &self.plan.names.tap].contains(&port) || self.plan.ports.contains_key(port)
    }
}

/// Whether the device can stay. Nothing about it that matters can be changed later.
fn is_wanted(kind: &LinkKind, vxlan: &VxlanPlan) -> bool {
    let local = Some(vxlan.local);
    *kind == LinkKind::Vxlan { vni: vxlan.vni, port: vxlan.port, local, df_set: true, learning: false }
}

#[cfg(test)]
mod tests;
