//! nftables and iptables, by their own programs.
//!
//! `nft -f -` takes a whole script as one transaction. What we put outside our own tables is two accepts for frames
//! that stay inside the bridge: Docker sets FORWARD to drop, `br_netfilter` shows it bridged frames, and an accept in
//! our tables does not undo that drop.

mod generation;

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use crate::guard;
use crate::plan::LinkName;

pub use generation::generation;

/// How our two rules are recognised.
const COMMENT: &str = "weave-rs";
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
    for family in ["bridge", "inet"] {
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

/// Whether Docker's chains had our accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    Present,
    Added,
}

/// Lets frames pass that stay inside `bridge`, wherever Docker is installed.
///
/// # Errors
/// When iptables refuses. A host without it, or without Docker's chains, needs no accept.
pub fn accept_bridged(bridge: &LinkName) -> Result<Accepts, FirewallError> {
    let mut accepts = Accepts::Present;
    for program in ["iptables", "ip6tables"] {
        let Some(chain) = docker_chain(program) else { continue };
        let rule = rule(bridge);
        if iptables(program, "-C", chain, &rule).is_err() {
            iptables(program, "-I", chain, &rule)?;
            accepts = Accepts::Added;
        }
    }
    Ok(accepts)
}

/// Takes the two accepts away again.
///
/// # Errors
/// When iptables refuses to remove a rule that is there.
pub fn remove_accepts(bridge: &LinkName) -> Result<(), FirewallError> {
    for program in ["iptables", "ip6tables"] {
        for chain in DOCKER_CHAINS {
            let rule = rule(bridge);
            while iptables(program, "-C", chain, &rule).is_ok() {
                iptables(program, "-D", chain, &rule)?;
            }
        }
    }
    Ok(())
}

fn rule(bridge: &LinkName) -> [&str; 10] {
    let bridge = bridge.as_str();
    ["-i", bridge, "-o", bridge, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"]
}

/// Where Docker looks first: its users' chain, or FORWARD when Docker is too old to have one.
fn docker_chain(program: &'static str) -> Option<&'static str> {
    let exists = |chain| run(program, &["-w", LOCK_WAIT_SECONDS, "-n", "-L", chain], None).is_ok();
    if exists("DOCKER-USER") {
        return Some("DOCKER-USER");
    }
    exists("DOCKER").then_some("FORWARD")
}

fn iptables(program: &'static str, command: &str, chain: &str, rule: &[&str]) -> Result<(), FirewallError> {
    let arguments = [&["-w", LOCK_WAIT_SECONDS, command, chain], rule].concat();
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
}
