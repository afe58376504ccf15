//! What a path costs that spoils segmented sends: the time to leave them, the rate behind that, the time to re-arm.
//!
//! ```text
//!   h1 ── sleeve, one TCP stream ──► bad wire: spoils segmented sends in one way after the other ──► h2
//! ```

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::bad_path::BadPath;
use weave_netns_tests::probe::TcpStreamProbe;
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::weave::Launch;
use weave_netns_tests::wire::Segmented;

use crate::iperf::Server;
use crate::limits::{self, Bound, Limit};
use crate::progress;
use crate::statistics::median;

/// How often each fault strikes.
const STRIKES: usize = 3;
/// Rounds of the rate, which alternate between the paths.
const ROUNDS: usize = 5;
const SECONDS: u32 = 2;
const FALL_BACK: Duration = Duration::from_secs(10);
const RE_ARM: Duration = Duration::from_secs(90);

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    let times = Segmented::KNOWN.map(|(words, fault)| times(words, fault).context(words));
    let times = times.into_iter().collect::<Result<Vec<_>>>()?;
    let rates = rates()?;
    let worst = times.iter().flat_map(|times| times.left).fold(0.0, f64::max);
    let [plain, fallen, _] = rates.each_ref().map(|(_, rates)| median(rates));
    Ok(times_section(&times)?
        + &rates_section(&rates)?
        + &limits::table(&[
            Limit::new("slowest fall-back", Bound::AtMost(1.0), "s", Some(worst)),
            Limit::new("rate after a fall-back, of plain sends", Bound::AtLeast(0.9), "", Some(fallen / plain)),
        ]))
}

/// Seconds until sends are plain under a fault, and segmented again without it.
struct Times {
    fault: &'static str,
    left: [f64; STRIKES],
    trusted: f64,
}

fn times(fault: &'static str, segmented: Segmented) -> Result<Times> {
    progress(&format!("canary: {fault}"));
    let (mut left, mut trusted) = ([0.0; STRIKES], 0.0);
    for (strike, left) in left.iter_mut().enumerate() {
        // A path of its own for each: one that failed before is tried again later and later.
        let (path, stream) = busy()?;
        *left = leave(&path, segmented)?.as_secs_f64();
        if strike == 0 {
            path.set_segmented(Segmented::Intact);
            trusted = path.wait_segmented(RE_ARM)?.as_secs_f64();
        }
        stream.finish()?;
    }
    Ok(Times { fault, left, trusted })
}

fn path() -> Result<BadPath> {
    BadPath::new(1, &Launch::new().argument("--no-discovery").password(crate::PASSWORD))
}

/// A path that is proven, and the stream on it.
fn busy() -> Result<(BadPath, TcpStreamProbe)> {
    let path = path()?;
    let stream = path.stream()?;
    path.wait_segmented(SETTLED)?;
    Ok((path, stream))
}

fn leave(path: &BadPath, fault: Segmented) -> Result<Duration> {
    path.set_segmented(fault);
    path.wait_plain(FALL_BACK)
}

/// What a path has been through, and the rates of its rounds in Gbit/s.
type Rates = (Past, Vec<f64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    NeverWorked,
    FellBack,
    Good,
}

impl Past {
    const ALL: [Self; 3] = [Self::NeverWorked, Self::FellBack, Self::Good];

    fn words(self) -> &'static str {
        match self {
            Self::NeverWorked => "plain: segmented sends never worked",
            Self::FellBack => "plain: fell back under a stream",
            Self::Good => "segmented, on a good wire (where super-packets also cross whole)",
        }
    }

    /// A path with this past.
    fn live(self) -> Result<BadPath> {
        let broken = Segmented::Dropped(100.0);
        if self == Self::NeverWorked {
            let path = path()?;
            path.set_segmented(broken);
            return Ok(path);
        }
        let (path, stream) = busy()?;
        if self == Self::FellBack {
            leave(&path, broken)?;
        }
        stream.finish()?;
        Ok(path)
    }

    fn rate(self, path: &BadPath, server: &Server) -> Result<f64> {
        let flow = server.measure(path.scene.containers[0].namespace(), 1, SECONDS)?;
        ensure!(path.is_segmented()? == (self == Self::Good), "{self:?}: {}", path.sends()?);
        Ok(flow.gigabits)
    }
}

fn rates() -> Result<[Rates; 3]> {
    progress("canary: paths for the rates");
    let mut all = Past::ALL.map(|past| (past, Vec::new()));
    let paths = Past::ALL.into_iter().map(Past::live).collect::<Result<Vec<_>>>()?;
    let servers = paths.iter().map(server).collect::<Result<Vec<_>>>()?;
    for round in 1..=ROUNDS {
        progress(&format!("canary: rates, round {round} of {ROUNDS}"));
        for ((path, server), (past, rates)) in paths.iter().zip(&servers).zip(&mut all) {
            rates.push(past.rate(path, server)?);
        }
    }
    Ok(all)
}

fn server(path: &BadPath) -> Result<Server> {
    Server::start(path.scene.containers[1].namespace(), path.scene.address(1))
}

fn times_section(times: &[Times]) -> Result<String> {
    let mut text = format!(
        "\n## Segmented sends on a bad wire\n\nSleeve, encrypted, over a wire in user space, under one TCP stream. Times from \
         the moment the fault is set or taken away until `status paths` says so, asked every 20 ms, a client's start \
         included. Each fault strikes {STRIKES} paths; the first of them is healed.\n\n\
         | fault | fall-back ms, median | longest | re-armed s |\n|---|---|---|---|\n"
    );
    for Times { fault, left, trusted } in times {
        let longest = left.iter().copied().fold(0.0, f64::max);
        writeln!(text, "| {fault} | {:.0} | {:.0} | {trusted:.1} |", median(left) * 1e3, longest * 1e3)?;
    }
    Ok(text)
}

fn rates_section(rates: &[Rates]) -> Result<String> {
    let mut text = format!(
        "\nOne TCP stream of {SECONDS} s, {ROUNDS} rounds in turns.\n\n\
         | sends | Gbit/s, median | least | most |\n|---|---|---|---|\n"
    );
    for (past, rates) in rates {
        let (least, most) = rates.iter().fold((f64::MAX, 0.0), |(least, most), rate| (rate.min(least), rate.max(most)));
        writeln!(text, "| {} | {:.3} | {least:.3} | {most:.3} |", past.words(), median(rates))?;
    }
    Ok(text)
}
