//! Announcements: "this address has that MAC", told to the containers of this host by the daemon itself.
//!
//! ```text
//!   gratuitous ARP   ff:ff:ff:ff:ff:ff ◄── MAC │ 0806 │ reply, sender = target = (MAC, address)
//!   unsolicited NA   33:33:00:00:00:01 ◄── MAC │ 86dd │ address → ff02::1, hop limit 255, override, target = address
//! ```
//!
//! Containers send their own when they come up; those never cross the overlay, since its ports suppress them. A frame
//! sent here leaves by the bridge device: the suppression keeps it on this host too, which is why each daemon sends one.
//! One socket sends them all: each that is closed costs a wait for every processor (`synchronize_net`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::SocketFlags;
use weave_mesh::name::MacAddr;

use super::packet_socket::{link_address, unbound};

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
const PROTOCOL_ICMPV6: u8 = 58;

/// What announcements are sent by, in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Announcer(socket2::Socket);

impl Announcer {
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        Ok(Self(unbound(SocketFlags::empty())?))
    }

    /// Tells everybody on `link` that `address` is at `mac`.
    ///
    /// # Errors
    /// When the device is gone or down.
    pub(super) fn announce(&self, link: u32, address: IpAddr, mac: MacAddr) -> io::Result<()> {
        let (ethertype, frame) = match address {
            IpAddr::V4(address) => (ETHERTYPE_ARP, gratuitous_arp(address, mac)),
            IpAddr::V6(address) => (ETHERTYPE_IPV6, unsolicited_advertisement(address, mac)),
        };
        self.0.send_to(&frame, &link_address(link, ethertype)).map(drop)
    }
}

fn ethernet(destination: MacAddr, source: MacAddr, ethertype: u16) -> Vec<u8> {
    [&destination.0[..], &source.0, &ethertype.to_be_bytes()].concat()
}

fn gratuitous_arp(address: Ipv4Addr, mac: MacAddr) -> Vec<u8> {
    let mut frame = ethernet(MacAddr::BROADCAST, mac, ETHERTYPE_ARP);
    // Ethernet, IPv4, lengths 6 and 4, reply.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    // Linux takes a reply for gratuitous only if both ends are the same; any other changes no entry of the last second.
    for _end in ["sender", "target"] {
        frame.extend(mac.0);
        frame.extend(address.octets());
    }
    frame
}

fn unsolicited_advertisement(address: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    // Type 136, code 0, checksum, flags: override.
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    // Option: target link-layer address, one unit of eight octets.
    message.extend([2, 1]);
    message.extend(mac.0);
    let checksum = icmpv6_checksum(address, ALL_NODES, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, PROTOCOL_ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// Over the pseudo-header and a message of even length.
fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let pseudo =
        [&source.octets()[..], &destination.octets(), &[0, 0, 0, message.len() as u8, 0, 0, 0, PROTOCOL_ICMPV6]];
    let bytes = [&pseudo.concat(), message].concat();
    let mut sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gratuitous_reply_names_one_station_at_both_ends() {
        let frame = gratuitous_arp(Ipv4Addr::new(10, 32, 0, 1), MacAddr([2, 0, 0, 0, 0, 1]));

        assert_eq!(frame[22..32], frame[32..42]);
    }

    #[test]
    fn an_advertisement_sums_to_zero() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let address: Ipv6Addr = "fd00::1".parse().expect("address");

        let frame = unsolicited_advertisement(address, mac);

        // Summing a message that has its checksum gives zero.
        assert_eq!(icmpv6_checksum(address, ALL_NODES, &frame[54..]), 0);
        assert_eq!(frame.len(), 14 + 40 + 32);
    }
}
