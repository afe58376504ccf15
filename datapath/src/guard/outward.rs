//! Clear VXLAN that this host sends although the mesh has a password: between subnets that both ends trust, whatever has
//! become of this host's addresses.
//!
//! ```text
//!   VXLAN device ─► route, source address ─► output ─► from a subnet that the addressee trusts ─► accept
//!                                                   └► to the same addressee from any other ────► drop
//! ```
//!
//! The kernel chooses the source with each packet. When this host moves, it does so at once, while the entries that lead
//! to peers go a moment later; this chain makes that moment harmless.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use weave_mesh::card::Subnet;

/// Destinations by the subnets that packets to them may come from.
type BySources<'a> = BTreeMap<&'a BTreeSet<Subnet>, Vec<&'a SocketAddr>>;

/// Writes the chains, if there is something to look at.
pub(super) fn write_output_chains(script: &mut String, pairs: &BTreeMap<SocketAddr, BTreeSet<Subnet>>) -> fmt::Result {
    if pairs.is_empty() {
        return Ok(());
    }
    let mut by_sources = BySources::new();
    for (to, sources) in pairs {
        by_sources.entry(sources).or_default().push(to);
    }
    script.write_str("\tchain clear {\n")?;
    for (sources, destinations) in &by_sources {
        write_accept(script, "ip", sources, destinations, SocketAddr::is_ipv4)?;
        write_accept(script, "ip6", sources, destinations, SocketAddr::is_ipv6)?;
    }
    script.write_str("\t\tcounter drop\n\t}\n")?;
    script.write_str("\tchain output {\n\t\ttype filter hook output priority -10; policy accept;\n")?;
    let all: Vec<&SocketAddr> = pairs.keys().collect();
    write_jump(script, "ip", &all, SocketAddr::is_ipv4)?;
    write_jump(script, "ip6", &all, SocketAddr::is_ipv6)?;
    script.write_str("\t}\n")
}

fn write_accept(
    script: &mut String,
    family: &str,
    sources: &BTreeSet<Subnet>,
    destinations: &[&SocketAddr],
    is_of_family: fn(&SocketAddr) -> bool,
) -> fmt::Result {
    let of_family = |subnet: &&Subnet| is_of_family(&SocketAddr::new(subnet.address, 0));
    let text = |Subnet { address, prefix_len }: &Subnet| format!("{address}/{prefix_len}");
    let sources: Vec<String> = sources.iter().filter(of_family).map(text).collect();
    let destinations = sockets(destinations, is_of_family);
    if sources.is_empty() || destinations.is_empty() {
        return Ok(());
    }
    // Subnets may hold each other, which a set refuses: a rule each.
    for source in sources {
        writeln!(script, "\t\t{family} saddr {source} {family} daddr . udp dport {{ {destinations} }} accept")?;
    }
    Ok(())
}

fn write_jump(
    script: &mut String,
    family: &str,
    destinations: &[&SocketAddr],
    is_of_family: fn(&SocketAddr) -> bool,
) -> fmt::Result {
    let destinations = sockets(destinations, is_of_family);
    if destinations.is_empty() {
        return Ok(());
    }
    writeln!(script, "\t\t{family} daddr . udp dport {{ {destinations} }} jump clear")
}

/// As elements of a set of addresses and ports.
fn sockets(destinations: &[&SocketAddr], is_of_family: fn(&SocketAddr) -> bool) -> String {
    let of_family = destinations.iter().filter(|to| is_of_family(to));
    of_family.map(|to| format!("{} . {}", to.ip(), to.port())).collect::<Vec<_>>().join(", ")
}
