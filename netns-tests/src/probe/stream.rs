//! Traffic that keeps count: a TCP stream that checks every byte and measures its longest gap, and numbered datagrams that
//! miss nobody's absence.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::topology::Container;

/// What became of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Payload bytes received.
    pub bytes: u64,
    /// From the first to the last byte.
    pub elapsed: Duration,
    /// The longest time in which nothing arrived.
    pub longest_gap: Duration,
    /// Datagrams sent and never received; always zero for TCP.
    pub lost: u64,
    /// Datagrams received more than once; always zero for TCP.
    pub doubled: u64,
    /// When the first one that was lost was sent, and the last, since the beginning.
    pub lost_between: Option<(Duration, Duration)>,
}

impl Report {
    /// Payload speed.
    pub fn megabits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// A TCP stream from one container to another, with a pattern that shows any byte lost, doubled or changed.
#[derive(Debug)]
pub struct TcpStreamProbe {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<Result<()>>,
    receiver: JoinHandle<Result<Report>>,
}

/// How fast a stream is sent.
#[derive(Debug, Clone, Copy)]
enum Speed {
    Full,
    Paced,
}

/// Between two patterns of a paced stream: about 50 Mbit/s.
const PATTERN_PACE: Duration = Duration::from_millis(10);

impl TcpStreamProbe {
    /// Connects and begins to send as fast as it goes.
    pub fn start(from: &Container, to: &Container, address: Ipv4Addr) -> Result<Self> {
        Self::start_at(Speed::Full, from, to, address)
    }

    /// Connects and begins to send at about 50 Mbit/s, which leaves room in the queues of a busy machine: beside it, a
    /// datagram that is lost was lost by the network.
    pub fn start_paced(from: &Container, to: &Container, address: Ipv4Addr) -> Result<Self> {
        Self::start_at(Speed::Paced, from, to, address)
    }

    fn start_at(speed: Speed, from: &Container, to: &Container, address: Ipv4Addr) -> Result<Self> {
        let listener = to.namespace().enter(|| Ok(TcpListener::bind((address, 0))?))?;
        let target = listener.local_addr()?;
        let outgoing = from.namespace().enter(|| {
            TcpStream::connect_timeout(&target, Duration::from_secs(5)).with_context(|| format!("dialling {target}"))
        })?;
        let (incoming, _) = listener.accept()?;
        incoming.set_read_timeout(Some(Duration::from_secs(30)))?;
        outgoing.set_write_timeout(Some(Duration::from_secs(30)))?;
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&received));
        let sender = std::thread::spawn(move || send_pattern(outgoing, speed, &stopped));
        let receiver = std::thread::spawn(move || check_pattern(incoming, &counted));
        Ok(Self { stop, received, sender, receiver })
    }

    /// Bytes that have arrived so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends the stream in good order and reports on it.
    pub fn finish(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        self.receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?
    }
}

/// A prime length, so that no multiple of it is a usual buffer size: a shifted pattern never looks right.
const PATTERN_LENGTH: usize = 65_521;

fn pattern() -> Vec<u8> {
    (0..PATTERN_LENGTH).map(|index| (index % 251) as u8).collect()
}

fn send_pattern(mut stream: TcpStream, speed: Speed, stop: &AtomicBool) -> Result<()> {
    let pattern = pattern();
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&pattern).context("the stream broke at its sender")?;
        if matches!(speed, Speed::Paced) {
            std::thread::sleep(PATTERN_PACE);
        }
    }
    Ok(())
}

fn check_pattern(mut stream: TcpStream, received: &AtomicU64) -> Result<Report> {
    let pattern = pattern();
    let mut buffer = vec![0; PATTERN_LENGTH];
    let begin = Instant::now();
    let (mut last, mut longest_gap, mut bytes) = (begin, Duration::ZERO, 0);
    loop {
        let length = stream.read(&mut buffer).context("the stream broke at its receiver")?;
        let arrived = Instant::now();
        longest_gap = longest_gap.max(arrived - last);
        last = arrived;
        if length == 0 {
            return Ok(Report {
                bytes,
                elapsed: arrived - begin,
                longest_gap,
                lost: 0,
                doubled: 0,
                lost_between: None,
            });
        }
        let offset = (bytes % PATTERN_LENGTH as u64) as usize;
        let first = length.min(PATTERN_LENGTH - offset);
        let right =
            buffer[..first] == pattern[offset..offset + first] && buffer[first..length] == pattern[..length - first];
        ensure!(right, "a byte changed after {bytes}");
        bytes += length as u64;
        received.store(bytes, Ordering::Relaxed);
    }
}

/// Numbered datagrams from one container to another at a steady pace.
#[derive(Debug)]
pub struct UdpStreamProbe {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<Received>>,
}

#[derive(Debug)]
struct Received {
    numbers: BTreeSet<u64>,
    doubled: u64,
    longest_gap: Duration,
    elapsed: Duration,
}

/// Between two datagrams.
const PACE: Duration = Duration::from_millis(1);
/// How long after the last datagram a receiver waits for stragglers.
const STRAGGLERS: Duration = Duration::from_millis(400);
const DATAGRAM_LENGTH: usize = 200;

impl UdpStreamProbe {
    /// Begins to send.
    pub fn start(from: &Container, to: &Container, address: Ipv4Addr) -> Result<Self> {
        let incoming = to.namespace().enter(|| Ok(UdpSocket::bind((address, 0))?))?;
        let target = incoming.local_addr()?;
        let outgoing = from.namespace().enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, ended) = (Arc::clone(&stop), Arc::clone(&stop));
        let sender = std::thread::spawn(move || send_numbers(&outgoing, target, &stopped));
        let receiver = std::thread::spawn(move || receive_numbers(&incoming, &ended));
        Ok(Self { stop, sender, receiver })
    }

    /// Stops sending, waits for stragglers and reports.
    pub fn finish(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        let received = self.receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
        let arrived = received.numbers.len() as u64;
        let mut missing = (0..sent).filter(|number| !received.numbers.contains(number));
        Ok(Report {
            bytes: arrived * DATAGRAM_LENGTH as u64,
            elapsed: received.elapsed,
            longest_gap: received.longest_gap,
            lost: sent - arrived,
            doubled: received.doubled,
            lost_between: missing.next().map(|first| (due(first), due(missing.next_back().unwrap_or(first)))),
        })
    }
}

/// When a datagram is sent, since the beginning.
fn due(number: u64) -> Duration {
    PACE * u32::try_from(number).unwrap_or(u32::MAX)
}

fn send_numbers(socket: &UdpSocket, target: SocketAddr, stop: &AtomicBool) -> Result<u64> {
    let begin = Instant::now();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let mut datagram = [0; DATAGRAM_LENGTH];
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        socket.send_to(&datagram, target).context("cannot send a numbered datagram")?;
        number += 1;
        std::thread::sleep(due(number).saturating_sub(begin.elapsed()));
    }
    Ok(number)
}

fn receive_numbers(socket: &UdpSocket, ended: &AtomicBool) -> Result<Received> {
    socket.set_read_timeout(Some(STRAGGLERS))?;
    let begin = Instant::now();
    let mut received =
        Received { numbers: BTreeSet::new(), doubled: 0, longest_gap: Duration::ZERO, elapsed: Duration::ZERO };
    let mut last: Option<Instant> = None;
    let mut datagram = [0; DATAGRAM_LENGTH];
    loop {
        match socket.recv(&mut datagram) {
            Ok(DATAGRAM_LENGTH) => {
                let arrived = Instant::now();
                received.longest_gap = received.longest_gap.max(arrived - last.unwrap_or(arrived));
                last = Some(arrived);
                received.elapsed = arrived - begin;
                let number = u64::from_be_bytes(datagram[..8].try_into()?);
                received.doubled += u64::from(!received.numbers.insert(number));
            }
            Ok(length) => bail!("a datagram of {length} bytes"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if ended.load(Ordering::Relaxed) {
                    return Ok(received);
                }
            }
            Err(error) => return Err(error).context("cannot receive a numbered datagram"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{eventually, throughout};
    use crate::topology::{Host, Topology};

    const ENOUGH: Duration = Duration::from_secs(10);

    /// Two containers on a bridge made by hand.
    ///
    /// ```text
    ///   eth0 10.0.0.1 ── v1 [br0] v2 ── eth0 10.0.0.2
    /// ```
    fn by_hand(host: &Host) -> Result<[Container; 2]> {
        host.namespace().run("ip link add br0 up type bridge")?;
        let make = |number: u8| -> Result<Container> {
            let container = host.container()?;
            let (outside, inside) = (host.namespace(), container.namespace());
            outside.run(&format!("ip link add v{number} type veth peer name eth0 netns {}", inside.name()))?;
            outside.run(&format!("ip link set v{number} master br0 up"))?;
            inside.run(&format!("ip addr add 10.0.0.{number}/24 dev eth0"))?;
            inside.run("ip link set eth0 up")?;
            Ok(container)
        };
        Ok([make(1)?, make(2)?])
    }

    const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn an_undisturbed_stream_is_whole() -> Result<()> {
        let net = Topology::new()?;
        let host = net.host()?;
        let [a, b] = by_hand(&host)?;
        let stream = TcpStreamProbe::start(&a, &b, SECOND)?;
        let numbers = UdpStreamProbe::start(&a, &b, SECOND)?;

        eventually(ENOUGH, "the stream runs", || Ok(stream.received() > 5_000_000))?;

        let (stream, numbers) = (stream.finish()?, numbers.finish()?);
        assert!(stream.bytes > 5_000_000);
        assert_eq!((numbers.lost, numbers.doubled), (0, 0));
        Ok(())
    }

    #[test]
    fn an_interruption_shows_as_gap_and_loss() -> Result<()> {
        let net = Topology::new()?;
        let host = net.host()?;
        let [a, b] = by_hand(&host)?;
        let stream = TcpStreamProbe::start(&a, &b, SECOND)?;
        let numbers = UdpStreamProbe::start(&a, &b, SECOND)?;
        eventually(ENOUGH, "the stream runs", || Ok(stream.received() > 1_000_000))?;
        let interruption = Duration::from_millis(400);

        host.namespace().run("bridge link set dev v2 state 0")?;
        throughout(interruption, "nothing passes", || Ok(true))?;
        host.namespace().run("bridge link set dev v2 state 3")?;
        let before = stream.received();
        eventually(ENOUGH, "it goes on", || Ok(stream.received() > before + 1_000_000))?;

        let (stream, numbers) = (stream.finish()?, numbers.finish()?);
        assert!(stream.longest_gap >= interruption && numbers.longest_gap >= interruption, "{stream:?} {numbers:?}");
        assert!(numbers.lost > 300 && numbers.lost < 2_000, "{numbers:?}");
        Ok(())
    }
}
