//! What other firewalls of the host drop, and our accepts in front of them.
//!
//! ```text
//!   10.32.0.1 ── [weave] ── 10.32.0.2      br_netfilter shows iptables what passes in between
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::{eventually, ping, ping_eventually};
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Container, Host, Topology};
use weave_netns_tests::weave::{Launch, Weave};

const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 32, 0, 1), Ipv4Addr::new(10, 32, 0, 2)];
/// "Re-applied within seconds."
const MENDED: Duration = Duration::from_secs(8);

struct Lab {
    // The daemon first: it goes before the namespaces that it uses.
    weave: Weave,
    containers: [Container; 2],
    host: Host,
    _net: Topology,
}

impl Lab {
    /// A host to which `before` was done, with two containers.
    fn new(before: &[&str], launch: Launch) -> Result<Self> {
        let net = Topology::new()?;
        let host = net.host()?;
        host.namespace().run("sysctl -qw net.bridge.bridge-nf-call-iptables=1")?;
        for line in before {
            host.namespace().run(line)?;
        }
        let weave = Weave::launch(&host, launch)?;
        let containers = [weave.container(&host, ADDRESSES[0])?, weave.container(&host, ADDRESSES[1])?];
        Ok(Self { weave, containers, host, _net: net })
    }

    fn run(&self, line: &str) -> Result<String> {
        self.host.namespace().run(line)
    }

    /// What iptables has of ours, without the order.
    fn accepts(&self) -> Result<Vec<String>> {
        let mut rules = Vec::new();
        for program in ["iptables", "ip6tables"] {
            let listing = self.run(&format!("{program} -S"))?;
            rules.extend(listing.lines().filter(|line| line.contains("weave")).map(|line| format!("{program} {line}")));
        }
        rules.sort();
        Ok(rules)
    }

    fn docker_begins(&self) -> Result<()> {
        self.run("iptables -P FORWARD DROP")?;
        self.run("iptables -N DOCKER")?;
        Ok(())
    }

    fn docker_is_up(&self) -> Result<()> {
        self.run("iptables -N DOCKER-USER")?;
        self.run("iptables -A DOCKER-USER -j RETURN")?;
        self.run("iptables -I FORWARD -j DOCKER-USER")?;
        Ok(())
    }
}

#[test]
fn containers_reach_each_other_although_either_iptables_drops_what_is_forwarded() -> Result<()> {
    for program in ["iptables-nft", "iptables-legacy"] {
        for drop in ["-P FORWARD DROP", "-A FORWARD -j REJECT --reject-with icmp-host-prohibited"] {
            let mut lab = Lab::new(&[&format!("{program} {drop}")], Launch::new())?;

            ping_eventually(&lab.containers[0], ADDRESSES[1], SETTLED)?;

            assert!(lab.run(&format!("{program} -S FORWARD"))?.contains("-i weave -o weave"), "{program}");
            lab.weave.run(&["reset", "--force"])?;
            lab.weave.wait_end(SETTLED)?;
            assert!(!lab.run(&format!("{program} -S"))?.contains("weave"), "{program}");
        }
    }
    Ok(())
}

#[test]
fn a_host_where_nobody_drops_gets_no_rule_and_no_table_of_the_older_iptables() -> Result<()> {
    let lab = Lab::new(&[], Launch::new())?;
    ping_eventually(&lab.containers[0], ADDRESSES[1], SETTLED)?;

    assert_eq!(lab.accepts()?, Vec::<String>::new());
    let older = lab.run("cat /proc/net/ip_tables_names").unwrap_or_default();
    assert_eq!(older, "", "listing it would make it");
    Ok(())
}

#[test]
fn what_nftables_drops_is_told_until_it_does_not() -> Result<()> {
    let lab = Lab::new(&[], Launch::new())?;
    ping_eventually(&lab.containers[0], ADDRESSES[1], SETTLED)?;
    let warns = || -> Result<bool> { Ok(lab.weave.run(&["status"])?.contains("table inet wall, chain forward")) };
    assert!(!warns()?);

    lab.run("nft add table inet wall")?;
    lab.host
        .namespace()
        .pipe("nft -f -", "table inet wall { chain forward { type filter hook forward priority 0; policy drop; }\n}")?;
    assert!(ping(&lab.containers[0], ADDRESSES[1]).is_err(), "it does drop");
    eventually(MENDED, "it is told", warns)?;

    lab.run("nft add rule inet wall forward iifname weave accept")?;
    eventually(MENDED, "somebody knows", || Ok(!warns()?))?;
    ping(&lab.containers[0], ADDRESSES[1])
}

#[test]
fn whatever_docker_did_before_the_firewall_is_what_the_shortest_way_makes() -> Result<()> {
    let mut lab = Lab::new(&[], Launch::new())?;
    let inside = "-i weave -o weave -m comment --comment weave-rs -j ACCEPT";
    let hidden = [format!("iptables -A DOCKER-USER {inside}")];
    let exposed = |accepts: &[String]| accepts.iter().filter(|rule| rule.contains("10.32.0.0/12")).count();
    lab.weave.run(&["expose", "10.32.0.9/12"])?;

    // Docker comes after it, and its users' chain a moment after its own.
    lab.docker_begins()?;
    eventually(MENDED, "accepted in FORWARD", || Ok(lab.run("iptables -S FORWARD")?.matches("weave-rs").count() == 3))?;
    lab.docker_is_up()?;
    eventually(MENDED, "accepted where Docker looks first", || {
        let accepts = lab.accepts()?;
        Ok(accepts.iter().all(|rule| rule.contains("DOCKER-USER")) && exposed(&accepts) == 2)
    })?;
    ping(&lab.containers[0], ADDRESSES[1])?;
    lab.weave.run(&["hide"])?;
    eventually(MENDED, "hidden", || Ok(lab.accepts()? == hidden))?;

    // Nor does a daemon that was away meanwhile leave anything.
    lab.weave.run(&["expose", "10.32.0.9/12"])?;
    lab.weave.kill()?;
    lab.run("iptables -I FORWARD -s 10.32.0.0/12 -i weave ! -o weave -m comment --comment weave-rs -j ACCEPT")?;
    lab.weave.start()?;
    lab.weave.run(&["hide"])?;
    eventually(MENDED, "hidden again", || Ok(lab.accepts()? == hidden))?;

    lab.weave.run(&["reset", "--force"])?;
    lab.weave.wait_end(SETTLED)?;
    assert_eq!(lab.accepts()?, Vec::<String>::new());
    assert_eq!(lab.run("iptables -S DOCKER-USER")?, "-N DOCKER-USER\n-A DOCKER-USER -j RETURN\n");
    Ok(())
}

#[test]
fn a_range_or_an_exposed_network_that_overlaps_a_route_is_told() -> Result<()> {
    let route = "ip route add 10.40.7.0/24 dev eth0";
    let lab = Lab::new(&[route], Launch::new().argument("--ipalloc-range=10.40.0.0/16"))?;
    let says = |text: &str| -> Result<bool> { Ok(lab.weave.run(&["status"])?.contains(text)) };
    let warning = "10.40.0.0/16 overlaps 10.40.7.0/24, to which this host has a route by eth0";

    eventually(MENDED, "the range", || says(warning))?;
    lab.weave.run(&["expose", "10.50.0.9/24"])?;
    lab.run("ip route add 10.50.0.128/25 dev eth0")?;
    // A change of nftables is what makes the daemon look at once; routes are looked at every 30 s.
    lab.run("nft add table inet theirs")?;
    eventually(MENDED, "the exposed network", || says("10.50.0.0/24 overlaps 10.50.0.128/25"))?;
    lab.run("ip route del 10.40.7.0/24 dev eth0")?;
    lab.run("nft delete table inet theirs")?;
    eventually(MENDED, "the range is free", || Ok(!says(warning)?))?;
    Ok(())
}
