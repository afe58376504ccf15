//! Four daemons with a password, and one that sends to the three others at once: memory at full rate.

use std::fmt::Write;
use std::thread;

use anyhow::{Context, Result};
use weave_netns_tests::scene::Scene;
use weave_netns_tests::weave::Launch;

use crate::iperf::{Flow, Server};
use crate::limits::Bound::AtMost;
use crate::limits::{self, Limit};
use crate::{PASSWORD, progress, sampling};

const HOSTS: usize = 4;
/// To each of the others.
const STREAMS: u32 = 4;
const SECONDS: u32 = 5;

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    progress("sending to three peers at once");
    let scene = Scene::new(HOSTS, &Launch::new().password(PASSWORD))?;
    scene.wait_carrier("sleeve")?;
    let pids = scene.weaves.iter().map(|weave| weave.pid().context("a daemon ended")).collect::<Result<Vec<_>>>()?;
    let (flows, resident_kib) = sampling::highest(&pids, || send_to_all(&scene))?;
    let (gigabits, mebibytes) = (flows.iter().map(|flow| flow.gigabits).sum::<f64>(), resident_kib as f64 / 1024.0);
    let mut text = String::new();
    writeln!(
        text,
        "\n## Three peers at once\n\n{HOSTS} daemons with a password on one switch, underlay 1500; one container sends \
         {STREAMS} TCP streams to each of the three others for {SECONDS} s.\n"
    )?;
    writeln!(text, "| all together Gbit/s | each Gbit/s | largest RSS of a daemon |\n|---|---|---|")?;
    let each: Vec<_> = flows.iter().map(|flow| format!("{:.2}", flow.gigabits)).collect();
    writeln!(text, "| {gigabits:.2} | {} | {mebibytes:.1} MiB |", each.join(", "))?;
    text += &limits::table(&[Limit::new("memory at full rate with 3 peers", AtMost(40.0), "MiB", Some(mebibytes))]);
    Ok(text)
}

fn send_to_all(scene: &Scene) -> Result<Vec<Flow>> {
    let client = scene.containers[0].namespace();
    let servers = (1..HOSTS).map(|index| Server::start(scene.containers[index].namespace(), scene.address(index)));
    let servers = servers.collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let flows = servers.iter().map(|server| scope.spawn(|| server.measure(client, STREAMS, SECONDS)));
        let flows: Vec<_> = flows.collect();
        flows.into_iter().map(|flow| flow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
