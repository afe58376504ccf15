//! An hour of random loss without a false alarm: the real binary over the bad wire, part of `make soak`.
//!
//! ```text
//!   h1 ── stream, paced ──► bad wire: 1 % of all packets lost, by chance, both ways ──► h2      SOAK_MINUTES, 60 by default
//! ```
//!
//! Ends with an error at the first fall-back to plain sends, and at the end with what was seen.

#![forbid(unsafe_code)]

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_netns_tests::bad_path::BadPath;
use weave_netns_tests::probe::throughout;
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::weave::Launch;
use weave_netns_tests::wire::{Faults, Heading};

const LOSS_PERCENT: f64 = 1.0;
/// Between two looks at the status.
const LOOK: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let minutes = std::env::var("SOAK_MINUTES").map_or(Ok(60), |text| text.parse().context("SOAK_MINUTES"))?;
    let seed = u64::from(std::process::id());
    let path = BadPath::new(seed, &Launch::new())?;
    let stream = path.paced_stream()?;
    path.wait_segmented(SETTLED)?;

    path.wire.set_all_faults(Faults::loss(LOSS_PERCENT));
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    while Instant::now() < end {
        ensure!(path.is_segmented()?, "false alarm, seed {seed}: {}", path.sends()?);
        throughout(LOOK.min(end.saturating_duration_since(Instant::now())), "time passes", || Ok(true))?;
    }

    let counts = path.wire.counts(Heading::There);
    let alarms = path.scene.weaves.iter().filter(|weave| weave.log().contains("sends=plain")).count();
    ensure!(alarms == 0, "false alarm in a log, seed {seed}");
    ensure!(counts.segmented > 0 && counts.lost > 0, "nothing was tried: {counts:?}");
    let bytes = stream.finish()?.bytes;
    writeln!(
        std::io::stdout(),
        "{minutes} minutes at {LOSS_PERCENT} % loss, seed {seed}: no false alarm; {} segmented sends, {} packets lost, \
         {bytes} bytes of one stream",
        counts.segmented,
        counts.lost
    )?;
    Ok(())
}
