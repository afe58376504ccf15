//! `make bench`: measures the real release binary beside what it is compared with, and prints the report that
//! `RESULTS.md` holds. How to repeat it: `README.md` beside this.
//!
//! ```text
//!   weave-bench [paths] [start] [restart] [idle] [sim] [--ways veth,vxlan,fastdp,sleeve] [--rounds N] [--seconds N]
//!               [--peers N]                                                      no part named: all of them
//! ```

#![forbid(unsafe_code)]

use std::io::Write;

use anyhow::{Context, Result, bail};

mod contender;
mod control;
mod idle;
mod iperf;
mod machine;
mod paths;
mod ping;
mod process;
mod restart;
mod sim;
mod start;
mod statistics;

/// What was asked for on the command line.
#[derive(Debug)]
struct Settings {
    parts: Vec<String>,
    ways: Vec<String>,
    rounds: usize,
    seconds: u32,
    peers: u32,
}

const PARTS: [&str; 5] = ["paths", "start", "restart", "idle", "sim"];

fn main() -> Result<()> {
    let settings = Settings::parse(std::env::args().skip(1))?;
    let mut report = machine::describe()?;
    for part in &settings.parts {
        let section = match part.as_str() {
            "paths" => paths::measure(&settings.ways, settings.rounds, settings.seconds),
            "start" => start::measure(),
            "restart" => restart::measure(),
            "idle" => idle::measure(),
            _ => sim::measure(settings.peers),
        };
        report += &section.with_context(|| format!("measuring {part}"))?;
    }
    std::io::stdout().write_all(report.as_bytes())?;
    Ok(())
}

impl Settings {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut settings = Self {
            parts: Vec::new(),
            ways: contender::WAYS.map(str::to_owned).into(),
            rounds: 5,
            seconds: 5,
            peers: 1_000,
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--ways" => {
                    settings.ways = words.next().context("--ways LIST")?.split(',').map(str::to_owned).collect();
                }
                "--rounds" => settings.rounds = number(&word, &mut words)? as usize,
                "--seconds" => settings.seconds = number(&word, &mut words)?,
                "--peers" => settings.peers = number(&word, &mut words)?,
                part if PARTS.contains(&part) => settings.parts.push(word),
                _ => bail!("`{word}` is none of {PARTS:?}, --ways LIST, --rounds N, --seconds N, --peers N"),
            }
        }
        if settings.parts.is_empty() {
            settings.parts = PARTS.map(str::to_owned).into();
        }
        Ok(settings)
    }
}

fn number(option: &str, words: &mut impl Iterator<Item = String>) -> Result<u32> {
    words.next().and_then(|text| text.parse().ok()).with_context(|| format!("{option} takes a number"))
}

/// Says what goes on, since a run takes minutes.
fn progress(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
