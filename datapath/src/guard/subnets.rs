//! Who is heard by many: a container hears what stations of its own subnets say to all.
//!
//! ```text
//!   10.2.1.1 ── says to all ──► bridge ─┬─► egress of a port with 10.2.1.2/24 ─► heard
//!                                       └─► egress of a port with 10.2.2.1/24 ─► dropped
//! ```
//!
//! A chain at a port's egress costs every frame that its container receives. So there is one only where somebody on the
//! overlay is in none of its subnets: where all are in one, nobody pays.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;

use super::family::Family;
use super::netdev::{TO_MANY, targets};
use super::{ipv6, link_local, one_of};
use crate::plan::{LinkName, Plan, PortPlan};

/// The chain for what leaves the bridge by `link`, if it needs one.
pub(super) fn write_chain(script: &mut String, link: &LinkName, plan: &Plan) -> fmt::Result {
    let Some(port) = plan.ports.get(link).filter(|port| has_strangers(plan, port)) else {
        return Ok(());
    };
    writeln!(
        script,
        "\tchain {link}-out {{\n\t\ttype filter hook egress device \"{link}\" priority 0; policy accept;"
    )?;
    writeln!(script, "\t\tmeta pkttype != {TO_MANY} accept")?;
    write_neighbours(script, port)?;
    write_questions(script, port)?;
    script.write_str("\t\tcounter drop\n\t}\n")
}

/// Stations of its subnets, by the address that they speak from. A link-local one tells no subnet.
fn write_neighbours(script: &mut String, port: &PortPlan) -> fmt::Result {
    let networks: BTreeSet<Subnet> = port.addresses.iter().map(|subnet| subnet.network()).collect();
    let of = |family: Family| family.networks(&networks);
    let ipv4 = one_of(of(Family::V4).into_iter().chain(["0.0.0.0".to_owned()]));
    writeln!(script, "\t\tether type ip ip saddr {ipv4} accept")?;
    if !of(Family::V4).is_empty() {
        writeln!(script, "\t\tether type arp arp saddr ip {} accept", one_of(of(Family::V4)))?;
    }
    if !of(Family::V6).is_empty() {
        writeln!(script, "\t\tether type ip6 ip6 saddr {} accept", one_of(of(Family::V6)))?;
    }
    Ok(())
}

/// Who asks for one of its own addresses is heard, whoever it is.
fn write_questions(script: &mut String, port: &PortPlan) -> fmt::Result {
    let own = Family::V4.addresses(port.addresses.iter().map(|subnet| subnet.address));
    if !own.is_empty() {
        writeln!(script, "\t\tether type arp arp daddr ip {} accept", one_of(own))?;
    }
    let own = port.addresses.iter().filter_map(|subnet| ipv6(subnet.address)).chain([link_local(port.mac)]).collect();
    writeln!(script, "\t\tether type ip6 icmpv6 type nd-neighbor-solicit @th,64,128 {} accept", targets(&own))
}

/// Whether a station of the overlay has addresses, and none in a subnet of this port.
fn has_strangers(plan: &Plan, port: &PortPlan) -> bool {
    let mut known: BTreeMap<MacAddr, bool> = BTreeMap::new();
    for (address, mac) in &plan.neighbours {
        *known.entry(*mac).or_default() |= port.addresses.iter().any(|subnet| subnet.contains(*address));
    }
    known.values().any(|is_near| !is_near)
}
