//! A daemon is killed and started under load: what its containers notice.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use weave_netns_tests::probe::{UdpStreamProbe, throughout};
use weave_netns_tests::scene::Scene;
use weave_netns_tests::weave::Launch;

use crate::{PASSWORD, progress};

/// How often for each carrier; each time with a mesh that never was before.
const RUNS: usize = 5;
/// How long numbers go on after the daemon is back.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// What one restart cost.
struct Restart {
    /// From the kill until the new daemon said that it is ready.
    start: Duration,
    lost: u64,
    longest_gap: Duration,
}

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "\n## kill -9\n\nA datagram every millisecond from one container to another; the receiving host's daemon is \
         killed and started at once. Process start: from the kill until it is ready.\n"
    )?;
    writeln!(text, "| carrier | lost | longest gap | process start | gap beyond it |\n|---|---|---|---|---|")?;
    for (carrier, launch) in [("fastdp", Launch::new()), ("sleeve", Launch::new().password(PASSWORD))] {
        for run in 1..=RUNS {
            progress(&format!("killing a daemon on {carrier}, run {run} of {RUNS}"));
            let Restart { start, lost, longest_gap } = restart(carrier, &launch)?;
            let beyond = longest_gap.saturating_sub(start);
            writeln!(
                text,
                "| {carrier} | {lost} | {} ms | {} ms | {} ms |",
                longest_gap.as_millis(),
                start.as_millis(),
                beyond.as_millis()
            )?;
        }
    }
    Ok(text)
}

fn restart(carrier: &str, launch: &Launch) -> Result<Restart> {
    let mut scene = Scene::new(2, launch)?;
    scene.wait_carrier(carrier)?;
    let numbers = UdpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;
    throughout(Duration::from_secs(1), "numbers flow", || Ok(true))?;
    let killed = Instant::now();
    scene.weaves[1].kill()?;
    scene.weaves[1].start()?;
    let start = killed.elapsed();
    throughout(AFTERWARDS, "numbers flow on", || Ok(true))?;
    let report = numbers.finish()?;
    Ok(Restart { start, lost: report.lost, longest_gap: report.longest_gap })
}
