//! The service: its threads, its listeners, and what it looks at every few seconds.
//!
//! ```text
//!   control ── publish ──► watch ──► UDP threads, TCP tasks
//!   housekeeping, every 5 s ──► resolv.conf ► upstream servers     addresses of this host ► who may ask, places.rs
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{OsRng, RngCore, SeedableRng};
use socket2::Type;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tracing::{debug, error, info, warn};
use weave_datapath::linux::interfaces::interfaces;
use weave_mesh::dns::Names;

use super::answer::Responder;
use super::asker::{Asker, Askers};
use super::budget::Budget;
use super::forward::Upstream;
use super::places::{self, Place};
use super::resolv;
use super::udp::{Forward, Listener};
use super::{Transport, tcp};
use crate::config::{BridgeName, DnsConfig};
use crate::descriptors::Descriptors;

/// How often resolv.conf and this host's addresses are looked at.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);
/// How soon again when somebody asks who may not: a network of Docker's may be new.
const STRANGER_INTERVAL: Duration = Duration::from_secs(1);
const STACK_BYTES: usize = 512 * 1024;

/// What control tells.
#[derive(Clone, Debug, Default)]
pub struct Published {
    pub names: Arc<Names>,
    /// The addresses of the containers attached on this host.
    pub attached: Arc<BTreeSet<IpAddr>>,
}

/// Why names are not served.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("cannot listen at {place} for DNS: {source}; stop what holds it (`ss -lnp 'sport = :{}'` tells), give \
             another --dns-listen-address, or --no-dns", place.address.port())]
    Listen { place: Place, source: io::Error },
    #[error("cannot start the DNS thread: {0}")]
    Start(io::Error),
}

/// What all listeners have.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) responder: Responder,
    pub(super) upstream: Upstream,
    /// Questions that wait to be asked upstream or are under way there.
    pub(super) questions: Arc<Budget>,
    /// TCP connections at all listeners.
    pub(super) connections: Arc<Budget>,
    published: watch::Receiver<Arc<Published>>,
    askers: watch::Receiver<Arc<Askers>>,
    strangers: Notify,
}

impl Shared {
    pub(super) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published.borrow())
    }

    pub(super) fn askers(&self) -> Arc<Askers> {
        Arc::clone(&self.askers.borrow())
    }

    /// Who asks from `source`, if anybody who may.
    pub(super) fn asker(&self, source: IpAddr) -> Option<Asker> {
        let asker = self.askers().find(source, &self.published().attached);
        if asker.is_none() {
            self.note_stranger();
        }
        asker
    }

    pub(super) fn note_stranger(&self) {
        self.strangers.notify_one();
    }

    /// Ends when somebody asked who may not, or the next look is due.
    async fn strangers_or_late(&self) {
        tokio::time::sleep(STRANGER_INTERVAL).await;
        let rest = HOUSEKEEPING_INTERVAL.saturating_sub(STRANGER_INTERVAL);
        let _ = tokio::time::timeout(rest, self.strangers.notified()).await;
    }
}

/// A generator for the order of answers, seeded by the system.
pub(super) fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(OsRng.next_u64())
}

/// A look at where to listen, counted by how often one was asked for before it began.
type Look = u64;

/// Handle to the service. It ends with [`Self::stop`] or when dropped.
#[derive(Debug)]
pub struct Dns {
    publisher: watch::Sender<Arc<Published>>,
    servers: watch::Receiver<Arc<[SocketAddr]>>,
    listening: watch::Receiver<Arc<BTreeSet<SocketAddr>>>,
    asked: watch::Sender<Look>,
    looked: watch::Receiver<Look>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Dns {
    /// Listens where the operator said, or at Docker's bridge, and at the resolver's address on `bridge`.
    ///
    /// # Errors
    /// When an address that the operator gave cannot be listened at.
    pub fn spawn(config: &DnsConfig, bridge: BridgeName, descriptors: Descriptors) -> Result<Self, DnsError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DnsError::Start)?;
        let (publisher, published) = watch::channel(Arc::default());
        let (servers_sender, servers) = watch::channel(Arc::from([]));
        let (askers_sender, askers) = watch::channel(Arc::default());
        let (listening_sender, listening) = watch::channel(Arc::default());
        let (asked, asked_receiver) = watch::channel(0);
        let (looked_sender, looked) = watch::channel(0);
        let shared = Arc::new(Shared {
            responder: Responder::new(config.domain.folded(), config.ttl),
            upstream: Upstream::new(servers.clone(), config.fallback_timeout),
            questions: Budget::new(descriptors.dns_questions()),
            connections: Budget::new(descriptors.dns_connections()),
            published,
            askers,
            strangers: Notify::new(),
        });
        // Whatever has a share has room.
        let (forwards, waiting) = mpsc::channel(shared.questions.total());
        let mut listeners =
            Listeners { shared: Arc::clone(&shared), forwards, open: BTreeMap::new(), failed: BTreeSet::new() };
        {
            let _guard = runtime.enter();
            config.listen.iter().try_for_each(|address| listeners.open(Place::anywhere(*address)))?;
        }
        let housekeeping = Housekeeping {
            config: config.clone(),
            bridge,
            shared: Arc::clone(&shared),
            servers: servers_sender,
            askers: askers_sender,
            listening: listening_sender,
            asked: asked_receiver,
            looked: looked_sender,
            listeners,
        };
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = housekeeping.run() => {}
                    () = forward(waiting, shared) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("dns".to_owned()).stack_size(STACK_BYTES).spawn(serve);
        let thread = thread.map_err(DnsError::Start)?;
        Ok(Self { publisher, servers, listening, asked, looked, stop, thread })
    }

    /// Answers from `published` from now on.
    pub fn publish(&self, published: Published) {
        self.publisher.send_replace(Arc::new(published));
    }

    /// What is answered from now.
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.publisher.borrow())
    }

    /// Looks at once where to listen: the kernel has another bridge than before.
    pub fn note_moved(&self) {
        self.asked.send_modify(|look| *look += 1);
    }

    /// Ends when it is listened wherever [`Self::note_moved`] last had it looked, and can be.
    pub async fn settled(&self) {
        let wanted = *self.asked.borrow();
        // A thread that is gone is found out elsewhere.
        let _ = self.looked.clone().wait_for(|look| *look >= wanted).await;
    }

    /// The upstream servers in use.
    pub fn servers(&self) -> Vec<SocketAddr> {
        self.servers.borrow().to_vec()
    }

    /// Where names are served.
    pub fn listening(&self) -> Arc<BTreeSet<SocketAddr>> {
        Arc::clone(&self.listening.borrow())
    }

    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            error!("the DNS thread panicked");
        }
    }
}

/// Has every question that waits answered by upstream servers.
async fn forward(mut waiting: mpsc::Receiver<Forward>, shared: Arc<Shared>) {
    while let Some(Forward { socket, source, query, limit, share }) = waiting.recv().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Some(reply) = shared.upstream.resolve(Transport::Udp, &query, limit, share).await {
                // A reply for which there is no room is asked for again.
                let _ = socket.send_to(&reply, source);
            }
        });
    }
}

struct Housekeeping {
    config: DnsConfig,
    bridge: BridgeName,
    shared: Arc<Shared>,
    servers: watch::Sender<Arc<[SocketAddr]>>,
    askers: watch::Sender<Arc<Askers>>,
    listening: watch::Sender<Arc<BTreeSet<SocketAddr>>>,
    asked: watch::Receiver<Look>,
    looked: watch::Sender<Look>,
    listeners: Listeners,
}

impl Housekeeping {
    async fn run(mut self) {
        loop {
            let look = *self.asked.borrow_and_update();
            let path = self.config.resolv_conf.clone();
            // The kernel's lock may be held for long; questions go on.
            let looked = tokio::task::spawn_blocking(move || (interfaces(), read(&path))).await;
            if let Ok((interfaces, text)) = looked {
                match interfaces {
                    Ok(interfaces) => {
                        replace(&self.askers, Arc::new(Askers::of(&interfaces)));
                        self.listen(&places::wanted(&self.config.listen, &self.bridge, &interfaces));
                    }
                    Err(error) => debug!(%error, "cannot list this host's addresses"),
                }
                self.follow(&text);
            }
            replace(&self.looked, look);
            tokio::select! {
                Ok(()) = self.asked.changed() => {}
                () = self.shared.strangers_or_late() => {}
            }
        }
    }

    /// Listens where it is wanted now.
    fn listen(&mut self, wanted: &BTreeSet<Place>) {
        self.listeners.follow(wanted);
        replace(&self.listening, Arc::new(self.listeners.addresses().collect()));
    }

    fn follow(&self, text: &str) {
        let listening = self.listeners.addresses().map(|address| address.ip()).collect::<BTreeSet<_>>();
        let servers = resolv::servers(text, |address| listening.contains(&address));
        if replace(&self.servers, Arc::from(servers)) {
            info!(servers = ?**self.servers.borrow(), "upstream DNS servers");
            self.shared.upstream.forget();
        }
    }
}

/// Tells `value`, if it is another one than before; returns whether it is.
fn replace<T: PartialEq>(sender: &watch::Sender<T>, value: T) -> bool {
    sender.send_if_modified(|current| {
        let is_news = *current != value;
        *current = value;
        is_news
    })
}

/// As much of the file as is read; nothing when there is none.
fn read(path: &Path) -> String {
    let mut bytes = std::fs::read(path).unwrap_or_default();
    bytes.truncate(resolv::FILE_BYTES_MAX);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything that is open.
struct Listeners {
    shared: Arc<Shared>,
    forwards: mpsc::Sender<Forward>,
    open: BTreeMap<Place, Open>,
    /// Where it did not go, and was said so.
    failed: BTreeSet<Place>,
}

/// Both transports at one place.
struct Open {
    _udp: Listener,
    tcp: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tcp.abort();
    }
}

impl Listeners {
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.open.keys().map(|place| place.address)
    }

    fn follow(&mut self, wanted: &BTreeSet<Place>) {
        self.open.retain(|place, _| wanted.contains(place));
        self.failed.retain(|place| wanted.contains(place));
        for place in wanted {
            if self.open.contains_key(place) {
                continue;
            }
            match self.open(place.clone()) {
                Ok(()) => drop(self.failed.remove(place)),
                Err(error) if self.failed.insert(place.clone()) => warn!("{error}"),
                Err(_) => {}
            }
        }
    }

    fn open(&mut self, place: Place) -> Result<(), DnsError> {
        let failed = |source| DnsError::Listen { place: place.clone(), source };
        let udp = place.bind(Type::DGRAM).map_err(failed)?;
        let tcp = place.bind(Type::STREAM).map_err(failed)?;
        tcp.listen(256).map_err(failed)?;
        let tcp = tokio::net::TcpListener::from_std(tcp.into()).map_err(failed)?;
        let udp = Listener::spawn(udp.into(), Arc::clone(&self.shared), self.forwards.clone()).map_err(failed)?;
        let tcp = tokio::spawn(tcp::serve(tcp, Arc::clone(&self.shared))).abort_handle();
        info!(%place, "serving names");
        self.open.insert(place, Open { _udp: udp, tcp });
        Ok(())
    }
}
