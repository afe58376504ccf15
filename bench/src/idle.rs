//! A resident daemon with three peers and nothing to do: its memory and its processor time.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weave_netns_tests::probe::{eventually, throughout};
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::{Launch, Weave};

use crate::process::{cpu_time, memory_kib};
use crate::{PASSWORD, control, progress};

const DAEMONS: usize = 4;
const SETTLE: Duration = Duration::from_secs(15);
const WATCH: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(30);

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "\n## At rest\n\n{DAEMONS} daemons, each with three peers and one container, {} s after they met, watched for \
         {} s.\n",
        SETTLE.as_secs(),
        WATCH.as_secs()
    )?;
    writeln!(text, "| mesh | CPU of a core, median | CPU, highest | RSS, highest |\n|---|---|---|---|")?;
    for (name, launch) in
        [("no password: fast path", Launch::new()), ("password: sleeve", Launch::new().password(PASSWORD))]
    {
        progress(&format!("watching daemons at rest, {name}"));
        writeln!(text, "{}", rest(name, &launch)?)?;
    }
    Ok(text)
}

/// A mesh of its own for one line of the table.
fn rest(name: &str, launch: &Launch) -> Result<String> {
    let net = Topology::new()?;
    let hosts = (0..DAEMONS).map(|_| net.host()).collect::<Result<Vec<_>>>()?;
    let mut daemons = Vec::new();
    let mut containers = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        let launch = if number == 0 { launch.clone() } else { launch.clone().peer(&hosts[0]) };
        let daemon = Weave::launch(host, launch)?;
        containers.push(daemon.container(host, Ipv4Addr::new(10, 32, 0, host.number()))?);
        daemons.push(daemon);
    }
    watch(name, &daemons)
}

fn watch(name: &str, daemons: &[Weave]) -> Result<String> {
    for daemon in daemons {
        eventually(DEADLINE, "a daemon knows all", || Ok(control::reachable_peers(daemon) >= DAEMONS))?;
    }
    let pids = daemons.iter().map(|daemon| daemon.pid().context("a daemon ended")).collect::<Result<Vec<_>>>()?;
    let alive = || Ok(pids.iter().all(|pid| cpu_time(*pid).is_ok()));
    let cpu = || pids.iter().map(|pid| cpu_time(*pid)).collect::<Result<Vec<_>>>();
    throughout(SETTLE, "all daemons run", alive)?;
    let (begin, before) = (Instant::now(), cpu()?);
    throughout(WATCH, "all daemons run", alive)?;
    let (elapsed, after) = (begin.elapsed(), cpu()?);
    let share = |(before, after): (&Duration, &Duration)| (*after - *before).as_secs_f64() / elapsed.as_secs_f64();
    let shares: Vec<f64> = before.iter().zip(&after).map(share).map(|share| share * 100.0).collect();
    let resident = pids.iter().map(|pid| memory_kib(*pid, "VmRSS")).collect::<Result<Vec<_>>>()?;
    let (median, highest) = (crate::statistics::median(&shares), crate::statistics::percentile(&shares, 1.0));
    let mebibytes = resident.into_iter().max().unwrap_or_default() as f64 / 1024.0;
    Ok(format!("| {name} | {median:.2} % | {highest:.2} % | {mebibytes:.1} MiB |"))
}
