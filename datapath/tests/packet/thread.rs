//! Two packet threads with hand-made tables carry frames between two bridges.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;

use anyhow::Result;
use weave_datapath::drops::Drop as Dropped;
use weave_datapath::engine::{Config, Engine, Event};
use weave_datapath::linux::clock::Clock;
use weave_datapath::linux::packet::{Devices, PacketThread, Status, StatusError};
use weave_datapath::linux::packet_socket::PacketSocket;
use weave_datapath::linux::tap::Tap;
use weave_datapath::linux::udp::UdpSocket;
use weave_datapath::sleeve::seal::Cipher;
use weave_datapath::sleeve::session::REKEY_AFTER;
use weave_datapath::tables::{Carrier, FastPath, Local, PeerEntry, Standing, Tables, Why};
use weave_mesh::card::{Card, SignedCard};
use weave_mesh::identity::{Identity, Scheme};
use weave_mesh::name::{MacAddr, MeshId, PeerName};
use weave_netns_tests::frame::ethernet;
use weave_netns_tests::probe::{self, Capture, eventually};
use weave_netns_tests::topology::{Host, Topology};

use crate::bridge::{DEADLINE, EXPERIMENTAL, bridge_with_tap, device, wait_forwarding};

const PORT: u16 = 6783;
const MTU: u16 = 1376;

/// One end: a host, who it is, and its station where a container would be.
pub(crate) struct End {
    pub(crate) host: Host,
    number: u8,
    identity: Identity,
}

impl End {
    pub(crate) fn new(net: &Topology, number: u8) -> Result<Self> {
        let host = net.host()?;
        // What stays when a thread ends: the bridge, its port and the TAP.
        drop(bridge_with_tap(&host)?);
        // The bridge, which has no address here, would answer for the station's.
        for line in [
            "sysctl -qw net.ipv4.conf.all.arp_ignore=1".to_owned(),
            format!("ip link set station address 02:00:00:00:01:{number:02x} mtu {MTU}"),
            format!("ip address add 10.32.0.{number}/24 dev station"),
            format!("ip address add fd00::{number:x}/64 dev station nodad"),
        ] {
            host.namespace().run(&line)?;
        }
        Ok(Self { host, number, identity: Identity::from_secret_bytes(Scheme::Ed25519, &[number; 64]) })
    }

    fn bridge_mac(&self) -> MacAddr {
        PeerName::derived_from(&self.identity.key().0).mac()
    }

    fn station(&self) -> MacAddr {
        MacAddr([2, 0, 0, 0, 1, self.number])
    }

    pub(crate) fn ipv4(&self) -> IpAddr {
        Ipv4Addr::new(10, 32, 0, self.number).into()
    }

    pub(crate) fn ipv6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.address().into(), PORT)
    }

    fn card(&self, incarnation: u64) -> SignedCard {
        let card = Card {
            mesh: MeshId::of("test"),
            key: self.identity.key(),
            noise_key: self.identity.noise_key(),
            knock: self.identity.knock(),
            name: PeerName::derived_from(&self.identity.key().0),
            nickname: format!("h{}", self.number),
            bridge_mac: self.bridge_mac(),
            port: PORT,
            addresses: vec![self.address()],
            trusted_subnets: Vec::new(),
            instance_id: String::new(),
            machine: [self.number; 32],
            incarnation,
        };
        SignedCard::sign(&card, &self.identity).expect("a short card")
    }

    fn tables(&self, peer: &Self, incarnation: u64) -> Arc<Tables> {
        let entry = PeerEntry {
            name: PeerName::derived_from(&peer.identity.key().0),
            noise_key: peer.identity.noise_key(),
            knock: peer.identity.knock(),
            incarnation: 1,
            addresses: vec![peer.address()],
            bridge_mac: peer.bridge_mac(),
            relays: Vec::new(),
            standing: Standing::Neighbour,
            applied: Carrier::Sleeve,
            fast: FastPath::Forbidden(Why::SwitchedOff),
        };
        let key = peer.identity.key();
        Arc::new(Tables {
            local: Local {
                key: self.identity.key(),
                card: self.card(incarnation),
                bridge_mac: self.bridge_mac(),
                macs: BTreeSet::from([self.bridge_mac(), self.station()]),
                addresses: vec![self.address().ip()],
            },
            peers: BTreeMap::from([(key, entry)]),
            macs: BTreeMap::from([(peer.bridge_mac(), key), (peer.station(), key)]),
        })
    }

    /// Starts the thread as a daemon does. A later incarnation is a restarted daemon.
    pub(crate) fn start(&self, peer: &Self, incarnation: u64) -> Result<Running> {
        let clock = Clock::start();
        let config = Config {
            identity: self.identity.clone(),
            mesh: MeshId::of("test"),
            psks: vec![[9; 32]],
            ciphers: Cipher::of_this_machine(),
            mtu: MTU,
            rekey_after: REKEY_AFTER,
            timestamp_floor: incarnation,
        };
        let tables = self.tables(peer, incarnation);
        let seed = [self.number + incarnation as u8; 32];
        let engine = Engine::new(config, Arc::clone(&tables), seed, clock.now(), clock.wall());
        let (thread, events) = self.host.namespace().enter(|| {
            let devices = Devices {
                tap: Tap::open(&device("weave-tap"))?,
                udp: UdpSocket::bind(None, PORT)?,
                heartbeats: PacketSocket::open(device("weave"), device("weave-vx"))?,
            };
            Ok(PacketThread::spawn(engine, devices, MTU, clock)?)
        })?;
        wait_forwarding(&self.host)?;
        thread.set_tables(tables);
        Ok(Running { thread, events, runtime: tokio::runtime::Builder::new_current_thread().build()? })
    }

    fn frame_to(&self, peer: &Self, payload: &[u8]) -> Vec<u8> {
        ethernet(peer.station().0, self.station().0, EXPERIMENTAL, payload)
    }
}

pub(crate) struct Running {
    thread: PacketThread,
    events: tokio::sync::mpsc::Receiver<Event>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    pub(crate) fn status(&self) -> Result<Status, StatusError> {
        self.runtime.block_on(self.thread.status())
    }
}

fn send(end: &End, frame: &[u8]) -> Result<()> {
    probe::PacketSocket::open(end.host.namespace(), "station")?.send(frame)
}

#[test]
fn a_frame_crosses_two_threads_and_an_answer_comes_back() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (End::new(&net, 1)?, End::new(&net, 2)?);
    let (_thread_a, mut thread_b) = (a.start(&b, 1)?, b.start(&a, 1)?);
    let captures = [&a, &b].map(|end| Capture::start(end.host.namespace(), "station"));
    let [at_a, at_b] = captures;
    let (there, back) = (a.frame_to(&b, &[1; 1300]), b.frame_to(&a, &[2; 60]));

    send(&a, &there)?;
    at_b?.wait("the frame", DEADLINE, |frame| frame == there)?;
    send(&b, &back)?;
    at_a?.wait("the answer", DEADLINE, |frame| frame == back)?;

    eventually(DEADLINE, "control hears of the session", || {
        Ok(matches!(thread_b.events.try_recv(), Ok(Event::SessionUp { peer, .. }) if peer == a.identity.key()))
    })?;
    let status = thread_b.status()?;
    assert_eq!(status.paths.len(), 1);
    assert!(status.counters.datagrams_in > 0 && status.counters.frames_out > 0, "{:?}", status.counters);
    Ok(())
}

#[test]
fn frames_cross_again_after_a_thread_was_replaced() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (End::new(&net, 1)?, End::new(&net, 2)?);
    let (_thread_a, thread_b) = (a.start(&b, 1)?, b.start(&a, 1)?);
    let at_b = Capture::start(b.host.namespace(), "station")?;
    let before = a.frame_to(&b, b"before");
    send(&a, &before)?;
    at_b.wait("the frame before", DEADLINE, |frame| frame == before)?;

    thread_b.thread.stop();
    // A program that another test is starting may hold a copy of the socket for an instant.
    let mut again = None;
    eventually(DEADLINE, "a second thread starts", || {
        again = b.start(&a, 2).ok();
        Ok(again.is_some())
    })?;
    let after = a.frame_to(&b, b"after");

    eventually(DEADLINE, "a frame after the restart arrives", || {
        send(&a, &after)?;
        Ok(at_b.count(|frame| frame == after) > 0)
    })?;
    Ok(())
}

#[test]
fn garbage_is_counted_and_harms_nobody() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (End::new(&net, 1)?, End::new(&net, 2)?);
    let (_thread_a, thread_b) = (a.start(&b, 1)?, b.start(&a, 1)?);
    let at_b = Capture::start(b.host.namespace(), "station")?;
    let stranger = a.host.namespace().enter(|| Ok(StdUdpSocket::bind("0.0.0.0:0")?))?;
    for length in 0..200 {
        stranger.send_to(&vec![length as u8; length * 50], b.address())?;
    }

    eventually(DEADLINE, "garbage is counted", || Ok(thread_b.status()?.drops.of(Dropped::MalformedDatagram) > 100))?;
    let frame = a.frame_to(&b, b"still here");
    send(&a, &frame)?;
    at_b.wait("a frame after the garbage", DEADLINE, |seen| seen == frame)?;
    Ok(())
}

#[test]
fn a_tap_deleted_under_the_thread_is_made_again() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (End::new(&net, 1)?, End::new(&net, 2)?);
    let (_thread_a, thread_b) = (a.start(&b, 1)?, b.start(&a, 1)?);
    let at_b = Capture::start(b.host.namespace(), "station")?;

    b.host.namespace().run("ip link del weave-tap")?;
    eventually(DEADLINE, "the TAP is back", || {
        Ok(b.host.namespace().run("ip link set weave-tap master weave up").is_ok())
    })?;
    let frame = a.frame_to(&b, b"through the new one");

    eventually(DEADLINE, "a frame arrives", || {
        send(&a, &frame)?;
        Ok(at_b.count(|seen| seen == frame) > 0)
    })?;
    assert!(thread_b.status()?.counters.read_errors > 0);
    Ok(())
}
