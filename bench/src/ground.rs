//! Two hosts with a cable between them and a container on each: what every way is set up on.
//!
//! ```text
//!   client ─ ethwe ═ port ─┐                                        ┌─ port ═ ethwe ─ server
//!   10.32.0.1         bridge or route ─ device ─ eth0 ══════ eth0 ─ device ─ …       10.32.0.2
//!                                            underlay MTU as asked for
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::topology::{Container, Host, Namespace, Topology};

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 2);
/// How long a device or a path may take to come up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// What VXLAN by hand and every rival that asks takes away from the underlay: as much as our daemons do.
const OVERHEAD: u32 = 124;

/// Fields are dropped in this order.
#[derive(Debug)]
pub(crate) struct Ground {
    client: Container,
    server: Container,
    hosts: (Host, Host),
    _net: Topology,
    /// Bytes of an IP packet that fit between the hosts.
    pub(crate) underlay: u32,
}

/// One of the two hosts with its container, as seen from there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) host: &'a Host,
    pub(crate) peer: &'a Host,
    pub(crate) container: &'a Container,
    /// Of the container.
    pub(crate) address: Ipv4Addr,
    /// Of the other container.
    pub(crate) remote: Ipv4Addr,
}

impl Ground {
    pub(crate) fn new(underlay: u32) -> Result<Self> {
        let net = Topology::new()?;
        let hosts = net.cable()?;
        for host in [&hosts.0, &hosts.1] {
            host.namespace().run(&format!("ip link set eth0 mtu {underlay}"))?;
        }
        let (client, server) = (hosts.0.container()?, hosts.1.container()?);
        Ok(Self { client, server, hosts, _net: net, underlay })
    }

    pub(crate) fn client(&self) -> &Container {
        &self.client
    }

    pub(crate) fn server(&self) -> &Container {
        &self.server
    }

    /// The client's side first.
    pub(crate) fn sides(&self) -> [Side<'_>; 2] {
        let (a, b) = (&self.hosts.0, &self.hosts.1);
        let client = Side { host: a, peer: b, container: &self.client, address: CLIENT, remote: SERVER };
        let server = Side { host: b, peer: a, container: &self.server, address: SERVER, remote: CLIENT };
        [client, server]
    }

    /// Bytes of an IP packet that every overlay carries whole.
    pub(crate) fn overlay(&self) -> u32 {
        self.underlay - OVERHEAD
    }
}

impl Side<'_> {
    /// Runs a command on the host.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        self.host.namespace().run(line)
    }

    /// Waits until a daemon has made its device.
    pub(crate) fn wait_device(&self, device: &str) -> Result<()> {
        eventually(DEADLINE, &format!("{device} is there"), || {
            self.run(&format!("ip link show dev {device}")).map(|_| true)
        })?;
        Ok(())
    }

    /// Bridges the container to a device that carries frames, which stays as it is but for its MTU.
    pub(crate) fn bridge(&self, device: &str, mtu: u32) -> Result<()> {
        self.run(&format!("ip link add br0 mtu {mtu} type bridge mcast_snooping 0"))?;
        self.run("ip link set br0 up")?;
        self.run(&format!("ip link set {device} mtu {mtu} master br0 up"))?;
        self.cable("br0", mtu)
    }

    /// Puts the container on a bridge that is there already.
    pub(crate) fn cable(&self, bridge: &str, mtu: u32) -> Result<()> {
        self.veth(mtu)?;
        self.run(&format!("ip link set port master {bridge} up"))?;
        bring_up(self.container.namespace(), self.address)
    }

    /// Routes between the container and a device that carries packets.
    pub(crate) fn route(&self, device: &str, mtu: u32) -> Result<()> {
        self.run("sysctl -qw net.ipv4.ip_forward=1")?;
        self.run(&format!("ip link set {device} mtu {mtu} up"))?;
        self.veth(mtu)?;
        self.run("ip link set port up")?;
        self.run("sysctl -qw net.ipv4.conf.port.proxy_arp=1 net.ipv4.neigh.port.proxy_delay=0")?;
        self.run(&format!("ip route add {} dev port", self.address))?;
        self.run(&format!("ip route replace {} dev {device}", self.remote))?;
        bring_up(self.container.namespace(), self.address)
    }

    fn veth(&self, mtu: u32) -> Result<()> {
        let inside = self.container.namespace().name();
        self.run(&format!("ip link add port mtu {mtu} type veth peer name ethwe mtu {mtu} netns {inside}"))?;
        Ok(())
    }
}

/// Gives a container's interface its address.
pub(crate) fn bring_up(container: &Namespace, address: Ipv4Addr) -> Result<()> {
    container.run(&format!("ip addr add {address}/12 dev ethwe"))?;
    container.run("ip link set ethwe up")?;
    Ok(())
}
