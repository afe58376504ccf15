//! The ways from one container to another that are measured against each other, each between two hosts of its own.
//!
//! ```text
//!   veth      client ══════════════════════ server
//!   vxlan     client ═ bridge ═ vxlan ═ eth0 ═════ eth0 ═ vxlan ═ bridge ═ server        set up with ip(8)
//!   fastdp    the same, set up by two daemons without a password
//!   sleeve    client ═ bridge ═ tap ═ daemon ═ eth0 ═════ eth0 ═ daemon ═ tap ═ bridge ═ server      with a password
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use weave_netns_tests::topology::{Container, Host, Namespace, Topology};
use weave_netns_tests::weave::{Launch, Weave};

use crate::iperf::Server;
use crate::process::cpu_time;

/// One way, ready to be measured. Fields are dropped in this order.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    server: Server,
    daemons: Vec<Weave>,
    client: Container,
    _server: Container,
    _hosts: (Host, Host),
    _net: Topology,
}

/// The way that the others are compared with.
pub(crate) const REFERENCE: &str = "VXLAN by hand";
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 2);
/// What the daemons choose on an underlay of 1500.
const OVERLAY_MTU: u32 = 1376;
const DEADLINE: Duration = Duration::from_secs(20);

/// How the ways are called on the command line.
pub(crate) const WAYS: [&str; 4] = ["veth", "vxlan", "fastdp", "sleeve"];

impl Contender {
    /// Sets up one of [`WAYS`].
    pub(crate) fn new(way: &str) -> Result<Self> {
        match way {
            "veth" => Self::veth(),
            "vxlan" => Self::vxlan(),
            "fastdp" => Self::fast_path(),
            "sleeve" => Self::sleeve(),
            _ => bail!("`{way}` is none of {WAYS:?}"),
        }
    }

    /// A veth pair between the two containers; no host takes part.
    fn veth() -> Result<Self> {
        let (net, a, b) = hosts()?;
        let (client, server) = (a.container()?, b.container()?);
        let peer = server.namespace().name();
        client
            .namespace()
            .run(&format!("ip link add ethwe mtu 1500 type veth peer name ethwe mtu 1500 netns {peer}"))?;
        for (container, address) in [(&client, CLIENT), (&server, SERVER)] {
            bring_up(container.namespace(), address)?;
        }
        Self::finish("bare veth", net, (a, b), client, server, Vec::new())
    }

    /// Kernel VXLAN as a careful operator sets it up.
    fn vxlan() -> Result<Self> {
        let (net, a, b) = hosts()?;
        let (client, server) = (a.container()?, b.container()?);
        for (host, peer, container, address) in [(&a, &b, &client, CLIENT), (&b, &a, &server, SERVER)] {
            let inside = container.namespace().name();
            for line in vxlan_commands(peer.address(), inside) {
                host.namespace().run(&line)?;
            }
            bring_up(container.namespace(), address)?;
        }
        Self::finish(REFERENCE, net, (a, b), client, server, Vec::new())
    }

    /// Two daemons without a password: the kernel carries the frames.
    fn fast_path() -> Result<Self> {
        Self::daemons("our fast path", "fastdp", &Launch::new())
    }

    /// Two daemons with a password: user space carries and seals the frames.
    fn sleeve() -> Result<Self> {
        Self::daemons("our sleeve, encrypted", "sleeve", &Launch::new().password("correct horse battery staple"))
    }

    fn daemons(name: &'static str, carrier: &str, launch: &Launch) -> Result<Self> {
        let (net, a, b) = hosts()?;
        let daemons = [Weave::launch(&a, launch.clone())?, Weave::launch(&b, launch.clone().peer(&a))?];
        let (client, server) = (daemons[0].container(&a, CLIENT)?, daemons[1].container(&b, SERVER)?);
        weave_netns_tests::probe::ping_eventually(&client, SERVER, DEADLINE)?;
        daemons[0].wait_path(&daemons[1], carrier, DEADLINE)?;
        daemons[1].wait_path(&daemons[0], carrier, DEADLINE)?;
        Self::finish(name, net, (a, b), client, server, daemons.into())
    }

    fn finish(
        name: &'static str,
        net: Topology,
        hosts: (Host, Host),
        client: Container,
        server: Container,
        daemons: Vec<Weave>,
    ) -> Result<Self> {
        weave_netns_tests::probe::ping_eventually(&client, SERVER, DEADLINE)?;
        let listening = Server::start(server.namespace(), SERVER)?;
        Ok(Self { name, server: listening, daemons, client, _server: server, _hosts: hosts, _net: net })
    }

    pub(crate) fn client(&self) -> &Namespace {
        self.client.namespace()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn has_daemons(&self) -> bool {
        !self.daemons.is_empty()
    }

    /// Processor time of both daemons so far, and the larger of their resident sizes in KiB.
    pub(crate) fn daemons_use(&self) -> Result<(Duration, u64)> {
        let mut used = (Duration::ZERO, 0);
        for daemon in &self.daemons {
            used.0 += cpu_time(daemon.pid().context("a daemon ended")?)?;
            used.1 = used.1.max(daemon.resident_kib()?);
        }
        Ok(used)
    }
}

fn hosts() -> Result<(Topology, Host, Host)> {
    let net = Topology::new()?;
    let (a, b) = net.cable()?;
    Ok((net, a, b))
}

fn bring_up(container: &Namespace, address: Ipv4Addr) -> Result<()> {
    container.run(&format!("ip addr add {address}/12 dev ethwe"))?;
    container.run("ip link set ethwe up")?;
    Ok(())
}

/// What an operator types on a host, for a container namespace `inside`.
fn vxlan_commands(peer: Ipv4Addr, inside: &str) -> [String; 6] {
    [
        format!("ip link add br0 mtu {OVERLAY_MTU} type bridge mcast_snooping 0"),
        "ip link set br0 up".to_owned(),
        format!("ip link add vx0 mtu {OVERLAY_MTU} type vxlan id 42 dstport 4789 remote {peer} dev eth0 df set"),
        "ip link set vx0 master br0 up".to_owned(),
        format!("ip link add port mtu {OVERLAY_MTU} type veth peer name ethwe mtu {OVERLAY_MTU} netns {inside}"),
        "ip link set port master br0 up".to_owned(),
    ]
}
