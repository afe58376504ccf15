//! The simulator with a thousand peers: what it reports, and what it costs to run.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_netns_tests::weave::binary;

use crate::process::{cpu_time, memory_kib};
use crate::progress;

/// The section of the report.
pub(crate) fn measure(peers: u32) -> Result<String> {
    progress(&format!("simulating {peers} peers"));
    let arguments = ["sim", "--peers", &peers.to_string(), "--seed", "7"].map(str::to_owned);
    let begin = Instant::now();
    let mut child = Command::new(binary()?).args(&arguments).stdout(Stdio::piped()).spawn()?;
    let pid = child.id();
    let stdout = child.stdout.take().context("no output")?;
    let reader = std::thread::spawn(move || std::io::read_to_string(stdout));
    let (mut peak_kib, mut cpu) = (0, Duration::ZERO);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // A process that has just ended has no memory any more; the figures before stay.
        peak_kib = memory_kib(pid, "VmHWM").unwrap_or(peak_kib);
        cpu = cpu_time(pid).unwrap_or(cpu);
        std::thread::sleep(POLL);
    };
    let elapsed = begin.elapsed();
    let output = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(status.success(), "weave-rs {}: {status}\n{output}", arguments.join(" "));
    let mut text = String::new();
    writeln!(text, "\n## {peers} simulated peers\n\n`weave-rs {}`\n", arguments.join(" "))?;
    writeln!(text, "| wall time | processor time | peak memory | per peer |\n|---|---|---|---|")?;
    let per_peer = peak_kib / u64::from(peers.max(1));
    let (seconds, cpu, mebibytes) = (elapsed.as_secs_f64(), cpu.as_secs_f64(), peak_kib as f64 / 1024.0);
    writeln!(text, "| {seconds:.1} s | {cpu:.1} s | {mebibytes:.0} MiB | {per_peer} KiB |")?;
    writeln!(text, "\n```text\n{}\n```", output.trim_end())?;
    Ok(text)
}

const POLL: Duration = Duration::from_millis(50);
