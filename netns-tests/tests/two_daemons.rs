//! Two daemons on one host, each with a bridge, a mesh and ports of its own: neither notices the other.
//!
//! ```text
//!   h1 ─┬─ weave   6783  10.32.0.1, 10.32.0.2
//!       └─ weave2  8000  10.32.0.1, 10.32.0.2   the same addresses: another overlay
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::{eventually, ping, ping_eventually, throughout};
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Container, Host, Topology};
use weave_netns_tests::weave::{Launch, Weave};

const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 32, 0, 1), Ipv4Addr::new(10, 32, 0, 2)];
/// In which each daemon looks at the kernel several times.
const QUIET: Duration = Duration::from_secs(5);

struct Lab {
    // Daemons first: they go before the namespaces that they use.
    daemons: [Weave; 2],
    containers: [[Container; 2]; 2],
    host: Host,
    _net: Topology,
}

impl Lab {
    fn new() -> Result<Self> {
        let net = Topology::new()?;
        let host = net.host()?;
        let first = Weave::launch(&host, Launch::new())?;
        let other = ["--bridge=weave2", "--mesh=other", "--port=8000", "--http-addr=127.0.0.1:8004", "--status-addr="];
        let launch = other.iter().fold(Launch::new().name("02:00:00:00:02:01"), |launch, word| launch.argument(word));
        let mut second = Weave::prepare_second(&host, launch)?;
        second.start()?;
        let daemons = [first, second];
        let pair = |daemon: &Weave| -> Result<_> {
            Ok([daemon.container(&host, ADDRESSES[0])?, daemon.container(&host, ADDRESSES[1])?])
        };
        let containers = [pair(&daemons[0])?, pair(&daemons[1])?];
        let lab = Self { daemons, containers, host, _net: net };
        for [one, _] in &lab.containers {
            ping_eventually(one, ADDRESSES[1], SETTLED)?;
        }
        Ok(lab)
    }

    /// How often the daemon's keeper found that somebody had changed the kernel.
    fn repairs(&self, daemon: usize) -> usize {
        self.daemons[daemon].log().matches("changed by others").count()
    }
}

#[test]
fn neither_repairs_what_the_other_does() -> Result<()> {
    let lab = Lab::new()?;
    let before = [lab.repairs(0), lab.repairs(1)];

    throughout(QUIET, "nobody undoes the other's work", || Ok([lab.repairs(0), lab.repairs(1)] == before))?;

    for (daemon, bridge) in [(0, "weave"), (1, "weave2")] {
        ping(&lab.containers[daemon][0], ADDRESSES[1])?;
        let tables = lab.host.namespace().run("nft list tables")?;
        for family in ["netdev", "inet"] {
            assert_eq!(tables.lines().filter(|line| *line == format!("table {family} weave-rs-{bridge}")).count(), 1);
        }
    }
    Ok(())
}

#[test]
fn each_answers_the_names_of_its_own_containers_at_the_resolvers_address() -> Result<()> {
    let lab = Lab::new()?;
    for (daemon, name) in [(0, "one.weave.local"), (1, "two.weave.local")] {
        lab.daemons[daemon].run(&["dns-add", "10.32.0.2", "-h", name])?;
    }
    let asks = |daemon: usize, name: &str| {
        lab.containers[daemon][0].namespace().run(&format!("dig +short +tries=1 +time=2 @169.254.65.53 {name}"))
    };

    for (daemon, own, others) in [(0, "one.weave.local", "two.weave.local"), (1, "two.weave.local", "one.weave.local")]
    {
        eventually(SETTLED, "its own name", || Ok(asks(daemon, own)?.contains("10.32.0.2")))?;
        assert_eq!(asks(daemon, others)?, "", "the other's name");
    }
    // The host itself has one resolver at that address: that of the daemon that came first, and the other says so.
    lab.daemons[1].wait_log("169.254.65.53:53 on lo", SETTLED)?;
    Ok(())
}

#[test]
fn a_reset_of_one_leaves_the_other_alone() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.daemons[0].run(&["expose", "10.32.0.9/12"])?;
    let count = |text: &str| lab.host.namespace().run("ip -o link").map(|links| links.matches(text).count());
    assert_eq!(count("master weave2")?, 4, "two containers, VXLAN, TAP");

    lab.daemons[1].run(&["reset"])?;
    lab.daemons[1].wait_end(SETTLED)?;

    let links = lab.host.namespace().run("ip -o link")?;
    assert!(!links.contains("weave2"), "{links}");
    assert_eq!(links.matches("master weave ").count(), 4, "{links}");
    assert!(!lab.host.namespace().run("nft list ruleset")?.contains("weave2"));
    ping(&lab.containers[0][0], ADDRESSES[1])?;

    // Without a daemon, and without its bridge, a port is still known to be the first one's.
    lab.daemons[0].kill()?;
    lab.host.namespace().run("ip link del weave")?;
    let bridge = ["reset", "--force", "--bridge", "weave2", "--state-dir", "/nonexistent"];
    let _ = lab.daemons[1].ask(&bridge)?;
    let links = lab.host.namespace().run("ip -o link")?;
    assert_eq!(links.matches("vethwepl").count(), 2, "{links}");
    Ok(())
}
