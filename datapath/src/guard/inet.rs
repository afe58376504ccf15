//! The table of the inet family: what enters the ports of the mesh, and what crosses between an exposed network and the
//! outside.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use weave_mesh::card::Subnet;

use super::outward::write_output_chains;
use super::{Rules, TABLE, ipv4, ipv6, one_of};
use crate::plan::{Crossing, Plan, RESOLVER};

/// The bridge of Docker's containers: they are on the overlay when they are attached to it, and not by a detour.
const DOCKER_BRIDGE: &str = "docker0";

pub(super) fn write_table(script: &mut String, plan: &Plan) -> fmt::Result {
    writeln!(script, "table inet {TABLE} {{")?;
    write_input_chains(script, plan)?;
    write_output_chains(script, &plan.guard.clear_pairs)?;
    if !plan.exposed.is_empty() {
        write_exposed_chains(script, plan)?;
    }
    script.write_str("}\n")
}

fn write_input_chains(script: &mut String, plan: &Plan) -> fmt::Result {
    let Rules { mesh_port, vxlan_port, vxlan_sources: sources, .. } = &plan.guard;
    script.write_str("\tchain fastpath {\n")?;
    write_accept(script, "ip", sources.iter().filter_map(|source| ipv4(*source)))?;
    write_accept(script, "ip6", sources.iter().filter_map(|source| ipv6(*source)))?;
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

fn write_accept(script: &mut String, family: &str, sources: impl Iterator<Item = impl ToString>) -> fmt::Result {
    let mut sources = sources.map(|source| source.to_string()).peekable();
    if sources.peek().is_none() {
        return Ok(());
    }
    writeln!(script, "\t\t{family} saddr {} accept", one_of(sources))
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

/// How nft calls the header that an address is in.
const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip6",
    }
}
