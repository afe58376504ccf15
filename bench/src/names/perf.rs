//! Load by dnsperf(1).

use std::fmt::Write;
use std::net::SocketAddrV4;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::topology::Namespace;

use crate::process::cpu_time;

/// What a number of names cost.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) names: usize,
    pub(super) per_second: f64,
    /// Processor time of the daemon for each query, microseconds.
    pub(super) cpu_micros: f64,
    /// Milliseconds of each query at half load.
    pub(super) half: Vec<f64>,
}

/// Questions in a file; dnsperf begins anew at its end.
const QUESTIONS: usize = 20_000;
/// A stride that has no factor in common with any number of names.
const STRIDE: usize = 7_919;
const SECONDS: u32 = 3;

/// What a name with a number is called.
pub(super) fn name(number: usize) -> String {
    format!("name{number}.weave.local")
}

/// As fast as it goes, with a hundred questions on their way.
pub(super) fn command(server: SocketAddrV4, file: &str) -> String {
    format!("dnsperf -s {} -p {} -d {file} -l {SECONDS} -c 4 -q 100", server.ip(), server.port())
}

/// Asks for names with numbers below `names` in no order, first as fast as it goes, then half as fast.
pub(super) fn load(from: &Namespace, pid: u32, server: SocketAddrV4, file: &Path, names: usize) -> Result<Load> {
    let mut questions = String::new();
    for question in 0..QUESTIONS {
        writeln!(questions, "{} A", name(question * STRIDE % names))?;
    }
    std::fs::write(file, questions)?;
    let command = command(server, &file.display().to_string());
    let before = cpu_time(pid)?;
    let said = from.run(&command)?;
    let cpu = cpu_time(pid)? - before;
    let completed = figure(&said, "Queries completed:").with_context(|| said.clone())?;
    let per_second = figure(&said, "Queries per second:").with_context(|| said.clone())?;
    ensure!(figure(&said, "Queries lost:") == Some(0.0) && said.contains("NOERROR"), "not all were answered: {said}");
    let said = from.run(&format!("{command} -v -Q {:.0}", per_second / 2.0))?;
    let half: Vec<_> = said.lines().filter_map(milliseconds).collect();
    ensure!(!half.is_empty(), "no times in {}", said.lines().take(20).collect::<Vec<_>>().join("\n"));
    Ok(Load { names, per_second, cpu_micros: cpu.as_secs_f64() * 1e6 / completed, half })
}

/// The first number behind a label.
fn figure(said: &str, label: &str) -> Option<f64> {
    said.lines().find_map(|line| line.trim().strip_prefix(label)?.split_whitespace().next()?.parse().ok())
}

/// `> NOERROR name1.weave.local A 0.000123`
fn milliseconds(line: &str) -> Option<f64> {
    let seconds: f64 = line.strip_prefix("> NOERROR ")?.split_whitespace().last()?.parse().ok()?;
    Some(seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dnsperf_says_is_read() {
        assert_eq!(figure("  Queries completed:    120 (100.00%)", "Queries completed:"), Some(120.0));
        assert_eq!(milliseconds("> NOERROR name1.weave.local A 0.000500"), Some(0.5));
        assert_eq!(milliseconds("> T name1.weave.local A"), None);
    }
}
