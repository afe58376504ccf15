//! `make bench`: measures the real release binary beside what it is compared with, and prints the report that
//! `RESULTS.md` holds. How to repeat it: `README.md` beside this.
//!
//! ```text
//!   weave-bench repeat WORK N                for a profiler around it: micro.rs
//!   weave-bench [PART…] [OPTION…]            what there is: settings.rs; no part named: all of them
//!      │
//!      └─► machine.rs, then each part's section in turn; one that fails says so in its place, and the others go on
//! ```

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use self::settings::Settings;

mod addresses;
mod bound;
mod canary;
mod contender;
mod control;
mod crowd;
mod daemon;
mod datagrams;
mod docker;
mod ground;
mod idle;
mod iperf;
mod limits;
mod machine;
mod micro;
mod names;
mod paths;
mod ping;
mod process;
mod profile;
mod programs;
mod restart;
mod sampling;
mod settings;
mod sim;
mod start;
mod statistics;

/// Of every mesh that has one.
const PASSWORD: &str = "correct horse battery staple";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        let printed = print(&settings::usage());
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("weave-bench: {error:#}; see --help"));
            ExitCode::FAILURE
        }
    }
}

fn run(words: Vec<String>) -> Result<()> {
    if let [command, work, times] = words.as_slice()
        && command == "repeat"
    {
        return micro::repeat(work, times.parse()?);
    }
    let settings = Settings::parse(words.into_iter())?;
    let mut failed = Vec::new();
    print(&machine::describe()?)?;
    for part in &settings.parts {
        let section = part.measure(&settings).unwrap_or_else(|error| {
            failed.push(part.name);
            progress(&format!("{} failed: {error:?}", part.name));
            format!("\n## {}: failed\n\n```text\n{error:#}\n```\n", part.name)
        });
        print(&section)?;
    }
    ensure!(failed.is_empty(), "not measured: {failed:?}");
    Ok(())
}

fn print(section: &str) -> Result<()> {
    std::io::stdout().write_all(section.as_bytes())?;
    Ok(())
}

/// Says what goes on, since a run takes minutes.
fn progress(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
