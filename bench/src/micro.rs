//! Work of the data path without a network: how long one call takes, and how many instructions.
//!
//! ```text
//!   time           this process, best of some runs
//!   instructions   valgrind --tool=callgrind weave-bench repeat WORK N, once with N and once with 2 N: the difference,
//!                  divided by N, is free of what starting costs, and the same each time
//! ```

use std::fmt::Write;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::limits::significant;
use crate::progress;

use self::work::Work;

mod offload;
pub(crate) mod work;

/// Calls between two looks at the clock.
const CALLS: u64 = 64;
const RUN: Duration = Duration::from_millis(100);
const RUNS: usize = 3;
/// Of the shorter run that counts instructions.
const COUNTED: u64 = 500;

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    let mut text = String::from(
        "\n## Without a network\n\nOne call on one core; best of three runs. Instructions by `valgrind --tool=callgrind \
         weave-bench repeat WORK N` with two values of N.\n\n\
         | work | bytes | ns a call | Gbit/s | instructions a call | a byte |\n|---|---|---|---|---|---|\n",
    );
    for mut work in work::all() {
        progress(&format!("running {}", work.name));
        let nanoseconds = time(&mut work);
        let gigabits = work.bytes as f64 * 8.0 / nanoseconds;
        let [a_call, a_byte] = match instructions(&work.name) {
            Ok(count) => [count, count / work.bytes as f64].map(significant),
            Err(error) => {
                progress(&format!("instructions are not counted: {error:#}"));
                ["-", "-"].map(str::to_owned)
            }
        };
        let Work { name, bytes, .. } = work;
        writeln!(text, "| {name} | {bytes} | {nanoseconds:.0} | {gigabits:.2} | {a_call} | {a_byte} |")?;
    }
    Ok(text)
}

/// Does one piece of work some times, for a profiler around this process.
pub(crate) fn repeat(name: &str, times: u64) -> Result<()> {
    let work = work::all().into_iter().find(|work| work.name == name);
    let mut work = work.with_context(|| format!("no work is called `{name}`"))?;
    (0..times).for_each(|_| black_box(&mut work.call)());
    Ok(())
}

/// Nanoseconds of a call.
pub(crate) fn time(work: &mut Work) -> f64 {
    (0..RUNS).map(|_| run(work)).fold(f64::INFINITY, f64::min)
}

fn run(work: &mut Work) -> f64 {
    let (begin, mut calls) = (Instant::now(), 0);
    while begin.elapsed() < RUN {
        (0..CALLS).for_each(|_| black_box(&mut work.call)());
        calls += CALLS;
    }
    begin.elapsed().as_nanos() as f64 / calls as f64
}

/// Instructions of a call.
fn instructions(name: &str) -> Result<f64> {
    let (short, long) = (count(name, COUNTED)?, count(name, 2 * COUNTED)?);
    Ok(long.saturating_sub(short) as f64 / COUNTED as f64)
}

fn count(name: &str, times: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    let output = command.args(["repeat", name, &times.to_string()]).output().context("valgrind (package valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    collected(&said).with_context(|| format!("valgrind counted nothing: {said}"))
}

/// `==1== Collected : 123456`
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_callgrind_is_read() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 2469\n"), Some(2469));
        assert_eq!(collected("no such program"), None);
    }

    #[test]
    fn every_work_has_a_name_of_its_own_and_can_be_done_again() -> Result<()> {
        let names: std::collections::BTreeSet<_> = work::all().into_iter().map(|work| work.name).collect();

        assert_eq!(names.len(), work::all().len());
        names.iter().try_for_each(|name| repeat(name, 3))
    }
}
