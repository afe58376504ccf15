//! Where the headers of a TCP or UDP frame are. Nothing here panics, whatever the bytes.
//!
//! ```text
//!   0 Ethernet, VLAN tags    network_at IPv4 | IPv6, extensions    transport_at TCP | UDP    payload_at …    end
//! ```

use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet};

/// Which version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    V4,
    V6,
}

/// What is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// The parts of one frame, as offsets from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub ip: Ip,
    pub transport: Transport,
    pub network_at: usize,
    pub transport_at: usize,
    pub payload_at: usize,
    /// Of the packet; Ethernet may have padded the frame.
    pub end: usize,
}

impl Layout {
    /// Nothing for a frame that is no TCP or UDP packet, is a fragment of one, or contradicts itself.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let ethernet = Ethernet::parse(frame)?;
        let network_at = frame.len() - ethernet.payload.len();
        let (ip, protocol, transport_at, end) = match ethernet.ethertype {
            ETHERTYPE_IPV4 => {
                let (protocol, header, total) = parse_v4(ethernet.payload)?;
                (Ip::V4, protocol, network_at + header, network_at + total)
            }
            ETHERTYPE_IPV6 => {
                let (protocol, header, total) = parse_v6(ethernet.payload)?;
                (Ip::V6, protocol, network_at + header, network_at + total)
            }
            _ => return None,
        };
        let segment = frame.get(transport_at..end)?;
        let (transport, header) = match protocol {
            TCP => (Transport::Tcp, tcp_header_bytes(segment)?),
            UDP => (Transport::Udp, udp_header_bytes(segment)?),
            _ => return None,
        };
        Some(Self { ip, transport, network_at, transport_at, payload_at: transport_at + header, end })
    }

    pub const fn payload_bytes(&self) -> usize {
        self.end - self.payload_at
    }

    /// Where the transport checksum is.
    pub const fn checksum_at(&self) -> usize {
        self.transport_at + self.checksum_offset()
    }

    /// The same, from the start of the transport header.
    pub const fn checksum_offset(&self) -> usize {
        match self.transport {
            Transport::Tcp => 16,
            Transport::Udp => 6,
        }
    }

    /// Whether there is nothing between the fixed IP header and the transport header.
    pub const fn is_plain(&self) -> bool {
        self.transport_at - self.network_at
            == match self.ip {
                Ip::V4 => IPV4_HEADER_BYTES,
                Ip::V6 => IPV6_HEADER_BYTES,
            }
    }
}

/// Protocol, header length and total length.
fn parse_v4(packet: &[u8]) -> Option<(u8, usize, usize)> {
    let header = packet.first_chunk::<IPV4_HEADER_BYTES>()?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let total_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & !DONT_FRAGMENT != 0;
    let fits = header[0] >> 4 == 4 && header_bytes >= IPV4_HEADER_BYTES && header_bytes <= total_bytes;
    (fits && !is_fragment && total_bytes <= packet.len()).then_some((header[9], header_bytes, total_bytes))
}

/// The same behind any extension headers.
fn parse_v6(packet: &[u8]) -> Option<(u8, usize, usize)> {
    let header = packet.first_chunk::<IPV6_HEADER_BYTES>()?;
    let total_bytes = IPV6_HEADER_BYTES + usize::from(u16::from_be_bytes([header[4], header[5]]));
    let packet = packet.get(..total_bytes).filter(|_| header[0] >> 4 == 6)?;
    let (mut next, mut at) = (header[6], IPV6_HEADER_BYTES);
    for _ in 0..EXTENSIONS_MAX {
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            break;
        }
        let extension = packet.get(at..at + 2)?;
        next = extension[0];
        at += (usize::from(extension[1]) + 1) * 8;
    }
    Some((next, at, total_bytes))
}

fn tcp_header_bytes(segment: &[u8]) -> Option<usize> {
    let header = segment.first_chunk::<20>()?;
    let header_bytes = usize::from(header[12] >> 4) * 4;
    (header_bytes >= 20 && header_bytes <= segment.len()).then_some(header_bytes)
}

fn udp_header_bytes(segment: &[u8]) -> Option<usize> {
    let header = segment.first_chunk::<8>()?;
    (usize::from(u16::from_be_bytes([header[4], header[5]])) == segment.len()).then_some(8)
}

/// The bit of the word with flags and fragment offset that may be set in a whole packet.
pub(super) const DONT_FRAGMENT: u16 = 0x4000;
pub(super) const IPV4_HEADER_BYTES: usize = 20;
pub(super) const IPV6_HEADER_BYTES: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers that are walked; a packet with more is carried, but neither cut nor coalesced.
const EXTENSIONS_MAX: usize = 4;

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::offload::checksum;

    /// Everything about a frame that the tests of this folder make.
    #[derive(Clone, Debug)]
    pub(in crate::offload) struct Spec {
        pub(in crate::offload) ip: Ip,
        pub(in crate::offload) transport: Transport,
        pub(in crate::offload) vlan: bool,
        pub(in crate::offload) port: u16,
        pub(in crate::offload) id: u16,
        pub(in crate::offload) sequence: u32,
        pub(in crate::offload) flags: u8,
        pub(in crate::offload) options: Vec<u8>,
        pub(in crate::offload) payload: Vec<u8>,
    }

    impl Spec {
        pub(in crate::offload) fn new(ip: Ip, transport: Transport, payload: Vec<u8>) -> Self {
            let options = if transport == Transport::Tcp { vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] } else { vec![] };
            Self { ip, transport, vlan: false, port: 40_000, id: 7, sequence: 1_000, flags: 0x10, options, payload }
        }

        /// The frame with its IP header finished and the pseudo-header's sum as its transport checksum.
        pub(in crate::offload) fn frame(&self) -> Vec<u8> {
            let segment = self.segment();
            let mut frame = vec![2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1];
            if self.vlan {
                frame.extend([0x81, 0, 0, 5]);
            }
            match self.ip {
                Ip::V4 => {
                    frame.extend([0x08, 0x00]);
                    let mut header =
                        [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, self.protocol(), 0, 0, 10, 32, 0, 1, 10, 32, 0, 2];
                    header[2..4].copy_from_slice(&((20 + segment.len()) as u16).to_be_bytes());
                    header[4..6].copy_from_slice(&self.id.to_be_bytes());
                    let sum = checksum::finish(&header);
                    header[10..12].copy_from_slice(&sum.to_be_bytes());
                    frame.extend(header);
                }
                Ip::V6 => {
                    frame.extend([0x86, 0xdd, 0x60, 0, 0, 9]);
                    frame.extend((segment.len() as u16).to_be_bytes());
                    frame.extend([self.protocol(), 64]);
                    for address in self.addresses() {
                        let IpAddr::V6(address) = address else { unreachable!() };
                        frame.extend(address.octets());
                    }
                }
            }
            frame.extend(segment);
            frame
        }

        const fn protocol(&self) -> u8 {
            match self.transport {
                Transport::Tcp => TCP,
                Transport::Udp => UDP,
            }
        }

        fn addresses(&self) -> [IpAddr; 2] {
            match self.ip {
                Ip::V4 => [Ipv4Addr::new(10, 32, 0, 1).into(), Ipv4Addr::new(10, 32, 0, 2).into()],
                Ip::V6 => [1, 2].map(|host| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host).into()),
            }
        }

        fn segment(&self) -> Vec<u8> {
            let mut segment = self.port.to_be_bytes().to_vec();
            segment.extend(5_201u16.to_be_bytes());
            match self.transport {
                Transport::Tcp => {
                    segment.extend(self.sequence.to_be_bytes());
                    segment.extend([0, 0, 0, 9]);
                    let words = (20 + self.options.len()) / 4;
                    segment.extend([(words << 4) as u8, self.flags, 1, 0, 0, 0, 0, 0]);
                    segment.extend(&self.options);
                }
                Transport::Udp => {
                    segment.extend([((8 + self.payload.len()) as u16).to_be_bytes(), [0; 2]].concat());
                }
            }
            segment.extend(&self.payload);
            let at = if self.transport == Transport::Tcp { 16 } else { 6 };
            let sum = self.addresses().iter().fold(0, |sum, address| match address {
                IpAddr::V4(address) => checksum::add(sum, &address.octets()),
                IpAddr::V6(address) => checksum::add(sum, &address.octets()),
            });
            let sum = sum + u64::from(self.protocol()) + segment.len() as u64;
            segment[at..at + 2].copy_from_slice(&checksum::fold(sum).to_be_bytes());
            segment
        }
    }

    pub(in crate::offload) fn ip() -> impl Strategy<Value = Ip> {
        prop_oneof![Just(Ip::V4), Just(Ip::V6)]
    }

    pub(in crate::offload) fn transport() -> impl Strategy<Value = Transport> {
        prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            let _ = Layout::parse(&bytes);
        }

        #[test]
        fn the_parts_are_found_in_whatever_order_lengths_are_damaged(
            ip in ip(), transport in transport(), vlan: bool, at in 12usize..60, damage: u8,
        ) {
            let mut frame = Spec { vlan, ..Spec::new(ip, transport, vec![7; 40]) }.frame();
            let layout = Layout::parse(&frame).expect("a frame");
            prop_assert_eq!((layout.ip, layout.transport, layout.payload_bytes()), (ip, transport, 40));
            prop_assert_eq!(layout.network_at, if vlan { 18 } else { 14 });
            prop_assert!(layout.is_plain());

            frame[at] ^= damage;
            if let Some(Layout { payload_at, end, .. }) = Layout::parse(&frame) {
                prop_assert!(payload_at <= end && end <= frame.len());
            }
        }
    }

    #[test]
    fn extension_headers_are_walked_and_fragments_are_not_looked_into() {
        let mut frame = Spec::new(Ip::V6, Transport::Udp, vec![1; 8]).frame();
        frame.splice(54..54, [UDP, 0, 1, 4, 0, 0, 0, 0]);
        (frame[19], frame[20]) = (frame[19] + 8, DESTINATION_OPTIONS);
        let layout = Layout::parse(&frame).expect("a frame");
        assert_eq!((layout.transport_at, layout.is_plain()), (62, false));

        let mut fragment = Spec::new(Ip::V4, Transport::Udp, vec![1; 8]).frame();
        fragment[20] |= 0x20;
        assert_eq!(Layout::parse(&fragment), None);
    }
}
