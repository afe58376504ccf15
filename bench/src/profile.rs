//! Where the daemons' time goes during one TCP stream through the sleeve, by perf(1).
//!
//! ```text
//!   perf record -e cpu-clock -p BOTH ─┬─ perf report --pid A ──► symbols of the sender's daemon ──► sums by kind of work
//!                                     └─ perf report --pid B ──► the same of the receiver's
//! ```
//!
//! The clock and not a hardware counter, since virtual machines often lack these.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use weave_netns_tests::topology::run;

use crate::contender::{Contender, WAYS};
use crate::limits::significant;
use crate::programs::Programs;
use crate::progress;

const SECONDS: u32 = 5;
/// Samples a second of each thread.
const FREQUENCY: u32 = 1_999;
/// Symbols that are listed one by one.
const LISTED: usize = 12;

/// What a symbol does, by parts of its name; the first that fits. What is in the daemon and fits none is its own work, what
/// is in the kernel is the network.
const KINDS: [(&str, &[&str]); 3] = [
    ("cipher", &["aes", "gcm", "ghash", "chacha", "poly1305", "Aead", "aead"]),
    ("copies", &["copy", "memmove", "rep_movs", "memset", "memcpy", "clear_page"]),
    ("checksums", &["csum", "checksum"]),
];

/// A line of `perf report`.
#[derive(Debug, PartialEq)]
struct Symbol {
    percent: f64,
    object: String,
    name: String,
}

/// The section of the report: one underlay after the other.
pub(crate) fn measure(underlays: &[u32]) -> Result<String> {
    let mut text = format!(
        "\n## Where the time goes\n\nThe two daemons of the sleeve during one TCP stream of {SECONDS} s, in percent of the \
         samples of each (`perf record -e cpu-clock -F {FREQUENCY} -p PID`, `perf report --no-children --sort dso,symbol`).\n"
    );
    for underlay in underlays {
        progress(&format!("profiling the sleeve on an underlay of {underlay}"));
        let way = WAYS.iter().find(|way| way.key == "sleeve").context("no sleeve")?;
        text += &profile(*underlay, &way.set_up(*underlay, &Programs::default())?)?;
    }
    Ok(text)
}

fn profile(underlay: u32, sleeve: &Contender) -> Result<String> {
    let pids = sleeve.pids()?;
    let file = std::env::temp_dir().join(format!("weave-bench-{}.perf", std::process::id()));
    let (flow, recorded) = thread::scope(|scope| {
        let recording = scope.spawn(|| record(&pids, &file));
        let flow = sleeve.server().measure(sleeve.client(), 1, SECONDS);
        (flow, recording.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    recorded?;
    let mut text = format!("\n### Underlay {underlay}, at {} Gbit/s under the profiler\n", significant(flow?.gigabits));
    for (who, pid) in ["sender", "receiver"].into_iter().zip(pids) {
        writeln!(text, "\n{who}'s daemon:\n")?;
        text += &table(&report(pid, &file)?);
    }
    let _ = std::fs::remove_file(file);
    Ok(text)
}

/// A second less than the stream: begin and end of it are not of interest.
fn record(pids: &[u32], file: &Path) -> Result<()> {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-e", "cpu-clock", "-F", &FREQUENCY.to_string(), "-p", &pids, "-o"]).arg(file);
    run(command.args(["--", "sleep", &(SECONDS - 1).to_string()])).context("perf (package linux-perf)")?;
    Ok(())
}

fn report(pid: u32, file: &Path) -> Result<Vec<Symbol>> {
    let mut command = Command::new("perf");
    command.args(["report", "--stdio", "-q", "--no-children", "--sort", "dso,symbol", "--pid", &pid.to_string(), "-i"]);
    let text = run(command.arg(file))?;
    let mut symbols: Vec<_> = text.lines().filter_map(symbol).collect();
    // Shares are of all samples; those of one process are wanted.
    let total: f64 = symbols.iter().map(|symbol| symbol.percent).sum();
    for symbol in &mut symbols {
        symbol.percent *= 100.0 / total;
    }
    Ok(symbols)
}

/// `12.34%  weave-rs  [.] aesni_gcm_encrypt`
fn symbol(line: &str) -> Option<Symbol> {
    let (percent, rest) = line.trim().split_once('%')?;
    let (object, name) = rest.split_once(['[']).filter(|(object, _)| !object.trim().is_empty()).or_else(|| {
        // `[kernel.kallsyms]  [k] name`
        let (object, name) = rest.trim().strip_prefix('[')?.split_once(']')?;
        Some((object, name.trim().strip_prefix('[')?))
    })?;
    // Columns that this version of perf(1) has beside it stand behind blanks.
    let name = name.split_once(']')?.1.trim().split("  ").next()?;
    Some(Symbol { percent: percent.parse().ok()?, object: object.trim().to_owned(), name: name.to_owned() })
}

fn kind(symbol: &Symbol) -> &'static str {
    let known = KINDS.iter().find(|(_, parts)| parts.iter().any(|part| symbol.name.contains(part)));
    let elsewhere = if symbol.object.starts_with("kernel") { "kernel: network, system calls" } else { "our own code" };
    known.map_or(elsewhere, |(kind, _)| kind)
}

fn table(symbols: &[Symbol]) -> String {
    let mut text = String::from("| kind of work | % |\n|---|---|\n");
    for wanted in ["cipher", "copies", "checksums", "our own code", "kernel: network, system calls"] {
        let share: f64 = symbols.iter().filter(|symbol| kind(symbol) == wanted).map(|symbol| symbol.percent).sum();
        let _ = writeln!(text, "| {wanted} | {share:.1} |");
    }
    text += "\n| symbol | in | % |\n|---|---|---|\n";
    for Symbol { percent, object, name } in symbols.iter().take(LISTED) {
        let _ = writeln!(text, "| `{name}` | {object} | {percent:.1} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_perf_are_read() {
        let of_ours = symbol("    12.34%  weave-rs           [.] aesni_gcm_encrypt").expect("a symbol");
        let of_kernel =
            symbol("     3.10%  [kernel.kallsyms]  [k] rep_movs_alternative      -      -").expect("a symbol");

        assert_eq!((of_ours.percent, of_ours.object.as_str(), kind(&of_ours)), (12.34, "weave-rs", "cipher"));
        assert_eq!((of_kernel.name.as_str(), kind(&of_kernel)), ("rep_movs_alternative", "copies"));
        assert_eq!(symbol("# Overhead"), None);
    }
}
