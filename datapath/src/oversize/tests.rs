//! Fragments are put together again, and answers read, by code that shares nothing with what made them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ETHERNET: [u8; 14] = [2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1, 8, 0];
const SOURCE: [u8; 4] = [10, 32, 0, 1];
const DESTINATION: [u8; 4] = [10, 32, 0, 2];

/// Word by word, as RFC 1071 says it.
fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn ethernet(vlan: bool, ethertype: u16) -> Vec<u8> {
    let mut header = ETHERNET[..12].to_vec();
    if vlan {
        header.extend([0x81, 0, 0, 7]);
    }
    header.extend(ethertype.to_be_bytes());
    header
}

fn v4(vlan: bool, options: &[u8], flags_and_offset: u16, protocol: u8, data: &[u8]) -> Vec<u8> {
    let header_bytes = 20 + options.len();
    let mut header = vec![0x40 | (header_bytes / 4) as u8, 0x12];
    header.extend(((header_bytes + data.len()) as u16).to_be_bytes());
    header.extend([0xab, 0xcd]);
    header.extend(flags_and_offset.to_be_bytes());
    header.extend([63, protocol, 0, 0]);
    header.extend([SOURCE, DESTINATION].concat());
    header.extend(options);
    let sum = !sum(&header);
    put(&mut header, 10, sum);
    [ethernet(vlan, 0x0800), header, data.to_vec()].concat()
}

/// `extensions` are given as kind and content; the last header is UDP.
fn v6(extensions: &[(u8, Vec<u8>)], next: u8, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let kinds: Vec<u8> = extensions.iter().map(|(kind, _)| *kind).chain([next]).collect();
    for ((_, content), next) in extensions.iter().zip(&kinds[1..]) {
        let mut extension = content.clone();
        extension[0] = *next;
        body.extend(extension);
    }
    body.extend(data);
    let mut header = vec![0x60, 0, 0, 9];
    header.extend((body.len() as u16).to_be_bytes());
    header.extend([kinds[0], 64]);
    header.extend([0xfd; 16]);
    header.extend([0xfe; 16]);
    [ethernet(false, 0x86dd), header, body].concat()
}

fn split(frame: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    fragment(frame, limit, 0x0102_0304, |piece| pieces.push(piece.to_vec())).expect("can be cut");
    pieces
}

/// Data by offset, and whether the end was seen.
#[derive(Default)]
struct Reassembly {
    parts: BTreeMap<usize, Vec<u8>>,
    ended: bool,
}

impl Reassembly {
    fn add(&mut self, offset: usize, more: bool, data: &[u8]) {
        assert!(!more || data.len().is_multiple_of(8), "only the last may have any length");
        self.ended |= !more;
        assert!(self.parts.insert(offset, data.to_vec()).is_none(), "twice");
    }

    fn whole(&self) -> Vec<u8> {
        let mut whole = Vec::new();
        for (offset, part) in &self.parts {
            assert_eq!(*offset, whole.len(), "a gap or an overlap");
            whole.extend(part);
        }
        whole
    }
}

proptest! {
    #[test]
    fn ipv4_fragments_make_the_packet(
        vlan: bool, data in proptest::collection::vec(any::<u8>(), 1..4_000), limit in 120usize..1_500,
        again in 120usize..1_500, options in prop_oneof![Just(vec![]), Just(vec![0x94, 4, 0, 0, 1, 7, 3, 4])],
    ) {
        let frame = v4(vlan, &options, 0, 17, &data);
        let network_at = frame.len() - data.len() - 20 - options.len();

        let mut whole = Reassembly::default();
        for piece in split(&frame, limit).iter().flat_map(|piece| split(piece, again)) {
            prop_assert!(piece.len() <= limit.min(again));
            prop_assert_eq!(&piece[..network_at], &frame[..network_at]);
            let packet = &piece[network_at..];
            let header_bytes = usize::from(packet[0] & 0x0f) * 4;
            prop_assert_eq!(sum(&packet[..header_bytes]), 0xffff);
            prop_assert_eq!(usize::from(get(packet, 2)), packet.len());
            // Type of service, id, time to live, protocol, addresses.
            for same in [1..2, 4..6, 8..10, 12..20] {
                prop_assert_eq!(&packet[same.clone()], &frame[network_at..][same]);
            }
            let (offset, more) = (usize::from(get(packet, 6) & 0x1fff) * 8, get(packet, 6) & 0x2000 != 0);
            let expected = match offset {
                0 => &options[..],
                _ => &options[..options.len().min(4)],
            };
            prop_assert_eq!(&packet[20..header_bytes], expected);
            whole.add(offset, more, &packet[header_bytes..]);
        }
        prop_assert!(whole.ended);
        prop_assert_eq!(whole.whole(), data);
    }

    #[test]
    fn ipv6_fragments_make_the_packet(
        data in proptest::collection::vec(any::<u8>(), 1..1_240), limit in 160usize..1_500, again in 160usize..1_500,
        shape in 0usize..4,
    ) {
        let (hop_by_hop, options, route) = ((0, vec![0; 8]), (60, vec![0; 8]), (43, vec![0; 8]));
        let (extensions, per_hop) = [
            (vec![], 0),
            (vec![hop_by_hop.clone()], 8),
            (vec![hop_by_hop, options.clone(), route], 24),
            (vec![options], 0),
        ][shape].clone();
        let frame = v6(&extensions, 17, &data);

        let mut whole = Reassembly::default();
        let head = 14 + 40 + per_hop;
        for piece in split(&frame, limit).iter().flat_map(|piece| split(piece, again)) {
            prop_assert!(piece.len() <= limit.min(again));
            prop_assert_eq!(usize::from(get(&piece, 18)), piece.len() - 54);
            let fragment = &piece[head..head + 8];
            prop_assert_eq!(&fragment[4..], &[1, 2, 3, 4]);
            whole.add(usize::from(get(fragment, 2) & 0xfff8), get(fragment, 2) & 1 != 0, &piece[head + 8..]);
            // Without the fragment header, the head is the packet's.
            let mut unfragmented = piece[..head].to_vec();
            let next_at = if per_hop == 0 { 20 } else { head - 8 };
            prop_assert_eq!(unfragmented[next_at], 44);
            unfragmented[next_at] = fragment[0];
            put(&mut unfragmented, 18, get(&frame, 18));
            prop_assert_eq!(&unfragmented[..], &frame[..head]);
        }
        prop_assert!(whole.ended);
        prop_assert_eq!(whole.whole(), &frame[head..]);
    }

    #[test]
    fn no_bytes_make_the_builders_panic(
        mut frame in proptest::collection::vec(any::<u8>(), 0..300), limit in 0usize..200, v6: bool,
    ) {
        for known in [false, true] {
            if known && frame.len() > 15 {
                frame[12..15].copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x46] });
            }
            let _ = (remedy(&frame), too_big(&frame, limit));
            let _ = fragment(&frame, limit, 7, |piece| assert!(piece.len() <= limit));
        }
    }

    #[test]
    fn an_ipv4_sender_is_told_what_its_packet_was_and_what_fits(
        vlan: bool, data in proptest::collection::vec(any::<u8>(), 600..2_000), limit in 600usize..1_300,
    ) {
        let frame = v4(vlan, &[], 0x4000, 17, &data);
        let network_at = if vlan { 18 } else { 14 };

        let answer = too_big(&frame, limit).expect("may be told");

        prop_assert_eq!(&answer[..12], &[&frame[6..12], &frame[..6]].concat()[..]);
        prop_assert_eq!(&answer[12..network_at], &frame[12..network_at]);
        let packet = &answer[network_at..];
        prop_assert!(packet.len() <= 576 && usize::from(get(packet, 2)) == packet.len());
        prop_assert_eq!((sum(&packet[..20]), sum(&packet[20..])), (0xffff, 0xffff));
        prop_assert_eq!((packet[9], &packet[12..20]), (1, &[DESTINATION, SOURCE].concat()[..]));
        prop_assert_eq!((&packet[20..22], usize::from(get(packet, 26))), (&[3, 4][..], limit - network_at));
        prop_assert!(frame[network_at..].starts_with(&packet[28..]) && packet.len() >= 28 + 28);
    }

    #[test]
    fn an_ipv6_sender_is_told_what_its_packet_was_and_what_fits(
        data in proptest::collection::vec(any::<u8>(), 1_300..2_000), limit in 600usize..1_400,
    ) {
        let frame = v6(&[], 17, &data);

        let answer = too_big(&frame, limit).expect("may be told");

        let (packet, told) = (&answer[14..], limit.saturating_sub(14).max(1_280));
        prop_assert!(packet.len() <= 1_280 && usize::from(get(packet, 4)) == packet.len() - 40);
        prop_assert_eq!((&packet[8..24], &packet[24..40]), (&[0xfe; 16][..], &[0xfd; 16][..]));
        prop_assert_eq!((packet[6], &packet[40..42], usize::from(get(packet, 46))), (58, &[2, 0][..], told));
        let pseudo = [&packet[8..40], &((packet.len() - 40) as u32).to_be_bytes(), &[0, 0, 0, 58], &packet[40..]].concat();
        prop_assert_eq!(sum(&pseudo), 0xffff);
        prop_assert!(frame[14..].starts_with(&packet[48..]));
    }
}

#[test]
fn nobody_is_told_about_what_the_standards_leave_out() {
    let data = [0; 700];
    let allowed = v4(false, &[], 0x4000, 17, &data);
    let icmp = |kind: u8| v4(false, &[], 0x4000, 1, &[&[kind][..], &data].concat());
    let changed = |at: usize, bytes: &[u8]| {
        let mut frame = allowed.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    assert!(too_big(&allowed, 600).is_ok() && too_big(&icmp(8), 600).is_ok());

    for (why, frame) in [
        ("an ICMP error", icmp(3)),
        ("a redirect", icmp(5)),
        ("a later fragment", v4(false, &[], 0x4001, 17, &data)),
        ("for a group's MAC", changed(0, &[1, 0, 0x5e, 0, 0, 1])),
        ("for all", changed(0, &[0xff; 6])),
        ("for a group", changed(30, &[224, 0, 0, 5])),
        ("for all addresses", changed(30, &[255; 4])),
        ("from nobody", changed(26, &[0; 4])),
        ("from a group", changed(26, &[239, 1, 1, 1])),
        ("no IP", changed(12, &[8, 6])),
    ] {
        assert_eq!(too_big(&frame, 600), Err(Untold), "{why}");
    }
}

#[test]
fn nobody_is_told_about_ipv6_that_the_standards_leave_out() {
    let data = [0; 1_400];
    let icmp = |kind: u8| v6(&[], 58, &[&[kind][..], &data].concat());
    let fragment = |offset: u8| (44, vec![0, 0, 0, offset, 0, 0, 0, 1]);
    assert!(too_big(&icmp(128), 600).is_ok());
    assert!(too_big(&v6(&[(0, vec![0; 8]), fragment(1)], 17, &data), 600).is_ok());

    let mut to_group = icmp(128);
    to_group[14 + 24] = 0xff;
    for (why, frame) in [
        ("an error", icmp(1)),
        ("an error behind options", v6(&[(60, vec![0; 8])], 58, &[&[3][..], &data].concat())),
        ("a redirect", icmp(137)),
        ("a later fragment", v6(&[fragment(8)], 17, &data)),
        ("for a group", to_group),
        ("headers without end", v6(&vec![(60, vec![0; 8]); 20], 17, &data)),
    ] {
        assert_eq!(too_big(&frame, 600), Err(Untold), "{why}");
    }
}

#[test]
fn the_remedy_follows_the_packet() {
    let long = [0; 1_300];
    assert_eq!(remedy(&v4(true, &[], 0, 17, &long)), Remedy::Fragment);
    assert_eq!(remedy(&v4(true, &[], 0x4000, 17, &long)), Remedy::Tell);
    assert_eq!(remedy(&v6(&[], 17, &long[..1_240])), Remedy::Fragment);
    assert_eq!(remedy(&v6(&[], 17, &long[..1_241])), Remedy::Tell);
    assert_eq!(remedy(&[&ETHERNET[..12], &[0x88, 0xb5], &long].concat()), Remedy::Nothing);
}

#[test]
fn a_packet_that_could_not_be_put_together_again_is_not_cut() {
    let cut = |frame: &[u8], limit: usize| fragment(frame, limit, 1, |_| panic!("emitted"));
    let data = [0; 701];

    assert_eq!(cut(&v4(false, &[], 0x4000, 17, &data), 600), Err(Unsplittable), "DF");
    assert_eq!(cut(&v4(false, &[], 0x2000, 17, &data), 600), Err(Unsplittable), "more follows, at no multiple of 8");
    assert_eq!(cut(&v4(false, &[], 0x1fff, 17, &data), 600), Err(Unsplittable), "beyond the longest packet");
    assert_eq!(cut(&v4(false, &[], 0, 17, &data), 41), Err(Unsplittable), "no room for data");
}
