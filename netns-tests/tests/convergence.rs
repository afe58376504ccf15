//! Five daemons started at once, each knowing only the first.
//!
//! ```text
//!   h1 ◄── h2, h3, h4, h5       and soon everyone has everyone
//! ```

use std::time::{Duration, Instant};

use anyhow::Result;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::{Launch, Weave};

/// The promise is eight seconds for thirty daemons.
const CONVERGED: Duration = Duration::from_secs(8);
const COUNT: usize = 5;

#[test]
fn five_daemons_from_one_seed_know_each_other() -> Result<()> {
    let net = Topology::new()?;
    let hosts = (0..COUNT).map(|_| net.host()).collect::<Result<Vec<_>>>()?;
    let mut weaves = Vec::new();
    let begin = Instant::now();
    for host in &hosts {
        let seed = if host.number() == 1 { Launch::new() } else { Launch::new().peer(&hosts[0]) };
        let mut weave = Weave::prepare(host, seed)?;
        weave.spawn()?;
        weaves.push(weave);
    }
    for weave in &mut weaves {
        weave.wait_ready()?;
    }

    for weave in &weaves {
        eventually(CONVERGED.saturating_sub(begin.elapsed()), &format!("{weave} has a path to everyone"), || {
            let paths = weave.run(&["status", "paths"])?;
            let others = weaves.iter().filter(|other| other.name() != weave.name());
            Ok(others.into_iter().all(|other| paths.contains(other.name())))
        })?;
    }

    let bytes = net.bytes_on_the_wire()?;
    assert!(bytes < 2_000_000, "{bytes} bytes for five daemons");
    for weave in &weaves {
        let peak = weave.peak_kib()?;
        assert!(peak <= 40 * 1024, "{weave} held {peak} KiB");
    }
    Ok(())
}
