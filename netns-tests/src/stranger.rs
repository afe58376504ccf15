//! Somebody on the underlay who is no member: what a TCP connection tells him, and handshake datagrams in any number.
//!
//! ```text
//!   stranger ── TCP ──► listener's static key, to anybody; its card, to whoever has the password
//!            ── UDP 6783 from addresses that nobody has ──► forged first messages of handshakes
//! ```

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use weave_datapath::sleeve::cookie::ResponderKeys;
use weave_datapath::sleeve::packet::{Index, encode_initiation};
use weave_mesh::card::{Card, SignedCard};
use weave_mesh::connection::{Config, Connection, Event, Role};
use weave_mesh::identity::{Identity, Knock, NoiseKey, Scheme};
use weave_mesh::name::{MeshId, PeerName};
use weave_mesh::noise;
use weave_mesh::time;

use crate::frame::{self, Mac};
use crate::probe::PacketSocket;
use crate::topology::Host;

/// How the mesh's TCP connections open; see `docs/mesh.md`.
const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";
const HEADER: &[u8] = b"weave\x03\x03";
const PROLOGUE: &[u8] = &[3, 3, 3, 3];
/// How long a listener may take to answer on a busy machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Noise octets of a forged message: about as many as a real one has.
const NOISE_BYTES: usize = 400;

/// The static key of the daemon at `listener`, which a stranger without any password learns from its first answer.
pub fn static_key(stranger: &Host, listener: Ipv4Addr) -> Result<NoiseKey> {
    let mut stream = dial(stranger, listener)?;
    let builder = noise::builder(PATTERN, &mut ChaCha20Rng::from_seed([1; 32]))?;
    let mut noise = builder.prologue(PROLOGUE)?.local_private_key(&[2; 32])?.build_initiator()?;
    let (mut message, mut payload) = ([0; 512], [0; 512]);
    let length = noise.write_message(&[], &mut message)?;
    stream.write_all(&[HEADER, &u16::try_from(length)?.to_be_bytes(), &message[..length]].concat())?;
    let mut header = [0; HEADER.len() + 2];
    stream.read_exact(&mut header)?;
    let length = usize::from(u16::from_be_bytes([header[HEADER.len()], header[HEADER.len() + 1]]));
    let answer = message.get_mut(..length).context("answer is too long")?;
    stream.read_exact(answer)?;
    noise.read_message(answer, &mut payload)?;
    noise.get_remote_static().context("no static key in the answer")?.try_into().context("a key has 32 octets")
}

/// The card of the daemon at `listener`, which everybody gets who visits a mesh without a password.
pub fn visit(stranger: &Host, listener: Ipv4Addr) -> Result<Card> {
    let mut stream = dial(stranger, listener)?;
    let mut machine = Connection::new(Role::Dialler, visitor()?, [3; 32], time::Instant::ZERO);
    let mut buffer = [0; 512];
    loop {
        while let Some(bytes) = machine.poll_transmit() {
            stream.write_all(&bytes)?;
        }
        if let Some(Event::Connected(connected)) = machine.poll_event() {
            return Ok(connected.card);
        }
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the listener hung up");
        machine.handle_bytes(&buffer[..length])?;
    }
}

fn dial(stranger: &Host, listener: Ipv4Addr) -> Result<TcpStream> {
    let stream = stranger.namespace().enter(|| {
        let address = SocketAddr::from((listener, 6783));
        TcpStream::connect_timeout(&address, ANSWER_TIMEOUT).context("cannot dial")
    })?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

fn visitor() -> Result<Arc<Config>> {
    let identity = Identity::from_secret_bytes(Scheme::Ed25519, &[4; 64]);
    let (mesh, name) = (MeshId::of("weave"), PeerName::derived_from(&identity.key().0));
    let card = Card {
        mesh,
        key: identity.key(),
        noise_key: identity.noise_key(),
        knock: identity.knock(),
        name,
        nickname: "visitor".to_owned(),
        bridge_mac: name.mac(),
        port: 6783,
        addresses: Vec::new(),
        trusted_subnets: Vec::new(),
        instance_id: String::new(),
        machine: [4; 32],
        incarnation: 1,
    };
    let card = SignedCard::sign(&card, &identity)?;
    Ok(Arc::new(Config { identity, card, mesh, psks: vec![[0; 32]] }))
}

/// First messages of handshakes, from many addresses of the victim's own network that nobody has.
#[derive(Debug)]
pub struct Flood {
    socket: PacketSocket,
    frames: Vec<Vec<u8>>,
}

impl Flood {
    /// To the daemon on `victim`, as good as somebody can make them who knows `noise_key` and `knock`.
    pub fn new(stranger: &Host, victim: &Host, noise_key: &NoiseKey, knock: &Knock) -> Result<Self> {
        let mac = victim.namespace().run("cat /sys/class/net/eth0/address")?;
        let mac = frame::parse_mac(mac.trim()).context("eth0 has no MAC address")?;
        let keys = ResponderKeys::of(noise_key, knock);
        let frames = (100..250).map(|last| forged(&keys, last, mac, victim.address())).collect();
        Ok(Self { socket: PacketSocket::open(stranger.namespace(), "eth0")?, frames })
    }

    /// Sends `per_second` of them while `work` is done; what that returns, and how many were sent.
    pub fn during<T: Send>(&self, per_second: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<(T, u32)> {
        thread::scope(|scope| {
            let working = scope.spawn(work);
            let (begin, mut sent) = (Instant::now(), 0);
            while !working.is_finished() {
                let due = begin.elapsed().as_secs_f64() * f64::from(per_second);
                while f64::from(sent) < due && !working.is_finished() {
                    self.send(sent as usize)?;
                    sent += 1;
                }
                thread::yield_now();
            }
            let Ok(result) = working.join() else { bail!("the work panicked") };
            Ok((result?, sent))
        })
    }

    /// A full queue of the device is part of a flood.
    fn send(&self, number: usize) -> Result<()> {
        let sent = self.socket.send(&self.frames[number % self.frames.len()]);
        let is_full = |error: &anyhow::Error| {
            error.downcast_ref::<nix::errno::Errno>().is_some_and(|errno| *errno == nix::errno::Errno::ENOBUFS)
        };
        sent.or_else(|error| if is_full(&error) { Ok(()) } else { Err(error) })
    }
}

fn forged(keys: &ResponderKeys, last: u8, mac: Mac, victim: Ipv4Addr) -> Vec<u8> {
    let mut message = encode_initiation(Index(last.into()), &[last; NOISE_BYTES]);
    keys.append_macs(&mut message, None);
    let source = Ipv4Addr::new(192, 168, 48, last);
    frame::ethernet(mac, [2, 6, 6, 6, 6, last], frame::IPV4, &frame::udp((source, 6783), (victim, 6783), &message))
}
