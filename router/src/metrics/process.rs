//! What every Prometheus client tells of its own process, under the usual names.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// This process at one moment; what `/proc` does not tell is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: u64,
}

impl Process {
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: number_after(&status, "VmRSS:") * 1024,
            virtual_bytes: number_after(&status, "VmSize:") * 1024,
            threads: number_after(&status, "Threads:"),
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            max_fds: number_after(&limits, "Max open files"),
        }
    }
}

/// The first number of the line that begins with `label`.
fn number_after(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_has_used_something_of_everything() {
        let process = Process::now();

        assert!(process.cpu_seconds > 0.0);
        assert!(process.resident_bytes > 1 << 20 && process.virtual_bytes >= process.resident_bytes);
        assert!(process.threads > 0 && process.open_fds > 0 && process.max_fds >= process.open_fds);
    }

    #[test]
    fn what_is_not_told_is_zero() {
        assert_eq!(number_after("VmSize: 12 kB\n", "VmRSS:"), 0);
        assert_eq!(
            number_after("Max open files            1024                 4096    files\n", "Max open files"),
            1024
        );
    }
}
