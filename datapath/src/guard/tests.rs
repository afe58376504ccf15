use std::collections::BTreeMap;

use weave_mesh::card::Subnet;

use super::*;
use crate::plan::fixture::{bare_plan, names};
use crate::plan::{Crossing, Metadata, Opening, PortPlan};

fn address(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// The guard of a host without containers or peers.
const BARE: &str = "\
table netdev weave-rs-weave {}
delete table netdev weave-rs-weave
table inet weave-rs-weave {}
delete table inet weave-rs-weave
table netdev weave-rs-weave {
\tset askers {
\t\ttype ether_addr . ifname
\t\tflags dynamic
\t\ttimeout 1m
\t\tsize 4096
\t}
\tchain resolution {
\t\tarp htype != 1 drop
\t\tarp ptype != ip drop
\t\tarp hlen != 6 drop
\t\tarp plen != 4 drop
\t}
\tchain common {
\t\tether type != { arp, ip, ip6 } drop
\t\tether type arp jump resolution
\t}
\tchain ipv4 {
\t\tip protocol != udp accept
\t\tudp dport != 68 accept
\t\tip frag-off & 0x1fff != 0 accept
\t\tcounter drop
\t}
\tchain ipv6 {
\t\ticmpv6 type != { nd-neighbor-advert, nd-router-advert, nd-redirect } accept
\t\tudp dport != 546 accept
\t\tmeta l4proto != { icmpv6, udp } accept
\t\tmeta l4proto { icmpv6, udp } frag frag-off != 0 accept
\t\tcounter drop
\t}
\tchain resolver {
\t\tarp daddr ip 169.254.65.53 drop
\t\tarp saddr ip 169.254.65.53 drop
\t}
\tchain query {
\t\tupdate @askers { ether saddr . oifname limit rate over 20/second burst 50 packets } counter drop
\t}
}
table inet weave-rs-weave {
\tchain fastpath {
\t\tcounter drop
\t}
\tchain host {
\t\tip daddr 169.254.65.53 meta l4proto . th dport { tcp . 53, udp . 53 } accept
\t\tcounter drop
\t}
\tchain input {
\t\ttype filter hook input priority -10; policy accept;
\t\tudp dport 6784 jump fastpath
\t\tiifname \"weave\" goto host
\t}
\tchain member {
\t\tmeta iifkind { \"bridge\", \"veth\" } counter drop
\t}
\tchain mesh {
\t\tfib daddr . iif oif exists return
\t\tudp dport 6784 meta iifkind { \"bridge\", \"veth\" } counter drop
\t}
\tchain inward {
\t\tcounter drop
\t}
\tchain outward {
\t\tcounter drop
\t}
\tchain forward {
\t\ttype filter hook forward priority -10; policy accept;
\t\tiifname \"weave\" oifname \"weave\" accept
\t\tmeta l4proto { tcp, udp } th dport { 6783, 6784 } jump mesh
\t\toifname \"weave\" goto inward
\t\tiifname \"weave\" goto outward
\t}
}
table netdev weave-rs-weave {
\tchain weave-tap {
\t\ttype filter hook egress device \"weave-tap\" priority 0; policy accept;
\t\tether type ip accept
\t\tether type arp jump resolver
\t\tether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 accept
\t\tether saddr 02:00:00:00:00:01 ether type ip6 icmpv6 type { mld-listener-report, mld-listener-done, nd-router-solicit, mld2-listener-report } drop
\t\tether saddr 02:00:00:00:00:01 accept
\t\tether type arp jump query
\t\tether type ip6 icmpv6 type nd-neighbor-solicit jump query
\t}
}
";

#[test]
fn a_host_without_containers_or_peers_closes_its_ports_and_its_fast_path() {
    assert_eq!(Guard::of(&bare_plan(), &BTreeSet::from([names().tap])).script(), BARE);
}

#[test]
fn a_port_may_use_its_own_mac_and_addresses_and_nothing_else() {
    let mut plan = bare_plan();
    plan.guard.allow_ethertypes.insert(0x88cc);
    let addresses = [("10.32.0.1", 12), ("10.32.0.2", 12), ("fd00::1", 64)];
    let addresses = addresses.map(|(text, prefix_len)| Subnet { address: address(text), prefix_len }).into();
    let port: LinkName = "vethwepl0000001".parse().expect("name");
    plan.ports.insert(port.clone(), PortPlan { mac: MacAddr([2, 0, 0, 0, 0, 1]), addresses });
    let expected = "\
\tchain vethwepl0000001 {
\t\ttype filter hook ingress device \"vethwepl0000001\" priority 0; policy drop;
\t\tmeta pkttype other ether saddr 02:00:00:00:00:01 ether type ip ip saddr { 10.32.0.1, 10.32.0.2 } ip protocol != udp accept
\t\tmeta pkttype other ether saddr 02:00:00:00:00:01 ether type ip ip saddr { 10.32.0.1, 10.32.0.2 } udp dport != 68 accept
\t\tether saddr != 02:00:00:00:00:01 drop
\t\tmeta pkttype { broadcast, multicast } limit rate over 2000/second burst 4000 packets counter drop
\t\tmeta pkttype { broadcast, multicast } limit rate over 12 mbytes/second burst 4 mbytes counter drop
\t\tjump common
\t\tether type ip ip saddr { 10.32.0.1, 10.32.0.2 } goto ipv4
\t\tether type arp arp saddr ether 02:00:00:00:00:01 arp saddr ip { 10.32.0.1, 10.32.0.2 } accept
\t\tether type ip6 ip6 saddr { fd00::1, fe80::ff:fe00:1 } icmpv6 type nd-neighbor-advert @th,64,128 { 0xfd000000000000000000000000000001, 0xfe80000000000000000000fffe000001 } accept
\t\tether type ip6 ip6 saddr { fd00::1, fe80::ff:fe00:1 } goto ipv6
\t\tether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 { 0xfd000000000000000000000000000001, 0xfe80000000000000000000fffe000001 } accept
\t\tether type ip6 ip6 saddr :: icmpv6 type { mld-listener-report, mld-listener-done, nd-router-solicit, mld2-listener-report } accept
\t\tether type arp arp operation request arp saddr ether 02:00:00:00:00:01 arp saddr ip 0.0.0.0 accept
\t\tether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
\t\tether type 0x88cc accept
\t}
";

    let script = Guard::of(&plan, &BTreeSet::from([port])).script();

    assert!(script.contains(expected), "{script}");
    assert!(script.contains("\t\tether type != { arp, ip, ip6, 0x88cc } drop\n"), "{script}");
}

#[test]
fn a_port_that_the_plan_does_not_name_is_closed() {
    let port: LinkName = "vethwepl0000001".parse().expect("name");
    let expected = "\
\tchain vethwepl0000001 {
\t\ttype filter hook ingress device \"vethwepl0000001\" priority 0; policy drop;
\t}
";

    assert!(Guard::of(&bare_plan(), &BTreeSet::from([port])).script().contains(expected));
}

fn network(text: &str, prefix_len: u8) -> Subnet {
    Subnet { address: address(text), prefix_len }
}

/// A host with one address in each of three networks.
fn exposed_plan() -> Plan {
    let mut plan = bare_plan();
    let networks = [("10.32.0.0", 12, Crossing::Masqueraded), ("10.2.1.0", 24, Crossing::AsIs)];
    for (text, prefix_len, crossing) in networks.into_iter().chain([("fd00::", 64, Crossing::Masqueraded)]) {
        plan.exposed.insert(network(text, prefix_len), Opening::of(crossing));
    }
    plan.bridge.addresses = [("10.32.0.9", 12), ("10.2.1.9", 24), ("fd00::9", 64)].map(|(a, b)| network(a, b)).into();
    plan
}

#[test]
fn what_crosses_an_exposed_network_is_masqueraded_unless_it_is_to_keep_its_source() {
    let expected = "\
\tchain postrouting {
\t\ttype nat hook postrouting priority 100; policy accept;
\t\tip daddr { 224.0.0.0/4, 255.255.255.255 } return
\t\tip6 daddr ff00::/8 return
\t\toifname != \"weave\" ip saddr 10.32.0.0/12 ip daddr != 10.32.0.0/12 masquerade
\t\toifname \"weave\" ip saddr != 10.32.0.0/12 ip daddr 10.32.0.0/12 masquerade
\t\toifname != \"weave\" ip6 saddr fd00::/64 ip6 daddr != fd00::/64 masquerade
\t\toifname \"weave\" ip6 saddr != fd00::/64 ip6 daddr fd00::/64 masquerade
\t}
}
";

    let script = Guard::of(&exposed_plan(), &BTreeSet::new()).script();

    assert!(script.ends_with(expected), "{script}");
}

#[test]
fn an_exposed_host_is_open_for_its_networks_but_not_the_meshs_port_metadata_or_docker() {
    let expected = "\
\tchain host {
\t\tip daddr 169.254.65.53 meta l4proto . th dport { tcp . 53, udp . 53 } accept
\t\tmeta l4proto { tcp, udp } th dport 6783 counter drop
\t\tip saddr { 10.2.1.0/24, 10.32.0.0/12 } ip daddr { 10.2.1.255, 10.2.1.9, 10.32.0.9, 10.47.255.255, 224.0.0.0/4, 255.255.255.255 } accept
\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
\t\tip6 saddr fd00::/64 ip6 daddr { fd00::9, ff00::/8 } accept
\t\tcounter drop
\t}
";
    let crossing = "\
\tchain inward {
\t\tct status dnat accept
\t\tiifname { \"docker0\", \"docker_gwbridge\", \"br-*\" } counter drop
\t\tip daddr { 10.2.1.0/24, 10.32.0.0/12 } accept
\t\tip6 daddr fd00::/64 accept
\t\tcounter drop
\t}
\tchain outward {
\t\tip daddr { 100.100.100.200, 168.63.129.16, 169.254.0.0/16 } counter drop
\t\tip6 daddr { fd00:ec2::/32, fe80::/10 } counter drop
\t\tct status dnat accept
\t\toifname { \"docker0\", \"docker_gwbridge\", \"br-*\" } counter drop
\t\tip saddr { 10.2.1.0/24, 10.32.0.0/12 } accept
\t\tip6 saddr fd00::/64 accept
\t\tcounter drop
\t}
";

    let script = Guard::of(&exposed_plan(), &BTreeSet::new()).script();

    assert!(script.contains(expected) && script.contains(crossing), "{script}");
}

#[test]
fn metadata_is_open_for_the_networks_that_may_have_it() {
    let mut plan = exposed_plan();
    plan.exposed.get_mut(&network("10.2.1.0", 24)).expect("exposed").metadata = Metadata::Open;

    let script = Guard::of(&plan, &BTreeSet::new()).script();

    let services = "{ 100.100.100.200, 168.63.129.16, 169.254.0.0/16 }";
    let opened = format!("\t\tip saddr 10.2.1.0/24 ip daddr {services} accept\n\t\tip daddr {services} counter drop\n");
    let here = format!("\t\tip saddr 10.2.1.0/24 ct status dnat ct original ip daddr {services} accept\n");
    assert!(script.contains(&opened) && script.contains(&here), "{script}");
}

#[test]
fn what_a_host_that_is_not_exposed_forwards_is_not_tracked() {
    assert!(!Guard::of(&bare_plan(), &BTreeSet::new()).script().contains("\tct "));
}

#[test]
fn members_ports_are_closed_to_what_is_forwarded_each_at_its_own() {
    let mut plan = bare_plan();
    plan.guard.members = ["192.0.2.1:6783", "192.0.2.2:6783", "[2001:db8::1]:6783", "192.0.2.3:7000"]
        .map(|text| text.parse().expect("one"))
        .into();
    let expected = "\
\tchain member {
\t\tmeta iifkind { \"bridge\", \"veth\" } counter drop
\t\tudp dport { 6784, 7001 } ip saddr != { 192.0.2.1, 192.0.2.2, 192.0.2.3 } counter drop
\t\tudp dport { 6784, 7001 } ip6 saddr != 2001:db8::1 counter drop
\t}
\tchain mesh {
\t\tfib daddr . iif oif exists return
\t\tudp dport 6784 meta iifkind { \"bridge\", \"veth\" } counter drop
\t\tip daddr { 192.0.2.1, 192.0.2.2 } th dport { 6783, 6784 } jump member
\t\tip6 daddr 2001:db8::1 th dport { 6783, 6784 } jump member
\t\tip daddr 192.0.2.3 th dport { 7000, 7001 } jump member
\t}
";

    let script = Guard::of(&plan, &BTreeSet::new()).script();

    assert!(script.contains(expected), "{script}");
    assert!(script.contains("th dport { 6783, 6784, 7000, 7001 } jump mesh"), "{script}");
}

#[test]
fn the_fast_path_hears_the_listed_addresses_only() {
    let mut plan = bare_plan();
    plan.guard.vxlan_sources = BTreeSet::from(["192.0.2.1", "2001:db8::1"].map(address));
    let expected = "\
\tchain fastpath {
\t\tip saddr 192.0.2.1 accept
\t\tip6 saddr 2001:db8::1 accept
\t\tcounter drop
\t}
";

    assert!(Guard::of(&plan, &BTreeSet::new()).script().contains(expected));
}

#[test]
fn clear_frames_leave_from_where_their_addressee_trusts_and_from_nowhere_else() {
    let subnets = |texts: &[&str]| {
        let subnet = |text: &str| {
            let (address, prefix_len) = text.split_once('/').expect("a subnet");
            Subnet { address: self::address(address), prefix_len: prefix_len.parse().expect("a length") }
        };
        texts.iter().map(|text| subnet(text)).collect::<BTreeSet<_>>()
    };
    let mut plan = bare_plan();
    plan.guard.clear_pairs = BTreeMap::from([
        ("192.0.2.1:6784".parse().expect("socket"), subnets(&["192.0.2.0/24", "192.0.2.0/25", "2001:db8::/64"])),
        ("192.0.2.2:7001".parse().expect("socket"), subnets(&["192.0.2.0/24", "192.0.2.0/25", "2001:db8::/64"])),
        ("192.0.2.3:6784".parse().expect("socket"), subnets(&[])),
        ("[2001:db8::1]:6784".parse().expect("socket"), subnets(&["2001:db8::/64"])),
    ]);
    let expected = "\
\tchain clear {
\t\tip saddr 192.0.2.0/24 ip daddr . udp dport { 192.0.2.1 . 6784, 192.0.2.2 . 7001 } accept
\t\tip saddr 192.0.2.0/25 ip daddr . udp dport { 192.0.2.1 . 6784, 192.0.2.2 . 7001 } accept
\t\tip6 saddr 2001:db8::/64 ip6 daddr . udp dport { 2001:db8::1 . 6784 } accept
\t\tcounter drop
\t}
\tchain output {
\t\ttype filter hook output priority -10; policy accept;
\t\tip daddr . udp dport { 192.0.2.1 . 6784, 192.0.2.2 . 7001, 192.0.2.3 . 6784 } jump clear
\t\tip6 daddr . udp dport { 2001:db8::1 . 6784 } jump clear
\t}
";

    let script = Guard::of(&plan, &BTreeSet::new()).script();

    assert!(script.contains(expected), "{script}");
}

#[test]
fn the_link_local_address_is_the_one_of_the_kernel() {
    assert_eq!(
        link_local(MacAddr([0x02, 0x11, 0x22, 0x33, 0x44, 0x55])),
        "fe80::11:22ff:fe33:4455".parse::<Ipv6Addr>().expect("address")
    );
}

#[test]
fn a_port_hears_its_own_subnets_where_there_are_others() {
    let mut plan = bare_plan();
    let (port, mac) = ("vethwepl0000001".parse::<LinkName>().expect("name"), MacAddr([2, 0, 0, 0, 0, 1]));
    plan.ports.insert(port.clone(), PortPlan { mac, addresses: [network("10.2.1.1", 24)].into() });
    plan.neighbours = BTreeMap::from([(address("10.2.1.1"), mac), (address("10.2.1.2"), MacAddr([2, 0, 0, 0, 0, 2]))]);
    let devices = BTreeSet::from([port]);
    assert!(!Guard::of(&plan, &devices).script().contains("-out"), "one subnet: nobody pays");

    plan.neighbours.insert(address("10.2.2.1"), MacAddr([2, 0, 0, 0, 0, 3]));
    let expected = "\
\tchain vethwepl0000001-out {
\t\ttype filter hook egress device \"vethwepl0000001\" priority 0; policy accept;
\t\tmeta pkttype != { broadcast, multicast } accept
\t\tether type ip ip saddr { 10.2.1.0/24, 0.0.0.0 } accept
\t\tether type arp arp saddr ip 10.2.1.0/24 accept
\t\tether type arp arp daddr ip 10.2.1.1 accept
\t\tether type ip6 icmpv6 type nd-neighbor-solicit @th,64,128 0xfe80000000000000000000fffe000001 accept
\t\tcounter drop
\t}
";
    let script = Guard::of(&plan, &devices).script();
    assert!(script.contains(expected), "{script}");
}
