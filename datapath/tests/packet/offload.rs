//! Super-frames and the real kernel.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use weave_datapath::offload::checksum;
use weave_datapath::offload::layout::{Layout, Transport};
use weave_datapath::offload::segment::{Outgoing, Shape};
use weave_datapath::offload::vnet::{Checksum, Gso, Header, Segmentation};
use weave_netns_tests::probe::{Capture, eventually};
use weave_netns_tests::topology::Topology;

use crate::bridge::{DEADLINE, bridge_with_tap};

const PORT: u16 = 5201;

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 / 7) as u8).collect()
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
