//! The edge guard: what may leave a container's port, and what may enter the UDP port of the fast path, as an nft
//! script.
//!
//! ```text
//!   bridge weave-rs   prerouting   iifname ─┬─ an overlay port ───► ARP for the resolver ─► drop
//!                                           ├─ an attached port ──► its own chain ─► own MAC ─► own IPv4 address ─► accept
//!                                           │                                                └► common ─► other addresses
//!                                           ├─ vethwepl…, unknown ─► drop
//!                                           └─ any other ──────────► accept
//!                     forward      a query that nobody here can answer, on its way to an overlay port ─► rate limit
//!                     output       what the host says to multicast switches and routers, on its way to one ─► drop
//!   inet weave-rs     input        UDP to the fast path's port ─► accept from known members, drop the rest
//!                                  from a container to the mesh's own port, or to the resolver's address ─► drop
//!                     forward      from Docker's own network to an exposed one ─► drop
//!                     postrouting  between an exposed network and the outside ─► masquerade
//! ```
//!
//! Invariants:
//! - what most frames are is decided first: every frame pays for each rule that it passes;
//! - one script replaces everything in one transaction, so that no frame meets half of it;
//! - a port of ours that the plan does not name is closed;
//! - nothing depends on the daemon: the tables stay when it dies.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use crate::plan::{Crossing, HOST_LINK_PREFIX, LinkName, Plan, PortPlan, RESOLVER};

/// The name of our tables, one of the bridge and one of the inet family.
pub const TABLE: &str = "weave-rs";
/// The set whose content the kernel changes by itself: who asked how often.
pub const ASKERS: &str = "askers";
/// The bridge of Docker's containers: they are on the overlay when they are attached to it, and not by a detour.
const DOCKER_BRIDGE: &str = "docker0";
/// Queries for unknown addresses that a port may send to each overlay port: every one is copied to every peer.
const QUERIES_PER_SECOND: u32 = 20;
/// And this many at once after a pause.
const QUERIES_BURST: u32 = 50;

/// What the guard lets through beyond the MAC and addresses of each attached port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Control (TCP) and sleeve (UDP): for other hosts, not for containers.
    pub mesh_port: u16,
    /// UDP port of the fast path, guarded whether or not there is a VXLAN device.
    pub vxlan_port: u16,
    /// Underlay addresses from which VXLAN is accepted. With a password: of peers in trusted pairs of subnets only;
    /// without: of all members, held ones included. Empty: everything to the port is dropped.
    pub vxlan_sources: BTreeSet<IpAddr>,
    /// EtherTypes that containers may send beside IPv4, ARP and IPv6.
    pub allow_ethertypes: BTreeSet<u16>,
}

/// The script that makes our tables what `plan` wants, in one transaction.
pub fn render(plan: &Plan) -> String {
    let mut script = removal();
    // Writing to a string does not fail.
    let _ = write_bridge_table(&mut script, plan);
    let _ = write_inet_table(&mut script, plan);
    script
}

/// The script that removes our tables, whether or not they exist.
pub fn removal() -> String {
    ["bridge", "inet"].map(|family| format!("table {family} {TABLE} {{}}\ndelete table {family} {TABLE}\n")).concat()
}

/// The IPv6 link-local address that the kernel gives an interface with this MAC.
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

fn write_bridge_table(script: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(script, "table bridge {TABLE} {{")?;
    writeln!(
        script,
        "\tset {ASKERS} {{\n\t\ttype ifname . ifname\n\t\tflags dynamic\n\t\ttimeout 1m\n\t\tsize 4096\n\t}}"
    )?;
    write_common_chain(script, &plan.guard)?;
    for (link, port) in &plan.ports {
        write_port_chain(script, link, port, &plan.guard)?;
    }
    write_overlay_chains(script)?;
    write_prerouting_chain(script, plan)?;
    write_forward_chain(script, plan)?;
    write_output_chain(script, plan)?;
    script.write_str("}\n")
}

/// The map finds a port's chain at once. The rules behind it are for the instant in which one guard replaces another: a
/// frame that is among the old rules then finds the old map empty already, and would be dropped (Linux 6.18: two in three
/// replacements cost a busy port a frame, and with the rules none).
fn write_prerouting_chain(script: &mut String, plan: &Plan) -> fmt::Result {
    let overlay = [&plan.names.vxlan, &plan.names.tap].map(|link| (link.to_string(), "overlay".to_owned()));
    let ports = plan.ports.keys().map(|link| (link.to_string(), link.to_string()));
    let chains: Vec<(String, String)> = overlay.into_iter().chain(ports).collect();
    script.write_str("\tchain prerouting {\n\t\ttype filter hook prerouting priority -300; policy accept;\n")?;
    let verdicts = set(chains.iter().map(|(link, chain)| format!("\"{link}\" : goto {chain}")));
    writeln!(script, "\t\tiifname vmap {verdicts}")?;
    for (link, chain) in chains {
        writeln!(script, "\t\tiifname \"{link}\" goto {chain}")?;
    }
    writeln!(script, "\t\tiifname \"{HOST_LINK_PREFIX}*\" drop\n\t}}")
}

/// What comes from other hosts was seen to by their guards. Nobody asks for the resolver's address or claims it across the
/// overlay: every host has its own.
fn write_overlay_chains(script: &mut String) -> fmt::Result {
    writeln!(script, "\tchain resolver {{\n\t\tarp daddr ip {RESOLVER} drop\n\t\tarp saddr ip {RESOLVER} drop\n\t}}")?;
    writeln!(script, "\tchain overlay {{\n\t\tether type != arp accept\n\t\tjump resolver\n\t}}")
}

/// What no container sends: frames that are not IP, router advertisements, redirects, answers of a DHCP server.
fn write_common_chain(script: &mut String, rules: &Rules) -> fmt::Result {
    let types = ["arp", "ip", "ip6"].map(str::to_owned).into_iter().chain(extra_types(rules));
    writeln!(script, "\tchain common {{")?;
    // The EtherType as it is on the wire: a frame inside an 802.1Q tag has the tag's.
    writeln!(script, "\t\tether type != {} drop", set(types))?;
    script.write_str(
        "\t\tether type ip udp dport 68 drop\n\
         \t\tether type ip6 udp dport 546 drop\n\
         \t\tether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop\n\
         \t\tether type arp arp htype != 1 drop\n\
         \t\tether type arp arp ptype != ip drop\n\
         \t\tether type arp arp hlen != 6 drop\n\
         \t\tether type arp arp plen != 4 drop\n\
         \t}\n",
    )
}

fn write_port_chain(script: &mut String, link: &LinkName, port: &PortPlan, rules: &Rules) -> fmt::Result {
    let mac = port.mac;
    let ipv4: Vec<Ipv4Addr> = port.addresses.iter().filter_map(|address| ipv4(*address)).collect();
    let mut ipv6: BTreeSet<Ipv6Addr> = port.addresses.iter().filter_map(|address| ipv6(*address)).collect();
    ipv6.insert(link_local(mac));
    let targets = set(ipv6.iter().map(|address| format!("{:#034x}", address.to_bits())));
    let ipv6 = set(ipv6.iter().map(Ipv6Addr::to_string));

    writeln!(script, "\tchain {link} {{\n\t\tether saddr != {mac} drop")?;
    let ipv4 = (!ipv4.is_empty()).then(|| set(ipv4.iter().map(Ipv4Addr::to_string)));
    if let Some(ipv4) = &ipv4 {
        write_usual_rules(script, ipv4)?;
    }
    script.write_str("\t\tjump common\n")?;
    if let Some(ipv4) = &ipv4 {
        writeln!(script, "\t\tether type ip ip saddr {ipv4} accept")?;
        writeln!(script, "\t\tether type arp arp saddr ether {mac} arp saddr ip {ipv4} accept")?;
    }
    // Bytes 8 to 23 of a solicitation or advertisement are its target: `icmpv6 taddr` is not known to every nft. A
    // fragment that ends before them does not match, so the accept comes first.
    writeln!(script, "\t\tether type ip6 ip6 saddr {ipv6} icmpv6 type nd-neighbor-advert @th,64,128 {targets} accept")?;
    script.write_str("\t\tether type ip6 icmpv6 type nd-neighbor-advert drop\n")?;
    writeln!(script, "\t\tether type ip6 ip6 saddr {ipv6} accept")?;
    writeln!(script, "\t\tether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 {targets} accept")?;
    script.write_str(
        "\t\tether type ip6 ip6 saddr :: icmpv6 type { nd-router-solicit, mld-listener-report, mld-listener-done, \
         mld2-listener-report } accept\n",
    )?;
    writeln!(script, "\t\tether type arp arp operation request arp saddr ether {mac} arp saddr ip 0.0.0.0 accept")?;
    script.write_str("\t\tether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n")?;
    if !rules.allow_ethertypes.is_empty() {
        writeln!(script, "\t\tether type {} accept", set(extra_types(rules)))?;
    }
    script.write_str("\t\tdrop\n\t}\n")
}

/// Nearly all that a container sends: from its own addresses, and nothing that `common` forbids. What is left for
/// `common`: fragments without a port among their first bytes, and answers of a DHCP server.
fn write_usual_rules(script: &mut String, ipv4: &str) -> fmt::Result {
    writeln!(script, "\t\tether type ip ip saddr {ipv4} ip protocol != udp accept")?;
    writeln!(script, "\t\tether type ip ip saddr {ipv4} udp dport != 68 accept")
}

fn overlay_ports(plan: &Plan) -> String {
    set([&plan.names.vxlan, &plan.names.tap].map(|link| format!("\"{link}\"")))
}

/// Every bridge with IPv6 reports its groups when it comes up: copied to every peer, that would make a thousand hosts
/// open a million sessions, and nobody snoops on it.
fn write_output_chain(script: &mut String, plan: &Plan) -> fmt::Result {
    script.write_str("\tchain output {\n\t\ttype filter hook output priority -300; policy accept;\n")?;
    writeln!(script, "\t\tether type arp oifname {} jump resolver", overlay_ports(plan))?;
    writeln!(
        script,
        "\t\toifname {} ether type ip6 icmpv6 type {{ mld-listener-report, mld-listener-done, nd-router-solicit, \
         mld2-listener-report }} drop\n\t}}",
        overlay_ports(plan)
    )
}

/// Queries for known addresses are answered by the bridge and do not come this far.
fn write_forward_chain(script: &mut String, plan: &Plan) -> fmt::Result {
    let overlay = overlay_ports(plan);
    let limit = format!("limit rate over {QUERIES_PER_SECOND}/second burst {QUERIES_BURST} packets");
    writeln!(script, "\tchain query {{\n\t\tupdate @{ASKERS} {{ iifname . oifname {limit} }} counter drop\n\t}}")?;
    script.write_str("\tchain forward {\n\t\ttype filter hook forward priority -300; policy accept;\n")?;
    script.write_str("\t\tether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 accept\n")?;
    writeln!(script, "\t\toifname != {overlay} accept")?;
    script.write_str(
        "\t\tether type arp jump resolver\n\
         \t\tether type arp jump query\n\
         \t\tether type ip6 icmpv6 type nd-neighbor-solicit jump query\n\
         \t}\n",
    )
}

fn write_inet_table(script: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(script, "table inet {TABLE} {{")?;
    write_input_chains(script, plan)?;
    if !plan.exposed.is_empty() {
        write_exposed_chains(script, plan)?;
    }
    script.write_str("}\n")
}

fn write_input_chains(script: &mut String, plan: &Plan) -> fmt::Result {
    let Rules { mesh_port, vxlan_port, vxlan_sources: sources, .. } = &plan.guard;
    let accept = |script: &mut String, family: &str, sources: Vec<String>| {
        if sources.is_empty() { Ok(()) } else { writeln!(script, "\t\t{family} saddr {} accept", set(sources)) }
    };
    script.write_str("\tchain fastpath {\n")?;
    accept(script, "ip", sources.iter().filter_map(|source| ipv4(*source)).map(|source| source.to_string()).collect())?;
    accept(
        script,
        "ip6",
        sources.iter().filter_map(|source| ipv6(*source)).map(|source| source.to_string()).collect(),
    )?;
    script.write_str("\t\tcounter drop\n\t}\n")?;
    script.write_str("\tchain input {\n\t\ttype filter hook input priority -10; policy accept;\n")?;
    let bridge = &plan.names.bridge;
    writeln!(script, "\t\tudp dport {vxlan_port} jump fastpath")?;
    writeln!(script, "\t\tiifname \"{bridge}\" meta l4proto {{ tcp, udp }} th dport {mesh_port} drop")?;
    // Only the resolver answers by its bridge: anything else would leave by the host's default route.
    writeln!(
        script,
        "\t\tiifname \"{bridge}\" ip daddr {RESOLVER} meta l4proto . th dport != {{ tcp . 53, udp . 53 }} drop\n\t}}"
    )
}

/// Packets that stay on the bridge never come this far, unless `br_netfilter` shows them: hence the output device.
fn write_exposed_chains(script: &mut String, plan: &Plan) -> fmt::Result {
    let bridge = &plan.names.bridge;
    script.write_str("\tchain forward {\n\t\ttype filter hook forward priority -10; policy accept;\n")?;
    writeln!(script, "\t\tiifname \"{DOCKER_BRIDGE}\" oifname \"{bridge}\" drop\n\t}}")?;
    script.write_str("\tchain postrouting {\n\t\ttype nat hook postrouting priority 100; policy accept;\n")?;
    script.write_str("\t\tip daddr { 224.0.0.0/4, 255.255.255.255 } return\n\t\tip6 daddr ff00::/8 return\n")?;
    let masqueraded = plan.exposed.iter().filter(|(_, crossing)| **crossing == Crossing::Masqueraded);
    for (Subnet { address, prefix_len }, _) in masqueraded {
        let (family, network) = (family(*address), format!("{address}/{prefix_len}"));
        writeln!(
            script,
            "\t\toifname != \"{bridge}\" {family} saddr {network} {family} daddr != {network} masquerade"
        )?;
        writeln!(script, "\t\toifname \"{bridge}\" {family} saddr != {network} {family} daddr {network} masquerade")?;
    }
    script.write_str("\t}\n")
}

fn extra_types(rules: &Rules) -> impl Iterator<Item = String> + '_ {
    rules.allow_ethertypes.iter().map(|ethertype| format!("{ethertype:#06x}"))
}

/// How nft calls the header that an address is in.
const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip6",
    }
}

fn set(elements: impl IntoIterator<Item = String>) -> String {
    let elements: Vec<String> = elements.into_iter().collect();
    format!("{{ {} }}", elements.join(", "))
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    if let IpAddr::V4(address) = address { Some(address) } else { None }
}

fn ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    if let IpAddr::V6(address) = address { Some(address) } else { None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::{BridgeNames, BridgePlan, Resolver};

    fn plan() -> Plan {
        Plan {
            names: BridgeNames::of("weave").expect("names"),
            bridge: BridgePlan { mac: MacAddr([2, 0, 0, 0, 0, 9]), mtu: 1376, addresses: BTreeSet::new() },
            vxlan: None,
            ports: BTreeMap::new(),
            bridge_fdb: BTreeMap::new(),
            vxlan_fdb: BTreeMap::new(),
            flood: BTreeSet::new(),
            neighbours: BTreeMap::new(),
            resolver: Resolver::Absent,
            exposed: BTreeMap::new(),
            guard: Rules {
                mesh_port: 6783,
                vxlan_port: 6784,
                vxlan_sources: BTreeSet::new(),
                allow_ethertypes: BTreeSet::new(),
            },
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn a_host_without_containers_or_peers_closes_its_ports_and_its_fast_path() {
        let expected = "\
table bridge weave-rs {}
delete table bridge weave-rs
table inet weave-rs {}
delete table inet weave-rs
table bridge weave-rs {
\tset askers {
\t\ttype ifname . ifname
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
\tchain overlay {
\t\tether type != arp accept
\t\tjump resolver
\t}
\tchain prerouting {
\t\ttype filter hook prerouting priority -300; policy accept;
\t\tiifname vmap { \"weave-vx\" : goto overlay, \"weave-tap\" : goto overlay }
\t\tiifname \"weave-vx\" goto overlay
\t\tiifname \"weave-tap\" goto overlay
\t\tiifname \"vethwepl*\" drop
\t}
\tchain query {
\t\tupdate @askers { iifname . oifname limit rate over 20/second burst 50 packets } counter drop
\t}
\tchain forward {
\t\ttype filter hook forward priority -300; policy accept;
\t\tether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 accept
\t\toifname != { \"weave-vx\", \"weave-tap\" } accept
\t\tether type arp jump resolver
\t\tether type arp jump query
\t\tether type ip6 icmpv6 type nd-neighbor-solicit jump query
\t}
\tchain output {
\t\ttype filter hook output priority -300; policy accept;
\t\tether type arp oifname { \"weave-vx\", \"weave-tap\" } jump resolver
\t\toifname { \"weave-vx\", \"weave-tap\" } ether type ip6 icmpv6 type { mld-listener-report, mld-listener-done, nd-router-solicit, mld2-listener-report } drop
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

        assert_eq!(render(&plan()), expected);
    }

    #[test]
    fn a_port_may_use_its_own_mac_and_addresses_and_nothing_else() {
        let mut plan = plan();
        plan.guard.allow_ethertypes.insert(0x88cc);
        let addresses = BTreeSet::from(["10.32.0.1", "10.32.0.2", "fd00::1"].map(address));
        plan.ports
            .insert("vethwepl0000001".parse().expect("name"), PortPlan { mac: MacAddr([2, 0, 0, 0, 0, 1]), addresses });
        let expected = "\
\tchain vethwepl0000001 {
\t\tether saddr != 02:00:00:00:00:01 drop
\t\tether type ip ip saddr { 10.32.0.1, 10.32.0.2 } ip protocol != udp accept
\t\tether type ip ip saddr { 10.32.0.1, 10.32.0.2 } udp dport != 68 accept
\t\tjump common
\t\tether type ip ip saddr { 10.32.0.1, 10.32.0.2 } accept
\t\tether type arp arp saddr ether 02:00:00:00:00:01 arp saddr ip { 10.32.0.1, 10.32.0.2 } accept
\t\tether type ip6 ip6 saddr { fd00::1, fe80::ff:fe00:1 } icmpv6 type nd-neighbor-advert @th,64,128 { 0xfd000000000000000000000000000001, 0xfe80000000000000000000fffe000001 } accept
\t\tether type ip6 icmpv6 type nd-neighbor-advert drop
\t\tether type ip6 ip6 saddr { fd00::1, fe80::ff:fe00:1 } accept
\t\tether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 { 0xfd000000000000000000000000000001, 0xfe80000000000000000000fffe000001 } accept
\t\tether type ip6 ip6 saddr :: icmpv6 type { nd-router-solicit, mld-listener-report, mld-listener-done, mld2-listener-report } accept
\t\tether type arp arp operation request arp saddr ether 02:00:00:00:00:01 arp saddr ip 0.0.0.0 accept
\t\tether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept
\t\tether type { 0x88cc } accept
\t\tdrop
\t}
";

        let script = render(&plan);

        assert!(script.contains(expected), "{script}");
        assert!(script.contains("\t\tether type != { arp, ip, ip6, 0x88cc } drop\n"), "{script}");
        assert!(script.contains(", \"vethwepl0000001\" : goto vethwepl0000001 }\n"), "{script}");
        assert!(script.contains("\t\tiifname \"vethwepl0000001\" goto vethwepl0000001\n"), "{script}");
    }

    #[test]
    fn what_crosses_an_exposed_network_is_masqueraded_unless_it_is_to_keep_its_source() {
        let mut plan = plan();
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

        let script = render(&plan);

        assert!(script.ends_with(expected), "{script}");
    }

    #[test]
    fn the_fast_path_hears_the_listed_addresses_only() {
        let mut plan = plan();
        plan.guard.vxlan_sources = BTreeSet::from(["192.0.2.1", "2001:db8::1"].map(address));
        let expected = "\
\tchain fastpath {
\t\tip saddr { 192.0.2.1 } accept
\t\tip6 saddr { 2001:db8::1 } accept
\t\tcounter drop
\t}
";

        assert!(render(&plan).contains(expected));
    }

    #[test]
    fn the_link_local_address_is_the_one_of_the_kernel() {
        assert_eq!(
            link_local(MacAddr([0x02, 0x11, 0x22, 0x33, 0x44, 0x55])),
            "fe80::11:22ff:fe33:4455".parse::<Ipv6Addr>().expect("address")
        );
    }
}
