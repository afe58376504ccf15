//! A member of the mesh with a real key that says whatever a test wants: liars, mostly.
//!
//! ```text
//!   test ── say(message) ──► [outbox] ─► writer ─┐ seals   TCP   ┌──────────────┐
//!        ◄─ heard(…) ─────── [inbox] ◄── reader ─┴───────────────┤ a real daemon │
//!                               └─ asks for what it serves: parts │ in a namespace │
//! ```
//!
//! ```no_run
//! # use weave_netns_tests::{member::Liar, scene::{Scene, SETTLED}, weave::Launch};
//! # use weave_mesh::wire::Message;
//! # fn test() -> anyhow::Result<()> {
//! let scene = Scene::new(2, &Launch::new())?;
//! let host = scene.net.host()?;                       // without a daemon of its own
//! let liar = Liar::new(66);                           // a key, and a card that a test may change first
//! let member = liar.join(host.namespace(), scene.hosts[0].address())?;
//! member.publish(1, [])?;                             // its set, with an edge to the daemon: now it is reachable
//! member.say(&Message::Probe)?;                       // any message at all
//! member.wait_for(SETTLED, "an answer", |message| matches!(message, Message::Probe))?;
//! # Ok(()) }
//! ```
//!
//! It answers nothing by itself but this: it sends a probe every second, and sets that it serves to whoever asks. `say`
//! waits while the daemon does not read, so a loop of it goes at line rate. What was heard is kept up to [`HEARD_MAX`]
//! messages, the oldest go first.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use weave_mesh::card::{Card, SignedCard};
use weave_mesh::connection::{self, Connection, Event, Role};
use weave_mesh::identity::{Identity, PeerKey, Scheme};
use weave_mesh::name::{MacAddr, MeshId, PeerName};
use weave_mesh::noise::Psk;
use weave_mesh::store::{CardRecord, Content, Direction, Draft, Edge, Part, Record, Session, Set, Tag, Version};
use weave_mesh::time::Instant;
use weave_mesh::verifier::Verifier;
use weave_mesh::wire::{Ask, Message, Offer, Summary};

use crate::probe::eventually;
use crate::topology::Namespace;

/// How many messages are remembered.
const HEARD_MAX: usize = 10_000;
/// Where daemons listen.
const MESH_PORT: u16 = 6783;
/// How long a daemon may take to answer a handshake on a busy machine.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it gives a sign of life.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Who the member is: a key of its own, and what it says of itself.
#[derive(Debug, Clone)]
pub struct Liar {
    /// Its secret keys.
    pub identity: Identity,
    /// What its handshakes show; change it before they do.
    pub card: Card,
    /// Its password's key; zeros without one.
    pub psk: Psk,
}

impl Liar {
    /// The one with this number: the same key each time.
    pub fn new(number: u8) -> Self {
        let identity = Identity::from_secret_bytes(Scheme::Ed25519, &[number; 64]);
        let card = Card {
            mesh: MeshId::of("weave"),
            key: identity.key(),
            noise_key: identity.noise_key(),
            name: PeerName::derived_from(&identity.key().0),
            nickname: format!("liar-{number}"),
            bridge_mac: MacAddr([2, 0x66, 0, 0, 0, number]),
            addresses: Vec::new(),
            port: MESH_PORT,
            knock: identity.knock(),
            trusted_subnets: Vec::new(),
            instance_id: String::new(),
            machine: [number; 32],
            incarnation: 1,
        };
        Self { identity, card, psk: [0; 32] }
    }

    /// Its key.
    pub const fn key(&self) -> PeerKey {
        self.identity.key()
    }

    /// The card, signed.
    pub fn signed_card(&self) -> Result<SignedCard> {
        Ok(SignedCard::sign(&self.card, &self.identity)?)
    }

    /// Version `counter` of its set: the card and `records`.
    pub fn set(&self, counter: u64, records: impl IntoIterator<Item = Record>) -> Result<Arc<Set>> {
        let mut draft = Draft::new(self.key());
        draft.put(Record::new(Content::Card(self.signed_card()?)))?;
        records.into_iter().try_for_each(|record| draft.put(record))?;
        let version = Version { incarnation: self.card.incarnation, counter };
        let mut verifier = Verifier::new(Scheme::Ed25519, self.card.mesh);
        Ok(Arc::new(draft.sign(version, &self.identity, &mut verifier)?))
    }

    /// Connects from a namespace to a daemon, and says nothing yet.
    pub fn dial(&self, from: &Namespace, to: Ipv4Addr) -> Result<Member> {
        let stream = from.enter(|| Ok(TcpStream::connect((to, MESH_PORT))?))?;
        Member::shake_hands(self.clone(), stream)
    }

    /// The same, and both ends keep the connection.
    pub fn join(&self, from: &Namespace, to: Ipv4Addr) -> Result<Member> {
        let member = self.dial(from, to)?;
        member.say(&Message::Open(Summary([0; 16])))?;
        member.wait_for(HANDSHAKE_TIMEOUT, "the daemon keeps the connection", |heard| {
            matches!(heard, Message::Open(_))
        })?;
        Ok(member)
    }
}

/// A liar's connection with one daemon.
#[derive(Debug)]
pub struct Member {
    /// Who it is.
    pub liar: Liar,
    /// The daemon's card.
    pub daemon: Card,
    /// The same as it was signed.
    pub daemon_card: SignedCard,
    line: Arc<Line>,
    threads: Vec<JoinHandle<()>>,
}

/// What a member and its two threads share. Whoever holds `writing` and `machine` took them in this order, so that what
/// is sealed first is sent first.
#[derive(Debug)]
struct Line {
    stream: TcpStream,
    writing: Mutex<()>,
    machine: Mutex<Connection>,
    heard: Mutex<VecDeque<Message>>,
    serving: Mutex<BTreeMap<Tag, Arc<Set>>>,
    /// Answers that wait for the writer.
    replies: Mutex<VecDeque<Message>>,
    has_replies: Condvar,
    is_over: AtomicBool,
    is_deaf: AtomicBool,
}

/// A thread that failed has failed its test already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    fn shake_hands(liar: Liar, stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        let config = connection::Config {
            identity: liar.identity.clone(),
            card: liar.signed_card()?,
            mesh: liar.card.mesh,
            psks: vec![liar.psk],
        };
        let mut seed = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let mut machine = Connection::new(Role::Dialler, Arc::new(config), seed, Instant::ZERO);
        let connected = loop {
            transmit(&mut machine, &stream)?;
            let mut bytes = [0; 4_096];
            let read = (&stream).read(&mut bytes)?;
            machine.handle_bytes(&bytes[..read])?;
            match machine.poll_event() {
                Some(Event::Connected(connected)) => break connected,
                Some(Event::Message(_)) | None if read == 0 => bail!("the daemon closed during the handshake"),
                Some(Event::Message(_)) | None => {}
            }
        };
        stream.set_read_timeout(None)?;
        let line = Arc::new(Line::new(stream, machine));
        line.drain_events();
        let threads = [Line::read as fn(&Line), Line::write].map(|work| {
            let line = Arc::clone(&line);
            std::thread::spawn(move || work(&line))
        });
        let (daemon, daemon_card) = (connected.card, connected.signed);
        Ok(Self { liar, daemon, daemon_card, line, threads: threads.into() })
    }

    /// Sends a message, as soon as the daemon reads it.
    pub fn say(&self, message: &Message) -> Result<()> {
        self.line.say(|machine| machine.send(message))
    }

    /// The same with bytes that may be no message.
    pub fn say_bytes(&self, message: &[u8]) -> Result<()> {
        self.line.say(|machine| machine.send_encoded(message))
    }

    /// Gives these sets to whoever asks, until others of their owners come.
    pub fn serve(&self, sets: impl IntoIterator<Item = Arc<Set>>) {
        lock(&self.line.serving).extend(sets.into_iter().map(|set| (Tag::from(&set.owner()), set)));
    }

    /// The same, offered at once.
    pub fn offer(&self, sets: &[Arc<Set>]) -> Result<()> {
        self.serve(sets.iter().cloned());
        let offer = |set: &Arc<Set>| Offer { owner: Tag::from(&set.owner()), version: set.version() };
        self.say(&Message::Offers(sets.iter().map(offer).collect()))
    }

    /// Its own set: `records`, and an edge to the daemon, which makes it reachable.
    pub fn publish(&self, counter: u64, records: impl IntoIterator<Item = Record>) -> Result<Arc<Set>> {
        let edge = edge(self.daemon.key, self.line.stream.peer_addr()?);
        let set = self.liar.set(counter, records.into_iter().chain([edge]))?;
        self.offer(&[Arc::clone(&set)])?;
        Ok(set)
    }

    /// The first message remembered for which `found` has an answer, that answer.
    pub fn heard<T>(&self, found: impl FnMut(&Message) -> Option<T>) -> Option<T> {
        lock(&self.line.heard).iter().find_map(found)
    }

    /// How many remembered messages are like that.
    pub fn count(&self, mut is_counted: impl FnMut(&Message) -> bool) -> usize {
        lock(&self.line.heard).iter().filter(|message| is_counted(message)).count()
    }

    /// Whether everything that was asked for has been sent.
    pub fn is_idle(&self) -> bool {
        lock(&self.line.replies).is_empty()
    }

    /// Forgets what was heard so far.
    pub fn forget(&self) {
        lock(&self.line.heard).clear();
    }

    /// Waits for a message; one remembered will do.
    pub fn wait_for(&self, deadline: Duration, what: &str, mut is_it: impl FnMut(&Message) -> bool) -> Result<()> {
        eventually(deadline, what, || Ok(self.heard(|message| is_it(message).then_some(())).is_some()))?;
        Ok(())
    }

    /// What comes from here on but the next piece fills the daemon's buffers; its end is not noticed any more.
    pub fn stop_reading(&self) {
        self.line.is_deaf.store(true, Ordering::Relaxed);
    }

    /// Whether the connection is closed.
    pub fn is_over(&self) -> bool {
        self.line.is_over.load(Ordering::Relaxed)
    }

    /// Waits until the daemon closes the connection.
    pub fn wait_end(&self, deadline: Duration) -> Result<()> {
        eventually(deadline, "the daemon closes the connection", || Ok(self.is_over()))?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.line.stream.shutdown(std::net::Shutdown::Both);
        self.line.end();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Line {
    fn new(stream: TcpStream, machine: Connection) -> Self {
        Self {
            stream,
            writing: Mutex::new(()),
            machine: Mutex::new(machine),
            heard: Mutex::default(),
            serving: Mutex::default(),
            replies: Mutex::default(),
            has_replies: Condvar::new(),
            is_over: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
        }
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.has_replies.notify_all();
    }

    /// The machine is free while the stream is full, so that the other thread goes on reading.
    fn say(&self, queue: impl FnOnce(&mut Connection) -> Result<(), connection::Error>) -> Result<()> {
        let _writing = lock(&self.writing);
        let records: Vec<u8> = {
            let mut machine = lock(&self.machine);
            queue(&mut machine)?;
            std::iter::from_fn(|| machine.poll_transmit()).flatten().collect()
        };
        (&self.stream).write_all(&records).context("the daemon closed the connection")
    }

    fn read(&self) {
        let mut bytes = vec![0; 64 * 1_024];
        while !self.is_over.load(Ordering::Relaxed) {
            if self.is_deaf.load(Ordering::Relaxed) {
                return;
            }
            match (&self.stream).read(&mut bytes) {
                Ok(0) => break,
                Ok(read) if lock(&self.machine).handle_bytes(&bytes[..read]).is_err() => break,
                Ok(_) => self.drain_events(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.end();
    }

    fn drain_events(&self) {
        let events: Vec<Event> = {
            let mut machine = lock(&self.machine);
            std::iter::from_fn(|| machine.poll_event()).collect()
        };
        for event in events {
            let Event::Message(message) = event else { continue };
            if let Message::Asks(asks) = &message {
                self.answer(asks);
            }
            let mut heard = lock(&self.heard);
            if heard.len() >= HEARD_MAX {
                heard.pop_front();
            }
            heard.push_back(message);
        }
    }

    fn answer(&self, asks: &[Ask]) {
        let serving = lock(&self.serving);
        for set in asks.iter().filter_map(|ask| serving.get(&ask.owner)) {
            let parts = Part::split(set, CardRecord::Include).into_iter();
            lock(&self.replies).extend(parts.map(|part| Message::Part(Arc::new(part))));
        }
        self.has_replies.notify_all();
    }

    /// Answers, and signs of life.
    fn write(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let reply = {
                let replies = lock(&self.replies);
                let waited = self.has_replies.wait_timeout_while(replies, PROBE_INTERVAL, |replies| {
                    replies.is_empty() && !self.is_over.load(Ordering::Relaxed)
                });
                waited.unwrap_or_else(PoisonError::into_inner).0.pop_front()
            };
            if self.say(|machine| machine.send(&reply.unwrap_or(Message::Probe))).is_err() {
                break;
            }
        }
        self.end();
    }
}

fn transmit(machine: &mut Connection, mut stream: &TcpStream) -> Result<()> {
    while let Some(bytes) = machine.poll_transmit() {
        stream.write_all(&bytes)?;
    }
    Ok(())
}

/// A connection that somebody claims to have with `peer`.
pub fn edge(peer: PeerKey, remote: SocketAddr) -> Record {
    Record::new(Content::Edge(Edge { peer, remote, direction: Direction::Outbound, session: Session::Indirect }))
}

/// The same, wherever the peer is.
pub fn edge_to(peer: PeerKey) -> Record {
    edge(peer, (IpAddr::from([192, 168, 48, 250]), MESH_PORT).into())
}
