use weave_mesh::card::Subnet;

use super::*;
use crate::plan::fixture::{bare_plan, names};
use crate::plan::{Crossing, PortPlan};

fn address(text: &str) -> IpAddr {
    text.parse().expect("address")
}

#[test]
fn a_host_without_containers_or_peers_closes_its_ports_and_its_fast_path() {
    let expected = "\
table netdev weave-rs {}
delete table netdev weave-rs
table inet weave-rs {}
delete table inet weave-rs
table netdev weave-rs {
\tset askers {
\t\ttype ether_addr . ifname
\t\tflags dynamic
\t\ttimeout 1m
\t\tsize 4096
\t}
\tchain common {
\t\tether type != { arp, ip, ip6 } drop
\t\tether type ip udp dport 68 drop
\t\tether type ip6 udp dport 546 drop
\t\tether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop
\t\tether type arp arp htype != 1 drop
\t\tether type arp arp ptype != ip drop
\t\tether type arp arp hlen != 6 drop
\t\tether type arp arp plen != 4 drop
\t}
\tchain resolver {
\t\tarp daddr ip 169.254.65.53 drop
\t\tarp saddr ip 169.254.65.53 drop
\t}
\tchain query {
\t\tupdate @askers { ether saddr . oifname limit rate over 20/second burst 50 packets } counter drop
\t}
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
table inet weave-rs {
\tchain fastpath {
\t\tcounter drop
\t}
\tchain input {
\t\ttype filter hook input priority -10; policy accept;
\t\tudp dport 6784 jump fastpath
\t\tiifname \"weave\" meta l4proto { tcp, udp } th dport 6783 drop
\t\tiifname \"weave\" ip daddr 169.254.65.53 meta l4proto . th dport != { tcp . 53, udp . 53 } drop
\t}
}
";

    assert_eq!(render(&bare_plan(), &BTreeSet::from([names().tap])), expected);
}

#[test]
fn a_port_may_use_its_own_mac_and_addresses_and_nothing_else() {
    let mut plan = bare_plan();
    plan.guard.allow_ethertypes.insert(0x88cc);
    let addresses = BTreeSet::from(["10.32.0.1", "10.32.0.2", "fd00::1"].map(address));
    let port: LinkName = "vethwepl0000001".parse().expect("name");
    plan.ports.insert(port.clone(), PortPlan { mac: MacAddr([2, 0, 0, 0, 0, 1]), addresses });
    let expected = "\
\tchain vethwepl0000001 {
\t\ttype filter hook ingress device \"vethwepl0000001\" priority 0; policy drop;
\t\tether saddr 02:00:00:00:00:01 ether type ip ip saddr { 10.32.0.1, 10.32.0.2 } ip protocol != udp accept
\t\tether saddr 02:00:00:00:00:01 ether type ip ip saddr { 10.32.0.1, 10.32.0.2 } udp dport != 68 accept
\t\tether saddr != 02:00:00:00:00:01 drop
\t\tjump common
\t\tether type ip ip saddr { 10.32.0.1, 10.32.0.2 } accept
\t\tether type arp arp saddr ether 02:00:00:00:00:01 arp saddr ip { 10.32.0.1, 10.32.0.2 } accept
\t\tether type ip6 ip6 saddr { fd00::1, fe80::ff:fe00:1 } icmpv6 type nd-neighbor-advert @th,64,128 { 0xfd000000000000000000000000000001, 0xfe80000000000000000000fffe000001 } accept
\t\tether type ip6 icmpv6 type nd-neighbor-advert drop
\t\tether type ip6 ip6 saddr { fd00::1, fe80::ff:fe00:1 } accept
\t\tether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 { 0xfd000000000000000000000000000001, 0xfe80000000000000000000fffe000001 } accept
\t\tether type ip6 ip6 saddr :: icmpv6 type { mld-listener-report, mld-listener-done, nd-router-solicit, mld2-listener-report } accept
\t\tether type arp arp operation request arp saddr ether 02:00:00:00:00:01 arp saddr ip 0.0.0.0 accept
\t\tether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
\t\tether type 0x88cc accept
\t}
";

    let script = render(&plan, &BTreeSet::from([port]));

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

    assert!(render(&bare_plan(), &BTreeSet::from([port])).contains(expected));
}

#[test]
fn what_crosses_an_exposed_network_is_masqueraded_unless_it_is_to_keep_its_source() {
    let mut plan = bare_plan();
    let network = |text, prefix_len| Subnet { address: address(text), prefix_len };
    plan.exposed.insert(network("10.32.0.0", 12), Crossing::Masqueraded);
    plan.exposed.insert(network("10.2.1.0", 24), Crossing::AsIs);
    plan.exposed.insert(network("fd00::", 64), Crossing::Masqueraded);
    let expected = "\
\tchain forward {
\t\ttype filter hook forward priority -10; policy accept;
\t\tiifname \"docker0\" oifname \"weave\" drop
\t}
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

    let script = render(&plan, &BTreeSet::new());

    assert!(script.ends_with(expected), "{script}");
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

    assert!(render(&plan, &BTreeSet::new()).contains(expected));
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

    let script = render(&plan, &BTreeSet::new());

    assert!(script.contains(expected), "{script}");
}

#[test]
fn the_link_local_address_is_the_one_of_the_kernel() {
    assert_eq!(
        link_local(MacAddr([0x02, 0x11, 0x22, 0x33, 0x44, 0x55])),
        "fe80::11:22ff:fe33:4455".parse::<Ipv6Addr>().expect("address")
    );
}
