//! `sim`: a whole mesh in this process, under a virtual clock; what happened goes to standard output.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use clap::Args;
use weave_mesh::sim::{Scenario, Split};

/// The simulator's own limit is memory; beyond this a typing error is likelier.
const PEERS_MAX: u64 = 20_000;

#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// How many peers start in the same second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(2..=PEERS_MAX))]
    peers: u64,
    /// The same seed gives the same history
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Segments lost on the way: per cent, or a fraction below 1
    #[arg(long, value_name = "P", default_value = "0")]
    loss: Loss,
    /// Partitions, comma-separated: FROM-UNTIL[/GROUPS], in seconds from the start
    #[arg(long, value_name = "SPLITS", value_delimiter = ',')]
    partitions: Vec<Split>,
}

/// Per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss(u8);

#[derive(Debug)]
struct InvalidLoss(String);

impl fmt::Display for InvalidLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is neither per cent below 100 nor a fraction below 1", self.0)
    }
}

impl std::error::Error for InvalidLoss {}

impl FromStr for Loss {
    type Err = InvalidLoss;

    fn from_str(text: &str) -> Result<Self, InvalidLoss> {
        let number = text.trim_end_matches('%').parse::<f64>().ok();
        let number = number.map(|number| if number < 1.0 { number * 100.0 } else { number });
        let loss = number.filter(|number| (0.0..100.0).contains(number));
        loss.map(|loss| Self(loss.round() as u8)).ok_or_else(|| InvalidLoss(text.to_owned()))
    }
}

/// Runs the simulation; fails when something that must hold does not.
pub(crate) fn sim(args: SimArgs) -> Result<()> {
    let SimArgs { peers, seed, loss: Loss(loss_percent), partitions: splits } = args;
    let report = Scenario { peers: usize::try_from(peers)?, seed, loss_percent, splits }.run(resident_bytes);
    crate::print(&report.to_string())?;
    if report.is_good() {
        return Ok(());
    }
    bail!("{} broken invariants; the lines above say which, and how to replay", report.violations.len())
}

/// The resident memory of this process.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_per_cent_or_a_fraction() {
        let percent = |text: &str| text.parse::<Loss>().ok().map(|loss| loss.0);

        assert_eq!(percent("5"), Some(5));
        assert_eq!(percent("5%"), Some(5));
        assert_eq!(percent("0.05"), Some(5));
        assert_eq!(percent("0"), Some(0));
        for text in ["100", "-1", "x", "", "nan"] {
            assert_eq!(percent(text), None, "{text}");
        }
    }
}
