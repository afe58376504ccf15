//! The table of the bridge family: what containers may send, and what goes to other hosts.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{ASKERS, Rules, TABLE, ipv4, ipv6, link_local, set};
use crate::plan::{HOST_LINK_PREFIX, LinkName, Plan, PortPlan, RESOLVER};

/// Queries for unknown addresses that a port may send to each overlay port: every one is copied to every peer.
const QUERIES_PER_SECOND: u32 = 20;
/// And this many at once after a pause.
const QUERIES_BURST: u32 = 50;

pub(super) fn write_table(script: &mut String, plan: &Plan) -> fmt::Result {
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
    let own = own_ipv4(port);
    writeln!(script, "\tchain {link} {{\n\t\tether saddr != {mac} drop")?;
    if let Some(own) = &own {
        write_usual_rules(script, own)?;
    }
    script.write_str("\t\tjump common\n")?;
    if let Some(own) = own {
        writeln!(script, "\t\tether type ip ip saddr {own} accept")?;
        writeln!(script, "\t\tether type arp arp saddr ether {mac} arp saddr ip {own} accept")?;
    }
    write_own_ipv6(script, port)?;
    writeln!(script, "\t\tether type arp arp operation request arp saddr ether {mac} arp saddr ip 0.0.0.0 accept")?;
    script.write_str("\t\tether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n")?;
    if !rules.allow_ethertypes.is_empty() {
        writeln!(script, "\t\tether type {} accept", set(extra_types(rules)))?;
    }
    script.write_str("\t\tdrop\n\t}\n")
}

/// The port's own IPv4 addresses as a set, if it has any.
fn own_ipv4(port: &PortPlan) -> Option<String> {
    let own: Vec<_> = port.addresses.iter().filter_map(|address| ipv4(*address)).collect();
    (!own.is_empty()).then(|| set(own.iter().map(Ipv4Addr::to_string)))
}

/// Nearly all that a container sends: from its own addresses, and nothing that `common` forbids. What is left for
/// `common`: fragments without a port among their first bytes, and answers of a DHCP server.
fn write_usual_rules(script: &mut String, ipv4: &str) -> fmt::Result {
    writeln!(script, "\t\tether type ip ip saddr {ipv4} ip protocol != udp accept")?;
    writeln!(script, "\t\tether type ip ip saddr {ipv4} udp dport != 68 accept")
}

/// With its link-local address, and what it says before it has one.
fn write_own_ipv6(script: &mut String, PortPlan { mac, addresses }: &PortPlan) -> fmt::Result {
    let mut own: BTreeSet<_> = addresses.iter().filter_map(|address| ipv6(*address)).collect();
    own.insert(link_local(*mac));
    let targets = set(own.iter().map(|address| format!("{:#034x}", address.to_bits())));
    let own = set(own.iter().map(Ipv6Addr::to_string));
    // Bytes 8 to 23 of a solicitation or advertisement are its target: `icmpv6 taddr` is not known to every nft. A
    // fragment that ends before them does not match, so the accept comes first.
    writeln!(script, "\t\tether type ip6 ip6 saddr {own} icmpv6 type nd-neighbor-advert @th,64,128 {targets} accept")?;
    script.write_str("\t\tether type ip6 icmpv6 type nd-neighbor-advert drop\n")?;
    writeln!(script, "\t\tether type ip6 ip6 saddr {own} accept")?;
    writeln!(script, "\t\tether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 {targets} accept")?;
    script.write_str(
        "\t\tether type ip6 ip6 saddr :: icmpv6 type { nd-router-solicit, mld-listener-report, mld-listener-done, \
         mld2-listener-report } accept\n",
    )
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

fn extra_types(rules: &Rules) -> impl Iterator<Item = String> + '_ {
    rules.allow_ethertypes.iter().map(|ethertype| format!("{ethertype:#06x}"))
}
