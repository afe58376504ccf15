//! A link between two routers that takes less than the hosts' own, and shrinks and heals under their traffic.
//!
//! ```text
//!   switch ── wan 192.168.48.N [R1] thin ───── thin [R2] lan 172.16.N.1 ── eth0 172.16.N.2  host
//!                     1500           MTU as set              1500
//! ```

use anyhow::Result;

use super::Namespace;

/// The two routers and what is between them.
#[derive(Debug)]
pub struct ThinLink {
    pub(super) routers: [Namespace; 2],
}

impl ThinLink {
    /// Connects two routers, the first of which has its `wan`, by a link of `mtu`, and makes them forward.
    pub(super) fn between(routers: [Namespace; 2], number: u8, mtu: u32) -> Result<Self> {
        let [near, far] = &routers;
        near.run(&format!("ip link add thin type veth peer name thin netns {}", far.name()))?;
        let link = Self { routers };
        link.set_mtu(mtu)?;
        for (router, own, other) in [(0, 1, 2), (1, 2, 1)] {
            let router = &link.routers[router];
            router.run(&format!("ip addr add 172.17.{number}.{own}/30 dev thin"))?;
            router.run("ip link set thin up")?;
            let to = if own == 1 { format!("172.16.{number}.0/24") } else { "default".to_owned() };
            router.run(&format!("ip route add {to} via 172.17.{number}.{other}"))?;
            router.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.proxy_arp=1")?;
            // A router that may send as many errors as there are packets: nothing here depends on luck.
            router.run("sysctl -qw net.ipv4.icmp_ratelimit=0")?;
        }
        Ok(link)
    }

    /// Changes what the link takes, in both directions.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        for router in &self.routers {
            router.run(&format!("ip link set thin mtu {mtu}"))?;
        }
        Ok(())
    }

    /// From now on the routers drop what is too long without a word, as many firewalls make them.
    pub fn filter_icmp(&self) -> Result<()> {
        for router in &self.routers {
            let silence = "table ip silence {\n\
                 chain output { type filter hook output priority 0; icmp type destination-unreachable drop\n}\n}";
            router.pipe("nft -f -", silence)?;
        }
        Ok(())
    }
}
