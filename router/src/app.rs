//! The daemon's wiring: what starts when, and what stops in which order.
//!
//! ```text
//!   check ─► state directory ─► sockets ─► keys ─► kernel keeper ─► packet thread ─► admin thread ─► control ─► READY
//!
//!   SIGTERM ─► control ends: last messages, members ─► admin ─► packet thread ─► keeper       kernel state stays
//!   stop    ─► likewise, and says so before the admin thread ends
//!   reset   ─► likewise, with a goodbye first, and then nothing is left
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use rand_core::{OsRng, RngCore};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, info, warn};
use weave_datapath::engine::{self, Engine};
use weave_datapath::linux::capability::{self, Missing};
use weave_datapath::linux::clock::Clock;
use weave_datapath::linux::kernel::Kernel;
use weave_datapath::linux::mtu::{MtuError, overlay_mtu};
use weave_datapath::linux::namespaces;
use weave_datapath::linux::netlink::{Netlink, NetlinkError};
use weave_datapath::linux::observe::observe;
use weave_datapath::linux::packet::{Devices, PacketThread};
use weave_datapath::linux::packet_socket::PacketSocket;
use weave_datapath::linux::reset::ResetError;
use weave_datapath::linux::tap::{self, Tap};
use weave_datapath::linux::udp::{self, UdpSocket};
use weave_datapath::linux::underlay::{self, UnderlayError};
use weave_datapath::linux::veth;
use weave_datapath::plan::{BridgeNames, InvalidLinkName, Observed, Resolver};
use weave_datapath::sleeve::seal::Cipher;
use weave_docker::Docker;
use weave_mesh::card::ADDRESSES_MAX;
use weave_mesh::connection;
use weave_mesh::identity::Identity;
use weave_mesh::ipam;
use weave_mesh::name::{MacAddr, MeshId};
use weave_mesh::node::{self as mesh_node, Node, View};
use weave_mesh::noise::Psk;
use weave_mesh::time::UnixTime;
use zeroize::Zeroizing;

use crate::admin::Admin;
use crate::adoption::{self, Books};
use crate::api::{Context, ListenError, Listeners, UnixSocket};
use crate::attach::{Endpoint, Ledger};
use crate::config::{Allocation, AllocationError, Config, ConfigError, FastPath, PasswordError, Targets};
use crate::descriptors::{self, Descriptors, TooFewDescriptors};
use crate::discovery::{self, Discovered, Place};
use crate::dns::{Dns, DnsError};
use crate::fabric::{FastSetting, Loom};
use crate::node::{Control, Host, NodeError, Outcome, Parts, Reach, Remains, Weaving};
use crate::peers::{self, Peers};
use crate::proxy::{OurRuntime, ProxyThread};
use crate::request::{self, Requester};
use crate::status::About;
use crate::store::{FileError, Machine, Selfhood, Store, StoreError};
use crate::watchdog;

/// Why the daemon did not start, or ended otherwise than asked to.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Allocation(#[from] AllocationError),
    #[error("cannot tell where AWS is: {0}")]
    Aws(#[from] weave_aws::InvalidSettings),
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] FileError),
    #[error(transparent)]
    Control(#[from] ListenError),
    #[error(transparent)]
    Listen(#[from] peers::ListenError),
    #[error(transparent)]
    Dns(#[from] DnsError),
    #[error(transparent)]
    Udp(#[from] udp::Error),
    #[error(transparent)]
    Tap(#[from] tap::Error),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Underlay(#[from] UnderlayError),
    #[error(transparent)]
    Mtu(#[from] MtuError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Bridge(#[from] InvalidLinkName),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Mesh(#[from] mesh_node::ConfigError),
    #[error("cannot start {part}: {source}")]
    Start { part: &'static str, source: io::Error },
    #[error("cannot remove everything: {0}")]
    Reset(String),
    #[error("this host cannot carry containers: {0}")]
    Kernel(String),
}

fn start(part: &'static str) -> impl Fn(io::Error) -> LaunchError {
    move |source| LaunchError::Start { part, source }
}

/// How the daemon ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By a signal: whoever sent it decides whether there is another life.
    Signalled,
    /// By `stop` or `reset`: an operator does not want it back.
    Dismissed,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start or go on; the text says what to do.
pub fn launch(config: &Config) -> Result<Ending, LaunchError> {
    config.check()?;
    config.remarks.iter().for_each(|remark| warn!("{remark}"));
    let descriptors = descriptors::provide()?;
    capability::check()?;
    check_range(config)?;
    let psks = config.passwords.derive()?;
    if config.passwords.is_empty() {
        warn!("no password: whoever reaches the port can join, and frames travel in clear; see `weave-rs genkey`");
    }
    let clock = Clock::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start("the runtime"))?;
    let place = runtime.block_on(Place::find(config))?;
    loop {
        let opened = open_store(&config.state_dir, &place, clock)?;
        let Ended { outcome, remains, admin } = run(config, &psks, clock, opened, &place, descriptors, &runtime)?;
        watchdog::stopping();
        match outcome {
            Outcome::Stopped => {
                admin.stop();
                return Ok(Ending::Signalled);
            }
            Outcome::Dismissed(reply) => {
                let _ = reply.send(());
                admin.stop();
                return Ok(Ending::Dismissed);
            }
            Outcome::Reset(reply) => {
                let removed = remove_everything(config, remains);
                let _ = reply.send(removed.as_ref().map_err(ToString::to_string).copied());
                admin.stop();
                return removed.map(|()| Ending::Dismissed);
            }
            Outcome::Unable(failures) => {
                admin.stop();
                leave_kernel(config, remains);
                return Err(LaunchError::Kernel(failures.join("; ")));
            }
            Outcome::IdentityTaken => {
                let aside = remains.store.set_aside(clock.wall())?;
                warn!(aside = %aside.display(), "another live daemon has our identity; starting again as a new one");
                admin.stop();
                remains.kernel.stop();
            }
        }
    }
}

/// Whether containers may have addresses from the range that was chosen, or that nobody chose.
fn check_range(config: &Config) -> Result<(), LaunchError> {
    let Some(allocation) = &config.allocation else { return Ok(()) };
    let bridge = BridgeNames::of(config.bridge.as_ref())?.bridge;
    if let Some(overlap) = allocation.check_routes(&underlay::destinations(&bridge)?)? {
        warn!("{overlap}");
    }
    Ok(())
}

fn open_store(directory: &Path, place: &Place, clock: Clock) -> Result<(Store, Machine), LaunchError> {
    let store = Store::open(directory)?;
    let machine = place.machine(&store)?;
    if store.is_foreign(&machine)? {
        let aside = store.set_aside(clock.wall())?;
        warn!(aside = %aside.display(), "the state was written on another machine; starting as a new peer");
    }
    Ok((store, machine))
}

fn remove_everything(config: &Config, remains: Remains) -> Result<(), LaunchError> {
    // The packet thread holds the TAP, and a keeper that still runs would heal what is removed.
    drop(remains.packets);
    remains.kernel.stop();
    reset_kernel(config.bridge.as_ref())?;
    Ok(remains.store.remove()?)
}

/// Takes away what a first plan that failed has made: the host is as it was before.
fn leave_kernel(config: &Config, remains: Remains) {
    drop(remains.packets);
    remains.kernel.stop();
    if let Err(error) = reset_kernel(config.bridge.as_ref()) {
        debug!(%error, "what the plan could not make cannot be removed either");
    }
}

/// Removes the kernel state of the daemon with this bridge.
///
/// # Errors
/// Everything that could not be removed.
pub fn reset_kernel(bridge: &str) -> Result<(), LaunchError> {
    let joined = |errors: Vec<ResetError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    weave_datapath::linux::reset::reset(&BridgeNames::of(bridge)?).map_err(|errors| LaunchError::Reset(joined(errors)))
}

/// Everything that listens, opened before anything else is changed.
struct Sockets {
    tcp: TcpListener,
    udp: UdpSocket,
    control: Listeners,
    dns: Option<Dns>,
    docker: Option<UnixSocket>,
}

impl Sockets {
    fn open(config: &Config, descriptors: Descriptors) -> Result<Self, LaunchError> {
        Ok(Self {
            tcp: peers::listen(config.host, config.port)?,
            udp: UdpSocket::bind(config.host, config.port)?,
            control: Listeners::open(config, descriptors)?,
            dns: config.dns.as_ref().map(|dns| Dns::spawn(dns, config.bridge.clone(), descriptors)).transpose()?,
            docker: config.docker_proxy.as_ref().map(|place| UnixSocket::at("--docker-proxy", place)).transpose()?,
        })
    }
}

/// One life of the daemon is over.
struct Ended {
    outcome: Outcome,
    remains: Remains,
    admin: Admin,
}

/// One life of the daemon under one identity.
fn run(
    config: &Config,
    psks: &[Psk],
    clock: Clock,
    (store, machine): (Store, Machine),
    place: &Place,
    descriptors: Descriptors,
    runtime: &Runtime,
) -> Result<Ended, LaunchError> {
    // Not on the runtime: what is made before something fails may be a runtime too, and none may end on another.
    let _inside = runtime.enter();
    let sockets = Sockets::open(config, descriptors)?;
    let names = BridgeNames::of(config.bridge.as_ref())?;
    let underlay = underlay_addresses(config)?;
    let mtu = overlay_mtu_of(config, &underlay)?;
    let Selfhood { identity, name } = store.selfhood(config.name, &machine)?;
    let key = identity.key();
    let mut ledger = living(store.ledger()?, &store)?;
    let remembered = store.remembered()?;
    let networks = store.networks()?;
    let mut exposure = store.exposure()?;
    let host_names = store.host_names()?;

    let node_config = node_config(config, &store, name, &underlay, (machine, place))?;
    let node =
        Node::new(node_config, identity.clone(), store.restored()?, OsRng.next_u64(), clock.now(), clock.wall())?;
    let view = node.view();
    let loom = loom(config, names.clone(), mtu);
    let found = Found::by(names.clone())?;
    let held = node.all_addresses();
    let books = Books { ledger: &mut ledger, exposure: &mut exposure, held: &held, underlay: &underlay };
    found.complete(books, &store)?;
    let orphans = adoption::unknown_ports(&found.observed, &ledger);
    if let Some(dns) = &config.dns {
        ledger.name_within(&dns.domain);
    }
    let host = if found.has_bridge() || ledger.entries().next().is_some() { Host::Adopted } else { Host::Fresh };
    let weaving = Weaving::new(loom, found.adopted(&view), &underlay, &view, &ledger, &exposure);

    let (kernel, kernel_events) = Kernel::spawn().map_err(start("the kernel keeper"))?;
    let devices = devices(names, sockets.udp)?;
    let engine = engine_config(config, psks, &identity, mtu, &store)?;
    let engine = Engine::new(engine, weaving.tables(), *seed(), clock.now(), clock.wall());
    let (packets, packet_events) =
        PacketThread::spawn(engine, devices, mtu, clock).map_err(start("the packet thread"))?;

    let mesh = MeshId::of(config.mesh.as_ref());
    let connection = connection::Config { identity, card: node.signed_card(), mesh, psks: psks.to_vec() };
    let (requester, requests) = request::channel();
    let peers = Peers::new(sockets.tcp, config.host, connection.clone(), clock).map_err(start("the TCP listener"))?;
    let context = context(config, requester);
    let advisor = || OurRuntime::new(&context, config.dns.as_ref());
    let proxy = sockets.docker.map(|socket| ProxyThread::spawn(socket, advisor())).transpose();
    let discovered = Arc::new(Discovered::by(&place.source));
    let discovering = discovery::follow(place.source.clone(), context.requester.clone(), Arc::clone(&discovered));
    let admin = Admin::spawn(sockets.control, context.clone(), discovering).map_err(start("the admin thread"))?;
    let _proxy = proxy.map_err(start("the proxy's thread"))?;
    info!(%name, %key, mtu, version = env!("CARGO_PKG_VERSION"), "started");
    let parts = Parts {
        clock,
        node,
        store,
        peers,
        ledger,
        remembered,
        networks,
        orphans,
        exposure,
        weaving,
        host,
        kernel,
        kernel_events,
        packets,
        packet_events,
        requests,
        about: about(config, mtu, clock.wall(), discovered),
        host_names,
        dns: sockets.dns,
        connection,
        allocation: addressing(config, place),
    };
    let (outcome, remains) = runtime.block_on(Control::new(parts)?.run(stopped()?))?;
    Ok(Ended { outcome, remains, admin })
}

fn devices(names: BridgeNames, udp: UdpSocket) -> Result<Devices, LaunchError> {
    let tap = Tap::open(&names.tap)?;
    let heartbeats = PacketSocket::open(names.bridge, names.vxlan).map_err(start("the packet socket"))?;
    Ok(Devices { tap, udp, heartbeats })
}

/// What those have who ask control.
fn context(config: &Config, requester: Requester) -> Context {
    Context {
        requester,
        docker: Docker::of_environment().naming_by(config.containers.rules.names.clone()),
        containers: Arc::new(config.containers.clone()),
        starts: Arc::default(),
        docker_proxy: config.docker_proxy.as_ref().map(|place| place.path().to_owned()),
    }
}

/// What the packet thread's engine is made of.
fn engine_config(
    config: &Config,
    psks: &[Psk],
    identity: &Identity,
    mtu: u16,
    store: &Store,
) -> Result<engine::Config, LaunchError> {
    Ok(engine::Config {
        identity: identity.clone(),
        mesh: MeshId::of(config.mesh.as_ref()),
        psks: if config.passwords.is_empty() { Vec::new() } else { psks.to_vec() },
        ciphers: Cipher::of_this_machine(),
        mtu,
        rekey_after: config.rekey_interval,
        timestamp_floor: store.sleeve_timestamp()?,
    })
}

fn seed() -> Zeroizing<[u8; 32]> {
    let mut seed = Zeroizing::new([0; 32]);
    OsRng.fill_bytes(seed.as_mut());
    seed
}

/// Ends when the daemon is asked to stop.
fn stopped() -> Result<impl Future<Output = ()>, NodeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(NodeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(NodeError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("stopping on SIGTERM"),
            _ = interrupt.recv() => info!("stopping on SIGINT"),
        }
    })
}

fn underlay_addresses(config: &Config) -> Result<Vec<IpAddr>, LaunchError> {
    match config.host {
        Some(host) => Ok(vec![host]),
        None => Ok(underlay::addresses()?),
    }
}

fn overlay_mtu_of(config: &Config, underlay: &[IpAddr]) -> Result<u16, LaunchError> {
    let mtu = match config.mtu {
        Some(mtu) => mtu.get(),
        None => overlay_mtu(underlay)?,
    };
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
}

fn addressing(config: &Config, place: &Place) -> Option<ipam::Config> {
    let allocation = config.allocation.as_ref()?;
    Some(if place.is_in_a_cloud() { allocation.in_a_cloud() } else { allocation.config.clone() })
}

fn node_config(
    config: &Config,
    store: &Store,
    name: weave_mesh::name::PeerName,
    underlay: &[IpAddr],
    (machine, place): (Machine, &Place),
) -> Result<mesh_node::Config, LaunchError> {
    let targets = match &config.targets {
        Targets::Given(targets) => targets.clone(),
        Targets::Stored => store.wishes()?.targets,
    };
    let addresses = underlay.iter().take(ADDRESSES_MAX).map(|address| SocketAddr::new(*address, config.port));
    Ok(mesh_node::Config {
        mesh: MeshId::of(config.mesh.as_ref()),
        discovery: config.discovery,
        connection_limit: config.connection_limit,
        listen_port: config.port,
        targets,
        name,
        nickname: config.nickname.clone(),
        bridge_mac: name.mac(),
        addresses: addresses.collect(),
        trusted_subnets: config.trusted_subnets.clone(),
        instance_id: machine.instance_id,
        machine: machine.machine,
        ipam: addressing(config, place),
    })
}

fn loom(config: &Config, names: BridgeNames, mtu: u16) -> Loom {
    Loom {
        names,
        vni: MeshId::of(config.mesh.as_ref()).vni(),
        mesh_port: config.port,
        vxlan_port: config.vxlan_port(),
        mtu: mtu.into(),
        fast_path: match (config.fast_path, config.passwords.is_empty()) {
            (FastPath::Off, _) => FastSetting::Off,
            (FastPath::On, true) => FastSetting::Everywhere,
            (FastPath::On, false) => FastSetting::BetweenTrustedSubnets,
        },
        host: config.host,
        allowed_ethertypes: config.allowed_ethertypes.iter().map(|ethertype| ethertype.0).collect(),
        resolver: if config.dns.is_some() { Resolver::Served } else { Resolver::Absent },
        range: config.allocation.as_ref().map(Allocation::range),
    }
}

fn about(config: &Config, mtu: u16, started: UnixTime, discovered: Arc<Discovered>) -> About {
    About {
        mesh: config.mesh.as_ref().to_owned(),
        port: config.port,
        has_password: !config.passwords.is_empty(),
        discovery: config.discovery,
        discovered,
        bridge: config.bridge.to_string(),
        mtu: mtu.into(),
        fast_path: config.fast_path == FastPath::On,
        connection_limit: config.connection_limit,
        started,
        dns: config.dns.clone(),
    }
}

/// What an earlier daemon left in the kernel.
struct Found {
    names: BridgeNames,
    observed: Observed,
}

impl Found {
    fn by(names: BridgeNames) -> Result<Self, LaunchError> {
        let mut netlink = Netlink::open().map_err(start("netlink"))?;
        Ok(Self { observed: observe(&mut netlink, &names)?, names })
    }

    fn has_bridge(&self) -> bool {
        self.observed.links.contains_key(&self.names.bridge)
    }

    /// Peers that the kernel still reaches over VXLAN: an earlier daemon chose so, and its choice stays until proved
    /// wrong.
    fn adopted(&self, view: &View) -> Reach {
        let is_on_vxlan =
            |mac: &MacAddr| self.observed.bridge_fdb.get(mac).is_some_and(|entry| entry.port == self.names.vxlan);
        let peers = view.peers.iter().filter(|(_, peer)| is_on_vxlan(&peer.card.bridge_mac));
        let destinations = self.observed.vxlan_fdb.values().chain(&self.observed.flood).copied().collect();
        Reach { peers: peers.map(|(key, _)| *key).collect(), destinations }
    }

    /// Puts into the books what is there and in none of them.
    fn complete(&self, mut books: Books<'_>, store: &Store) -> Result<(), LaunchError> {
        let unknown = adoption::unknown_ports(&self.observed, books.ledger);
        if !unknown.is_empty() {
            let found = namespaces::behind(&unknown);
            found.into_iter().for_each(|found| books.adopt(found, &self.observed, weave_docker::container_of));
            store.write_ledger(books.ledger)?;
        }
        if self.observed.addresses != books.exposure.addresses() {
            books.adopt_exposed(&self.observed);
            store.write_exposure(books.exposure)?;
        }
        Ok(())
    }
}

/// The containers of an earlier daemon that are still there, as they are now.
fn living(mut ledger: Ledger, store: &Store) -> Result<Ledger, LaunchError> {
    let is_there = |host_link: &str, netns: &Path| {
        let found = veth::open(netns).ok().and_then(|netns| veth::inspect(&netns).ok().flatten());
        found.filter(|port| port.host_link.as_str() == host_link)
    };
    let gone = ledger.refresh(is_there);
    for container in &gone {
        info!(container, "container is gone since the last start");
    }
    let has_closed = ledger.revisit(is_open);
    if !gone.is_empty() || has_closed {
        store.write_ledger(&ledger)?;
    }
    Ok(ledger)
}

/// Whether a container has the other end of an endpoint's port. One that nobody has is of no use any more.
fn is_open(endpoint: &Endpoint) -> bool {
    let Ok(ends) = endpoint.ends() else { return false };
    let is_open = ends.are_apart().unwrap_or_default();
    if !is_open && let Err(error) = veth::remove(&ends.host) {
        warn!(%endpoint, %error, "a port that nobody is behind stays");
    }
    is_open
}
