//! Docker beside itself: what our runtime and our proxy cost its users.
//!
//! ```text
//!   docker ─┬────────────► dockerd ─┬─► runc                        plain
//!           └► our proxy ─► …       └─► weave-rs-runc ─► daemon     ours
//! ```

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weave_netns_tests::docker::Site;
use weave_netns_tests::probe::{at_once, eventually};
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::Launch;

use crate::process::resident_kib;
use crate::progress;
use crate::statistics::{median, percentile};

/// How often a container is started each way.
const STARTS: usize = 25;
/// Containers that are started at the same time, and how often.
const TOGETHER: usize = 100;
const CROWDS: usize = 3;
/// Octets of one stream, and how often.
const STREAM_MIB: u64 = 1_024;
const STREAMS: usize = 3;
/// Streams that are open at one time.
const OPEN: usize = 50;
/// How long they may take to be.
const OPENING: Duration = Duration::from_secs(120);
/// A start waits so long for the daemon, seconds.
const START_TIMEOUT: u32 = 30;

/// By which runtime, and whether by way of the proxy.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    runtime: &'static str,
    is_through: bool,
}

const PLAIN: Way = Way { name: "runc", runtime: "runc", is_through: false };
const OURS: Way = Way { name: "weave-rs-runc", runtime: "weave-rs", is_through: false };
const THROUGH: Way = Way { name: "the same over the proxy", runtime: "weave-rs", is_through: true };

/// One host with an engine.
struct Ground {
    // In the order in which they end.
    site: Site,
    _net: Topology,
}

impl Ground {
    fn new() -> Result<Self> {
        let net = Topology::new()?;
        Ok(Self { site: Site::new(net.host()?, Launch::new(), START_TIMEOUT)?, _net: net })
    }

    /// `docker run` of busybox with these options; nobody looks at its output.
    fn command(&self, way: Way, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        let socket = format!("unix://{}", self.site.proxy.display());
        command.env("DOCKER_HOST", if way.is_through { socket } else { self.site.docker.socket() });
        command.args(["run", "--network", "none", "--runtime", way.runtime]).args(options);
        command.args(["busybox", "/bin/busybox"]).args(words).stdout(Stdio::null());
        command
    }

    /// How long it takes until it has ended, seconds.
    fn time(&self, way: Way, options: &[&str], words: &[&str]) -> Result<f64> {
        let mut command = self.command(way, options, words);
        let begin = Instant::now();
        let status = command.status()?;
        ensure!(status.success(), "{command:?}: {status}\n{}", self.site.weave.log());
        Ok(begin.elapsed().as_secs_f64())
    }

    /// How long it takes until so many run, started at the same time, seconds.
    fn crowd(&self, way: Way) -> Result<f64> {
        let begin = Instant::now();
        at_once(0..TOGETHER, |number| {
            self.time(way, &["--detach", "--name", &format!("crowd{number}")], &["sleep", "600"])
        })?;
        let time = begin.elapsed().as_secs_f64();
        if way.runtime == OURS.runtime {
            let shown = self.site.weave.run(&["ps"])?;
            let addresses: BTreeSet<_> = shown.split_whitespace().filter(|word| word.contains('/')).collect();
            ensure!(addresses.len() == TOGETHER, "{} addresses:\n{shown}", addresses.len());
        }
        let names: Vec<String> = (0..TOGETHER).map(|number| format!("crowd{number}")).collect();
        self.site.docker.remove(&names)?;
        Ok(time)
    }
}

/// Children that end with this.
struct Streams(Vec<Child>);

impl Drop for Streams {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    let ground = Ground::new()?;
    Ok([starts(&ground)?, crowds(&ground)?, streams(&ground)?, open_streams(&ground)?].concat())
}

fn starts(ground: &Ground) -> Result<String> {
    let mut times = [PLAIN, OURS, THROUGH].map(|way| (way, Vec::new()));
    for round in 0..=STARTS {
        progress(&format!("docker run, {round} of {STARTS}"));
        for (way, times) in &mut times {
            let time = ground.time(*way, &["--rm"], &["true"])?;
            // The first of each finds nothing in memory.
            if round > 0 {
                times.push(time * 1e3);
            }
        }
    }
    let mut text = format!(
        "\n## Docker\n\n`docker run --rm --network none busybox true`, {STARTS} times each in turns:\n\n\
         | | median ms | least | most | more than plain |\n|---|---|---|---|---|\n"
    );
    let plain = median(&times[0].1);
    for (way, times) in &times {
        let (middle, least, most) = (median(times), percentile(times, 0.0), percentile(times, 1.0));
        writeln!(text, "| {} | {middle:.0} | {least:.0} | {most:.0} | {:.0} |", way.name, middle - plain)?;
    }
    Ok(text)
}

fn crowds(ground: &Ground) -> Result<String> {
    let mut text = format!(
        "\n{TOGETHER} `docker run --detach` at the same time, until all have answered, in turns; each of ours has an \
         address that no other has:\n\n| plain s | ours s | ratio |\n|---|---|---|\n"
    );
    for round in 1..=CROWDS {
        progress(&format!("{TOGETHER} containers at the same time, {round} of {CROWDS}"));
        let (plain, ours) = (ground.crowd(PLAIN)?, ground.crowd(OURS)?);
        writeln!(text, "| {plain:.1} | {ours:.1} | {:.2} |", ours / plain)?;
    }
    Ok(text)
}

fn streams(ground: &Ground) -> Result<String> {
    let count = format!("count={STREAM_MIB}");
    let words = ["dd", "if=/dev/zero", "bs=1M", &count, "status=none"];
    let mut text = format!(
        "\n{STREAM_MIB} MiB of a container's output to `docker run`, in turns:\n\n\
         | direct MB/s | over the proxy MB/s | ratio | largest RSS of the daemon |\n|---|---|---|---|\n"
    );
    for round in 1..=STREAMS {
        progress(&format!("{STREAM_MIB} MiB, {round} of {STREAMS}"));
        let options = ["--rm", "--log-driver", "none"];
        let rate = |way| Ok::<_, anyhow::Error>((STREAM_MIB << 20) as f64 / 1e6 / ground.time(way, &options, &words)?);
        let (direct, through) = (rate(OURS)?, rate(THROUGH)?);
        let peak = ground.site.weave.peak_kib()? as f64 / 1024.0;
        writeln!(text, "| {direct:.0} | {through:.0} | {:.2} | {peak:.1} MiB |", through / direct)?;
    }
    Ok(text)
}

fn open_streams(ground: &Ground) -> Result<String> {
    progress(&format!("{OPEN} open streams"));
    let before = resident_kib(&ground.site.weave)?;
    let hold = |_| ground.command(THROUGH, &["--rm", "--interactive"], &["cat"]).stdin(Stdio::piped()).spawn();
    let streams = Streams((0..OPEN).map(hold).collect::<std::io::Result<_>>()?);
    eventually(OPENING, "all of them run", || Ok(ground.site.docker.run(&["ps", "--quiet"])?.lines().count() == OPEN))?;
    let after = resident_kib(&ground.site.weave)?;
    drop(streams);
    let more = after.saturating_sub(before) as f64 / 1024.0;
    Ok(format!(
        "\n{OPEN} interactive containers whose streams the proxy passes on: {more:.1} MiB more resident in the daemon, \
         containers and names included.\n"
    ))
}
