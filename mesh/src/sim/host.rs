//! A simulated host: its disk, its clocks, and the daemon while it runs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::containers::Containers;
use super::input::Recording;
use super::network::{Dice, Uplink};
use super::stream::{Side, StreamId};
use super::{HostId, LISTEN_PORT};
use crate::connection;
use crate::connector::{ConnectionId, Oblivion, Target};
use crate::identity::{Hash, Identity, PeerKey, Scheme};
use crate::ipam;
use crate::name::{MacAddr, PeerName};
use crate::node::{Node, Persist, Restored, StoredMember};
use crate::roster::Polling;
use crate::store::{Endpoint, EndpointId, Version};
use crate::time::{Instant, UnixTime};

/// The wall clock when the simulation begins: 2027-01-15.
const EPOCH: UnixTime = UnixTime(1_800_000_000_000_000);

/// What survives the daemon.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    secret: Option<[u8; 64]>,
    /// The machine on which the secret was made; elsewhere the directory is set aside.
    machine: Hash,
    incarnation: u64,
    pub(super) name: Option<PeerName>,
    members: BTreeMap<PeerKey, StoredMember>,
    forgotten: Vec<Oblivion>,
    pub(super) ipam: ipam::Restored,
}

impl Disk {
    /// Takes what the node wants kept; it is durable at once.
    pub(super) fn keep(&mut self, persist: Persist) {
        match persist {
            Persist::Incarnation(incarnation) => self.incarnation = incarnation,
            Persist::Name(name) => self.name = Some(name),
            Persist::Wishes(wishes) => self.forgotten = wishes.forgotten,
            Persist::Member(member) => drop(self.members.insert(member.key, member)),
            Persist::Forget(key) => drop(self.members.remove(&key)),
            Persist::Ring(bytes) => self.ipam.ring = Some(bytes),
            Persist::Owned(change) => self.ipam.owned.push(change),
        }
    }

    /// Of how many peers something is stored.
    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// The identity on this disk, or a new one when there is none or it was made on another machine.
    pub(super) fn identity(&mut self, machine: Hash, scheme: Scheme, dice: &mut Dice) -> Identity {
        if self.machine != machine {
            *self = Self { machine, ..Self::default() };
        }
        let secret = self.secret.get_or_insert_with(|| dice.bytes());
        Identity::from_secret_bytes(scheme, secret)
    }

    pub(super) fn restored(&self) -> Restored {
        let members = self.members.values().map(StoredMember::encode).collect();
        Restored { incarnation: self.incarnation, members, forgotten: self.forgotten.clone(), ipam: self.ipam.clone() }
    }
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) disk: Disk,
    pub(super) machine: Hash,
    /// What the cloud calls it.
    pub(super) instance: String,
    pub(super) address: SocketAddr,
    /// `--name`.
    pub(super) name: Option<PeerName>,
    pub(super) targets: Vec<Target>,
    /// `--ipalloc-init`, where it is not everybody's.
    pub(super) init: Option<ipam::Init>,
    /// The containers attached here; they outlive the daemon.
    pub(super) endpoints: BTreeMap<EndpointId, Endpoint>,
    pub(super) daemon: Option<Daemon>,
    /// How often the daemon has started; tells the streams of one run from another's.
    pub(super) boot: u32,
    /// Without power nothing answers, not even with a reset.
    pub(super) is_powered: bool,
    /// How far the wall clock is off, microseconds.
    pub(super) clock_error: i64,
    pub(super) uplink: Uplink,
    /// Outputs after which the daemon dies in the midst of its work.
    pub(super) outputs_to_live: Option<u32>,
    /// Those that ask for addresses.
    pub(super) containers: Containers,
}

impl Host {
    pub(super) fn new(id: HostId, address: SocketAddr, targets: Vec<Target>, dice: &mut Dice) -> Self {
        Self {
            id,
            disk: Disk::default(),
            machine: dice.bytes(),
            instance: format!("i-{:x}", id.0),
            address,
            name: None,
            targets,
            init: None,
            endpoints: BTreeMap::new(),
            daemon: None,
            boot: 0,
            is_powered: true,
            clock_error: 0,
            uplink: Uplink::default(),
            outputs_to_live: None,
            containers: Containers::default(),
        }
    }

    pub(super) fn wall(&self, now: Instant) -> UnixTime {
        UnixTime(EPOCH.0.saturating_add(now.as_micros()).saturating_add_signed(self.clock_error))
    }
}

/// A running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) node: Node,
    pub(super) key: PeerKey,
    pub(super) identity: Identity,
    pub(super) connections: BTreeMap<ConnectionId, (StreamId, Side)>,
    pub(super) next_connection: u64,
    /// The earliest timer in the queue of events.
    pub(super) timer: Option<Instant>,
    /// What the handshakes of new connections use.
    pub(super) connection_config: Option<std::sync::Arc<connection::Config>>,
    /// The newest version seen of each owner, for the check that none goes back.
    pub(super) versions: BTreeMap<PeerKey, Version>,
    pub(super) recording: Option<Box<Recording>>,
    /// When it asks the cloud again.
    pub(super) polling: Polling,
}

impl Daemon {
    pub(super) fn new(node: Node, identity: Identity, recording: Option<Box<Recording>>, seed: u64) -> Self {
        Self {
            key: identity.key(),
            node,
            identity,
            connections: BTreeMap::new(),
            next_connection: 0,
            timer: None,
            connection_config: None,
            versions: BTreeMap::new(),
            recording,
            polling: Polling::new(seed),
        }
    }
}

/// Where a host listens that has an address of its own.
pub(super) fn address_of(host: HostId) -> SocketAddr {
    let octets = u32::try_from(host.0 + 1).unwrap_or(u32::MAX);
    (Ipv4Addr::from(0x0a00_0000 | octets & 0x00ff_ffff), LISTEN_PORT).into()
}

/// The one endpoint that container number `container` of a host is.
pub(super) fn endpoint(host: HostId, container: u32, attached: u64) -> (EndpointId, Endpoint) {
    let (host, [a, b]) = (host.0 as u32, [(container >> 8) as u8, container as u8]);
    let [_, c, d, e] = host.to_be_bytes();
    let endpoint = Endpoint {
        mac: MacAddr([0x0a, c, d, e, a, b]),
        addresses: Vec::new(),
        container: format!("{host:06x}-{container:04x}"),
        names: vec![format!("c{container}.host-{host}")],
        attached,
    };
    (EndpointId(container.into()), endpoint)
}
