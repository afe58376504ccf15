//! Cutting a UDP super-packet over IPv4 as a segmenting network card does, checksums finished.
//!
//! ```text
//!   Ethernet 14 │ IPv4 (20 …) │ UDP 8 │ payload: n times `size`, the last may be shorter
//! ```

use crate::frame::{IPV4, checksum};

const ETHERNET: usize = 14;
const UDP: usize = 8;

/// The segments of a super-packet, each a frame; nothing if it is not UDP over IPv4.
pub(super) fn cut(frame: &[u8], size: usize) -> Option<Vec<Vec<u8>>> {
    let (ip, udp) = offsets(frame)?;
    let (headers, payload) = frame.split_at_checked(udp + UDP)?;
    let identification = u16::from_be_bytes(headers[ip + 4..ip + 6].try_into().ok()?);
    let chunks = payload.chunks(size.max(1)).zip(0_u16..);
    Some(chunks.map(|(chunk, at)| segment(headers, ip, udp, chunk, identification.wrapping_add(at))).collect())
}

/// Spoils the UDP checksum of a segment.
pub(super) fn spoil_checksum(segment: &mut [u8]) {
    if let Some((_, udp)) = offsets(segment) {
        segment[udp + 6] ^= 0x5a;
    }
}

/// Changes the payload of a segment so that the UDP checksum still holds.
pub(super) fn spoil_payload(segment: &mut [u8]) {
    let Some((ip, udp)) = offsets(segment) else { return };
    if let Some(last) = segment.last_mut() {
        *last ^= 0x5a;
    }
    finish_udp(segment, ip, udp);
}

/// Where the IPv4 and the UDP header begin.
fn offsets(frame: &[u8]) -> Option<(usize, usize)> {
    let kind = u16::from_be_bytes(frame.get(12..ETHERNET)?.try_into().ok()?);
    let words = usize::from(frame.get(ETHERNET)? & 0x0f);
    let udp = ETHERNET + 4 * words;
    let is_udp = kind == IPV4 && frame.get(ETHERNET + 9) == Some(&17) && words >= 5 && frame.len() >= udp + UDP;
    is_udp.then_some((ETHERNET, udp))
}

fn segment(headers: &[u8], ip: usize, udp: usize, chunk: &[u8], identification: u16) -> Vec<u8> {
    let mut segment = [headers, chunk].concat();
    let put = |segment: &mut [u8], at: usize, value: usize| {
        segment[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes());
    };
    let (packet_bytes, datagram_bytes) = (segment.len() - ip, segment.len() - udp);
    put(&mut segment, ip + 2, packet_bytes);
    put(&mut segment, ip + 4, identification.into());
    put(&mut segment, ip + 10, 0);
    let sum = checksum(&segment[ip..udp]);
    put(&mut segment, ip + 10, sum.into());
    put(&mut segment, udp + 4, datagram_bytes);
    finish_udp(&mut segment, ip, udp);
    segment
}

fn finish_udp(segment: &mut [u8], ip: usize, udp: usize) {
    segment[udp + 6..udp + 8].fill(0);
    let length = u16::try_from(segment.len() - udp).unwrap_or(u16::MAX).to_be_bytes();
    let pseudo = [&segment[ip + 12..ip + 20], &[0, 17], &length].concat();
    // An odd payload is padded at its end only, so the pseudo-header, which is even, goes first.
    let sum = checksum(&[&pseudo, &segment[udp..]].concat());
    let sum = if sum == 0 { u16::MAX } else { sum };
    segment[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::frame::{ethernet, ipv4};

    fn super_packet(payload: &[u8]) -> Vec<u8> {
        let udp = [&7_u16.to_be_bytes()[..], &8_u16.to_be_bytes(), &[0; 4], payload].concat();
        let packet = ipv4(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), 17, &[], &udp);
        ethernet([2; 6], [4; 6], IPV4, &packet)
    }

    /// The one's complement sum over a datagram with its checksum is zero when that is right.
    fn is_udp_sum_right(segment: &[u8]) -> bool {
        let mut copy = segment.to_vec();
        let (ip, udp) = offsets(segment).unwrap();
        finish_udp(&mut copy, ip, udp);
        copy == segment
    }

    #[test]
    fn segments_hold_the_payload_in_order_with_right_lengths_and_sums() {
        let payload: Vec<u8> = (0..250_u16).map(|n| n as u8).collect();

        let segments = cut(&super_packet(&payload), 100).unwrap();

        assert_eq!(segments.iter().map(|segment| segment.len() - 42).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(segments.iter().flat_map(|segment| segment[42..].to_vec()).collect::<Vec<_>>(), payload);
        for segment in &segments {
            assert_eq!(usize::from(u16::from_be_bytes([segment[16], segment[17]])), segment.len() - 14);
            assert_eq!(checksum(&segment[14..34]), 0);
            assert!(is_udp_sum_right(segment));
        }
    }

    #[test]
    fn a_spoilt_checksum_is_wrong_and_a_spoilt_payload_is_not() {
        let segment = cut(&super_packet(&[1; 99]), 99).unwrap().remove(0);
        let (mut sum, mut payload) = (segment.clone(), segment.clone());

        spoil_checksum(&mut sum);
        spoil_payload(&mut payload);

        assert!(!is_udp_sum_right(&sum) && is_udp_sum_right(&payload));
        assert_ne!(payload[42..], segment[42..]);
    }

    #[test]
    fn what_is_not_udp_is_not_cut() {
        assert_eq!(cut(&ethernet([2; 6], [4; 6], crate::frame::ARP, &[0; 99]), 10), None);
        assert_eq!(cut(&[0; 3], 10), None);
    }
}
