//! What a hostile container can do to its neighbour on the same bridge: nothing.
//!
//! ```text
//!   attacker 10.32.0.5, fd00::5 ── [weave] ── victim 10.32.0.6, fd00::6
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use weave_datapath::guard::Guard;
use weave_datapath::heartbeat;
use weave_datapath::linux::firewall::run_nft;
use weave_datapath::plan::OverlayPort;
use weave_netns_tests::frame::{self, BROADCAST, Mac};

use crate::lab::{Container, EXPERIMENTAL, Host, Wire, bare_plan, contains, eventually, ip, mac, names, on_a_host};

const OWN: Mac = [2, 0, 0, 0, 0, 5];
const VICTIM: Mac = [2, 0, 0, 0, 0, 6];
const OWN_IPV4: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 5);
const VICTIM_IPV4: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 6);
const FOREIGN_IPV4: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 7);
const OWN_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5);
const FOREIGN_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// A header of options for the destination, before ICMPv6.
const OPTION: [u8; 8] = [58, 0, 1, 4, 0, 0, 0, 0];
const HOP_BY_HOP: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];

struct Scene {
    host: Host,
    attacker: Container,
    victim: Container,
}

fn scene() -> Scene {
    let mut host = Host::start(bare_plan(1));
    let attacker = host.container(5, &["10.32.0.5/12", "fd00::5/64"]);
    let victim = host.container(6, &["10.32.0.6/12", "fd00::6/64"]);
    Scene { host, attacker, victim }
}

fn honest(text: &str) -> Vec<u8> {
    frame::ethernet(BROADCAST, OWN, frame::IPV4, &frame::udp((OWN_IPV4, 7), (Ipv4Addr::BROADCAST, 7), text.as_bytes()))
}

/// Whether `frame` gets from one wire to the other. An honest frame behind it shows that all before it had its chance.
fn passes(from: &Wire, to: &Wire, frame: &[u8], number: usize) -> bool {
    let marker = format!("marker {number:08}");
    from.send(frame);
    from.send(&honest(&marker));
    to.until(&[marker.as_bytes()]).iter().any(|heard| contains(heard, frame) || contains(frame, heard))
}

fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let body = [&head[..], &sender.0, &sender.1.octets(), &[0; 6], &target.octets()].concat();
    frame::ethernet(BROADCAST, OWN, frame::ARP, &body)
}

fn ipv6(source: Ipv6Addr, extension: &[u8], message: &[u8]) -> Vec<u8> {
    frame::ethernet(ALL_NODES_MAC, OWN, frame::IPV6, &frame::icmpv6(source, ALL_NODES, 255, extension, message))
}

/// A piece of a packet, whose first piece has offset 0; `next` is the first header of what was cut.
fn fragment(source: Ipv6Addr, next: u8, offset: u16, more: bool, piece: &[u8]) -> Vec<u8> {
    let length = u16::try_from(piece.len() + 8).expect("short");
    let place = (offset & !7) | u16::from(more);
    let header = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[44, 255], &source.octets(), &ALL_NODES.octets()];
    let extension = [&[next, 0][..], &place.to_be_bytes(), &[0, 0, 0, 7]].concat();
    frame::ethernet(ALL_NODES_MAC, OWN, frame::IPV6, &[&header.concat(), &extension, piece].concat())
}

fn retyped(frame: &[u8], ethertype: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

fn ipv4(source: Ipv4Addr) -> Vec<u8> {
    frame::ethernet(VICTIM, OWN, frame::IPV4, &frame::udp((source, 9), (VICTIM_IPV4, 9), b"hello"))
}

fn ipv6_udp(port: u16) -> Vec<u8> {
    let datagram = [&9_u16.to_be_bytes()[..], &port.to_be_bytes(), &12_u16.to_be_bytes(), &[0, 0], b"text"].concat();
    let header = [&[0x60, 0, 0, 0, 0, 12, 17, 64][..], &OWN_IPV6.octets(), &ALL_NODES.octets()].concat();
    frame::ethernet(ALL_NODES_MAC, OWN, frame::IPV6, &[header, datagram].concat())
}

/// At offset 8, without a port.
fn ipv4_piece() -> Vec<u8> {
    let mut packet = frame::ipv4(OWN_IPV4, VICTIM_IPV4, 17, &[], b"the rest of a datagram");
    packet[7] = 1;
    packet[10..12].fill(0);
    let sum = frame::checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    frame::ethernet(VICTIM, OWN, frame::IPV4, &packet)
}

fn forgeries() -> Vec<(&'static str, Vec<u8>)> {
    let redirect = [&[137, 0, 0, 0, 0, 0, 0, 0][..], &[0; 32]].concat();
    let advertisement = [&[134, 0, 0, 0, 64, 0, 7, 8][..], &[0; 8]].concat();
    let poison = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &FOREIGN_IPV6.octets(), &[2, 1], &OWN].concat();
    let honest_arp = arp(1, (OWN, OWN_IPV4), VICTIM_IPV4);
    vec![
        (
            "a foreign source MAC",
            frame::ethernet(VICTIM, mac(7).0, frame::IPV4, &frame::udp((OWN_IPV4, 9), (VICTIM_IPV4, 9), b"x")),
        ),
        ("the victim's own MAC", frame::ethernet(BROADCAST, VICTIM, frame::IPV4, b"x")),
        ("a foreign IPv4 source", ipv4(FOREIGN_IPV4)),
        ("IPv4 without a source", ipv4(Ipv4Addr::UNSPECIFIED)),
        ("a foreign IPv6 source", ipv6(FOREIGN_IPV6, &[], &[128, 0, 0, 0, 0, 1, 0, 1])),
        ("a ping without a source", ipv6(Ipv6Addr::UNSPECIFIED, &[], &[128, 0, 0, 0, 0, 1, 0, 1])),
        ("gratuitous ARP for a foreign address", frame::gratuitous_arp(OWN, FOREIGN_IPV4, OWN)),
        ("an ARP reply for a foreign address", arp(2, (OWN, FOREIGN_IPV4), VICTIM_IPV4)),
        ("an ARP request from a foreign address", arp(1, (OWN, FOREIGN_IPV4), VICTIM_IPV4)),
        ("ARP that gives the own address a foreign MAC", arp(2, (mac(7).0, OWN_IPV4), VICTIM_IPV4)),
        ("an ARP reply without an address", arp(2, (OWN, Ipv4Addr::UNSPECIFIED), VICTIM_IPV4)),
        ("a foreign neighbour advertisement", frame::neighbour_advertisement(OWN, FOREIGN_IPV6, OWN)),
        ("one from the own address", ipv6(OWN_IPV6, &[], &poison)),
        ("one behind an extension header", ipv6(OWN_IPV6, &HOP_BY_HOP, &poison)),
        ("a solicitation from a foreign address", frame::neighbour_solicitation(OWN, FOREIGN_IPV6, OWN, OWN_IPV6)),
        ("DAD for a foreign address", frame::neighbour_solicitation(OWN, Ipv6Addr::UNSPECIFIED, OWN, FOREIGN_IPV6)),
        ("a router advertisement", frame::router_advertisement(OWN, frame::link_local(OWN), &[])),
        ("one behind an extension header", ipv6(frame::link_local(OWN), &HOP_BY_HOP, &advertisement)),
        ("one cut in two", fragment(frame::link_local(OWN), 58, 0, true, &advertisement)),
        ("one whose first piece has an option alone", fragment(frame::link_local(OWN), 60, 0, true, &OPTION)),
        ("and the piece behind it", fragment(frame::link_local(OWN), 60, 8, false, &advertisement)),
        ("the beginning of an advertisement", fragment(OWN_IPV6, 60, 0, true, &[&OPTION[..], &[136, 0]].concat())),
        ("a DHCPv6 answer", ipv6_udp(546)),
        ("the beginning of some datagram", fragment(OWN_IPV6, 60, 0, true, &[17, 0, 1, 4, 0, 0, 0, 0])),
        ("a redirect", ipv6(frame::link_local(OWN), &[], &redirect)),
        ("a DHCP offer", frame::ethernet(BROADCAST, OWN, frame::IPV4, &frame::dhcp_offer(OWN_IPV4))),
        (
            "one from another port",
            frame::ethernet(
                BROADCAST,
                OWN,
                frame::IPV4,
                &frame::udp((OWN_IPV4, 99), (Ipv4Addr::BROADCAST, 68), b"offer"),
            ),
        ),
        ("ARP behind a VLAN tag", frame::tagged(&honest_arp)),
        ("IPv4 behind a VLAN tag", frame::tagged(&ipv4(OWN_IPV4))),
        ("IPv4 behind two VLAN tags", frame::tagged(&frame::tagged(&ipv4(OWN_IPV4)))),
        ("IPv4 behind a provider tag", retyped(&frame::tagged(&ipv4(OWN_IPV4)), 0x88a8)),
        ("a heartbeat", frame::ethernet(VICTIM, OWN, heartbeat::ETHERTYPE, b"alive")),
        ("a heartbeat behind a VLAN tag", frame::tagged(&frame::ethernet(VICTIM, OWN, heartbeat::ETHERTYPE, b"alive"))),
        ("another ethertype", frame::ethernet(VICTIM, OWN, EXPERIMENTAL, b"hello")),
        ("an 802.3 frame", frame::ethernet(VICTIM, OWN, 46, b"hello")),
    ]
}

fn honest_frames() -> Vec<(&'static str, Vec<u8>)> {
    let report = [&[143, 0, 0, 0, 0, 0, 0, 0][..]].concat();
    let link_local = frame::link_local(OWN);
    vec![
        ("IPv4", ipv4(OWN_IPV4)),
        ("IPv6", ipv6(OWN_IPV6, &[], &[128, 0, 0, 0, 0, 1, 0, 1])),
        ("link-local IPv6", ipv6(link_local, &[], &[128, 0, 0, 0, 0, 1, 0, 1])),
        ("a long ping's first piece", fragment(OWN_IPV6, 58, 0, true, &[128, 0, 0, 0, 0, 1, 0, 1])),
        ("and its second", fragment(OWN_IPV6, 58, 8, false, b"the rest")),
        ("a datagram of IPv6", ipv6_udp(9)),
        ("the second piece of one", fragment(OWN_IPV6, 17, 1024, false, b"the rest")),
        ("the second piece of one of IPv4", ipv4_piece()),
        ("an ARP request", arp(1, (OWN, OWN_IPV4), VICTIM_IPV4)),
        ("an ARP reply", arp(2, (OWN, OWN_IPV4), VICTIM_IPV4)),
        ("an ARP probe", arp(1, (OWN, Ipv4Addr::UNSPECIFIED), OWN_IPV4)),
        ("gratuitous ARP", frame::gratuitous_arp(OWN, OWN_IPV4, OWN)),
        ("a neighbour advertisement", frame::neighbour_advertisement(OWN, OWN_IPV6, OWN)),
        ("a neighbour solicitation", frame::neighbour_solicitation(OWN, OWN_IPV6, OWN, FOREIGN_IPV6)),
        ("DAD", frame::neighbour_solicitation(OWN, Ipv6Addr::UNSPECIFIED, OWN, OWN_IPV6)),
        ("DAD of the link-local address", frame::neighbour_solicitation(OWN, Ipv6Addr::UNSPECIFIED, OWN, link_local)),
        ("an MLD report without a source", ipv6(Ipv6Addr::UNSPECIFIED, &HOP_BY_HOP, &report)),
        ("an IGMP query", frame::igmp_query(OWN, OWN_IPV4)),
        (
            "a DHCP request",
            frame::ethernet(
                BROADCAST,
                OWN,
                frame::IPV4,
                &frame::udp((Ipv4Addr::UNSPECIFIED, 68), (Ipv4Addr::BROADCAST, 67), b"discover"),
            ),
        ),
    ]
}

#[test]
fn no_forgery_is_delivered_and_honest_frames_are() {
    on_a_host(|| {
        let scene = scene();
        let (attacker, victim) = (scene.attacker.wire(), scene.victim.wire());

        let all = forgeries()
            .into_iter()
            .map(|case| (case, false))
            .chain(honest_frames().into_iter().map(|case| (case, true)));
        for (number, ((what, frame), expected)) in all.enumerate() {
            assert_eq!(passes(&attacker, &victim, &frame, number), expected, "{what}");
        }
        assert!(scene.attacker.pings("10.32.0.6") && scene.attacker.pings("fd00::6"));
        let link_local = format!("{}%ethwe", frame::link_local(VICTIM));
        eventually("link-local addresses are usable", || scene.attacker.pings(&link_local));
    });
}

#[test]
fn duplicate_address_detection_of_a_container_succeeds() {
    on_a_host(|| {
        let scene = scene();

        eventually("no address is tentative", || !scene.attacker.run("ip -6 address show ethwe").contains("tentative"));

        let addresses = scene.attacker.run("ip -6 address show ethwe");
        assert!(addresses.contains("fe80::ff:fe00:5") && !addresses.contains("dadfailed"), "{addresses}");
    });
}

#[test]
fn an_ethertype_that_the_operator_opens_passes() {
    on_a_host(|| {
        let mut scene = scene();
        scene.host.plan.guard.allow_ethertypes.insert(EXPERIMENTAL);
        scene.host.apply();
        let (attacker, victim) = (scene.attacker.wire(), scene.victim.wire());

        let opened = frame::ethernet(VICTIM, OWN, EXPERIMENTAL, b"hello");

        assert!(passes(&attacker, &victim, &opened, 0));
        assert!(!passes(&attacker, &victim, &frame::tagged(&opened), 1));
    });
}

#[test]
fn replacing_the_guard_loses_no_frame() {
    const REPLACEMENTS: usize = 60;
    on_a_host(|| {
        let scene = scene();
        let (attacker, frame, script) = (scene.attacker.wire(), ipv4(OWN_IPV4), script(&scene));
        let (before, done) = (received_by(&scene.victim), AtomicBool::new(false));

        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0;
                while !done.load(Ordering::Relaxed) {
                    attacker.send(&frame);
                    sent += 1;
                }
                sent
            });
            for _ in 0..REPLACEMENTS {
                run_nft(&script).expect("the script is right");
            }
            done.store(true, Ordering::Relaxed);
            sender.join().expect("all is sent")
        });

        // What the kernel sends by itself comes on top.
        let received = received_by(&scene.victim) - before;
        assert!(received >= sent, "{received} of {sent} arrived");
    });
}

fn script(scene: &Scene) -> String {
    let names = names();
    let containers = [&scene.attacker, &scene.victim].map(|container| container.attached.host_link.clone());
    Guard::of(&scene.host.plan, &[names.vxlan, names.tap].into_iter().chain(containers).collect()).script()
}

/// Frames that arrived at a container's interface.
fn received_by(container: &Container) -> u64 {
    let devices = container.run("cat /proc/self/net/dev");
    let counters = devices.lines().find_map(|line| line.trim().strip_prefix("ethwe:")).expect("its interface");
    counters.split_whitespace().nth(1).and_then(|packets| packets.parse().ok()).expect("a counter")
}

#[test]
fn a_port_that_no_plan_names_is_closed() {
    on_a_host(|| {
        let mut scene = scene();
        assert!(scene.attacker.pings("10.32.0.6"));

        scene.host.plan.ports.remove(&scene.attacker.attached.host_link);
        scene.host.apply();

        assert!(!scene.attacker.pings("10.32.0.6"));
    });
}

#[test]
fn queries_for_known_addresses_stay_here_and_others_are_limited() {
    on_a_host(|| {
        let mut scene = scene();
        scene.host.plan.bridge_fdb.insert(mac(9), OverlayPort::Tap);
        scene.host.plan.neighbours.insert(ip("10.32.0.9"), mac(9));
        scene.host.apply();
        let attacker = scene.attacker.wire();
        let queries = |target: Ipv4Addr| {
            let mut buffer = vec![0; 2048];
            for _ in 0..400 {
                attacker.send(&arp(1, (OWN, OWN_IPV4), target));
            }
            let mut arrived = 0;
            while let Some((_, length)) = scene.host.tap.receive(&mut buffer).expect("receive") {
                arrived += usize::from(buffer[..length][12..14] == frame::ARP.to_be_bytes());
            }
            arrived
        };

        assert_eq!(queries(Ipv4Addr::new(10, 32, 0, 9)), 0);
        let unknown = queries(Ipv4Addr::new(10, 32, 9, 9));
        assert!((1..100).contains(&unknown), "{unknown} of 400 queries left this host");
    });
}
