//! The first packet between two containers that have just been attached.
//!
//! ```text
//!   h1 ── a0 … a19  attached at the same time, all of them  b0 … b19 ── h2
//!         ai ── one datagram, at once ──► bi, and a TCP connection back
//! ```

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weave_netns_tests::probe::at_once;
use weave_netns_tests::scene::Scene;
use weave_netns_tests::topology::Container;
use weave_netns_tests::weave::{Launch, Weave};

const PAIRS: u8 = 20;
const ROUNDS: u8 = 10;
const PORT: u16 = 7_000;
/// A lost SYN comes again after a second.
const WITHOUT_RETRANSMISSION: Duration = Duration::from_millis(900);
/// How long a datagram may be under way on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn no_first_packet_is_lost_on_the_fast_path() -> Result<()> {
    no_first_packet_is_lost("fastdp", &Launch::new())
}

#[test]
fn no_first_packet_is_lost_by_sleeve() -> Result<()> {
    no_first_packet_is_lost("sleeve", &Launch::new().argument("--no-fastdp"))
}

fn no_first_packet_is_lost(carrier: &str, launch: &Launch) -> Result<()> {
    let scene = Scene::new(2, launch)?;
    scene.wait_carrier(carrier)?;
    let pairs: Vec<[Container; 2]> =
        (0..PAIRS).map(|_| Ok([scene.hosts[0].container()?, scene.hosts[1].container()?])).collect::<Result<_>>()?;
    let (mut sent, mut lost, mut slow) = (0, 0, Vec::new());
    for round in 0..ROUNDS {
        let outcomes = at_once((0..).zip(&pairs), |(number, pair)| meet(&scene.weaves, round, number, pair))?;
        for Outcome { arrived, connected } in outcomes {
            sent += 1;
            lost += u32::from(!arrived);
            slow.extend(Some(connected).filter(|took| *took >= WITHOUT_RETRANSMISSION));
        }
    }
    assert_eq!((sent, lost), (u32::from(PAIRS) * u32::from(ROUNDS), 0), "{carrier}");
    assert!(slow.is_empty(), "{carrier}: {slow:?}");
    Ok(())
}

/// What became of a first datagram, and how long a connection took.
struct Outcome {
    arrived: bool,
    connected: Duration,
}

/// Two containers are attached, one datagram goes one way, and they leave. The direction alternates.
fn meet(weaves: &[Weave], round: u8, number: u8, pair: &[Container; 2]) -> Result<Outcome> {
    let addresses = [1, 2].map(|host| Ipv4Addr::new(10, 40 + host, round, number + 1));
    let attach = |index: usize| weaves[index].attach(&pair[index], &format!("{}/12", addresses[index]));
    at_once([0, 1], attach)?;
    let (from, to) = if round.is_multiple_of(2) { (0, 1) } else { (1, 0) };

    let outcome = talk(&pair[from], &pair[to], addresses[to], addresses[from])?;

    for (weave, container) in weaves.iter().zip(pair) {
        weave.run(&["detach", &container.target()])?;
    }
    Ok(outcome)
}

fn talk(from: &Container, to: &Container, there: Ipv4Addr, here: Ipv4Addr) -> Result<Outcome> {
    let (receiver, sender) = (bound(to, there)?, bound(from, here)?);
    receiver.set_read_timeout(Some(PATIENCE))?;
    let listener = from.namespace().enter(|| Ok(TcpListener::bind((here, PORT))?))?;
    sender.send_to(b"first", (there, PORT))?;
    let arrived = match receiver.recv(&mut [0; 16]) {
        Ok(length) => length == 5,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => return Err(error.into()),
    };
    let begin = Instant::now();
    let stream =
        to.namespace().enter(|| Ok(TcpStream::connect_timeout(&SocketAddr::from((here, PORT)), PATIENCE * 5)?));
    let connected = begin.elapsed();
    ensure!(stream.is_ok() && listener.accept().is_ok(), "{stream:?}");
    Ok(Outcome { arrived, connected })
}

fn bound(container: &Container, address: Ipv4Addr) -> Result<UdpSocket> {
    container.namespace().enter(|| Ok(UdpSocket::bind((address, PORT))?))
}
