//! nftables and iptables, by their own programs.
//!
//! `nft -f -` takes a whole script as one transaction. What we put outside our own tables is a few accepts, for frames
//! that stay inside the bridge and for packets of exposed networks: Docker and others set FORWARD to drop, `br_netfilter`
//! shows it bridged frames, and an accept in our tables does not undo that drop.

mod generation;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use crate::guard;
use crate::plan::{Accept, Action, Change, Filter, ForwardChain, IpVersion, LinkName};

pub use generation::generation;

/// Seconds to wait for another program that changes iptables.
const LOCK_WAIT_SECONDS: &str = "2";
/// Whether iptables, and all else on its hooks, sees what is bridged.
const BRIDGED_PASS_IPTABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// Obstacles that are told one by one.
const OBSTACLES_MAX: usize = 4;
/// How much of a program's complaint is kept.
const COMPLAINT_MAX_BYTES: usize = 400;

/// A firewall program that could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("cannot run {program}: {cause}; install the package nftables (or iptables)")]
    Missing { program: &'static str, cause: io::Error },
    #[error("{program} failed: {complaint}")]
    Refused { program: &'static str, complaint: String },
}

/// Carries out a script in one transaction.
///
/// # Errors
/// When `nft` is missing or refuses the script, of which then nothing is done.
pub fn run_nft(script: &str) -> Result<(), FirewallError> {
    run("nft", &["-f", "-"], Some(script)).map(drop)
}

/// What `nft` shows of the tables of the daemon with this bridge, without counters. `None` when a table is missing.
///
/// # Errors
/// When `nft` cannot be run.
pub fn list_guard(bridge: &LinkName) -> Result<Option<String>, FirewallError> {
    let (table, mut listing) = (guard::table(bridge), String::new());
    for family in guard::FAMILIES {
        match run("nft", &["-s", "list", "table", family, &table], None) {
            Ok(text) => listing.push_str(&text),
            Err(FirewallError::Refused { .. }) => return Ok(None),
            Err(missing) => return Err(missing),
        }
    }
    Ok(Some(listing))
}

/// Whether the chains had our accepts and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    Present,
    Changed,
}

/// Makes our accepts in iptables those that are `wanted`, wherever what is forwarded would be dropped otherwise.
///
/// # Errors
/// When iptables refuses. A host without it needs no accept.
pub fn set_accepts(bridge: &LinkName, wanted: &BTreeSet<Accept>) -> Result<Accepts, FirewallError> {
    let mut accepts = Accepts::Present;
    for version in [IpVersion::V4, IpVersion::V6] {
        let wanted: Vec<&str> =
            wanted.iter().filter(|accept| accept.version == version).map(|accept| accept.matching.as_str()).collect();
        for (program, listing) in tables(version) {
            for change in Filter(&listing).changes(bridge, &wanted) {
                if carry_out(program, &change)? == Accepts::Changed {
                    accepts = Accepts::Changed;
                }
            }
        }
    }
    Ok(accepts)
}

/// Chains of nftables, not of iptables, that drop packets of the overlay: what is bridged, where `br_netfilter` shows it
/// to them, and what is exposed.
pub fn obstacles(bridge: &LinkName, is_exposed: bool) -> Vec<String> {
    let Ok(listing) = run("nft", &["list", "chains"], None) else { return Vec::new() };
    let shows_bridged = std::fs::read_to_string(BRIDGED_PASS_IPTABLES).is_ok_and(|value| value.trim() == "1");
    let chains = ForwardChain::of_others(&listing).into_iter().filter(|chain| match chain.family.as_str() {
        "bridge" => true,
        _ => shows_bridged || is_exposed,
    });
    let drops = |chain: &ForwardChain| {
        let listing = run("nft", &["list", "chain", &chain.family, &chain.table, &chain.name], None);
        listing.is_ok_and(|listing| chain.drops(&listing, bridge))
    };
    chains.filter(drops).take(OBSTACLES_MAX).map(|chain| chain.complaint(bridge)).collect()
}

/// Takes all accepts for `bridge` away again.
///
/// # Errors
/// When iptables refuses to remove a rule that is there.
pub fn remove_accepts(bridge: &LinkName) -> Result<(), FirewallError> {
    for version in [IpVersion::V4, IpVersion::V6] {
        for (program, listing) in tables(version) {
            Filter(&listing).removals(bridge).iter().try_for_each(|change| carry_out(program, change).map(drop))?;
        }
    }
    Ok(())
}

/// The tables `filter` of both flavours, the younger first, each with the program that lists it. To list one of the
/// older flavour makes it, and from then on every packet of the host passes it: it is listed only where it is.
fn tables(version: IpVersion) -> Vec<(&'static str, String)> {
    let (plain, younger, older, made) = match version {
        IpVersion::V4 => ("iptables", "iptables-nft", "iptables-legacy", "/proc/thread-self/net/ip_tables_names"),
        IpVersion::V6 => ("ip6tables", "ip6tables-nft", "ip6tables-legacy", "/proc/thread-self/net/ip6_tables_names"),
    };
    let is_made = std::fs::read_to_string(made).is_ok_and(|names| names.lines().any(|name| name == "filter"));
    let older = is_made.then(|| listed(older, plain)).flatten();
    listed(younger, plain).into_iter().chain(older).collect()
}

/// What `program` lists, or `fallback` where a host has no such flavour.
fn listed(program: &'static str, fallback: &'static str) -> Option<(&'static str, String)> {
    let list = |program| run(program, &["-w", LOCK_WAIT_SECONDS, "-S"], None).map(|listing| (program, listing));
    match list(program) {
        Err(FirewallError::Missing { .. }) => list(fallback).ok(),
        answer => answer.ok(),
    }
}

/// The check of iptables itself decides whether a rule is there: another release may list it in other words.
fn carry_out(program: &'static str, change: &Change) -> Result<Accepts, FirewallError> {
    let ask = |command| {
        let arguments: Vec<&str> =
            ["-w", LOCK_WAIT_SECONDS, command, change.chain.name()].into_iter().chain(change.rule()).collect();
        run(program, &arguments, None)
    };
    match change.action {
        Action::Insert if ask("-C").is_ok() => return Ok(Accepts::Present),
        Action::Insert => ask("-I")?,
        Action::Delete => ask("-D")?,
    };
    Ok(Accepts::Changed)
}

fn run(program: &'static str, arguments: &[&str], input: Option<&str>) -> Result<String, FirewallError> {
    let output = output_of(program, arguments, input).map_err(|cause| FirewallError::Missing { program, cause })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.trim().chars().take(COMPLAINT_MAX_BYTES).collect();
    Err(FirewallError::Refused { program, complaint })
}

fn output_of(program: &str, arguments: &[&str], input: Option<&str>) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends early says why on standard error.
        match stdin.write_all(input.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    child.wait_with_output()
}
