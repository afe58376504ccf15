//! The fabric: what the mesh knows and what this host has, woven into what the packet thread and the kernel do. Pure.
//!
//! ```text
//!   mesh View ───────────┐                     ┌─► Tables  for the packet thread
//!   ledger, learnt MACs ─┼─► weave(Strands) ───┤
//!   carriers ────────────┘                     └─► Plan    for the kernel
//! ```
//!
//! Invariants:
//! - a broadcast reaches a peer by exactly one carrier: `applied` in the tables is fast only when the plan floods to it
//!   over VXLAN *and* the kernel has that plan; while the two differ there may be two copies, never none;
//! - the plan sends a station's frames to VXLAN only while there is a device and an address to send them to;
//! - with a password, no address outside a pair of trusted subnets gets or may send VXLAN;
//! - a station attached here is never programmed as a remote one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weave_datapath::guard;
use weave_datapath::plan::{BridgeNames, BridgePlan, LinkName, OverlayPort, Plan, PortPlan, Resolver, VxlanPlan};
use weave_datapath::tables::{Carrier, FastPath, Local, PeerEntry, Standing, Tables, Why};
use weave_mesh::card::{Card, Subnet};
use weave_mesh::connector::Destination;
use weave_mesh::identity::PeerKey;
use weave_mesh::name::MacAddr;
use weave_mesh::node::{self, ConnectionState, PeerView, View};
use weave_mesh::store::Direction;

use crate::attach::Ledger;
use crate::expose::Exposure;

/// How many underlay addresses of one peer the packet thread tries.
const PEER_ADDRESSES_MAX: usize = 8;

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Loom {
    pub names: BridgeNames,
    pub vni: u32,
    pub mesh_port: u16,
    pub vxlan_port: u16,
    pub mtu: u32,
    pub fast_path: FastSetting,
    /// The underlay address that the operator chose.
    pub host: Option<IpAddr>,
    pub allowed_ethertypes: BTreeSet<u16>,
    pub resolver: Resolver,
    /// From where containers get their addresses.
    pub range: Option<Subnet>,
}

/// What the operator allows of the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastSetting {
    Off,
    /// The mesh has no password: frames travel in clear anyway.
    Everywhere,
    /// The mesh has a password: only where both ends trust the network between them.
    BetweenTrustedSubnets,
}

/// Everything that changes.
#[derive(Clone, Copy, Debug)]
pub struct Strands<'a> {
    pub view: &'a View,
    pub ledger: &'a Ledger,
    pub exposure: &'a Exposure,
    /// What the engine chose for each peer; sleeve where it has said nothing.
    pub chosen: &'a BTreeMap<PeerKey, Carrier>,
    /// Peers that the kernel's present plan reaches over VXLAN.
    pub programmed: &'a BTreeSet<PeerKey>,
    /// Where each peer's sleeve was last heard.
    pub heard: &'a BTreeMap<PeerKey, SocketAddr>,
    /// The underlay address that VXLAN leaves from; an unspecified one lets the kernel choose among its family.
    pub local: IpAddr,
    /// Where VXLAN goes by the plan that the kernel has.
    pub destinations: &'a BTreeSet<SocketAddr>,
    /// Where members listen, as [`members`] found it not long ago.
    pub members: &'a BTreeSet<SocketAddr>,
}

/// One peer, with everything that is decided about it.
#[derive(Debug)]
struct Thread<'a> {
    key: PeerKey,
    card: &'a Card,
    standing: Standing,
    fast: FastPath,
    carrier: Carrier,
}

/// Tables and plan for `strands`.
pub fn weave(loom: &Loom, strands: &Strands<'_>) -> (Tables, Plan) {
    let threads: Vec<_> =
        strands.view.peers.iter().filter_map(|(key, peer)| loom.thread(strands, *key, peer)).collect();
    (tables(strands, &threads), loom.plan(strands, &threads))
}

impl Loom {
    fn thread<'a>(&self, strands: &Strands<'a>, key: PeerKey, peer: &'a PeerView) -> Option<Thread<'a>> {
        let standing = match peer.standing {
            node::Standing::Neighbour { .. } => Standing::Neighbour,
            node::Standing::Member { .. } => Standing::Member,
            node::Standing::Held { .. } => Standing::Held,
            node::Standing::Gone { .. } => return None,
        };
        let vxlan = vxlan_address(strands, &key, peer);
        let fast = self.fast_path(&strands.view.card, &peer.card, vxlan);
        let is_chosen = strands.chosen.get(&key) == Some(&Carrier::Fast);
        let carrier = if is_chosen && fast.address().is_some() { Carrier::Fast } else { Carrier::Sleeve };
        Some(Thread { key, card: &peer.card, standing, fast, carrier })
    }

    /// With a password both ends judge each other's address as it is now.
    fn fast_path(&self, ours: &Card, theirs: &Card, vxlan: Option<SocketAddr>) -> FastPath {
        let Some(to) = vxlan else { return FastPath::Forbidden(Why::NoAddress) };
        let our_addresses = || ours.addresses.iter().map(SocketAddr::ip);
        match self.fast_path {
            FastSetting::Off => FastPath::Forbidden(Why::SwitchedOff),
            FastSetting::Everywhere => FastPath::Allowed(to),
            FastSetting::BetweenTrustedSubnets => {
                let we_trust = contains(&ours.trusted_subnets, to.ip());
                let they_trust = our_addresses().any(|address| contains(&theirs.trusted_subnets, address));
                if we_trust && they_trust { FastPath::Allowed(to) } else { FastPath::Forbidden(Why::NotTrusted) }
            }
        }
    }

    fn plan(&self, strands: &Strands<'_>, threads: &[Thread<'_>]) -> Plan {
        let is_wanted = match self.fast_path {
            FastSetting::Off => false,
            FastSetting::Everywhere => true,
            FastSetting::BetweenTrustedSubnets => threads.iter().any(|thread| thread.fast.address().is_some()),
        };
        let vxlan = VxlanPlan { vni: self.vni, port: self.vxlan_port, local: strands.local };
        let ports = ports(strands.ledger);
        let mut plan = Plan {
            names: self.names.clone(),
            bridge: BridgePlan {
                mac: strands.view.card.bridge_mac,
                mtu: self.mtu,
                addresses: strands.exposure.addresses(),
            },
            vxlan: is_wanted.then_some(vxlan),
            bridge_fdb: BTreeMap::new(),
            vxlan_fdb: BTreeMap::new(),
            flood: BTreeSet::new(),
            neighbours: neighbours(strands.view),
            exposed: strands.exposure.networks(),
            range: self.range,
            resolver: self.resolver,
            guard: guard::Rules {
                mesh_port: self.mesh_port,
                vxlan_port: self.vxlan_port,
                vxlan_sources: self.vxlan_sources(threads),
                clear_pairs: self.clear_pairs(strands, threads),
                members: strands.members.clone(),
                allow_ethertypes: self.allowed_ethertypes.clone(),
            },
            ports,
        };
        let local: BTreeSet<MacAddr> = plan.ports.values().map(|port| port.mac).collect();
        let threads: BTreeMap<PeerKey, &Thread<'_>> = threads.iter().map(|thread| (thread.key, thread)).collect();
        for (mac, owner) in remote_macs(strands.view, &threads).filter(|(mac, _)| !local.contains(mac)) {
            program(&mut plan, mac, owner);
        }
        plan.flood = threads
            .values()
            .filter(|thread| thread.carrier == Carrier::Fast)
            .filter_map(|thread| thread.fast.address())
            .collect();
        plan
    }

    /// From whom VXLAN is accepted: every address that a member has or was heard at, or trusted ones only.
    fn vxlan_sources(&self, threads: &[Thread<'_>]) -> BTreeSet<IpAddr> {
        let allowed = threads.iter().filter_map(|thread| Some((thread, thread.fast.address()?.ip())));
        match self.fast_path {
            FastSetting::Off => BTreeSet::new(),
            FastSetting::BetweenTrustedSubnets => allowed.map(|(_, address)| address).collect(),
            FastSetting::Everywhere => {
                let claimed = |thread: &Thread<'_>| {
                    thread.card.addresses.iter().map(|address| address.ip().to_canonical()).collect::<Vec<_>>()
                };
                allowed.flat_map(|(thread, address)| claimed(thread).into_iter().chain([address])).collect()
            }
        }
    }

    /// Where VXLAN goes or went a moment ago, and from which of our addresses it may: those that the peer trusts. Asked
    /// for in the kernel, since our address can change long before we hear of it.
    fn clear_pairs(&self, strands: &Strands<'_>, threads: &[Thread<'_>]) -> BTreeMap<SocketAddr, BTreeSet<Subnet>> {
        if self.fast_path != FastSetting::BetweenTrustedSubnets {
            return BTreeMap::new();
        }
        let former = strands.destinations.iter().map(|to| (*to, BTreeSet::new()));
        let allowed = threads.iter().filter_map(|thread| {
            let trusted = thread.card.trusted_subnets.iter().map(|subnet| subnet.network());
            Some((thread.fast.address()?, trusted.collect()))
        });
        former.chain(allowed).collect()
    }
}

/// Where a peer hears VXLAN: at the address that proved itself before the one that its card claims, of the family that
/// our device speaks.
fn vxlan_address(strands: &Strands<'_>, key: &PeerKey, peer: &PeerView) -> Option<SocketAddr> {
    let heard = strands.heard.get(key).or(peer.address.as_ref());
    let candidates = heard.into_iter().chain(&peer.card.addresses).map(|address| address.ip().to_canonical());
    let mut of_family = candidates.filter(|address| address.is_ipv4() == strands.local.is_ipv4());
    let address = of_family.find(|address| !address.is_unspecified())?;
    Some(SocketAddr::new(address, vxlan_port(peer.card.port)?))
}

/// The port above that of the mesh, if there is one.
const fn vxlan_port(mesh_port: u16) -> Option<u16> {
    if mesh_port == 0 { None } else { mesh_port.checked_add(1) }
}

impl Loom {
    /// The local address of VXLAN on a host with these addresses, best first; as it was while there are none.
    pub fn local(&self, addresses: &[IpAddr], before: IpAddr) -> IpAddr {
        self.host.unwrap_or_else(|| addresses.first().map_or(before, |best| unspecified_like(*best)))
    }
}

/// Where members listen. At our own port: wherever they say, or were met. At another one: where they were met only, lest
/// one that lies about itself closes somebody else's port to our containers.
pub fn members(loom: &Loom, view: &View, heard: &BTreeMap<PeerKey, SocketAddr>) -> BTreeSet<SocketAddr> {
    let of_peer = |(key, peer): (&PeerKey, &PeerView)| {
        let port = peer.card.port;
        let met = heard.get(key).copied().or(peer.address).map(|address| SocketAddr::new(address.ip(), port));
        let claimed = peer.card.addresses.iter().copied().filter(|address| address.port() == loom.mesh_port);
        claimed.chain(met).collect::<Vec<_>>()
    };
    let all = view.peers.iter().flat_map(of_peer).filter(|address| !address.ip().is_unspecified());
    all.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port())).collect()
}

/// What lets the kernel choose among its addresses of the family of `address`.
const fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn program(plan: &mut Plan, mac: MacAddr, owner: &Thread<'_>) {
    let port = match owner.carrier {
        Carrier::Fast => OverlayPort::Vxlan,
        Carrier::Sleeve => OverlayPort::Tap,
    };
    plan.bridge_fdb.insert(mac, port);
    if let FastPath::Allowed(to) = owner.fast {
        plan.vxlan_fdb.insert(mac, to);
    }
}

fn tables(strands: &Strands<'_>, threads: &[Thread<'_>]) -> Tables {
    let view = strands.view;
    let by_key: BTreeMap<PeerKey, &Thread<'_>> = threads.iter().map(|thread| (thread.key, thread)).collect();
    let attached = strands.ledger.entries().map(|(_, entry)| entry.mac);
    let claimed = view.claims.macs.iter().filter(|(_, owner)| **owner == view.card.key).map(|(mac, _)| *mac);
    let local = Local {
        key: view.card.key,
        card: view.signed_card.clone(),
        bridge_mac: view.card.bridge_mac,
        macs: attached.chain(claimed).chain([view.card.bridge_mac]).collect(),
        addresses: view.card.addresses.iter().map(SocketAddr::ip).collect(),
    };
    let macs = remote_macs(view, &by_key).filter(|(mac, _)| !local.macs.contains(mac));
    let macs = macs.map(|(mac, owner)| (mac, owner.key)).collect();
    let peers = threads.iter().map(|thread| (thread.key, entry(strands, thread))).collect();
    Tables { local, peers, macs }
}

fn entry(strands: &Strands<'_>, thread: &Thread<'_>) -> PeerEntry {
    let is_programmed = thread.carrier == Carrier::Fast && strands.programmed.contains(&thread.key);
    PeerEntry {
        name: thread.card.name,
        noise_key: thread.card.noise_key,
        knock: thread.card.knock,
        incarnation: thread.card.incarnation,
        addresses: addresses(strands, thread),
        bridge_mac: thread.card.bridge_mac,
        relays: strands.view.relays.get(&thread.key).cloned().unwrap_or_default(),
        standing: thread.standing,
        applied: if is_programmed { Carrier::Fast } else { Carrier::Sleeve },
        fast: thread.fast,
    }
}

/// Where a peer's UDP port may be: where TCP reached it, where its card says, where it was heard, where it came from.
fn addresses(strands: &Strands<'_>, thread: &Thread<'_>) -> Vec<SocketAddr> {
    let view = strands.view;
    let connected = view.connections.iter().filter(|connection| {
        connection.peer == Some(thread.key) && matches!(connection.state, ConnectionState::Established { .. })
    });
    let (mut dialled, mut came_from) = (Vec::new(), Vec::new());
    for connection in connected {
        match (&connection.destination, connection.direction) {
            (Destination::Address(address), Direction::Outbound) => dialled.push(*address),
            (Destination::Address(address), Direction::Inbound) => {
                came_from.push(SocketAddr::new(address.ip(), thread.card.port));
            }
            (Destination::Name { .. }, _) => {}
        }
    }
    let heard = strands.heard.get(&thread.key).copied();
    let persisted = view.peers.get(&thread.key).and_then(|peer| peer.address);
    let all =
        dialled.into_iter().chain(heard).chain(thread.card.addresses.iter().copied()).chain(persisted).chain(came_from);
    let mut distinct = Vec::new();
    for address in all.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port())) {
        if !distinct.contains(&address) && distinct.len() < PEER_ADDRESSES_MAX {
            distinct.push(address);
        }
    }
    distinct
}

/// Stations of peers that are not gone, and their bridges.
fn remote_macs<'a>(
    view: &'a View,
    threads: &'a BTreeMap<PeerKey, &'a Thread<'a>>,
) -> impl Iterator<Item = (MacAddr, &'a Thread<'a>)> {
    let stations = view.claims.macs.iter().filter_map(|(mac, owner)| Some((*mac, *threads.get(owner)?)));
    // A peer's bridge cannot be claimed by another one's endpoint: it comes last. And a host that lost its identity has
    // the bridge of its former self, which is held still.
    let bridges = |is_held: bool| {
        let threads = threads.values().filter(move |thread| (thread.standing == Standing::Held) == is_held);
        threads.map(|thread| (thread.card.bridge_mac, *thread))
    };
    stations.chain(bridges(true)).chain(bridges(false))
}

fn ports(ledger: &Ledger) -> BTreeMap<LinkName, PortPlan> {
    let made = ledger.entries().filter(|(host_link, _)| ledger.is_made(host_link));
    let entries = made.filter_map(|(host_link, attachment)| {
        let addresses = attachment.addresses.iter().copied().collect();
        Some((host_link.parse().ok()?, PortPlan { mac: attachment.mac, addresses }))
    });
    entries.collect()
}

fn neighbours(view: &View) -> BTreeMap<IpAddr, MacAddr> {
    view.claims.addresses.iter().map(|(address, claim)| (*address, claim.mac)).collect()
}

fn contains(subnets: &[Subnet], address: IpAddr) -> bool {
    subnets.iter().any(|subnet| subnet.contains(address))
}

#[cfg(test)]
mod tests;
