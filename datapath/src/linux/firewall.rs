//! nftables and iptables, by their own programs.
//!
//! `nft -f -` takes a whole script as one transaction. What we put outside our own tables is a few accepts, for frames
//! that stay inside the bridge and for packets of exposed networks: Docker sets FORWARD to drop, `br_netfilter` shows
//! it bridged frames, and an accept in our tables does not undo that drop.

mod generation;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use crate::guard;
use crate::plan::{Accept, IpVersion, LinkName};

pub use generation::generation;

/// What our rules end in, as `iptables -S` lists them, and as arguments.
const RULE_END: &str = " -m comment --comment weave-rs -j ACCEPT";
/// The chain that Docker leaves to others, and the one it lives in. Neither is ours to make.
const DOCKER_CHAINS: [&str; 2] = ["DOCKER-USER", "FORWARD"];
/// Seconds to wait for another program that changes iptables.
const LOCK_WAIT_SECONDS: &str = "2";
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

/// What our tables hold, without what the kernel itself changes: counters, and who asked how often. `None` when a table
/// is missing.
///
/// # Errors
/// When `nft` cannot be run.
pub fn list_guard() -> Result<Option<String>, FirewallError> {
    let mut listing = String::new();
    for family in guard::FAMILIES {
        match run("nft", &["-s", "list", "table", family, guard::TABLE], None) {
            Ok(text) => listing.push_str(&without_askers(&text)),
            Err(FirewallError::Refused { .. }) => return Ok(None),
            Err(missing) => return Err(missing),
        }
    }
    Ok(Some(listing))
}

fn without_askers(listing: &str) -> String {
    let heading = format!("\tset {} {{", guard::ASKERS);
    let mut inside = false;
    let mut kept = String::with_capacity(listing.len());
    for line in listing.lines() {
        inside |= line == heading;
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= line != "\t}";
    }
    kept
}

/// Whether Docker's chains had our accepts and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    Present,
    Changed,
}

/// Makes our accepts of Docker's chains those that are `wanted`, wherever Docker is installed.
///
/// # Errors
/// When iptables refuses. A host without it, or without Docker's chains, needs no accept.
pub fn set_accepts(bridge: &LinkName, wanted: &BTreeSet<Accept>) -> Result<Accepts, FirewallError> {
    let mut accepts = Accepts::Present;
    for version in [IpVersion::V4, IpVersion::V6] {
        let program = program(version);
        let Some(chain) = docker_chain(program) else { continue };
        let present = present(program, chain, bridge)?;
        let wanted: Vec<&str> =
            wanted.iter().filter(|accept| accept.version == version).map(|accept| accept.matching.as_str()).collect();
        // The check of iptables itself decides: another release may list a rule in other words.
        for matching in wanted.iter().filter(|matching| !present.iter().any(|rule| rule == *matching)) {
            if iptables(program, "-C", chain, matching).is_err() {
                iptables(program, "-I", chain, matching)?;
                accepts = Accepts::Changed;
            }
        }
        for matching in present.iter().filter(|rule| !wanted.contains(&rule.as_str())) {
            iptables(program, "-D", chain, matching)?;
            accepts = Accepts::Changed;
        }
    }
    Ok(accepts)
}

/// Takes all accepts for `bridge` away again.
///
/// # Errors
/// When iptables refuses to remove a rule that is there.
pub fn remove_accepts(bridge: &LinkName) -> Result<(), FirewallError> {
    for program in [IpVersion::V4, IpVersion::V6].map(program) {
        for chain in DOCKER_CHAINS {
            // A chain that cannot be listed is not there.
            for matching in present(program, chain, bridge).unwrap_or_default() {
                iptables(program, "-D", chain, &matching)?;
            }
        }
    }
    Ok(())
}

const fn program(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => "iptables",
        IpVersion::V6 => "ip6tables",
    }
}

/// What our rules for `bridge` match.
fn present(program: &'static str, chain: &str, bridge: &LinkName) -> Result<Vec<String>, FirewallError> {
    let listing = run(program, &["-w", LOCK_WAIT_SECONDS, "-S", chain], None)?;
    Ok(ours(&listing, chain, bridge).map(str::to_owned).collect())
}

fn ours<'a>(listing: &'a str, chain: &str, bridge: &LinkName) -> impl Iterator<Item = &'a str> {
    let start = format!("-A {chain} ");
    listing
        .lines()
        .filter_map(move |line| line.strip_prefix(&start)?.strip_suffix(RULE_END))
        .filter(|matching| matching.split(' ').any(|word| word == bridge.as_str()))
}

/// Where Docker looks first: its users' chain, or FORWARD when Docker is too old to have one.
fn docker_chain(program: &'static str) -> Option<&'static str> {
    let exists = |chain| run(program, &["-w", LOCK_WAIT_SECONDS, "-n", "-L", chain], None).is_ok();
    if exists("DOCKER-USER") {
        return Some("DOCKER-USER");
    }
    exists("DOCKER").then_some("FORWARD")
}

fn iptables(program: &'static str, command: &str, chain: &str, matching: &str) -> Result<(), FirewallError> {
    let rule = matching.split(' ').chain(RULE_END.split_whitespace());
    let arguments: Vec<&str> = ["-w", LOCK_WAIT_SECONDS, command, chain].into_iter().chain(rule).collect();
    run(program, &arguments, None).map(drop)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_how_often_is_not_part_of_the_listing() {
        let listing = "table bridge weave-rs {\n\tset askers {\n\t\tsize 4096\n\t\telements = { \"a\" . \"b\" }\n\t}\n\n\tchain query {\n\t}\n}\n";

        assert_eq!(without_askers(listing), "table bridge weave-rs {\n\n\tchain query {\n\t}\n}\n");
    }

    #[test]
    fn only_our_own_rules_for_this_bridge_are_ours() {
        let listing = "-N DOCKER-USER\n\
            -A DOCKER-USER -i weave -o weave -m comment --comment weave-rs -j ACCEPT\n\
            -A DOCKER-USER -i other -o other -m comment --comment weave-rs -j ACCEPT\n\
            -A DOCKER-USER -d 10.32.0.0/12 ! -i weave -o weave -m comment --comment weave-rs -j ACCEPT\n\
            -A DOCKER-USER -i weave -j DROP\n\
            -A DOCKER-USER -j RETURN\n";
        let bridge = "weave".parse().expect("name");

        let found: Vec<_> = ours(listing, "DOCKER-USER", &bridge).collect();

        assert_eq!(found, ["-i weave -o weave", "-d 10.32.0.0/12 ! -i weave -o weave"]);
    }
}
