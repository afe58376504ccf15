//! From what the parts of the daemon know to what is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weave_datapath::batch::SendMode;
use weave_datapath::engine::{PathStatus, Via};
use weave_datapath::linux::packet;
use weave_datapath::overlay::Reason;
use weave_datapath::plan::RESOLVER;
use weave_datapath::tables::{self, Why};
use weave_mesh::card::Card;
use weave_mesh::connector::{AttemptState, Discovery};
use weave_mesh::dns::{Holder, Names};
use weave_mesh::identity::PeerKey;
use weave_mesh::ipam::IpamView;
use weave_mesh::node::{self, ConnectionView, View};
use weave_mesh::store::{self, Set};
use weave_mesh::time::{Instant, UnixTime};

use super::time::rfc3339;
use super::titles;
use super::{
    Carrier, Connection, ConnectionState, Direction, Dns, DnsEntry, DockerPart, Endpoint, EndpointState, Ipam, Path,
    Peer, PeerConnection, PeerLabel, Router, Sends, Snapshot,
};
use crate::config::DnsConfig;
use crate::config::value::Network;
use crate::discovery::Discovered;

/// What was settled when the daemon started.
#[derive(Clone, Debug)]
pub struct About {
    pub mesh: String,
    pub port: u16,
    pub has_password: bool,
    pub discovery: Discovery,
    pub discovered: Arc<Discovered>,
    pub bridge: String,
    pub mtu: u32,
    pub fast_path: bool,
    pub connection_limit: usize,
    pub started: UnixTime,
    pub dns: Option<DnsConfig>,
}

/// How often things happened since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Connections that ended.
    pub terminations: u64,
    pub carrier_changes: CarrierChanges,
    /// Steps that put back what others had changed in the kernel.
    pub kernel_repairs: u64,
}

/// Paths that moved, by where they moved to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarrierChanges {
    pub to_fastdp: u64,
    pub to_sleeve: u64,
}

/// What is known of names at one moment.
#[derive(Clone, Debug)]
pub struct DnsMaterial {
    pub config: DnsConfig,
    pub servers: Vec<SocketAddr>,
    pub listening: Arc<BTreeSet<SocketAddr>>,
    pub names: Arc<Names>,
}

impl DnsMaterial {
    /// Where containers are to ask: where the operator said, else at Docker's bridge, else at the resolver's own address.
    pub fn address(&self) -> SocketAddr {
        let is_open = |address: &&SocketAddr| self.listening.contains(address);
        let elsewhere = self.listening.iter().find(|address| address.ip() != RESOLVER);
        let given = self.config.listen.iter().find(is_open);
        given.or(elsewhere).copied().unwrap_or_else(|| SocketAddr::new(RESOLVER.into(), 53))
    }
}

/// What the parts of the daemon know at one moment.
#[derive(Debug)]
pub struct Material {
    pub about: About,
    pub ready: bool,
    pub view: View,
    pub ipam: Option<IpamView>,
    pub packets: packet::Status,
    pub tallies: Tallies,
    /// Absent with `--no-dns`.
    pub dns: Option<DnsMaterial>,
    pub warnings: Vec<String>,
    pub now: Instant,
    pub wall: UnixTime,
}

impl Snapshot {
    /// Of Docker's part control knows nothing.
    pub fn of(material: &Material, docker: DockerPart) -> Self {
        let gathering = Gathering::new(material);
        let drops = material.packets.drops.iter().map(|(why, count)| (why.to_string(), count));
        let refusals = material.packets.counters.refusals().map(|(why, count)| (why.to_owned(), count));
        let counters = drops.chain(refusals).collect();
        let ipam = material.ipam.as_ref().map(|ipam| Ipam::of(ipam, &material.view));
        let problems = ipam.iter().flat_map(|ipam| ipam.problems.iter().map(ToString::to_string));
        let warnings = material.warnings.iter().cloned().chain(problems).collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            ready: material.ready,
            router: gathering.router(),
            targets: material.view.targets.iter().map(ToString::to_string).collect(),
            connections: material.view.connections.iter().filter_map(|view| gathering.connection(view)).collect(),
            peers: gathering.peers(),
            paths: material.packets.paths.iter().map(|path| gathering.path(path)).collect(),
            endpoints: gathering.endpoints(),
            ipam,
            dns: material.dns.as_ref().map(|dns| gathering.dns(dns)),
            docker,
            discovery: material.about.discovered.part(),
            warnings,
            counters,
        }
    }
}

struct Gathering<'a> {
    material: &'a Material,
    paths: BTreeMap<PeerKey, &'a PathStatus>,
    /// Live connections, each as its first end publishes it.
    edges: BTreeSet<(PeerKey, PeerKey)>,
}

impl<'a> Gathering<'a> {
    fn new(material: &'a Material) -> Self {
        let view = &material.view;
        let reachable = view.peers.iter().filter(|(_, peer)| peer.standing.is_reachable());
        let sets = reachable.filter_map(|(key, peer)| Some((*key, peer.set.as_deref()?)));
        let sets = sets.chain([(view.card.key, &*view.own)]);
        let edges = sets.flat_map(|(key, set)| set.edges().map(move |edge| (key, edge.peer))).collect();
        let paths = material.packets.paths.iter().map(|path| (path.peer, path)).collect();
        Self { material, paths, edges }
    }

    fn router(&self) -> Router {
        let About { mesh, port, has_password, discovery, bridge, mtu, fast_path, connection_limit, .. } =
            self.material.about.clone();
        let card = &self.material.view.card;
        Router {
            name: card.name.to_string(),
            nickname: card.nickname.clone(),
            key: hexadecimal(&card.key),
            mesh,
            protocol: weave_mesh::connection::Versions::OURS.max,
            port,
            encryption: has_password,
            peer_discovery: discovery == Discovery::On,
            trusted_subnets: card.trusted_subnets.iter().map(|subnet| Network(*subnet).to_string()).collect(),
            bridge,
            mtu,
            fast_path,
            connection_limit,
        }
    }

    fn card(&self, key: &PeerKey) -> Option<&'a Card> {
        let view = &self.material.view;
        if *key == view.card.key { Some(&view.card) } else { view.peers.get(key).map(|peer| &*peer.card) }
    }

    fn label(&self, key: &PeerKey) -> PeerLabel {
        match self.card(key) {
            Some(card) => PeerLabel { name: card.name.to_string(), nickname: card.nickname.clone() },
            None => PeerLabel { name: key.to_string(), nickname: String::new() },
        }
    }

    /// What the peer is called whose key begins with these digits.
    fn title(&self, digits: &str) -> Option<String> {
        let mut peers = self.material.view.peers.iter();
        peers.find(|(key, _)| key.to_string() == digits).map(|(key, _)| self.label(key).to_string())
    }

    /// The wall-clock time of a moment of the mesh, in seconds since 1970.
    fn unix_seconds(&self, at: Instant) -> u64 {
        let (now, wall) = (self.material.now, Duration::from_micros(self.material.wall.0));
        (wall.saturating_sub(now.since(at)) + at.since(now)).as_secs()
    }

    /// A goal that its own connection satisfies is shown as that connection.
    fn connection(&self, view: &ConnectionView) -> Option<Connection> {
        let until = |at| rfc3339(self.unix_seconds(at));
        let (state, mut info) = match view.state {
            node::ConnectionState::Pending { .. } => (ConnectionState::Pending, String::new()),
            node::ConnectionState::Established { .. } => (ConnectionState::Established, String::new()),
            node::ConnectionState::Dialling(attempt) => match attempt {
                AttemptState::Waiting { until: at } => (ConnectionState::Waiting, format!("until: {}", until(at))),
                AttemptState::Failed { retry: Some(at) } => (ConnectionState::Failed, format!("retry: {}", until(at))),
                AttemptState::Failed { retry: None } => (ConnectionState::Failed, "retry: never".to_owned()),
                AttemptState::Connecting => (ConnectionState::Connecting, String::new()),
                AttemptState::Retrying => (ConnectionState::Retrying, String::new()),
                AttemptState::Resting => (ConnectionState::Waiting, "reachable through other peers".to_owned()),
                AttemptState::Connected(_) => return None,
            },
        };
        if let Some(error) = &view.last_error {
            let error = titles::titled(error, &|digits| self.title(digits));
            info = if info.is_empty() { error } else { format!("{error}, {info}") };
        }
        let path = view.peer.and_then(|peer| self.paths.get(&peer));
        Some(Connection {
            direction: direction(view.direction),
            address: view.destination.to_string(),
            state,
            peer: view.peer.map(|peer| self.label(&peer)),
            carrier: path.map(|path| carrier(path.carrier)),
            encrypted: path.is_some_and(|path| self.is_encrypted(path)),
            mtu: path.map_or(self.material.about.mtu, |path| path.mtu.into()),
            info,
        })
    }

    /// Sealed under the operator's secret. The fast path is not, whatever the password.
    fn is_encrypted(&self, path: &PathStatus) -> bool {
        self.material.about.has_password && path.carrier == tables::Carrier::Sleeve
    }

    fn peers(&self) -> Vec<Peer> {
        let view = &self.material.view;
        let ourselves = self.peer(view.card.key, &view.card, true, Some(&*view.own));
        let others = view
            .peers
            .iter()
            .map(|(key, peer)| self.peer(*key, &peer.card, peer.standing.is_reachable(), peer.set.as_deref()));
        std::iter::once(ourselves).chain(others).collect()
    }

    fn peer(&self, key: PeerKey, card: &Card, reachable: bool, set: Option<&Set>) -> Peer {
        let version = set.map(|set| (set.version().incarnation, set.version().counter));
        let connections = set.into_iter().flat_map(Set::edges).filter(|_| reachable).map(|edge| PeerConnection {
            direction: direction(edge.direction),
            address: edge.remote.to_string(),
            peer: self.label(&edge.peer),
            established: self.edges.contains(&(edge.peer, key)),
        });
        Peer {
            label: self.label(&key),
            key: hexadecimal(&key),
            is_self: key == self.material.view.card.key,
            reachable,
            version: version.unwrap_or((card.incarnation, 0)),
            addresses: card.addresses.iter().map(ToString::to_string).collect(),
            connections: connections.collect(),
        }
    }

    fn path(&self, path: &PathStatus) -> Path {
        let via = path.session.and_then(|session| session.via);
        Path {
            peer: self.label(&path.peer),
            key: hexadecimal(&path.peer),
            carrier: carrier(path.carrier),
            encrypted: self.is_encrypted(path),
            mtu: path.mtu.into(),
            mtu_reason: mtu_reason(path),
            sends: Sends {
                segmented: path.sends.mode == SendMode::Segmented,
                fallen_back: path.sends.reason.is_fault(),
                since: self.unix_seconds(path.sends.since),
                reason: path.sends.reason.to_string(),
            },
            since: self.unix_seconds(path.since),
            reason: path.reason.to_string(),
            outlook: outlook(path.carrier, path.reason).to_owned(),
            remote: match via {
                Some(Via::Direct(address)) => Some(address.to_string()),
                Some(Via::Relay(_)) | None => None,
            },
            relay: match via {
                Some(Via::Relay(relay)) => Some(self.label(&relay)),
                Some(Via::Direct(_)) | None => None,
            },
            session_age_seconds: path.session.map(|session| session.age.as_secs()),
        }
    }

    fn dns(&self, material: &DnsMaterial) -> Dns {
        let DnsMaterial { config, servers, names, .. } = material;
        let entry = |holder: &Holder| DnsEntry {
            hostname: format!("{}.", holder.name()),
            address: holder.address.to_string(),
            container_id: holder.container().to_owned(),
            origin: self.label(&holder.owner),
        };
        let mut entries: Vec<DnsEntry> = names.holders().map(entry).collect();
        entries.sort_by_cached_key(|entry| {
            (
                entry.hostname.to_ascii_lowercase(),
                entry.origin.clone(),
                entry.container_id.clone(),
                entry.address.clone(),
            )
        });
        Dns {
            domain: config.domain.to_string(),
            upstream: servers.iter().map(|server| server.ip().to_string()).collect(),
            address: material.address().to_string(),
            listening: material.listening.iter().map(ToString::to_string).collect(),
            ttl: config.ttl,
            entries,
        }
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let view = &self.material.view;
        let own = view.own.endpoints().map(|(_, station)| self.endpoint(&view.card.key, station, EndpointState::Local));
        let others = view.peers.iter().filter_map(|(key, peer)| {
            let state = match peer.standing {
                node::Standing::Neighbour { .. } | node::Standing::Member { .. } => EndpointState::Remote,
                node::Standing::Held { .. } => EndpointState::Held,
                node::Standing::Gone { .. } => return None,
            };
            Some((key, state, peer.set.as_deref()?))
        });
        let others = others
            .flat_map(|(key, state, set)| set.endpoints().map(move |(_, station)| self.endpoint(key, station, state)));
        own.chain(others).collect()
    }

    fn endpoint(&self, owner: &PeerKey, station: &store::Endpoint, state: EndpointState) -> Endpoint {
        let claims = &self.material.view.claims;
        let loses_mac = claims.macs.get(&station.mac).is_some_and(|winner| winner != owner);
        let loses_address = |subnet: &weave_mesh::card::Subnet| {
            claims.addresses.get(&subnet.address).is_some_and(|claim| claim.owner != *owner)
        };
        let loses = loses_mac || station.addresses.iter().any(loses_address);
        Endpoint {
            mac: station.mac.to_string(),
            addresses: station.addresses.iter().map(|subnet| Network(*subnet).to_string()).collect(),
            container: station.container.clone(),
            peer: self.label(owner),
            state: if loses { EndpointState::Conflicting } else { state },
        }
    }
}

const fn direction(direction: store::Direction) -> Direction {
    match direction {
        store::Direction::Inbound => Direction::Inbound,
        store::Direction::Outbound => Direction::Outbound,
    }
}

const fn carrier(carrier: tables::Carrier) -> Carrier {
    match carrier {
        tables::Carrier::Fast => Carrier::Fastdp,
        tables::Carrier::Sleeve => Carrier::Sleeve,
    }
}

fn hexadecimal(key: &PeerKey) -> String {
    key.0.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Why a path takes what it takes.
fn mtu_reason(path: &PathStatus) -> String {
    match path.carrier {
        tables::Carrier::Fast => "full-size heartbeats arrive by the fast path".to_owned(),
        tables::Carrier::Sleeve => path.sizes.to_string(),
    }
}

/// What would move a path to the other carrier.
const fn outlook(carrier: tables::Carrier, reason: Reason) -> &'static str {
    match (carrier, reason) {
        (tables::Carrier::Fast, _) => "full-size heartbeats lost while sleeve probes are answered move it to sleeve",
        (tables::Carrier::Sleeve, Reason::Forbidden(Why::SwitchedOff)) => "a launch without --no-fastdp allows fastdp",
        (tables::Carrier::Sleeve, Reason::Forbidden(Why::NotTrusted)) => {
            "--trusted-subnets at both ends, each with the other's address, allow fastdp in clear"
        }
        (tables::Carrier::Sleeve, Reason::Forbidden(Why::NoAddress)) => "an underlay address of the peer allows fastdp",
        (tables::Carrier::Sleeve, Reason::Forbidden(Why::NoDevice)) => "a kernel with VXLAN allows fastdp",
        (tables::Carrier::Sleeve, _) => {
            "an answered full-size heartbeat moves it to fastdp; if none comes, look for a firewall on the UDP port above \
             the mesh's or a smaller MTU between the hosts"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forbidden_path_says_what_would_allow_it() {
        for (why, remedy) in [
            (Why::SwitchedOff, "--no-fastdp"),
            (Why::NotTrusted, "--trusted-subnets"),
            (Why::NoAddress, "address"),
            (Why::NoDevice, "VXLAN"),
        ] {
            assert!(outlook(tables::Carrier::Sleeve, Reason::Forbidden(why)).contains(remedy));
        }
    }
}
