//! Many at once: containers that start together, more than there are addresses, and long streams through the proxy.
//!
//! ```text
//!   docker run, some at a time ─► dockerd ─► weave-rs-runc ─► daemon, 10.32.0.0/28
//!   docker run -i, 32 MiB to and fro ─► proxy ─► dockerd
//! ```

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use weave_netns_tests::docker::Site;
use weave_netns_tests::probe::{at_once, eventually, obtain};
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::Launch;

/// So long a start waits for the daemon, seconds.
const START_TIMEOUT: u32 = 10;
/// Clients that ask at the same time.
const CLIENTS: usize = 6;
const RUNS: usize = 30;
/// Addresses of a /28 without its own and that of its broadcasts.
const ROOM: usize = 14;
const ASKING: usize = 17;
const STREAM_BYTES: usize = 32 << 20;

/// One host with Docker.
struct Stage {
    // In the order in which they end.
    site: Site,
    _net: Topology,
}

impl Stage {
    fn new(range: &str) -> Result<Self> {
        let net = Topology::new()?;
        let launch = Launch::new().argument("--ipalloc-range").argument(range);
        Ok(Self { site: Site::new(net.host()?, launch, START_TIMEOUT)?, _net: net })
    }

    /// Whether a container that stays found an address, and what it printed.
    fn detached(&self, name: &str) -> Result<(bool, String)> {
        let looks = "ip -4 -o address show ethwe | grep -o '10.32.0.[0-9]*/'; exec sleep 600";
        let shell = ["busybox", "/bin/busybox", "sh", "-c", looks];
        self.site.docker.run(&[&["run", "--detach", "--network", "none", "--name", name][..], &shell].concat())?;
        let state = || self.site.docker.run(&["inspect", "--format", "{{.State.Running}}", name]);
        let said = obtain(SETTLED, "it says what it found", || {
            let (_, output, errors) = self.site.docker.ask(&["logs", name])?;
            ensure!(!output.is_empty() || !errors.is_empty(), "nothing yet");
            Ok(output + &errors)
        })?;
        let has_address = said.starts_with("10.32.0.");
        eventually(SETTLED, "one without an address ends", || Ok(has_address || state()?.trim() == "false"))?;
        Ok((has_address, said))
    }
}

/// A job for each number below `count`, some at a time.
fn some_at_once<T: Send>(count: usize, job: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let share = |first: usize| (first..count).step_by(CLIENTS).map(&job).collect::<Result<Vec<T>>>();
    Ok(at_once(0..CLIENTS, share)?.into_iter().flatten().collect())
}

#[test]
fn containers_that_start_together_have_an_address_each() -> Result<()> {
    let stage = Stage::new("10.32.0.0/20")?;
    let looks = ["busybox", "/bin/busybox", "sh", "-c", "ip -4 -o address show ethwe | grep -o '10.32.[0-9.]*/'"];

    let found =
        some_at_once(RUNS, |_| stage.site.docker.run(&[&["run", "--rm", "--network", "none"][..], &looks].concat()))?;

    assert!(found.iter().all(|address| address.starts_with("10.32.")), "{found:?}");
    stage.site.weave.wait_unused(SETTLED)?;
    Ok(())
}

#[test]
fn of_more_than_there_are_addresses_for_the_rest_is_told() -> Result<()> {
    let stage = Stage::new("10.32.0.0/28")?;

    let answers = some_at_once(ASKING, |number| stage.detached(&format!("web{number}")))?;

    let addresses: BTreeSet<&String> = answers.iter().filter(|(has, _)| *has).map(|(_, said)| said).collect();
    assert_eq!(addresses.len(), ROOM, "{answers:?}");
    let told = |said: &str| said.contains("weave-rs: this container has no network");
    assert!(answers.iter().all(|(has, said)| *has || told(said)), "{answers:?}");
    // What those leave others get.
    let gone: Vec<String> = (0..ASKING).map(|number| format!("web{number}")).collect();
    stage.site.docker.remove(&gone)?;
    let again = some_at_once(ROOM, |number| stage.detached(&format!("db{number}")))?;
    assert!(again.iter().all(|(has, _)| *has), "{again:?}");
    Ok(())
}

#[test]
fn long_streams_through_the_proxy_are_whole() -> Result<()> {
    let stage = Stage::new("10.32.0.0/20")?;
    let mut sent: String = (0..STREAM_BYTES / 8).map(|number| format!("{number:07}\n")).collect();
    sent.push_str("the end");

    let cat = ["run", "--rm", "-i", "--network", "none", "busybox", "/bin/busybox", "cat"];
    let (code, received, errors) = stage.site.through_proxy().ask_with_input(&cat, sent.as_bytes())?;

    assert!(code == 0, "{errors}");
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    Ok(())
}
