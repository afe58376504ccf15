//! One host floods many others by sleeve.
//!
//! ```text
//!   h1 ── bursts to each in turn ──► switch ──► h2, h3, … h51
//! ```

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Result;
use weave_netns_tests::probe::{eventually, ping_eventually};
use weave_netns_tests::scene::Scene;
use weave_netns_tests::weave::Launch;

const PEERS: usize = 50;
const BURST: usize = 16;
const ROUNDS: usize = 40;
/// Fills the overlay's MTU of 1376.
const DATAGRAM: usize = 1_348;
const PORT: u16 = 7_000;
/// How long a mesh of so many debug builds may take on two cores; where the table stays small, one of them waits a minute.
const SETTLED: Duration = Duration::from_secs(240);

/// The ARP table of the kernel, one for all namespaces, with room for all hosts to know each other until this is dropped.
struct NeighbourTable {
    limit: String,
}

impl NeighbourTable {
    /// Entries beyond this many are refused.
    const LIMIT: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";

    fn enlarge() -> Result<Self> {
        let table = Self { limit: fs::read_to_string(Self::LIMIT)? };
        // A machine that does not let us is slower: entries come free as others age.
        let _ = fs::write(Self::LIMIT, "16384");
        Ok(table)
    }
}

impl Drop for NeighbourTable {
    fn drop(&mut self) {
        let _ = fs::write(Self::LIMIT, &self.limit);
    }
}

#[test]
fn bursts_to_fifty_peers_starve_none() -> Result<()> {
    let _table = NeighbourTable::enlarge()?;
    let scene = Scene::new(1 + PEERS, &Launch::new().argument("--no-fastdp"))?;
    let receivers = (1..=PEERS).map(|at| listen(&scene, at)).collect::<Result<Vec<_>>>()?;
    for at in 1..=PEERS {
        ping_eventually(&scene.containers[0], scene.address(at), SETTLED)?;
    }

    let sender = scene.containers[0].namespace().enter(|| Ok(UdpSocket::bind(("0.0.0.0", 0))?))?;
    let mut counts = [0; PEERS];
    let begin = Instant::now();
    for _ in 0..ROUNDS {
        for at in 1..=PEERS {
            for _ in 0..BURST {
                sender.send_to(&[7; DATAGRAM], (scene.address(at), PORT))?;
            }
            count(&receivers, &mut counts)?;
        }
    }
    let quiet = eventually(Duration::from_secs(10), "all that is underway arrives", || {
        let before = counts;
        std::thread::yield_now();
        count(&receivers, &mut counts)?;
        Ok(before == counts && begin.elapsed() > Duration::from_secs(1))
    });
    quiet?;

    let (least, most) = counts.iter().fold((usize::MAX, 0), |(least, most), &n| (least.min(n), most.max(n)));
    assert!(most > 0 && least * 2 >= most, "{least} to one peer and {most} to another: {counts:?}");
    for weave in &scene.weaves[1..4] {
        assert!(!scene.weaves[0].path_to(weave)?.contains("plain sends since"), "a flood is no fault of a path");
    }
    Ok(())
}

fn listen(scene: &Scene, at: usize) -> Result<UdpSocket> {
    let address = scene.address(at);
    scene.containers[at].namespace().enter(move || {
        let socket = UdpSocket::bind((address, PORT))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}

/// Counts what has arrived at each.
fn count(receivers: &[UdpSocket], counts: &mut [usize; PEERS]) -> Result<()> {
    let mut buffer = [0; 2_000];
    for (socket, count) in receivers.iter().zip(counts) {
        loop {
            match socket.recv(&mut buffer) {
                Ok(_) => *count += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
