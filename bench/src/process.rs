//! What a process has used so far, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time of all threads, in user space and in system calls.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
    // The name, in parentheses, may hold blanks; state is the first field behind it.
    let (_, fields) = stat.rsplit_once(')').context("malformed stat")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// A line of `/proc/PID/status` in KiB: `VmRSS` is resident now, `VmHWM` at most so far.
pub(crate) fn memory_kib(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("no process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let amount = line.with_context(|| format!("no {name}"))?;
    Ok(amount.trim().trim_end_matches(" kB").parse()?)
}
