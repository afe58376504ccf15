//! Thirty real daemons started in the same second, each knowing one seed: how long until everyone knows everyone, and
//! what that costs on the wire.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weave_netns_tests::probe::eventually;
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::{Launch, Weave};

use crate::control;
use crate::process::resident_kib;
use crate::{PASSWORD, progress};

const DAEMONS: usize = 30;
const DEADLINE: Duration = Duration::from_secs(120);

/// How often; each time with a mesh that never was before.
const RUNS: usize = 3;

/// What one start measured.
struct Start {
    spawned: Duration,
    known: Duration,
    wire_bytes: u64,
    resident_kib: u64,
}

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "\n## {DAEMONS} daemons started together\n\nEach on a host of its own with a password and the address of the \
         first. Time from the first start until every daemon has a live record of, and a route to, all {DAEMONS}; bytes \
         that hosts sent into the switch until then, by its interface counters, Ethernet headers included.\n"
    )?;
    writeln!(text, "| all started after | all know all after | bytes on the wire | largest RSS |\n|---|---|---|---|")?;
    for run in 1..=RUNS {
        progress(&format!("starting {DAEMONS} daemons, run {run} of {RUNS}"));
        let start = start()?;
        let (spawned, known) = (start.spawned.as_secs_f64(), start.known.as_secs_f64());
        let (megabytes, mebibytes) = (start.wire_bytes as f64 / 1e6, start.resident_kib as f64 / 1024.0);
        writeln!(text, "| {spawned:.2} s | {known:.2} s | {megabytes:.2} MB | {mebibytes:.1} MiB |")?;
    }
    Ok(text)
}

fn start() -> Result<Start> {
    let net = Topology::new()?;
    let hosts = (0..DAEMONS).map(|_| net.host()).collect::<Result<Vec<_>>>()?;
    let mut daemons = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        let launch = Launch::new().password(PASSWORD);
        daemons.push(Weave::prepare(host, if number == 0 { launch } else { launch.peer(&hosts[0]) })?);
    }
    let bytes_before = net.bytes_on_the_wire()?;
    let begin = Instant::now();
    for daemon in &mut daemons {
        daemon.spawn()?;
    }
    let spawned = begin.elapsed();
    // One after the other, so that asking costs little: the last to be asked for the first time is mostly ready then.
    for daemon in &daemons {
        eventually(DEADLINE, "a daemon knows all", || Ok(control::reachable_peers(daemon) >= DAEMONS))
            .with_context(|| daemon.log())?;
    }
    let known = begin.elapsed();
    let wire_bytes = net.bytes_on_the_wire()? - bytes_before;
    let mut most = 0;
    for daemon in &daemons {
        most = most.max(resident_kib(daemon)?);
    }
    Ok(Start { spawned, known, wire_bytes, resident_kib: most })
}
