//! What the figures were measured on.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::Result;

/// The head of the report.
pub(crate) fn describe() -> Result<String> {
    let model = field("/proc/cpuinfo", "model name");
    let cores = std::thread::available_parallelism()?;
    let memory = field("/proc/meminfo", "MemTotal");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut text = String::from(
        "# Results\n\nPrinted by `make bench`; what each figure means and how to repeat it: README.md.\n\n",
    );
    writeln!(text, "- machine: {model}, {cores} cores, {memory}")?;
    writeln!(text, "- kernel: {}", kernel.trim())?;
    writeln!(text, "- load before the run (/proc/loadavg): {}", load.trim())?;
    writeln!(text, "- binary: {}", first_line("git", &["describe", "--always", "--dirty"]))?;
    writeln!(text, "- iperf3: {}", first_line("iperf3", &["--version"]))?;
    writeln!(text, "- date: {}", first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]))?;
    Ok(text)
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split(':').nth(1).unwrap_or("?").trim().to_owned()
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("?").to_owned()
}
