//! Hosts on a switch, as many as a test asks for, with faults in between.
//!
//! ```text
//!             host()                    host_behind_nat()
//!       eth0 192.168.48.N         eth0 172.16.N.2
//!              │                         │
//!              │                  lan 172.16.N.1
//!              │                  (netns: masquerade)
//!              │                  wan 192.168.48.N
//!   ───────────┴──── bridge sw0 ─────────┴──────────  in the switch namespace, which also holds the faults
//! ```
//!
//! Invariants: every namespace has a name of its own, which starts with the id of the process that made it, so tests run
//! side by side; whatever a dead process left is swept by the next one; dropping a topology leaves nothing behind.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

#[cfg(feature = "wire")]
use crate::wire::Wire;

mod fault;
mod namespace;
mod scratch;
mod thin;

pub use fault::Fault;
pub use namespace::{Namespace, run};
pub(crate) use scratch::Scratch;
pub use thin::ThinLink;

/// A switch, and the source of the hosts plugged into it.
#[derive(Debug)]
pub struct Topology {
    switch: Namespace,
    directory: Scratch,
    prefix: String,
    hosts: AtomicU8,
}

impl Topology {
    /// An empty switch. Fails, with the reason, without the right to make namespaces.
    pub fn new() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "these tests make network namespaces: run them as root");
        namespace::sweep_the_dead()?;
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("wt{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let directory = Scratch::new(&prefix)?;
        let switch = Namespace::new(&format!("{prefix}-sw"))?;
        switch.run("ip link add sw0 type bridge mcast_snooping 0")?;
        switch.run("ip link set sw0 up")?;
        Ok(Self { switch, directory, prefix, hosts: AtomicU8::new(0) })
    }

    /// A host with one address on the switch, and a default route into the switch.
    pub fn host(&self) -> Result<Host> {
        let number = self.next_number();
        let namespace = Namespace::new(&format!("{}-h{number}", self.prefix))?;
        let address = underlay(number);
        self.plug(&namespace, "eth0", number)?;
        namespace.run(&format!("ip addr add {address}/24 brd + dev eth0"))?;
        namespace.run("ip link set eth0 up")?;
        namespace.run("ip route add default dev eth0")?;
        self.finish_host(number, namespace, None, address)
    }

    /// Two hosts with nothing but a cable between them, for measurements: no switch takes part.
    pub fn cable(&self) -> Result<(Host, Host)> {
        let (a, b, _) =
            self.joined(|a, b| a.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", b.name())))?;
        Ok((a, b))
    }

    /// Two hosts with a bad wire between them, whose chances come from `seed`.
    #[cfg(feature = "wire")]
    pub fn bad_wire(&self, seed: u64) -> Result<(Host, Host, Wire)> {
        self.joined(|a, b| Wire::between(a, b, "eth0", seed))
    }

    /// Two hosts whose `eth0` is made by `join`, and what that returns.
    fn joined<T>(&self, join: impl FnOnce(&Namespace, &Namespace) -> Result<T>) -> Result<(Host, Host, T)> {
        let numbers = [self.next_number(), self.next_number()];
        let [a, b] = numbers.map(|number| Namespace::new(&format!("{}-h{number}", self.prefix)));
        let (a, b) = (a?, b?);
        let joint = join(&a, &b)?;
        for (namespace, number) in [(&a, numbers[0]), (&b, numbers[1])] {
            namespace.run(&format!("ip addr add {}/24 brd + dev eth0", underlay(number)))?;
            namespace.run("ip link set eth0 up")?;
        }
        let host = |number, namespace| self.finish_host(number, namespace, None, underlay(number));
        Ok((host(numbers[0], a)?, host(numbers[1], b)?, joint))
    }

    /// A host that reaches the switch through a masquerading router: it can dial, and cannot be dialled.
    pub fn host_behind_nat(&self) -> Result<Host> {
        let number = self.next_number();
        let nat = Namespace::new(&format!("{}-n{number}", self.prefix))?;
        self.plug(&nat, "wan", number)?;
        nat.run(&format!("ip addr add {}/24 brd + dev wan", underlay(number)))?;
        let namespace = Namespace::new(&format!("{}-h{number}", self.prefix))?;
        nat.run(&format!("ip link add lan type veth peer name eth0 netns {}", namespace.name()))?;
        nat.run(&format!("ip addr add 172.16.{number}.1/24 dev lan"))?;
        nat.run("ip link set lan up")?;
        nat.run("ip link set wan up")?;
        nat.run("sysctl -qw net.ipv4.ip_forward=1")?;
        nat.pipe(
            "nft -f -",
            "table ip nat {\n\
             chain outward { type nat hook postrouting priority srcnat; oifname wan masquerade random\n}\n\
             chain inward { type filter hook forward priority 0; iifname wan ct state new drop\n}\n}",
        )?;
        let address = Ipv4Addr::new(172, 16, number, 2);
        namespace.run(&format!("ip addr add {address}/24 dev eth0"))?;
        namespace.run("ip link set eth0 up")?;
        namespace.run(&format!("ip route add default via 172.16.{number}.1"))?;
        self.finish_host(number, namespace, Some(nat), address)
    }

    /// A host that reaches the switch over a link that takes packets of at most `mtu` octets.
    pub fn host_behind_thin_link(&self, mtu: u32) -> Result<(Host, ThinLink)> {
        let number = self.next_number();
        let near = Namespace::new(&format!("{}-r{number}", self.prefix))?;
        self.plug(&near, "wan", number)?;
        near.run(&format!("ip addr add {}/24 brd + dev wan", underlay(number)))?;
        near.run("ip link set wan up")?;
        let far = Namespace::new(&format!("{}-q{number}", self.prefix))?;
        let namespace = Namespace::new(&format!("{}-h{number}", self.prefix))?;
        far.run(&format!("ip link add lan type veth peer name eth0 netns {}", namespace.name()))?;
        far.run(&format!("ip addr add 172.16.{number}.1/24 dev lan"))?;
        far.run("ip link set lan up")?;
        let link = ThinLink::between([near, far], number, mtu)?;
        let address = Ipv4Addr::new(172, 16, number, 2);
        namespace.run(&format!("ip addr add {address}/24 dev eth0"))?;
        namespace.run("ip link set eth0 up")?;
        namespace.run(&format!("ip route add default via 172.16.{number}.1"))?;
        Ok((self.finish_host(number, namespace, None, address)?, link))
    }

    /// Replaces all faults of the switch in one step; none heals it.
    pub fn set_faults(&self, faults: &[Fault]) -> Result<()> {
        self.switch.pipe("nft -f -", &fault::ruleset(faults))?;
        Ok(())
    }

    /// The namespace of the switch, for captures of what crosses the wire.
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Bytes that hosts have sent into the switch so far, Ethernet headers included.
    pub fn bytes_on_the_wire(&self) -> Result<u64> {
        let links: serde_json::Value = serde_json::from_str(&self.switch.run("ip -s -j link show master sw0")?)?;
        let received = |link: &serde_json::Value| link["stats64"]["rx"]["bytes"].as_u64().unwrap_or(0);
        Ok(links.as_array().into_iter().flatten().map(received).sum())
    }

    fn next_number(&self) -> u8 {
        self.hosts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A veth from `interface` in the namespace to port `p<number>` of the switch.
    fn plug(&self, namespace: &Namespace, interface: &str, number: u8) -> Result<()> {
        let name = namespace.name();
        self.switch.run(&format!("ip link add p{number} type veth peer name {interface} netns {name}"))?;
        self.switch.run(&format!("ip link set p{number} master sw0 up"))?;
        Ok(())
    }

    fn finish_host(&self, number: u8, namespace: Namespace, nat: Option<Namespace>, address: Ipv4Addr) -> Result<Host> {
        let directory = self.directory.join(&format!("h{number}"));
        std::fs::create_dir_all(&directory)?;
        // Two identities of one machine are a dead one and its successor.
        namespace.set_machine_id(&format!("{:032x}\n", u128::from(number) + 1))?;
        Ok(Host { number, namespace, _nat: nat, address, directory, containers: AtomicU8::new(0) })
    }
}

/// A machine: a network namespace, an underlay address, a directory for the daemon's state.
#[derive(Debug)]
pub struct Host {
    number: u8,
    namespace: Namespace,
    _nat: Option<Namespace>,
    address: Ipv4Addr,
    directory: PathBuf,
    containers: AtomicU8,
}

impl Host {
    /// An empty namespace, as a container runtime makes it: loopback up, nothing else.
    pub fn container(&self) -> Result<Container> {
        let number = self.containers.fetch_add(1, Ordering::Relaxed) + 1;
        let namespace = Namespace::new(&format!("{}c{number}", self.namespace.name()))?;
        // Duplicate address detection would delay the first packet of the link-local address by seconds.
        namespace.run("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=2")?;
        Ok(Container { namespace })
    }

    /// 1 for the first host of a topology, 2 for the second.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The address that other hosts see, or the private one behind a NAT.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where commands of this host run.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// For state, sockets and logs; removed with the topology.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A container's network namespace.
#[derive(Debug)]
pub struct Container {
    namespace: Namespace,
}

impl Container {
    /// Where commands of this container run.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// How `weave-rs attach` calls it.
    pub fn target(&self) -> String {
        format!("netns:{}", self.namespace.path().display())
    }

    /// The MAC address of its overlay interface.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let text = self.namespace.run("cat /sys/class/net/ethwe/address")?;
        crate::frame::parse_mac(text.trim()).with_context(|| format!("{self}: strange MAC address {text:?}"))
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.namespace.name())
    }
}

fn underlay(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 48, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_reach_each_other_until_a_fault_parts_them() -> Result<()> {
        let net = Topology::new()?;
        let (a, b) = (net.host()?, net.host()?);
        let ping = format!("ping -c1 -W1 {}", b.address());

        a.namespace().run(&ping)?;
        net.set_faults(&[Fault::Between(a.address(), b.address())])?;
        assert!(a.namespace().run(&ping).is_err(), "the fault is in force");
        net.set_faults(&[])?;

        a.namespace().run(&ping)?;
        Ok(())
    }

    #[test]
    fn a_host_behind_nat_dials_and_is_not_dialled() -> Result<()> {
        let net = Topology::new()?;
        let (hidden, open) = (net.host_behind_nat()?, net.host()?);

        hidden.namespace().run(&format!("ping -c1 -W1 {}", open.address()))?;

        assert!(open.namespace().run(&format!("ping -c1 -W1 {}", hidden.address())).is_err());
        Ok(())
    }

    #[test]
    fn a_thin_link_takes_what_fits_and_says_so_unless_filtered() -> Result<()> {
        let net = Topology::new()?;
        let (near, (far, link)) = (net.host()?, net.host_behind_thin_link(700)?);
        let ping = |bytes: u32| {
            let payload = bytes - 28;
            near.namespace().run("ip route flush cache")?;
            near.namespace().run(&format!("ping -n -c1 -W2 -M do -s {payload} {}", far.address()))
        };

        ping(700)?;
        let refused = format!("{:?}", ping(701).unwrap_err());
        assert!(refused.contains("mtu = 700"), "{refused}");
        link.filter_icmp()?;
        let lost = format!("{:?}", ping(701).unwrap_err());
        assert!(!lost.contains("mtu = 700"), "{lost}");
        link.set_mtu(1_500)?;

        ping(1_500)?;
        Ok(())
    }

    #[test]
    fn dropping_a_topology_leaves_no_namespace_behind() -> Result<()> {
        let net = Topology::new()?;
        let host = net.host()?;
        let path = host.namespace().path().to_owned();
        assert!(path.exists());

        drop(host);

        assert!(!path.exists());
        Ok(())
    }
}
