//! The table of the inet family: what enters this host by its fast path and its bridge, and what it forwards.
//!
//! ```text
//!   input    ─┬─ UDP to the fast path's port ─► fastpath ─► from members only
//!             └─ from the bridge ─► host ─► names, and what is exposed
//!   forward  ─┬─ bridged (`br_netfilter` shows it here) ─► accept
//!             ├─ to a port of the mesh ─► mesh ─► not from containers, whom masquerading would make a member
//!             ├─ into the overlay ─► inward ──┬─► what is exposed
//!             └─ out of it ─► outward ────────┘
//! ```
//!
//! Invariants:
//! - whether or not the host is exposed, the chains are the same; exposing puts accepts in front of their drops;
//! - a rule that asks conntrack is there on exposed hosts only: it makes the kernel track every connection.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::IpAddr;

use weave_mesh::card::Subnet;

use super::family::Family;
use super::outward::write_output_chains;
use super::{Rules, one_of, table};
use crate::plan::{Crossing, LinkName, Metadata, Plan, RESOLVER};

/// The bridges of Docker's containers: they are on the overlay when they are attached to it, and not by a detour.
const DOCKER_BRIDGES: &str = "{ \"docker0\", \"docker_gwbridge\", \"br-*\" }";
/// By what containers and virtual machines send: whatever a host calls the device.
const CONTAINER_KINDS: &str = "{ \"bridge\", \"veth\" }";
/// What a host that has an address on a link must hear there.
const NEIGHBOUR_DISCOVERY: &str = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }";

pub(super) fn write_table(script: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(script, "table inet {} {{", table(&plan.names.bridge))?;
    write_fastpath_chain(script, &plan.guard)?;
    write_host_chain(script, plan)?;
    write_input_chain(script, plan)?;
    write_output_chains(script, &plan.guard.clear_pairs)?;
    write_mesh_chains(script, &plan.guard)?;
    write_inward_chain(script, plan)?;
    write_outward_chain(script, plan)?;
    write_forward_chain(script, plan)?;
    if !plan.exposed.is_empty() {
        write_postrouting_chain(script, plan)?;
    }
    script.write_str("}\n")
}

fn write_fastpath_chain(script: &mut String, Rules { vxlan_sources: sources, .. }: &Rules) -> fmt::Result {
    script.write_str("\tchain fastpath {\n")?;
    for family in Family::BOTH {
        let sources = family.addresses(sources.iter().copied());
        if !sources.is_empty() {
            writeln!(script, "\t\t{family} saddr {} accept", one_of(sources))?;
        }
    }
    script.write_str("\t\tcounter drop\n\t}\n")
}

/// What comes from the bridge for this host itself. Only the resolver answers by its bridge whoever asks: anything else
/// would leave by the host's default route.
fn write_host_chain(script: &mut String, plan: &Plan) -> fmt::Result {
    script.write_str("\tchain host {\n")?;
    writeln!(script, "\t\tip daddr {RESOLVER} meta l4proto . th dport {{ tcp . 53, udp . 53 }} accept")?;
    if !plan.exposed.is_empty() {
        let port = plan.guard.mesh_port;
        writeln!(script, "\t\tmeta l4proto {{ tcp, udp }} th dport {port} counter drop")?;
    }
    for family in Family::BOTH {
        write_exposed_host(script, plan, family)?;
    }
    script.write_str("\t\tcounter drop\n\t}\n")
}

/// The host's own addresses on the overlay, for those that are in its networks there.
fn write_exposed_host(script: &mut String, plan: &Plan, family: Family) -> fmt::Result {
    let networks = family.networks(plan.exposed.keys());
    if networks.is_empty() {
        return Ok(());
    }
    if family == Family::V6 {
        writeln!(script, "\t\t{NEIGHBOUR_DISCOVERY} accept")?;
    }
    write_metadata_answered_here(script, plan, family)?;
    let own = family.addresses(plan.bridge.addresses.iter().map(|own| own.address));
    let everybody = plan.exposed.keys().filter_map(|network| family.everybody_in(*network)).flatten();
    let to: BTreeSet<String> = own.into_iter().chain(everybody).collect();
    writeln!(script, "\t\t{family} saddr {} {family} daddr {} accept", one_of(networks), one_of(to))
}

/// A host that answers for the metadata service itself (Amazon's container agent does) is asked by a detour of its own
/// making.
fn write_metadata_answered_here(script: &mut String, plan: &Plan, family: Family) -> fmt::Result {
    let open = family.networks(open_for_metadata(plan));
    if open.is_empty() {
        return Ok(());
    }
    let (saddr, services) = (one_of(open), family.metadata());
    writeln!(script, "\t\t{family} saddr {saddr} ct status dnat ct original {family} daddr {services} accept")
}

fn write_input_chain(script: &mut String, plan: &Plan) -> fmt::Result {
    let (bridge, port) = (&plan.names.bridge, plan.guard.vxlan_port);
    script.write_str("\tchain input {\n\t\ttype filter hook input priority -10; policy accept;\n")?;
    writeln!(script, "\t\tudp dport {port} jump fastpath\n\t\tiifname \"{bridge}\" goto host\n\t}}")
}

/// Masquerading gives what a host forwards the address of a member, which is all that a fast path asks for. Other
/// machines for which this host routes reach the mesh as any stranger does, and its fast path when they are members.
fn write_mesh_chains(script: &mut String, rules: &Rules) -> fmt::Result {
    let fast = fast_ports(rules);
    writeln!(script, "\tchain member {{\n\t\tmeta iifkind {CONTAINER_KINDS} counter drop")?;
    for family in Family::BOTH {
        let members = family.addresses(rules.members.iter().map(|member| member.ip()));
        if !members.is_empty() {
            let members = one_of(members);
            writeln!(script, "\t\tudp dport {fast} {family} saddr != {members} counter drop")?;
        }
    }
    script.write_str("\t}\n\tchain mesh {\n")?;
    // What this host bridges between two machines leaves by the device that it came by.
    script.write_str("\t\tfib daddr . iif oif exists return\n")?;
    writeln!(script, "\t\tudp dport {} meta iifkind {CONTAINER_KINDS} counter drop", rules.vxlan_port)?;
    for (port, members) in by_port(rules) {
        let ports = one_of([port, port.wrapping_add(1)].map(|port| port.to_string()));
        for family in Family::BOTH {
            let members = family.addresses(members.iter().copied());
            if !members.is_empty() {
                writeln!(script, "\t\t{family} daddr {} th dport {ports} jump member", one_of(members))?;
            }
        }
    }
    script.write_str("\t}\n")
}

/// Members' addresses by the port of control and sleeve; that of the fast path is the next.
fn by_port(rules: &Rules) -> BTreeMap<u16, BTreeSet<IpAddr>> {
    let mut ports: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
    for member in &rules.members {
        ports.entry(member.port()).or_default().insert(member.ip());
    }
    ports
}

fn fast_ports(rules: &Rules) -> String {
    let ports: BTreeSet<u16> = rules.members.iter().map(|member| member.port().wrapping_add(1)).collect();
    one_of(ports.into_iter().chain([rules.vxlan_port]).collect::<BTreeSet<_>>().iter().map(u16::to_string))
}

fn mesh_ports(rules: &Rules) -> String {
    let own = [rules.mesh_port, rules.vxlan_port];
    let theirs = rules.members.iter().flat_map(|member| [member.port(), member.port().wrapping_add(1)]);
    one_of(own.into_iter().chain(theirs).collect::<BTreeSet<_>>().iter().map(u16::to_string))
}

/// Packets that stay on the bridge come this far only when `br_netfilter` shows them: they pass first.
fn write_forward_chain(script: &mut String, plan: &Plan) -> fmt::Result {
    let (bridge, ports) = (&plan.names.bridge, mesh_ports(&plan.guard));
    script.write_str("\tchain forward {\n\t\ttype filter hook forward priority -10; policy accept;\n")?;
    writeln!(
        script,
        "\t\tiifname \"{bridge}\" oifname \"{bridge}\" accept\n\
         \t\tmeta l4proto {{ tcp, udp }} th dport {ports} jump mesh\n\
         \t\toifname \"{bridge}\" goto inward\n\
         \t\tiifname \"{bridge}\" goto outward\n\t}}"
    )
}

fn write_inward_chain(script: &mut String, plan: &Plan) -> fmt::Result {
    script.write_str("\tchain inward {\n")?;
    if !plan.exposed.is_empty() {
        // Answers of what Docker publishes at the host's own addresses.
        writeln!(script, "\t\tct status dnat accept\n\t\tiifname {DOCKER_BRIDGES} counter drop")?;
    }
    write_networks(script, plan, "daddr")?;
    script.write_str("\t\tcounter drop\n\t}\n")
}

fn write_outward_chain(script: &mut String, plan: &Plan) -> fmt::Result {
    script.write_str("\tchain outward {\n")?;
    if !plan.exposed.is_empty() {
        for family in Family::BOTH {
            write_metadata(script, plan, family)?;
        }
        writeln!(script, "\t\tct status dnat accept\n\t\toifname {DOCKER_BRIDGES} counter drop")?;
    }
    write_networks(script, plan, "saddr")?;
    script.write_str("\t\tcounter drop\n\t}\n")
}

/// Who asks there gets what the host may do.
fn write_metadata(script: &mut String, plan: &Plan, family: Family) -> fmt::Result {
    let (services, open) = (family.metadata(), family.networks(open_for_metadata(plan)));
    if !open.is_empty() {
        writeln!(script, "\t\t{family} saddr {} {family} daddr {services} accept", one_of(open))?;
    }
    writeln!(script, "\t\t{family} daddr {services} counter drop")
}

fn open_for_metadata(plan: &Plan) -> impl Iterator<Item = &Subnet> {
    plan.exposed.iter().filter(|(_, opening)| opening.metadata == Metadata::Open).map(|(network, _)| network)
}

/// Accepts what has its source or destination in an exposed network.
fn write_networks(script: &mut String, plan: &Plan, end: &str) -> fmt::Result {
    for family in Family::BOTH {
        let networks = family.networks(plan.exposed.keys());
        if !networks.is_empty() {
            writeln!(script, "\t\t{family} {end} {} accept", one_of(networks))?;
        }
    }
    Ok(())
}

fn write_postrouting_chain(script: &mut String, plan: &Plan) -> fmt::Result {
    script.write_str("\tchain postrouting {\n\t\ttype nat hook postrouting priority 100; policy accept;\n")?;
    script.write_str("\t\tip daddr { 224.0.0.0/4, 255.255.255.255 } return\n\t\tip6 daddr ff00::/8 return\n")?;
    for (network, opening) in &plan.exposed {
        if opening.crossing == Crossing::Masqueraded {
            write_masquerade(script, &plan.names.bridge, *network)?;
        }
    }
    script.write_str("\t}\n")
}

fn write_masquerade(script: &mut String, bridge: &LinkName, Subnet { address, prefix_len }: Subnet) -> fmt::Result {
    let (family, network) = (Family::of(address), format!("{address}/{prefix_len}"));
    writeln!(script, "\t\toifname != \"{bridge}\" {family} saddr {network} {family} daddr != {network} masquerade")?;
    writeln!(script, "\t\toifname \"{bridge}\" {family} saddr != {network} {family} daddr {network} masquerade")
}
