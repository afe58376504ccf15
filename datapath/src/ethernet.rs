//! Checked views of frames. Nothing here panics, whatever the bytes; what does not fit is `None`.
//!
//! ```text
//!   Ethernet   0 destination   6 source   12 ethertype | 0x8100/0x88a8 tag … ethertype   14 (18, 22) payload
//!   ARP        0 hardware, protocol, lengths   6 operation   8 sender MAC   14 sender IP   18 target MAC   24 target IP
//!   IPv4       0 version, header length   2 total length   6 flags   9 protocol   12 source   16 destination
//!   IPv6       0 version   4 payload length   6 next header   8 source   24 destination
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use weave_mesh::name::MacAddr;

/// Addresses and ethertype.
pub const HEADER_BYTES: usize = 14;
pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_ARP: u16 = 0x0806;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
/// Tags that are looked through; more are no frame of ours.
const VLAN_TAGS_MAX: usize = 2;

/// An Ethernet frame without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet<'a> {
    pub destination: MacAddr,
    pub source: MacAddr,
    /// Of the payload, behind any VLAN tags.
    pub ethertype: u16,
    /// Innermost last.
    pub vlan_tags: usize,
    pub payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let (destination, rest) = frame.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (mut ethertype, mut payload) = split_u16(rest)?;
        let mut vlan_tags = 0;
        while matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) && vlan_tags < VLAN_TAGS_MAX {
            let (_, behind_tag) = split_u16(payload)?;
            (ethertype, payload) = split_u16(behind_tag)?;
            vlan_tags += 1;
        }
        Some(Self { destination: MacAddr(*destination), source: MacAddr(*source), ethertype, vlan_tags, payload })
    }
}

/// An ARP packet about IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub operation: u16,
    pub sender_mac: MacAddr,
    pub sender: Ipv4Addr,
    pub target_mac: MacAddr,
    pub target: Ipv4Addr,
}

impl Arp {
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let packet = packet.strip_prefix(&[0, 1, 8, 0, 6, 4])?;
        let (operation, rest) = split_u16(packet)?;
        let (sender_mac, rest) = rest.split_first_chunk()?;
        let (sender, rest) = rest.split_first_chunk::<4>()?;
        let (target_mac, rest) = rest.split_first_chunk()?;
        let (target, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            operation,
            sender_mac: MacAddr(*sender_mac),
            sender: Ipv4Addr::from(*sender),
            target_mac: MacAddr(*target_mac),
            target: Ipv4Addr::from(*target),
        })
    }
}

/// An IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4<'a> {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub dont_fragment: bool,
    /// Behind options, without what Ethernet padded.
    pub payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let header = packet.first_chunk::<20>()?;
        let header_bytes = usize::from(header[0] & 0x0f) * 4;
        let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] >> 4 != 4 || header_bytes < 20 {
            return None;
        }
        Some(Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]),
            protocol: header[9],
            dont_fragment: header[6] & 0x40 != 0,
            payload: packet.get(header_bytes..total_bytes)?,
        })
    }
}

/// An IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6<'a> {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    /// Of the first header behind this one, which may be an extension.
    pub next_header: u8,
    pub payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<40>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let address = |from: usize| header[from..].first_chunk::<16>().copied().map(Ipv6Addr::from);
        let payload_bytes = usize::from(u16::from_be_bytes([header[4], header[5]]));
        Some(Self {
            source: address(8)?,
            destination: address(24)?,
            next_header: header[6],
            payload: rest.get(..payload_bytes)?,
        })
    }
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    bytes.split_first_chunk().map(|(number, rest)| (u16::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(between: &[u8], payload: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], between, payload].concat()
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_view_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Ethernet::parse(&bytes);
            let _ = (Arp::parse(&bytes), Ipv4::parse(&bytes), Ipv6::parse(&bytes));
        }

        #[test]
        fn headers_with_any_lengths_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 40..120)) {
            bytes[0] = 0x40 | (bytes[0] & 0x0f);
            let _ = Ipv4::parse(&bytes);
            bytes[0] = 0x60;
            let _ = Ipv6::parse(&bytes);
        }
    }

    #[test]
    fn vlan_tags_are_looked_through() {
        let plain = frame(&[0x08, 0x00], b"payload");
        let tagged = frame(&[0x88, 0xa8, 0, 1, 0x81, 0x00, 0, 2, 0x08, 0x00], b"payload");

        let (plain, tagged) = (Ethernet::parse(&plain).unwrap(), Ethernet::parse(&tagged).unwrap());

        assert_eq!((plain.ethertype, plain.vlan_tags), (ETHERTYPE_IPV4, 0));
        assert_eq!((tagged.ethertype, tagged.vlan_tags), (ETHERTYPE_IPV4, 2));
        assert_eq!(plain.payload, tagged.payload);
        assert!(plain.destination.is_group());
    }

    #[test]
    fn an_arp_request_says_who_asks_for_whom() {
        let packet = [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 32, 0, 1][..], &[0; 6], &[10, 32, 0, 2]].concat();

        let arp = Arp::parse(&packet).unwrap();

        assert_eq!((arp.operation, arp.sender_mac), (1, MacAddr([2, 0, 0, 0, 0, 1])));
        assert_eq!((arp.sender, arp.target), (Ipv4Addr::new(10, 32, 0, 1), Ipv4Addr::new(10, 32, 0, 2)));
    }

    #[test]
    fn an_ipv4_packet_ends_where_its_header_says() {
        let mut packet = vec![0; 30];
        packet[0] = 0x45;
        packet[3] = 24;
        packet[6] = 0x40;
        packet[9] = 17;

        let ip = Ipv4::parse(&packet).unwrap();

        assert_eq!((ip.protocol, ip.dont_fragment, ip.payload.len()), (17, true, 4));
        packet[3] = 31;
        assert_eq!(Ipv4::parse(&packet), None);
    }

    #[test]
    fn an_ipv6_packet_ends_where_its_header_says() {
        let mut packet = vec![0; 50];
        packet[0] = 0x60;
        packet[5] = 8;
        packet[6] = 58;
        packet[39] = 1;

        let ip = Ipv6::parse(&packet).unwrap();

        assert_eq!((ip.next_header, ip.payload.len()), (58, 8));
        assert_eq!(ip.destination, Ipv6Addr::LOCALHOST);
    }
}
