//! What a process, a thread or the machine has used so far.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use weave_netns_tests::weave::Weave;

/// Processor time of all threads, in user space and in system calls.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
    // The name, in parentheses, may hold blanks; state is the first field behind it.
    let (_, fields) = stat.rsplit_once(')').context("malformed stat")?;
    Ok(duration(sum(fields.split_whitespace().skip(11).take(2))))
}

/// Processor time of the calling thread, what the kernel does on it included.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Time in which a core of the machine was not idle, by `/proc/stat`; time taken by other machines is not in it.
pub(crate) fn machine_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("malformed /proc/stat")?;
    // user nice system idle iowait irq softirq
    let fields: Vec<_> = all.split_whitespace().take(7).collect();
    Ok(duration(sum(fields.iter().copied()) - sum(fields.into_iter().skip(3).take(2))))
}

fn sum<'a>(fields: impl Iterator<Item = &'a str>) -> u64 {
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// What a daemon has in memory now.
pub(crate) fn resident_kib(daemon: &Weave) -> Result<u64> {
    memory_kib(daemon.pid().context("the daemon ended")?, "VmRSS")
}

/// A line of `/proc/PID/status` in KiB: `VmRSS` is resident now, `VmHWM` at most so far.
pub(crate) fn memory_kib(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("no process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let amount = line.with_context(|| format!("no {name}"))?;
    Ok(amount.trim().trim_end_matches(" kB").parse()?)
}
