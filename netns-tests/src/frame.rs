//! Ethernet frames by hand, the honest and the forged, built without any code of the product under test.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A link-layer address.
pub type Mac = [u8; 6];

/// Everybody.
pub const BROADCAST: Mac = [0xff; 6];

/// IPv4.
pub const IPV4: u16 = 0x0800;
/// Address resolution.
pub const ARP: u16 = 0x0806;
/// A VLAN tag.
pub const DOT1Q: u16 = 0x8100;
/// IPv6.
pub const IPV6: u16 = 0x86dd;

/// A hop-by-hop header with a router alert, in front of ICMPv6.
pub const ROUTER_ALERT: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];

/// `02:00:…` in bytes.
pub fn parse_mac(text: &str) -> Option<Mac> {
    let bytes: Vec<u8> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

/// Header and payload, padded to the least length of a frame.
pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &kind.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The same frame behind a VLAN tag.
pub fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &DOT1Q.to_be_bytes(), &1_u16.to_be_bytes(), &frame[12..]].concat()
}

/// "`address` is at `mac`", said to everybody.
pub fn gratuitous_arp(from: Mac, address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let body = [&head[..], &mac, &address.octets(), &BROADCAST, &address.octets()].concat();
    ethernet(BROADCAST, from, ARP, &body)
}

/// An IPv4 packet with a protocol and a payload.
pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_length = 20 + options.len();
    let total = u16::try_from(header_length + payload.len()).unwrap_or(u16::MAX);
    let words = 0x40 | u8::try_from(header_length / 4).unwrap_or(15);
    let mut header = [&[words, 0][..], &total.to_be_bytes(), &[0, 0, 0, 0, 1, protocol, 0, 0]].concat();
    header.extend([from.octets(), to.octets()].concat());
    header.extend(options);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(payload);
    header
}

/// A UDP datagram in an IPv4 packet, without a checksum.
pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let header = [from.1.to_be_bytes(), to.1.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    ipv4(from.0, to.0, 17, &[], &[&header, payload].concat())
}

/// A DHCP offer, as a rogue server sends it.
pub fn dhcp_offer(server: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![2, 1, 6, 0];
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, 2, 255]);
    udp((server, 67), (Ipv4Addr::BROADCAST, 68), &message)
}

/// An IGMPv2 general query, which makes a snooping switch believe in a router.
pub fn igmp_query(from: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut query = vec![0x11, 100, 0, 0, 0, 0, 0, 0];
    let sum = checksum(&query);
    query[2..4].copy_from_slice(&sum.to_be_bytes());
    let group = Ipv4Addr::new(224, 0, 0, 1);
    let router_alert = [0x94, 4, 0, 0];
    ethernet([1, 0, 0x5e, 0, 0, 1], from, IPV4, &ipv4(address, group, 2, &router_alert, &query))
}

/// An ICMPv6 message in a packet, its checksum right; `extension` is a hop-by-hop header or nothing.
pub fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, extension: &[u8], message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let pseudo = [&from.octets()[..], &to.octets(), &length.to_be_bytes(), &[0, 0, 0, 58], &message].concat();
    let sum = checksum(&pseudo);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let payload = u16::try_from(extension.len() + message.len()).unwrap_or(u16::MAX);
    let next = if extension.is_empty() { 58 } else { 0 };
    let header = [&[0x60, 0, 0, 0][..], &payload.to_be_bytes(), &[next, hop_limit], &from.octets(), &to.octets()];
    [&header.concat()[..], extension, &message].concat()
}

/// A neighbour advertisement: "`target` is at `mac`", said to all nodes.
pub fn neighbour_advertisement(from: Mac, target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &mac].concat();
    ethernet([0x33, 0x33, 0, 0, 0, 1], from, IPV6, &icmpv6(target, ALL_NODES, 255, &[], &message))
}

/// A neighbour solicitation whose source claims `claimed` for `mac`.
pub fn neighbour_solicitation(from: Mac, claimed: Ipv6Addr, mac: Mac, target: Ipv6Addr) -> Vec<u8> {
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &mac].concat();
    ethernet([0x33, 0x33, 0, 0, 0, 1], from, IPV6, &icmpv6(claimed, ALL_NODES, 255, &[], &message))
}

/// A router advertisement, which would make every listener send its traffic here.
pub fn router_advertisement(from: Mac, address: Ipv6Addr, extension: &[u8]) -> Vec<u8> {
    let message = [&[134, 0, 0, 0, 64, 0, 7, 8][..], &[0; 8], &[1, 1], &from].concat();
    ethernet([0x33, 0x33, 0, 0, 0, 1], from, IPV6, &icmpv6(address, ALL_NODES, 255, extension, &message))
}

/// An MLD general query.
pub fn mld_query(from: Mac, address: Ipv6Addr) -> Vec<u8> {
    let message = [&[130, 0, 0, 0, 0x27, 0x10, 0, 0][..], &[0; 16]].concat();
    ethernet([0x33, 0x33, 0, 0, 0, 1], from, IPV6, &icmpv6(address, ALL_NODES, 1, &ROUTER_ALERT, &message))
}

/// The link-local address that an interface derives from its MAC address.
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let tail = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
    Ipv6Addr::new(0xfe80, 0, 0, 0, tail[0], tail[1], tail[2], tail[3])
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The checksum of the Internet: RFC 1071.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_over_a_right_header_is_zero() {
        let packet = ipv4(Ipv4Addr::new(10, 32, 0, 1), Ipv4Addr::new(10, 32, 0, 2), 17, &[], b"payload");

        assert_eq!(checksum(&packet[..20]), 0);
    }

    #[test]
    fn a_link_local_address_flips_the_universal_bit() {
        assert_eq!(link_local([0x52, 0x54, 0, 0x12, 0x34, 0x56]).to_string(), "fe80::5054:ff:fe12:3456");
    }
}
