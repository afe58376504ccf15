//! Throughput, latency and cost of every contender, round after round in turns: what disturbs the machine disturbs them
//! alike.
//!
//! ```text
//!   for each underlay:  all ways set up side by side ──► round 1: each way once, round 2: …  ──► tables, limits, raw output
//! ```
//!
//! A way that cannot be set up or measured is reported with the reason; the others go on.

use std::fmt::Write;

use anyhow::Result;

use self::results::Results;
use crate::contender::{Contender, WAYS, Way};
use crate::programs::Programs;
use crate::progress;

mod held;
mod results;
mod table;

/// What to measure.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Keys of [`WAYS`].
    pub(crate) ways: Vec<String>,
    /// Bytes of an IP packet that fit between the hosts; a table for each.
    pub(crate) underlays: Vec<u32>,
    pub(crate) rounds: usize,
    /// Of each TCP measurement.
    pub(crate) seconds: u32,
}

/// What came of one underlay.
#[derive(Debug)]
struct Outcome {
    underlay: u32,
    results: Vec<Results>,
    /// Ways that were not measured to the end, and why.
    missing: Vec<(&'static str, String)>,
    raw: String,
}

/// The section of the report.
pub(crate) fn measure(plan: &Plan, programs: &Programs) -> Result<String> {
    let outcomes =
        plan.underlays.iter().map(|underlay| outcome(*underlay, plan, programs)).collect::<Result<Vec<_>>>()?;
    let mut text = table::introduction(plan, programs)?;
    for outcome in &outcomes {
        text += &table::render(outcome)?;
    }
    text += &crate::limits::table(&held::limits(&outcomes));
    text += &table::commands(plan, &outcomes)?;
    Ok(text)
}

fn outcome(underlay: u32, plan: &Plan, programs: &Programs) -> Result<Outcome> {
    let mut outcome = Outcome { underlay, results: Vec::new(), missing: Vec::new(), raw: String::new() };
    let mut contenders = Vec::new();
    for way in WAYS.iter().filter(|way| plan.ways.iter().any(|key| key == way.key)) {
        progress(&format!("setting up {} on an underlay of {underlay}", way.name));
        match way.set_up(underlay, programs) {
            Ok(contender) => contenders.push((Results::of(&contender), contender)),
            Err(error) => outcome.miss(way, &error),
        }
    }
    for round in 1..=plan.rounds {
        contenders = run_round(round, contenders, plan, &mut outcome)?;
    }
    outcome.results = contenders.into_iter().map(|(results, _)| results).collect();
    Ok(outcome)
}

type Running = Vec<(Results, Contender)>;

/// Measures each contender once; those that could be measured go on.
fn run_round(round: usize, contenders: Running, plan: &Plan, outcome: &mut Outcome) -> Result<Running> {
    let mut left = Vec::new();
    for (mut results, contender) in contenders {
        let (name, underlay) = (contender.way.name, outcome.underlay);
        progress(&format!("underlay {underlay}, round {round} of {}: {name}", plan.rounds));
        writeln!(outcome.raw, "underlay {underlay}, round {round}, {name}")?;
        match results.add(&contender, plan.seconds, &mut outcome.raw) {
            Ok(()) => left.push((results, contender)),
            Err(error) => outcome.miss(contender.way, &error),
        }
    }
    Ok(left)
}

impl Outcome {
    fn miss(&mut self, way: &Way, error: &anyhow::Error) {
        progress(&format!("{} is not measured: {error:?}", way.name));
        self.missing.push((way.name, error.root_cause().to_string().lines().next().unwrap_or_default().to_owned()));
    }

    fn of(&self, key: &str) -> Option<&Results> {
        self.results.iter().find(|results| results.key == key)
    }
}
