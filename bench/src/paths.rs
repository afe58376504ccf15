//! Throughput and latency of every contender, round after round in turns: what disturbs the machine disturbs them alike.

use std::fmt::Write;

use anyhow::{Context, Result};

use crate::contender::{CLIENT, Contender, REFERENCE, SERVER};
use crate::statistics::{median, percentile};
use crate::{iperf, ping, progress};

/// All rounds of one contender.
#[derive(Debug, Default)]
struct Results {
    name: &'static str,
    one: Vec<f64>,
    four: Vec<f64>,
    round_trips: Vec<f64>,
    /// Seconds of both daemons' processor time for each gigabyte, with one stream.
    cpu_per_gigabyte: Vec<f64>,
    resident_kib: u64,
}

/// The section of the report.
pub(crate) fn measure(ways: &[String], rounds: usize, seconds: u32) -> Result<String> {
    progress("setting up the ways between two containers");
    let contenders = ways.iter().map(|way| Contender::new(way)).collect::<Result<Vec<_>>>()?;
    let mut all: Vec<_> =
        contenders.iter().map(|contender| Results { name: contender.name, ..Results::default() }).collect();
    let mut raw = String::new();
    for round in 1..=rounds {
        for (contender, results) in contenders.iter().zip(&mut all) {
            progress(&format!("round {round} of {rounds}: {}", contender.name));
            writeln!(raw, "round {round}, {}", contender.name)?;
            results.add(contender, seconds, &mut raw).with_context(|| contender.name)?;
        }
    }
    render(&all, rounds, seconds, &raw)
}

impl Results {
    fn add(&mut self, contender: &Contender, seconds: u32, raw: &mut String) -> Result<()> {
        let before = contender.daemons_use()?.0;
        let one = contender.server().measure(contender.client(), 1, seconds)?;
        let (after, resident_kib) = contender.daemons_use()?;
        let four = contender.server().measure(contender.client(), 4, seconds)?;
        let round_trips = ping::round_trips(contender.client(), SERVER)?;
        let cpu = (after - before).as_secs_f64();
        let (p50, p99) = (median(&round_trips), percentile(&round_trips, 0.99));
        writeln!(raw, "{}\n{}\nping p50 {p50:.3} ms, p99 {p99:.3} ms", one.raw, four.raw)?;
        if contender.has_daemons() {
            writeln!(raw, "daemons, one stream: {cpu:.2} s of processor time, at most {resident_kib} KiB resident")?;
            self.cpu_per_gigabyte.push(cpu / (one.gigabits * f64::from(seconds) / 8.0));
            self.resident_kib = self.resident_kib.max(resident_kib);
        }
        self.one.push(one.gigabits);
        self.four.push(four.gigabits);
        self.round_trips.extend(round_trips);
        Ok(())
    }
}

fn render(all: &[Results], rounds: usize, seconds: u32, raw: &str) -> Result<String> {
    let reference = all.iter().find(|results| results.name == REFERENCE);
    let (one, four) = reference.map_or((f64::NAN, f64::NAN), |all| (median(&all.one), median(&all.four)));
    let mut text = String::new();
    writeln!(
        text,
        "\n## Container to container\n\nBoth hosts and both ends on this machine; underlay 1500, overlay 1376 (bare \
         veth: 1500). Medians of {rounds} interleaved rounds of {seconds} s, ratios of medians. CPU: both daemons \
         together, user and system, one stream; the kernel's own work for others is not in it.\n"
    )?;
    writeln!(
        text,
        "| way | 1 stream Gbit/s | of {REFERENCE} | 4 streams Gbit/s | of {REFERENCE} | ping p50 ms | ping p99 ms | CPU s/GB | RSS MiB |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|")?;
    for results in all {
        let (m1, m4) = (median(&results.one), median(&results.four));
        let (p50, p99) = (median(&results.round_trips), percentile(&results.round_trips, 0.99));
        let (cpu, rss) = match results.resident_kib {
            0 => ("-".to_owned(), "-".to_owned()),
            kib => (format!("{:.2}", median(&results.cpu_per_gigabyte)), format!("{:.1}", kib as f64 / 1024.0)),
        };
        let name = results.name;
        let (r1, r4) = (m1 / one, m4 / four);
        writeln!(text, "| {name} | {m1:.2} | {r1:.3} | {m4:.2} | {r4:.3} | {p50:.3} | {p99:.3} | {cpu} | {rss} |")?;
    }
    let commands = [iperf::command(SERVER, 1, seconds), iperf::command(SERVER, 4, seconds), ping::command(SERVER)];
    writeln!(text, "\nCommands, in the container {CLIENT}: `{}`", commands.join("`, `"))?;
    writeln!(text, "\n<details><summary>raw output</summary>\n\n```text\n{raw}```\n\n</details>")?;
    Ok(text)
}
