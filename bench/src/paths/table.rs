//! The figures as Markdown.

use std::fmt::Write;

use anyhow::Result;

use super::results::{FULL_LOSS, Results, SMALL_BYTES, SMALL_LOSS, STREAMS};
use super::{Outcome, Plan};
use crate::contender::{REFERENCE, WAYS};
use crate::ground::{CLIENT, SERVER};
use crate::programs::Programs;
use crate::statistics::{median, percentile};
use crate::{iperf, ping};

/// What all tables have in common.
pub(super) fn introduction(plan: &Plan, programs: &Programs) -> Result<String> {
    let Plan { rounds, seconds, .. } = plan;
    let (small, full) = (SMALL_LOSS * 100.0, FULL_LOSS * 100.0);
    let mut text = format!(
        "\n## Container to container\n\nBoth hosts and both ends on this machine. Medians of {rounds} interleaved rounds; \
         ratios are of medians, to VXLAN by hand. TCP: {seconds} s each, by iperf3. UDP: the highest rate of datagrams \
         that fill the MTU with at most {full} % lost, each sent by itself and cut by the kernel (`UDP_SEGMENT`). \
         Small: datagrams of {SMALL_BYTES} bytes one way with at most {small} % lost. Ping at half load: beside one TCP \
         stream at half its rate. CPU: all daemons together, user and system, one stream; the kernel's own work for \
         others is not in it. RSS: the larger daemon, at most, at full rate. \
         wireguard-go has offloads in versions since 2023.\n"
    );
    text += "\n";
    for way in WAYS.iter().filter(|way| plan.ways.iter().any(|key| key == way.key)) {
        if let Some(program) = way.program() {
            let version = programs.version(way.key, program);
            writeln!(text, "- {}: {}", way.name, if version.is_empty() { "no version known" } else { &version })?;
        }
    }
    Ok(text)
}

/// Both tables of one underlay.
pub(super) fn render(outcome: &Outcome) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "\n### Underlay {}\n", outcome.underlay)?;
    writeln!(
        text,
        "| way | MTU | TCP x1 Gbit/s | of VXLAN | TCP x4 | of VXLAN | TCP x16 | of VXLAN | UDP Gbit/s | segmented UDP Gbit/s | of own TCP | small 1000/s |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
    for results in &outcome.results {
        writeln!(text, "{}", throughput(results, outcome.of(REFERENCE)))?;
    }
    writeln!(text, "\n| way | ping p50 ms | p99 | at half load p50 | p99 | CPU s/GB | RSS MiB |")?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for results in &outcome.results {
        writeln!(text, "{}", cost(results))?;
    }
    for (name, reason) in &outcome.missing {
        writeln!(text, "\nNot measured: {name}: {reason}")?;
    }
    Ok(text)
}

fn throughput(results: &Results, reference: Option<&Results>) -> String {
    let mut line = format!("| {} | {} ", results.name, results.mtu);
    for index in 0..STREAMS.len() {
        let rate = median(&results.tcp[index]);
        let ratio = reference.map(|reference| rate / median(&reference.tcp[index]));
        line += &format!("| {rate:.2} | {} ", ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")));
    }
    let (plain, segmented) = (median(&results.plain), median(&results.segmented));
    let share = plain.max(segmented) / median(&results.tcp[0]);
    line + &format!("| {plain:.2} | {segmented:.2} | {share:.2} | {:.0} |", median(&results.small) / 1e3)
}

fn cost(results: &Results) -> String {
    let Results { name, idle, loaded, cpu_per_gigabyte, resident_kib, .. } = results;
    let times = [(idle, 0.5), (idle, 0.99), (loaded, 0.5), (loaded, 0.99)];
    let times = times.map(|(times, share)| format!("{:.3}", percentile(times, share))).join(" | ");
    let (cpu, resident) = match resident_kib {
        0 => ("-".to_owned(), "-".to_owned()),
        kib => (format!("{:.2}", median(cpu_per_gigabyte)), format!("{:.1}", *kib as f64 / 1024.0)),
    };
    format!("| {name} | {times} | {cpu} | {resident} |")
}

/// How the figures were made, and what the programs said.
pub(super) fn commands(plan: &Plan, outcomes: &[Outcome]) -> Result<String> {
    let mut commands = STREAMS.map(|streams| iperf::command(SERVER, streams, plan.seconds)).to_vec();
    commands.push(ping::command(SERVER));
    let raw: String = outcomes.iter().map(|outcome| outcome.raw.as_str()).collect();
    let mut text = String::new();
    writeln!(text, "\nCommands, in the container {CLIENT}: `{}`", commands.join("`, `"))?;
    writeln!(text, "\n<details><summary>raw output</summary>\n\n```text\n{raw}```\n\n</details>")?;
    Ok(text)
}
