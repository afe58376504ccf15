//! Whether this process and this kernel can do what the daemon needs, before it changes anything.
//!
//! The kernel's features are tried out in a network namespace of their own, which goes with the thread that made it:
//! a device or a table that can be made there can be made here.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use rustix::thread::{UnshareFlags, unshare};
use weave_mesh::name::MacAddr;

use super::firewall::{self, FirewallError};
use super::netlink::{Netlink, NetlinkError, VethPeer};
use super::netns::Netns;
use crate::guard;
use crate::plan::{BridgeNames, InvalidLinkName, LinkName, Plan, PortFlags, VxlanPlan};

/// The capabilities without which nothing works, by their bit in the kernel's sets.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("the process lacks {0}: run it as root, or grant the capability")]
    Capability(&'static str),
    #[error("cannot read /proc/self/status: {0}; is /proc mounted?")]
    Status(io::Error),
    #[error("cannot open /dev/net/tun: {0}; load the kernel module `tun`")]
    Tun(io::Error),
    #[error("cannot make a network namespace to try the kernel in: {0}; the kernel needs CONFIG_NET_NS")]
    Namespace(io::Error),
    #[error("{feature} does not work here: {cause}")]
    Device { feature: &'static str, cause: NetlinkError },
    #[error("the edge guard does not work here: {0}")]
    Guard(FirewallError),
    #[error(transparent)]
    Name(#[from] InvalidLinkName),
}

/// Checks everything that the daemon needs.
///
/// # Errors
/// The first thing that is missing, and what to do about it.
pub fn check(plan: &Plan) -> Result<(), Missing> {
    check_capabilities(&fs::read_to_string("/proc/thread-self/status").map_err(Missing::Status)?)?;
    OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(Missing::Tun)?;
    std::thread::scope(|scope| {
        let trial = scope.spawn(|| {
            unshare(UnshareFlags::NEWNET).map_err(|errno| Missing::Namespace(errno.into()))?;
            try_devices(plan)?;
            firewall::run_nft(&guard::render(plan)).map_err(Missing::Guard)
        });
        trial.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
