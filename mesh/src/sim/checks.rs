//! What must hold: after every step for each host by itself, and for all together when the mesh is at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Entry, HostId, World};
use crate::identity::PeerKey;
use crate::name::PeerName;
use crate::node::View;
use crate::store::Version;
use crate::time::Instant;

/// How many violations are kept; the first is the one to look at.
pub(super) const VIOLATIONS_MAX: usize = 20;
/// The most connections a peer keeps in a mesh that is thinned.
const THINNED_CONNECTIONS_MAX: usize = 24;
/// Above so many peers the mesh is thinned.
const FULL_MESH_PEERS_MAX: usize = 24;

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("{at}: host {}: version of {owner} went from {from:?} back to {to:?}", .host.0)]
    VersionWentBack { at: Instant, host: HostId, owner: PeerKey, from: Version, to: Version },
    #[error("{at}: host {}: its timer is due again at once", .host.0)]
    BusyTimer { at: Instant, host: HostId },
    #[error("{at}: host {} does not reach host {}", .host.0, .other.0)]
    Unreachable { at: Instant, host: HostId, other: HostId },
    #[error("{at}: host {} has version {has:?} of host {}, which publishes {published:?}", .host.0, .other.0)]
    Outdated { at: Instant, host: HostId, other: HostId, has: Option<Version>, published: Version },
    #[error("{at}: host {} keeps {connections} connections among {peers} peers", .host.0)]
    Connections { at: Instant, host: HostId, connections: usize, peers: usize },
    #[error("{at}: hosts {} and {} are both called {name}", .host.0, .other.0)]
    NameTwice { at: Instant, host: HostId, other: HostId, name: PeerName },
    #[error("{at}: hosts {} and {} have the same key {key}", .host.0, .other.0)]
    KeyTwice { at: Instant, host: HostId, other: HostId, key: PeerKey },
    #[error("{at}: host {} knows {has} MACs, and {live} are attached", .host.0)]
    Endpoints { at: Instant, host: HostId, has: usize, live: usize },
    #[error("{at}: of {sets} sets delivered {repeated} had been delivered to the same host before")]
    Repeated { at: Instant, sets: u64, repeated: u64 },
    #[error("{at}: hosts {} and {} both have a live container with {address}", .host.0, .other.0)]
    AddressTwice { at: Instant, host: HostId, other: HostId, address: Ipv4Addr },
    #[error("{at}: {what} did not happen within {seconds} s")]
    TooLate { at: Instant, what: String, seconds: u64 },
}

/// What was found wrong with a run, and how to see it again.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}:{}\nwhat happened last:{}", lines(.violations), lines(.last))]
pub struct Broken {
    pub seed: u64,
    pub violations: Vec<Violation>,
    pub last: Vec<Entry>,
}

impl fmt::Debug for Broken {
    /// As for people: this is what a failed test prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn lines<T: fmt::Display>(entries: &[T]) -> String {
    entries.iter().map(|entry| format!("\n  {entry}")).collect()
}

impl World {
    /// Runs until everyone has the newest of everyone, then checks all that must hold at rest. Returns the time it took.
    ///
    /// # Errors
    /// When that did not happen within `limit`, or anything was violated so far.
    pub fn settle(&mut self, limit: Duration) -> Result<Duration, Broken> {
        let start = self.now;
        let at = self.run_until(limit, Self::is_settled);
        self.check_at_rest();
        if at.is_none() {
            let what = "agreement of everyone with everyone".to_owned();
            self.violate(Violation::TooLate { at: self.now, what, seconds: limit.as_secs() });
        }
        self.verdict().map(|()| self.now.since(start))
    }

    /// # Errors
    /// When anything was violated so far.
    pub fn verdict(&self) -> Result<(), Broken> {
        if self.violations.is_empty() {
            return Ok(());
        }
        let last = self.trace.recent().cloned().collect();
        Err(Broken { seed: self.options.seed, violations: self.violations.clone(), last })
    }

    /// Whether every host that is to start has started, and reaches every live host that the underlay lets it reach and
    /// nobody else.
    pub fn is_converged(&self) -> bool {
        if !self.starting.is_empty() {
            return false;
        }
        if self.cuts.are_none() {
            let live = self.live().count();
            return self.live().all(|host| self.node(host).is_some_and(|node| node.reachable_count() == live));
        }
        self.live().all(|host| {
            let component = self.component(host);
            let node = self.node(host);
            node.is_some_and(|node| {
                node.reachable_count() == component.len()
                    && component.iter().all(|other| self.key(*other).is_some_and(|key| node.is_reachable(&key)))
            })
        })
    }

    /// Whether, beyond that, every host has the newest set of every other and knows whose every MAC is.
    pub fn is_settled(&self) -> bool {
        self.is_converged() && self.disagreements().is_empty() && self.endpoint_violations().is_empty()
    }

    /// How many hosts reach `host`, itself not counted.
    pub fn reached_by(&self, host: HostId) -> usize {
        let Some(key) = self.key(host) else { return 0 };
        self.reached_by_key(host, &key)
    }

    pub(super) fn reached_by_key(&self, owner: HostId, key: &PeerKey) -> usize {
        let others = self.live().filter(|other| *other != owner);
        others.filter(|other| self.node(*other).is_some_and(|node| node.is_reachable(key))).count()
    }

    /// Live hosts to which the underlay has a path from `host`, over others too.
    fn component(&self, host: HostId) -> BTreeSet<HostId> {
        let mut component = BTreeSet::from([host]);
        let mut frontier = vec![host];
        while let Some(next) = frontier.pop() {
            for other in self.live() {
                if !component.contains(&other) && !self.cuts.are_apart(next, other) {
                    component.insert(other);
                    frontier.push(other);
                }
            }
        }
        component
    }

    /// Checks one host by itself.
    pub(super) fn check_host(&mut self, host: HostId) {
        let at = self.now;
        let Some(daemon) = &mut self.hosts[host.0].daemon else { return };
        let view = daemon.node.view();
        let mut violations = Vec::new();
        for (owner, peer) in &view.peers {
            let Some(set) = &peer.set else { continue };
            let seen = daemon.versions.entry(*owner).or_default();
            if set.version() < *seen {
                violations.push(Violation::VersionWentBack { at, host, owner: *owner, from: *seen, to: set.version() });
            }
            *seen = set.version();
        }
        violations.into_iter().for_each(|violation| self.violate(violation));
    }

    /// Checks everything that holds in a mesh at rest. Call it when convergence was waited for.
    pub fn check_at_rest(&mut self) {
        let hosts: Vec<HostId> = self.live().collect();
        hosts.iter().for_each(|host| self.check_host(*host));
        let mut found = self.disagreements();
        found.extend(self.degree_violations());
        found.extend(self.name_violations());
        found.extend(self.endpoint_violations());
        found.into_iter().for_each(|violation| self.violate(violation));
    }

    fn views(&self) -> BTreeMap<HostId, (PeerKey, View)> {
        let daemons = self.hosts.iter().filter_map(|host| Some((host.id, host.daemon.as_ref()?)));
        daemons.map(|(host, daemon)| (host, (daemon.key, daemon.node.view()))).collect()
    }

    /// Every pair of hosts of which one does not have the newest of the other.
    fn disagreements(&self) -> Vec<Violation> {
        let (at, views) = (self.now, self.views());
        let mut found = Vec::new();
        for (host, (_, view)) in &views {
            let component = if self.cuts.are_none() { None } else { Some(self.component(*host)) };
            let others = views.iter().filter(|(other, _)| {
                *other != host && component.as_ref().is_none_or(|component| component.contains(other))
            });
            for (&other, (key, theirs)) in others {
                let published = theirs.own.version();
                let peer = view.peers.get(key).filter(|peer| peer.standing.is_reachable());
                match peer {
                    None => found.push(Violation::Unreachable { at, host: *host, other }),
                    Some(peer) => {
                        let has = peer.set.as_ref().map(|set| set.version());
                        if has != Some(published) {
                            found.push(Violation::Outdated { at, host: *host, other, has, published });
                        }
                    }
                }
                if found.len() >= VIOLATIONS_MAX {
                    return found;
                }
            }
        }
        found
    }

    fn degree_violations(&self) -> Vec<Violation> {
        let (at, peers) = (self.now, self.live().count());
        let limit = if peers > FULL_MESH_PEERS_MAX { THINNED_CONNECTIONS_MAX } else { peers };
        let counted = self.live().filter_map(|host| Some((host, self.node(host)?.connection_count())));
        counted
            .filter(|(_, connections)| *connections > limit)
            .map(|(host, connections)| Violation::Connections { at, host, connections, peers })
            .collect()
    }

    fn name_violations(&self) -> Vec<Violation> {
        let (at, mut found) = (self.now, Vec::new());
        let (mut names, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for (host, (key, view)) in self.views() {
            if let Some(other) = names.insert(view.card.name, host) {
                found.push(Violation::NameTwice { at, host, other, name: view.card.name });
            }
            if let Some(other) = keys.insert(key, host) {
                found.push(Violation::KeyTwice { at, host, other, key });
            }
        }
        found
    }

    /// Every MAC of a live container is known everywhere, and no other.
    fn endpoint_violations(&self) -> Vec<Violation> {
        let at = self.now;
        if !self.cuts.are_none() {
            return Vec::new();
        }
        let hosts = self.hosts.iter().filter(|host| host.daemon.is_some());
        let live: BTreeSet<_> = hosts.flat_map(|host| host.endpoints.values().map(|endpoint| endpoint.mac)).collect();
        let mut found = Vec::new();
        for (host, (_, view)) in self.views() {
            let bridges: BTreeSet<_> =
                view.peers.values().map(|peer| peer.card.bridge_mac).chain([view.card.bridge_mac]).collect();
            let macs: BTreeSet<_> = view.claims.macs.keys().filter(|mac| !bridges.contains(mac)).copied().collect();
            if macs != live {
                found.push(Violation::Endpoints { at, host, has: macs.len(), live: live.len() });
            }
        }
        found
    }
}
