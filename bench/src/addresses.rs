//! Addresses over the control API: how many a second, how long each takes, and how soon a new peer has its first.
//!
//! ```text
//!   one daemon alone        50,000 allocations by some clients at once, each on a connection that it keeps
//!   three that are settled  a fourth starts, and asks for an address as soon as it calls itself ready
//! ```

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weave_netns_tests::scene::Scene;
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::{Launch, Weave};

use crate::control::Session;
use crate::limits::Bound::{AtLeast, AtMost};
use crate::limits::{self, Limit};
use crate::process::resident_kib;
use crate::progress;
use crate::statistics::{median, percentile};

const ALLOCATIONS: usize = 50_000;
const CLIENTS: usize = 4;
/// The first and the last so many are compared.
const WINDOW: usize = 1_000;
const SETTLED_PEERS: usize = 3;
/// How often a fresh peer starts, each time in a mesh that never was before.
const RUNS: usize = 5;

/// One answered request, in time since the first was sent.
#[derive(Debug, Clone, Copy)]
struct Allocation {
    done: Duration,
    took: Duration,
}

/// Some of them that follow each other.
#[derive(Debug)]
struct Pace {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    progress(&format!("allocating {ALLOCATIONS} addresses"));
    let (all, mebibytes) = allocate()?;
    let paces = [&all[..], &all[..WINDOW], &all[ALLOCATIONS - WINDOW..]].map(pace);
    let firsts = (1..=RUNS).map(first_address).collect::<Result<Vec<_>>>()?;
    let mut text = format!(
        "\n## Addresses\n\n{ALLOCATIONS} times `POST /ip/ID` to the control socket of a daemon alone, by {CLIENTS} clients \
         at once, each on a connection of its own. The daemon held {mebibytes:.1} MiB afterwards.\n\n\
         | allocations | per second | p50 ms | p99 ms |\n|---|---|---|---|\n"
    );
    for (name, pace) in ["all", "the first 1,000", "the last 1,000"].iter().zip(&paces) {
        writeln!(text, "| {name} | {:.0} | {:.2} | {:.2} |", pace.per_second, pace.p50_ms, pace.p99_ms)?;
    }
    let each: Vec<_> = firsts.iter().map(|first| format!("{first:.0}")).collect();
    let each = each.join(", ");
    writeln!(
        text,
        "\nFirst address of a fresh peer of {SETTLED_PEERS} settled ones, from the request, which is made when it calls \
         itself ready, {RUNS} times: {each} ms."
    )?;
    Ok(text + &limits::table(&held(&paces, &firsts)))
}

fn held([all, first, last]: &[Pace; 3], firsts: &[f64]) -> Vec<Limit> {
    vec![
        Limit::new("allocations", AtLeast(5_000.0), "/s", Some(all.per_second)),
        Limit::new("allocations, p99", AtMost(5.0), "ms", Some(all.p99_ms)),
        Limit::new("allocations, the last 1,000", AtLeast(5_000.0), "/s", Some(last.per_second)),
        Limit::new("the last 1,000, p99", AtMost(5.0), "ms", Some(last.p99_ms)),
        Limit::new("rate of the last of that of the first", AtLeast(0.9), "", Some(last.per_second / first.per_second)),
        Limit::new("first address of a fresh peer, median", AtMost(200.0), "ms", Some(median(firsts))),
    ]
}

/// All allocations in the order of their answers, and what the daemon holds then in MiB.
fn allocate() -> Result<(Vec<Allocation>, f64)> {
    let net = Topology::new()?;
    let host = net.host()?;
    let daemon = Weave::launch(&host, Launch::new())?;
    Session::open(&daemon)?.ask("POST", "/ip/first")?;
    let begin = Instant::now();
    let mut all = thread::scope(|scope| {
        let daemon = &daemon;
        let clients = (0..CLIENTS).map(|client| scope.spawn(move || be_client(daemon, client, begin)));
        let clients: Vec<_> = clients.collect();
        let joined =
            clients.into_iter().map(|client| client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        Ok::<_, anyhow::Error>(joined.collect::<Result<Vec<_>>>()?.concat())
    })?;
    all.sort_by_key(|allocation| allocation.done);
    let kib = resident_kib(&daemon)?;
    Ok((all, kib as f64 / 1024.0))
}

fn be_client(daemon: &Weave, client: usize, begin: Instant) -> Result<Vec<Allocation>> {
    let mut session = Session::open(daemon)?;
    let numbers = 0..ALLOCATIONS / CLIENTS;
    let allocation = |number| {
        let asked = begin.elapsed();
        // As long as a container's id.
        session.ask("POST", &format!("/ip/{client:032x}{number:032x}"))?;
        let done = begin.elapsed();
        Ok(Allocation { done, took: done - asked })
    };
    numbers.map(allocation).collect()
}

fn pace(all: &[Allocation]) -> Pace {
    let times: Vec<_> = all.iter().map(|allocation| allocation.took.as_secs_f64() * 1e3).collect();
    let begin = all.iter().map(|allocation| allocation.done - allocation.took).min().unwrap_or_default();
    let end = all.iter().map(|allocation| allocation.done).max().unwrap_or_default();
    let per_second = all.len() as f64 / (end - begin).as_secs_f64().max(1e-9);
    Pace { per_second, p50_ms: median(&times), p99_ms: percentile(&times, 0.99) }
}

/// Milliseconds.
fn first_address(run: usize) -> Result<f64> {
    progress(&format!("starting a fresh peer, run {run} of {RUNS}"));
    let scene = Scene::new(SETTLED_PEERS, &Launch::new())?;
    scene.wait_known()?;
    let settled = scene.weaves.iter().map(|weave| Session::open(weave)?.ask("POST", "/ip/settled"));
    let settled = settled.collect::<Result<Vec<_>>>()?;
    let host = scene.net.host()?;
    let fresh = Weave::launch(&host, Launch::new().peer(&scene.hosts[0]))?;
    let begin = Instant::now();
    let first = Session::open(&fresh)?.ask("POST", "/ip/fresh")?;
    let took = begin.elapsed();
    ensure!(!settled.contains(&first), "{first} is of a ring of its own, not of that of {settled:?}");
    Ok(took.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_that_of_the_time_between_first_request_and_last_answer() {
        let all: Vec<_> = (1..=100)
            .map(|number| Allocation { done: Duration::from_millis(1_000 + number), took: Duration::from_millis(1) })
            .collect();

        let pace = pace(&all);

        assert!((999.0..1_001.0).contains(&pace.per_second), "{pace:?}");
        assert!((0.99..1.01).contains(&pace.p99_ms), "{pace:?}");
    }
}
