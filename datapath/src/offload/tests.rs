//! Cutting and merging undo each other, and merging refuses what cutting could not give back.

use proptest::prelude::*;

use super::checksum;
use super::coalesce::{Deliveries, MERGED_MAX, Merge};
use super::layout::tests::{Spec, ip, transport};
use super::layout::{Ip, Layout, Transport};
use super::segment::{Malformed, Outgoing, Shape, Sum};
use super::vnet::{Checksum, Gso, Header, Segmentation};

/// What the TAP says in front of a super-frame.
fn header(frame: &[u8], size: usize) -> Header {
    let layout = Layout::parse(frame).expect("a frame");
    let kind = match (layout.transport, layout.ip) {
        (Transport::Udp, _) => Gso::Udp,
        (Transport::Tcp, Ip::V4) => Gso::Tcp4,
        (Transport::Tcp, Ip::V6) => Gso::Tcp6,
    };
    let start = layout.transport_at as u16;
    Header {
        checksum: Checksum::Needed { start, offset: layout.checksum_offset() as u16 },
        segmentation: Some(Segmentation { kind, header_bytes: layout.payload_at as u16, size: size as u16 }),
    }
}

fn cut(header: Header, frame: &[u8], frame_bytes_max: usize) -> Vec<Vec<u8>> {
    let outgoing = Outgoing::parse(header, frame).expect("an honest header");
    match outgoing.shape {
        Shape::Whole(sum) => {
            let mut room = vec![0xee; frame.len()];
            sum.write(frame, &mut room);
            vec![room]
        }
        Shape::Super(cut) => cut
            .segments(frame, frame_bytes_max)
            .map(|segment| {
                let mut room = vec![0xee; segment.bytes()];
                segment.write(&mut room);
                room
            })
            .collect(),
    }
}

/// What is written to the TAP after `frames` arrived.
fn merged(frames: &[Vec<u8>], merge: Merge) -> Vec<(Header, Vec<u8>)> {
    let (mut batch, mut deliveries) = (frames.concat(), Deliveries::default());
    deliveries.set_merge(merge);
    let mut at = 0;
    for frame in frames {
        assert!(deliveries.push_unsummed(at, frame));
        at += frame.len();
    }
    deliveries.finish(&mut batch);
    deliveries.iter(&batch).map(|delivery| (delivery.header, delivery.pieces().collect::<Vec<_>>().concat())).collect()
}

/// Whether the checksum would be right once the kernel has finished it.
fn assert_sums(frame: &[u8]) {
    let layout = Layout::parse(frame).expect("a frame");
    if layout.ip == Ip::V4 {
        assert_eq!(checksum::finish(&frame[layout.network_at..layout.transport_at]), 0, "the IPv4 header's sum");
    }
    let addresses = if layout.ip == Ip::V4 { 12..20 } else { 8..40 };
    let protocol = if layout.transport == Transport::Tcp { 6 } else { 17 };
    let pseudo =
        checksum::add(protocol + (layout.end - layout.transport_at) as u64, &frame[layout.network_at..][addresses]);
    let field = u16::from_be_bytes([frame[layout.checksum_at()], frame[layout.checksum_at() + 1]]);
    assert_eq!(field % 0xffff, checksum::fold(pseudo) % 0xffff, "the pseudo-header's sum");
}

proptest! {
    #[test]
    fn a_super_frame_is_cut_and_merged_to_what_it_was(
        ip in ip(), transport in transport(), vlan: bool, id: u16, sequence: u32,
        flags in prop_oneof![Just(0x10), Just(0x18), Just(0x11), Just(0x19), Just(0x50)],
        size in 48usize..9_000, payload in 1usize..60_000, path in 700usize..9_000,
    ) {
        let payload: Vec<u8> = (0..payload).map(|at| (at / 7) as u8).collect();
        let frame = Spec { vlan, id, sequence, flags, ..Spec::new(ip, transport, payload) }.frame();
        let header = header(&frame, size);

        let segments = cut(header, &frame, path);
        segments.iter().for_each(|segment| assert_sums(segment));
        prop_assert!(transport == Transport::Udp || segments.iter().all(|segment| segment.len() <= path));
        let merged = merged(&segments, Merge::TcpAndUdp);

        if segments.len() <= MERGED_MAX {
            prop_assert_eq!(&merged[0].1, &frame);
            prop_assert_eq!(merged.len(), 1);
        }
        let again: Vec<_> = merged.iter().flat_map(|(header, frame)| cut(*header, frame, 65_549)).collect();
        prop_assert_eq!(again, segments);
        merged.iter().for_each(|(_, frame)| assert_sums(frame));
    }

    #[test]
    fn flows_that_alternate_are_merged_each_in_its_order(
        ip in ip(), transport in transport(), choices in proptest::collection::vec(0u16..5, 1..300),
    ) {
        let mut sent = [0u32; 5];
        let frames: Vec<_> = choices.iter().map(|&flow| {
            let number = sent[usize::from(flow)];
            sent[usize::from(flow)] += 1;
            let spec = Spec::new(ip, transport, vec![number as u8; 100]);
            Spec { port: flow, id: number as u16, sequence: number * 100, ..spec }.frame()
        }).collect();

        let merged = merged(&frames, Merge::TcpAndUdp);

        let again: Vec<_> = merged.iter().flat_map(|(header, frame)| cut(*header, frame, 65_549)).collect();
        let of_flow = |frames: &[Vec<u8>], flow: u16| -> Vec<Vec<u8>> {
            frames.iter().filter(|frame| {
                let at = Layout::parse(frame).expect("a frame").transport_at;
                frame[at..at + 2] == flow.to_be_bytes()
            }).cloned().collect()
        };
        for flow in 0..5 {
            prop_assert_eq!(of_flow(&again, flow), of_flow(&frames, flow));
        }
        let fewest: usize = sent.iter().map(|count| (*count as usize).div_ceil(MERGED_MAX)).sum();
        prop_assert_eq!(merged.len(), fewest);
    }

    #[test]
    fn a_forged_header_is_refused_or_cuts_to_pieces_of_the_frame(
        bytes: [u8; 12], transport in transport(), ip in ip(), payload in 0usize..3_000, damage in 12usize..60, with: u8,
    ) {
        let mut frame = Spec::new(ip, transport, vec![5; payload]).frame();
        if let Some(octet) = frame.get_mut(damage) {
            *octet ^= with;
        }
        if let Ok(outgoing) = Outgoing::parse(Header::decode(bytes), &frame) {
            let pieces = cut(Header::decode(bytes), &frame, 1_390);
            let payload: usize = pieces.iter().map(|piece| Layout::parse(piece).map_or(0, |layout| layout.payload_bytes())).sum();
            prop_assert!(matches!(outgoing.shape, Shape::Whole(_)) || payload == Layout::parse(&frame).expect("a frame").payload_bytes());
        }
    }
}

/// Two segments that follow each other.
fn pair(ip: Ip, transport: Transport) -> [Spec; 2] {
    let first = Spec::new(ip, transport, vec![1; 100]);
    let second = Spec { id: first.id + 1, sequence: first.sequence + 100, ..first.clone() };
    [first, second]
}

fn is_merged(first: &Spec, second: &Spec, damage: impl Fn(&mut [u8])) -> bool {
    let mut second = second.frame();
    damage(&mut second);
    merged(&[first.frame(), second], Merge::TcpAndUdp).len() == 1
}

#[test]
fn segments_that_differ_in_more_than_their_place_stay_apart() {
    for (ip, transport) in [Ip::V4, Ip::V6].into_iter().flat_map(|ip| [(ip, Transport::Tcp), (ip, Transport::Udp)]) {
        let [first, second] = pair(ip, transport);
        let layout = Layout::parse(&first.frame()).unwrap();
        assert!(is_merged(&first, &second, |_| ()), "{ip:?} {transport:?}");

        let mut places = vec![0, 6, layout.transport_at, layout.transport_at + 2];
        match ip {
            // Type of service, time to live, addresses; a changed header without a new sum is not intact either.
            Ip::V4 => places.extend([1, 8, 12, 16].map(|at| layout.network_at + at)),
            // Traffic class and flow label, hop limit, addresses.
            Ip::V6 => places.extend([1, 3, 7, 8, 24].map(|at| layout.network_at + at)),
        }
        if transport == Transport::Tcp {
            // Sequence, acknowledgement, flags (SYN, RST, URG, CWR), window, urgent pointer, options.
            places.extend([7, 11, 14, 19, 22, 30].map(|at| layout.transport_at + at));
        }
        for at in places {
            assert!(!is_merged(&first, &second, |frame| frame[at] ^= 2), "{ip:?} {transport:?}: octet {at}");
        }
        if transport == Transport::Tcp {
            for flag in [0x02, 0x04, 0x20, 0x40, 0x80] {
                let at = layout.transport_at + 13;
                assert!(!is_merged(&first, &second, |frame| frame[at] ^= flag), "flag {flag:#x}");
            }
        }
    }
}

#[test]
fn a_segment_after_a_push_or_a_short_one_begins_anew() {
    let [first, second] = pair(Ip::V4, Transport::Tcp);

    let pushed = Spec { flags: 0x18, ..first.clone() };
    assert!(!is_merged(&pushed, &second, |_| ()));
    let longer = Spec { payload: vec![2; 101], ..second };
    assert!(!is_merged(&first, &longer, |_| ()));
}

#[test]
fn an_ipv4_id_counts_or_means_nothing() {
    let [first, second] = pair(Ip::V4, Transport::Udp);
    let same = Spec { id: first.id, ..second.clone() };
    let jumped = Spec { id: first.id + 5, ..second };

    assert!(is_merged(&first, &same, |_| ()));
    assert!(!is_merged(&first, &jumped, |_| ()));
}

#[test]
fn datagrams_stay_apart_where_the_kernel_cannot_cut_them() {
    let [first, second] = pair(Ip::V4, Transport::Udp);

    assert_eq!(merged(&[first.frame(), second.frame()], Merge::Tcp).len(), 2);
}

#[test]
fn a_frame_with_a_finished_sum_keeps_it_and_its_place_in_the_flow() {
    let [first, second] = pair(Ip::V4, Transport::Tcp);
    let third = Spec { id: second.id + 1, sequence: second.sequence + 100, ..second.clone() };
    let frames = [first.frame(), second.frame(), third.frame()];
    let (mut batch, mut deliveries) = (frames.concat(), Deliveries::default());
    let bytes = frames[0].len();

    assert!(deliveries.push_unsummed(0, &frames[0]));
    deliveries.push(bytes, &frames[1]);
    assert!(deliveries.push_unsummed(2 * bytes, &frames[2]));
    deliveries.finish(&mut batch);

    let all: Vec<_> =
        deliveries.iter(&batch).map(|it| (it.header.checksum, it.pieces().collect::<Vec<_>>().concat())).collect();
    let needed = Checksum::Needed { start: 34, offset: 16 };
    let [first, second, third] = frames;
    assert_eq!(all, [(needed, first), (Checksum::Present, second), (needed, third)]);
}

#[test]
fn padding_is_not_taken_for_payload() {
    let mut frame = Spec::new(Ip::V4, Transport::Udp, vec![1; 4]).frame();
    let bytes = frame.len();
    frame.resize(60, 0);

    assert_eq!(merged(&[frame.clone()], Merge::TcpAndUdp)[0].1, frame[..bytes]);
}

#[test]
fn a_sum_that_the_receiver_could_not_find_is_finished_by_the_sender() {
    let frame = Spec::new(Ip::V4, Transport::Udp, vec![1; 33]).frame();
    let implied = Header { checksum: Checksum::Needed { start: 34, offset: 6 }, segmentation: None };
    let elsewhere = Header { checksum: Checksum::Needed { start: 42, offset: 2 }, segmentation: None };
    let outside = Header { checksum: Checksum::Needed { start: 70, offset: 20 }, segmentation: None };

    assert_eq!(Outgoing::parse(implied, &frame).map(|it| it.shape), Ok(Shape::Whole(Sum::Left)));
    let written = &cut(elsewhere, &frame, 1_390)[0];
    // The field held 0x0101, which is part of what was summed.
    let mut expected = frame.clone();
    expected[44..46].copy_from_slice(&checksum::finish(&frame[42..]).to_be_bytes());
    assert_eq!(written, &expected);
    assert_eq!(Outgoing::parse(outside, &frame), Err(Malformed));
}
