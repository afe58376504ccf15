//! Super-frames between real kernels: what containers send arrives intact, and is cut as the kernel would have cut it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket as StdUdpSocket};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use weave_datapath::offload::checksum;
use weave_datapath::offload::layout::{Layout, Transport};
use weave_datapath::offload::segment::{Outgoing, Shape};
use weave_datapath::offload::vnet::{Checksum, Gso, Header, Segmentation};
use weave_netns_tests::probe::{Capture, eventually};
use weave_netns_tests::topology::Topology;

use crate::bridge::{DEADLINE, bridge_with_tap};
use crate::thread::End;

const STREAM_BYTES: usize = 8 << 20;
const PORT: u16 = 5201;
const DATAGRAM_BYTES: usize = 1_000;
const BURST: usize = 20;

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 / 7) as u8).collect()
}

/// A stream from one station to the other, and its bytes compared.
fn stream(from: &End, to: &End, address: IpAddr) -> Result<()> {
    let listener = to.host.namespace().enter(|| Ok(TcpListener::bind((address, PORT))?))?;
    let connect = || Ok(TcpStream::connect_timeout(&SocketAddr::new(address, PORT), DEADLINE)?);
    let mut client = from.host.namespace().enter(connect)?;
    let (mut server, _) = listener.accept()?;
    server.set_read_timeout(Some(DEADLINE))?;
    let sender = std::thread::spawn(move || client.write_all(&pattern(STREAM_BYTES)));
    let mut received = vec![0; STREAM_BYTES];
    server.read_exact(&mut received).context("the stream ends early")?;
    sender.join().expect("the sender ends")?;
    ensure!(received == pattern(STREAM_BYTES), "the stream was altered");
    Ok(())
}

/// Datagrams from one station to the other, many in one call, each compared.
fn datagrams(from: &End, to: &End, source: IpAddr, address: IpAddr) -> Result<()> {
    let server = to.host.namespace().enter(|| Ok(StdUdpSocket::bind((address, PORT))?))?;
    let client = from.host.namespace().enter(|| Ok(StdUdpSocket::bind((source, 0))?))?;
    server.set_read_timeout(Some(DEADLINE))?;
    setsockopt(&client, sockopt::UdpGsoSegment, &i32::try_from(DATAGRAM_BYTES)?)?;
    let burst = pattern(BURST * DATAGRAM_BYTES - 300);
    let mut buffer = [0; 2_000];
    for round in 0..50 {
        client.send_to(&burst, SocketAddr::new(address, PORT))?;
        for expected in burst.chunks(DATAGRAM_BYTES) {
            let (bytes, _) = server.recv_from(&mut buffer).with_context(|| format!("round {round}"))?;
            ensure!(&buffer[..bytes] == expected, "a datagram was altered or overtaken in round {round}");
        }
    }
    Ok(())
}

fn exchange(a: &End, b: &End) -> Result<()> {
    for family in [End::ipv4, End::ipv6] {
        stream(a, b, family(b))?;
        stream(b, a, family(a))?;
        datagrams(a, b, family(a), family(b))?;
    }
    Ok(())
}

#[test]
fn streams_and_datagrams_cross_in_super_frames() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (End::new(&net, 1)?, End::new(&net, 2)?);
    let (thread_a, _thread_b) = (a.start(&b, 1)?, b.start(&a, 1)?);

    exchange(&a, &b)?;

    let counters = thread_a.status()?.counters;
    assert!(counters.datagrams_out > 3 * counters.frames_in, "few frames were large: {counters:?}");
    Ok(())
}

#[test]
fn checksums_are_right_where_a_frame_leaves_by_a_device_that_cannot_finish_them() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (End::new(&net, 1)?, End::new(&net, 2)?);
    let (_thread_a, _thread_b) = (a.start(&b, 1)?, b.start(&a, 1)?);

    // The kernel finishes and cuts in front of the port, and the station verifies.
    for end in [&a, &b] {
        end.host.namespace().run("ethtool -K port tx off tx-udp-segmentation off")?;
    }
    exchange(&a, &b)?;
    // Stations send finished sums, which stay as they are.
    for end in [&a, &b] {
        end.host.namespace().run("ethtool -K station tx off")?;
    }
    exchange(&a, &b)
}

/// A super-frame with the pseudo-header's sum, as a kernel hands it over.
fn super_frame(v6: bool, transport: Transport, payload: &[u8]) -> Vec<u8> {
    let (protocol, at) = if transport == Transport::Tcp { (6, 16) } else { (17, 6) };
    let mut segment = [&40_000u16.to_be_bytes()[..], &PORT.to_be_bytes()].concat();
    match transport {
        // FIN, PSH, ACK, ECE and CWR, with a timestamp.
        Transport::Tcp => segment.extend([
            0xff, 0xff, 0xf0, 0, 0, 0, 0, 9, 0x80, 0xd9, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2,
        ]),
        Transport::Udp => segment.extend([((payload.len() + 8) as u16).to_be_bytes(), [0; 2]].concat()),
    }
    segment.extend(payload);
    let addresses = if v6 {
        [1, 2].map(|host| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host).octets()).concat()
    } else {
        [1, 2].map(|host| Ipv4Addr::new(10, 32, 0, host).octets()).concat()
    };
    let sum = checksum::fold(checksum::add(protocol + segment.len() as u64, &addresses));
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let network = if v6 {
        let length = (segment.len() as u16).to_be_bytes();
        [&[0x60, 0, 0, 1][..], &length, &[protocol as u8, 64], &addresses].concat()
    } else {
        let length = ((segment.len() + 20) as u16).to_be_bytes();
        let mut header =
            [&[0x45, 0][..], &length, &[0xff, 0xfe, 0x40, 0, 64, protocol as u8, 0, 0], &addresses].concat();
        let sum = checksum::finish(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        header
    };
    let ethertype = if v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    [&[0xff; 6][..], &[2, 0, 0, 0, 2, 2], &ethertype, &network, &segment].concat()
}

/// Our segments with their sums finished.
fn cut(header: Header, frame: &[u8]) -> Result<Vec<Vec<u8>>> {
    let Shape::Super(cut) = Outgoing::parse(header, frame)?.shape else { anyhow::bail!("not a super-frame") };
    Ok(cut.segments(frame, usize::MAX).map(|segment| segment.finished()).collect())
}

#[test]
fn a_super_frame_is_cut_as_the_kernel_cuts_it() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let tap = bridge_with_tap(&host)?;
    host.namespace().run("ethtool -K port tx off tx-udp-segmentation off gso off")?;
    for (v6, transport) in [false, true].into_iter().flat_map(|v6| [(v6, Transport::Tcp), (v6, Transport::Udp)]) {
        let frame = super_frame(v6, transport, &pattern(9_999));
        let layout = Layout::parse(&frame).context("the frame has no headers")?;
        let kind = match (transport, v6) {
            (Transport::Udp, _) => Gso::Udp,
            (Transport::Tcp, false) => Gso::Tcp4Ecn,
            (Transport::Tcp, true) => Gso::Tcp6Ecn,
        };
        let header = Header {
            checksum: Checksum::Needed { start: layout.transport_at as u16, offset: layout.checksum_offset() as u16 },
            segmentation: Some(Segmentation { kind, header_bytes: layout.payload_at as u16, size: 1_200 }),
        };
        let expected = cut(header, &frame)?;
        let capture = Capture::start(host.namespace(), "station")?;

        tap.send(header, &frame)?;

        let wanted = |seen: &[u8]| expected.iter().any(|segment| segment == seen);
        let what = format!("all segments, v6 {v6}, {transport:?}");
        eventually(DEADLINE, &what, || Ok(capture.count(wanted) == expected.len()))?;
    }
    Ok(())
}
