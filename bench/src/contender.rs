//! The ways from one container to another that are measured against each other, each between two hosts of its own.
//!
//! ```text
//!   Way (a line of WAYS) ── set_up on a Ground ──► Contender: ready, with the daemons whose use of the machine is counted
//!      │
//!      └─ needs somebody else's program? found by an option, under target/rivals or in PATH; else it is missing, and that
//!         is said
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use weave_netns_tests::topology::{Container, Namespace};

use crate::daemon::Daemon;
use crate::ground::{DEADLINE, Ground, SERVER};
use crate::iperf::Server;
use crate::process::cpu_time;
use crate::programs::Programs;

mod fastd;
mod kernel;
mod ours;
mod tinc;
mod vpncloud;
mod weave;
mod wireguard;

/// One way to set up.
#[derive(Debug)]
pub(crate) struct Way {
    /// On the command line.
    pub(crate) key: &'static str,
    /// In the report.
    pub(crate) name: &'static str,
    setup: Setup,
}

/// How it is set up: `f` leaves the two containers able to reach each other, and returns the daemons in between.
#[derive(Debug)]
enum Setup {
    Own(fn(&Ground) -> Result<Vec<Daemon>>),
    /// With somebody else's program, whose path is given.
    Rival {
        program: &'static str,
        set_up: fn(&Ground, &Path) -> Result<Vec<Daemon>>,
    },
}

/// The way that the others are compared with.
pub(crate) const REFERENCE: &str = "vxlan";

pub(crate) const WAYS: [Way; 11] = [
    Way { key: "veth", name: "bare veth", setup: Setup::Own(kernel::veth) },
    Way { key: REFERENCE, name: "VXLAN by hand", setup: Setup::Own(kernel::vxlan) },
    Way { key: "vxlan-plain", name: "VXLAN by hand, no offloads", setup: Setup::Own(kernel::vxlan_plain) },
    Way { key: "fastdp", name: "our fast path", setup: Setup::Own(ours::fast_path) },
    Way { key: "sleeve", name: "our sleeve, encrypted", setup: Setup::Own(ours::sleeve) },
    rival("weave-router", "weaver", weave::set_up),
    rival("wireguard-go", "wireguard-go", wireguard::wireguard_go),
    rival("boringtun", "boringtun-cli", wireguard::boringtun),
    rival("tinc", "tincd", tinc::set_up),
    rival("fastd", "fastd", fastd::set_up),
    rival("vpncloud", "vpncloud", vpncloud::set_up),
];

const fn rival(key: &'static str, program: &'static str, set_up: fn(&Ground, &Path) -> Result<Vec<Daemon>>) -> Way {
    Way { key, name: key, setup: Setup::Rival { program, set_up } }
}

impl Way {
    /// The program of somebody else that it needs.
    pub(crate) fn program(&self) -> Option<&'static str> {
        match self.setup {
            Setup::Own(_) => None,
            Setup::Rival { program, .. } => Some(program),
        }
    }

    /// Sets it up on new hosts, and waits until one container answers the other.
    pub(crate) fn set_up(&'static self, underlay: u32, programs: &Programs) -> Result<Contender> {
        let ground = Ground::new(underlay)?;
        let daemons = match self.setup {
            Setup::Own(set_up) => set_up(&ground),
            Setup::Rival { program, set_up } => set_up(&ground, &programs.find(self.key, program)?),
        }?;
        let answers = weave_netns_tests::probe::ping_eventually(ground.client(), SERVER, DEADLINE);
        answers.with_context(|| daemons.iter().map(Daemon::log).collect::<String>())?;
        let server = Server::start(ground.server().namespace(), SERVER)?;
        let mtu = ground.client().namespace().run("cat /sys/class/net/ethwe/mtu")?.trim().parse()?;
        Ok(Contender { way: self, mtu, server, daemons, ground })
    }
}

/// One way, ready to be measured. Fields are dropped in this order.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) way: &'static Way,
    /// Bytes of an IP packet that a container may send.
    pub(crate) mtu: u32,
    server: Server,
    daemons: Vec<Daemon>,
    ground: Ground,
}

impl Contender {
    pub(crate) fn client(&self) -> &Namespace {
        self.ground.client().namespace()
    }

    /// The container at the other end.
    pub(crate) fn far(&self) -> &Container {
        self.ground.server()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Processes in between, the client's first.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        self.daemons.iter().map(|daemon| daemon.pid().with_context(|| daemon.log())).collect()
    }

    /// What our daemons say of their paths.
    pub(crate) fn paths(&self) -> Result<String> {
        self.daemons.iter().map(Daemon::paths).collect()
    }

    /// Processor time of all daemons so far.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        self.pids()?.into_iter().map(cpu_time).sum()
    }
}
