//! The table of the netdev family: what containers may send, what they hear of others, and what goes to other hosts.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{ASKERS, Rules, ipv4, ipv6, link_local, one_of, subnets, table};
use crate::plan::{LinkName, Plan, PortPlan, RESOLVER};

/// Queries for unknown addresses that a station may send to each overlay port: every one is copied to every peer.
const QUERIES_PER_SECOND: u32 = 20;
/// And this many at once after a pause.
const QUERIES_BURST: u32 = 50;
/// What one container may say to many stations: each frame is copied to every container and every peer. A stream of video
/// fits. In frames, and in octets, of which one frame may have 64 KiB.
const CROWD_LIMITS: [(&str, &str); 2] = [("2000/second", "4000 packets"), ("12 mbytes/second", "4 mbytes")];
/// The frames that are.
pub(super) const TO_MANY: &str = "{ broadcast, multicast }";
/// What is said to multicast switches and routers.
const TO_SWITCHES: &str = "icmpv6 type { mld-listener-report, mld-listener-done, nd-router-solicit, \
                           mld2-listener-report }";

/// What the chains of all devices jump to.
pub(super) fn write_table(script: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(script, "table netdev {} {{", table(&plan.names.bridge))?;
    writeln!(
        script,
        "\tset {ASKERS} {{\n\t\ttype ether_addr . ifname\n\t\tflags dynamic\n\t\ttimeout 1m\n\t\tsize 4096\n\t}}"
    )?;
    write_resolution_chain(script)?;
    write_common_chains(script, &plan.guard)?;
    write_resolver_chain(script)?;
    write_query_chain(script)?;
    script.write_str("}\n")
}

/// The chains of one device, in the table that has the others.
pub(super) fn chains(link: &LinkName, plan: &Plan) -> String {
    let mut script = String::new();
    // Writing to a string does not fail.
    let _ = write_chains(&mut script, link, plan);
    script
}

fn write_chains(script: &mut String, link: &LinkName, plan: &Plan) -> fmt::Result {
    writeln!(script, "table netdev {} {{", table(&plan.names.bridge))?;
    if [&plan.names.vxlan, &plan.names.tap].contains(&link) {
        write_overlay_chain(script, link, plan)?;
    } else {
        write_port_chain(script, link, plan)?;
        subnets::write_chain(script, link, plan)?;
    }
    script.write_str("}\n")
}

/// What every frame of a container is beside its sender's: neither another ethertype nor malformed ARP, and in a chain for
/// each version of IP neither advertisements of routers, redirects, nor answers of a DHCP server.
///
/// A fragment shows what it is a part of in its first piece only, and a chain of extension headers may go on in the
/// second. So what is forbidden is not dropped, but the rest accepted: all whose port or type is seen, and later
/// fragments, which are of no use to anybody without the first. One whose protocol is not even said is dropped.
fn write_common_chains(script: &mut String, rules: &Rules) -> fmt::Result {
    let types = ["arp", "ip", "ip6"].map(str::to_owned).into_iter().chain(extra_types(rules));
    writeln!(script, "\tchain common {{")?;
    // The EtherType as it is on the wire: a frame inside an 802.1Q tag has the tag's.
    writeln!(script, "\t\tether type != {} drop", one_of(types))?;
    script.write_str(
        "\t\tether type arp jump resolution\n\t}\n\
         \tchain ipv4 {\n\
         \t\tip protocol != udp accept\n\
         \t\tudp dport != 68 accept\n\
         \t\tip frag-off & 0x1fff != 0 accept\n\
         \t\tcounter drop\n\
         \t}\n\
         \tchain ipv6 {\n\
         \t\ticmpv6 type != { nd-neighbor-advert, nd-router-advert, nd-redirect } accept\n\
         \t\tudp dport != 546 accept\n\
         \t\tmeta l4proto != { icmpv6, udp } accept\n\
         \t\tmeta l4proto { icmpv6, udp } frag frag-off != 0 accept\n\
         \t\tcounter drop\n\
         \t}\n",
    )
}

fn write_resolution_chain(script: &mut String) -> fmt::Result {
    script.write_str(
        "\tchain resolution {\n\
         \t\tarp htype != 1 drop\n\
         \t\tarp ptype != ip drop\n\
         \t\tarp hlen != 6 drop\n\
         \t\tarp plen != 4 drop\n\
         \t}\n",
    )
}

/// Nobody asks for the resolver's address or claims it across the overlay: every host has its own.
fn write_resolver_chain(script: &mut String) -> fmt::Result {
    writeln!(script, "\tchain resolver {{\n\t\tarp daddr ip {RESOLVER} drop\n\t\tarp saddr ip {RESOLVER} drop\n\t}}")
}

/// By the station that asks: a container's port lets out its own MAC only.
fn write_query_chain(script: &mut String) -> fmt::Result {
    let limit = format!("limit rate over {QUERIES_PER_SECOND}/second burst {QUERIES_BURST} packets");
    writeln!(script, "\tchain query {{\n\t\tupdate @{ASKERS} {{ ether saddr . oifname {limit} }} counter drop\n\t}}")
}

/// What leaves this host, by a bridge that has answered the queries for known addresses. Its own reports go nowhere:
/// every bridge with IPv6 makes them when it comes up, and copied to every peer they would make a thousand hosts open a
/// million sessions, while nobody snoops on them.
fn write_overlay_chain(script: &mut String, link: &LinkName, plan: &Plan) -> fmt::Result {
    writeln!(script, "\tchain {link} {{\n\t\ttype filter hook egress device \"{link}\" priority 0; policy accept;")?;
    script.write_str(
        "\t\tether type ip accept\n\
         \t\tether type arp jump resolver\n\
         \t\tether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 accept\n",
    )?;
    let host = plan.bridge.mac;
    writeln!(script, "\t\tether saddr {host} ether type ip6 {TO_SWITCHES} drop\n\t\tether saddr {host} accept")?;
    script.write_str(
        "\t\tether type arp jump query\n\
         \t\tether type ip6 icmpv6 type nd-neighbor-solicit jump query\n\
         \t}\n",
    )
}

/// A port of ours that the plan does not name is closed.
fn write_port_chain(script: &mut String, link: &LinkName, plan: &Plan) -> fmt::Result {
    writeln!(script, "\tchain {link} {{\n\t\ttype filter hook ingress device \"{link}\" priority 0; policy drop;")?;
    if let Some(port) = plan.ports.get(link) {
        write_port_rules(script, port, &plan.guard)?;
    }
    script.write_str("\t}\n")
}

fn write_port_rules(script: &mut String, port: &PortPlan, rules: &Rules) -> fmt::Result {
    let mac = port.mac;
    let own = own_ipv4(port);
    if let Some(own) = &own {
        write_usual_rules(script, port, own)?;
    }
    writeln!(script, "\t\tether saddr != {mac} drop")?;
    write_crowd_rules(script)?;
    script.write_str("\t\tjump common\n")?;
    if let Some(own) = own {
        writeln!(script, "\t\tether type ip ip saddr {own} goto ipv4")?;
        writeln!(script, "\t\tether type arp arp saddr ether {mac} arp saddr ip {own} accept")?;
    }
    write_own_ipv6(script, port)?;
    writeln!(script, "\t\tether type arp arp operation request arp saddr ether {mac} arp saddr ip 0.0.0.0 accept")?;
    script.write_str("\t\tether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n")?;
    if !rules.allow_ethertypes.is_empty() {
        writeln!(script, "\t\tether type {} accept", one_of(extra_types(rules)))?;
    }
    Ok(())
}

/// What one container says to many, in frames and in octets.
fn write_crowd_rules(script: &mut String) -> fmt::Result {
    for (rate, burst) in CROWD_LIMITS {
        writeln!(script, "\t\tmeta pkttype {TO_MANY} limit rate over {rate} burst {burst} counter drop")?;
    }
    Ok(())
}

/// The port's own IPv4 addresses, if it has any.
fn own_ipv4(port: &PortPlan) -> Option<String> {
    let own: Vec<_> = port.addresses.iter().filter_map(|subnet| ipv4(subnet.address)).collect();
    (!own.is_empty()).then(|| one_of(own.iter().map(Ipv4Addr::to_string)))
}

/// Nearly all that a container sends to one station: from its own addresses, and nothing that is forbidden. What is left
/// for `ipv4`: fragments without a port among their first bytes, and answers of a DHCP server.
fn write_usual_rules(script: &mut String, PortPlan { mac, .. }: &PortPlan, ipv4: &str) -> fmt::Result {
    let own = format!("meta pkttype other ether saddr {mac} ether type ip ip saddr {ipv4}");
    writeln!(script, "\t\t{own} ip protocol != udp accept\n\t\t{own} udp dport != 68 accept")
}

/// With its link-local address, and what it says before it has one.
fn write_own_ipv6(script: &mut String, PortPlan { mac, addresses }: &PortPlan) -> fmt::Result {
    let mut own: BTreeSet<_> = addresses.iter().filter_map(|subnet| ipv6(subnet.address)).collect();
    own.insert(link_local(*mac));
    let targets = targets(&own);
    let own = one_of(own.iter().map(Ipv6Addr::to_string));
    writeln!(script, "\t\tether type ip6 ip6 saddr {own} icmpv6 type nd-neighbor-advert @th,64,128 {targets} accept")?;
    writeln!(script, "\t\tether type ip6 ip6 saddr {own} goto ipv6")?;
    writeln!(script, "\t\tether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 {targets} accept")?;
    writeln!(script, "\t\tether type ip6 ip6 saddr :: {TO_SWITCHES} accept")
}

/// Addresses as bytes 8 to 23 of a solicitation or advertisement: `icmpv6 taddr` is not known to every nft. A fragment
/// that ends before them does not match.
pub(super) fn targets(addresses: &BTreeSet<Ipv6Addr>) -> String {
    one_of(addresses.iter().map(|address| format!("{:#034x}", address.to_bits())))
}

fn extra_types(rules: &Rules) -> impl Iterator<Item = String> + '_ {
    rules.allow_ethertypes.iter().map(|ethertype| format!("{ethertype:#06x}"))
}
