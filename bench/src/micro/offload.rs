//! Cutting a super-frame into segments, and merging them again, without a cipher.

use std::ops::Range;

use weave_datapath::offload::coalesce::{Deliveries, Merge};
use weave_datapath::offload::segment::{Cut, Outgoing, Segment, Shape};
use weave_datapath::offload::vnet::{Checksum, Gso, Header, Segmentation};

use super::work::Work;

/// Ethernet, IPv4 and TCP without options.
const HEADERS_BYTES: usize = 54;
const TRANSPORT_AT: usize = 34;
/// What fits an overlay of 1376, and of 8877.
const SEGMENTS: [(usize, usize); 2] = [(1_336, 44), (8_837, 7)];

pub(super) fn all() -> Vec<Work> {
    SEGMENTS.into_iter().flat_map(|(size, count)| [cut(size, count), merge(size, count)]).collect()
}

/// Writes each segment to where it would be sealed.
fn cut(size: usize, count: usize) -> Work {
    let (frame, mut room) = (super_frame(size * count), vec![0; (HEADERS_BYTES + size) * count]);
    let call = Box::new(move || write_segments(&frame, size, &mut room, |_| ()));
    Work { name: format!("cut-{count}x{size}"), bytes: size * count, call }
}

/// Finds out what follows what, and completes the headers; the payload stays where it is.
fn merge(size: usize, count: usize) -> Work {
    let mut batch = vec![0; (HEADERS_BYTES + size) * count];
    let mut spans = Vec::new();
    write_segments(&super_frame(size * count), size, &mut batch, |span| spans.push(span));
    let headers = batch[..HEADERS_BYTES].to_vec();
    let mut deliveries = Deliveries::default();
    deliveries.set_merge(Merge::TcpAndUdp);
    let call = Box::new(move || {
        // Those of the first became those of the whole the time before.
        batch[..HEADERS_BYTES].copy_from_slice(&headers);
        deliveries.clear();
        for span in &spans {
            deliveries.push_unsummed(span.start, &batch[span.clone()]);
        }
        deliveries.finish(&mut batch);
        assert_eq!(deliveries.iter(&batch).count(), 1, "all segments are of one flow");
    });
    Work { name: format!("merge-{count}x{size}"), bytes: size * count, call }
}

fn write_segments(frame: &[u8], size: usize, room: &mut [u8], mut tell: impl FnMut(Range<usize>)) {
    let mut at = 0;
    for segment in cut_of(frame, size).segments(frame, HEADERS_BYTES + size) {
        let span = at..at + Segment::bytes(&segment);
        segment.write(&mut room[span.clone()]);
        at = span.end;
        tell(span);
    }
}

fn cut_of(frame: &[u8], size: usize) -> Cut {
    let segmentation = Segmentation { kind: Gso::Tcp4, header_bytes: HEADERS_BYTES as u16, size: size as u16 };
    let checksum = Checksum::Needed { start: TRANSPORT_AT as u16, offset: 16 };
    let header = Header { checksum, segmentation: Some(segmentation) };
    match Outgoing::parse(header, frame).map(|outgoing| outgoing.shape) {
        Ok(Shape::Super(cut)) => cut,
        other => panic!("no super-frame: {other:?}"),
    }
}

/// Of TCP with so much payload, as a TAP device hands it over.
fn super_frame(payload: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; HEADERS_BYTES + payload];
    let packet_bytes = ((HEADERS_BYTES - 14 + payload) as u16).to_be_bytes();
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0]);
    // Version and length, don't fragment, a time to live, TCP.
    frame[14..26].copy_from_slice(&[0x45, 0, packet_bytes[0], packet_bytes[1], 0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame[26..34].copy_from_slice(&[10, 32, 0, 1, 10, 32, 0, 2]);
    // Ports, sequence, acknowledgement; 20 octets, ACK; window, checksum, urgent.
    frame[34..46].copy_from_slice(&[0x80, 0, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1]);
    frame[46..54].copy_from_slice(&[0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}
