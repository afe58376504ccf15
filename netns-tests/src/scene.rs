//! The usual scene: some hosts, a daemon on each that dials the first, a container behind each.
//!
//! ```text
//!    h1 ◄──── h2, h3, …          daemons: 02:00:00:00:00:01, :02, …
//!    └ 10.32.0.1   └ 10.32.0.2   containers
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;

use crate::probe::{eventually, ping};
use crate::topology::{Container, Host, Topology};
use crate::weave::{Launch, Weave};

/// Everything a test looks at. Fields go in this order when it is dropped: daemons first, the switch last.
#[derive(Debug)]
pub struct Scene {
    /// The daemon of each host.
    pub weaves: Vec<Weave>,
    /// The container behind each host.
    pub containers: Vec<Container>,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// What they are plugged into.
    pub net: Topology,
}

/// How long a small mesh may take to know each other on a busy machine.
pub const SETTLED: Duration = Duration::from_secs(15);

impl Scene {
    /// `count` hosts that all launch alike, except that the first one dials nobody.
    pub fn new(count: usize, launch: &Launch) -> Result<Self> {
        Self::with(
            Topology::new()?,
            count,
            |number, hosts| {
                if number == 0 { launch.clone() } else { launch.clone().peer(&hosts[0]) }
            },
        )
    }

    /// `count` hosts on a switch, whose faults may be set already; `launch` says how each one starts.
    pub fn with(net: Topology, count: usize, launch: impl Fn(usize, &[Host]) -> Launch) -> Result<Self> {
        let hosts = (0..count).map(|_| net.host()).collect::<Result<Vec<_>>>()?;
        Self::on(net, hosts, launch)
    }

    /// The same on hosts made before.
    pub fn on(net: Topology, hosts: Vec<Host>, launch: impl Fn(usize, &[Host]) -> Launch) -> Result<Self> {
        let mut weaves = Vec::new();
        for (number, host) in hosts.iter().enumerate() {
            let mut weave = Weave::prepare(host, launch(number, &hosts))?;
            weave.spawn()?;
            weaves.push(weave);
        }
        let mut containers = Vec::new();
        for (weave, host) in weaves.iter_mut().zip(&hosts) {
            weave.wait_ready()?;
            containers.push(weave.container(host, container_address(host.number()))?);
        }
        Ok(Self { weaves, containers, hosts, net })
    }

    /// The address of the container behind the host with this index.
    pub fn address(&self, index: usize) -> Ipv4Addr {
        container_address(self.hosts[index].number())
    }

    /// Waits until everybody's kernel has everybody's container, without sending a frame.
    pub fn wait_known(&self) -> Result<()> {
        let macs =
            self.containers.iter().map(|container| container.namespace().run("cat /sys/class/net/ethwe/address"));
        let macs = macs.collect::<Result<Vec<_>>>()?;
        for host in &self.hosts {
            eventually(SETTLED, &format!("h{} knows every container", host.number()), || {
                let entries = host.namespace().run("bridge fdb show br weave")?;
                let neighbours = host.namespace().run("ip neigh show dev weave nud permanent")?;
                Ok(macs.iter().all(|mac| entries.contains(mac.trim()) && neighbours.contains(mac.trim())))
            })?;
        }
        Ok(())
    }

    /// Waits until everybody is known and the paths between all pairs use one carrier.
    pub fn wait_carrier(&self, carrier: &str) -> Result<()> {
        self.wait_known()?;
        for from in &self.weaves {
            for to in self.weaves.iter().filter(|to| to.name() != from.name()) {
                from.wait_path(to, carrier, SETTLED)?;
            }
        }
        Ok(())
    }

    /// One echo request each way between two containers.
    pub fn ping_both_ways(&self, one: usize, other: usize) -> Result<()> {
        ping(&self.containers[one], self.address(other))?;
        ping(&self.containers[other], self.address(one))
    }
}

/// Whether a text holds an address as a whole word, with or without a prefix length.
pub fn mentions(text: &str, address: Ipv4Addr) -> bool {
    let address = address.to_string();
    text.split(|letter: char| !(letter.is_ascii_digit() || letter == '.')).any(|word| word == address)
}

fn container_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 32, 0, number)
}
