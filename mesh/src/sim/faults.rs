//! What goes wrong, as values: applied at once or scheduled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::host::{self, Disk};
use super::input::Input;
use super::queue::Event;
use super::{HostId, World};
use crate::connector::Earlier;
use crate::identity::Identity;
use crate::name::PeerName;

/// How long a daemon takes to start again as a new identity.
const RESTART_DELAY: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The daemon starts, unless it runs.
    Start(HostId),
    /// The daemon dies; its host answers with resets. The disk stays.
    Kill(HostId),
    /// The daemon dies after it has carried out so many more outputs, in the midst of its work.
    KillAfter(HostId, u32),
    /// The host falls silent. The disk stays.
    PowerLoss(HostId),
    /// The state directory is gone.
    LoseDisk(HostId),
    /// `to` gets a copy of the state directory of `from`, as it is at this moment.
    CopyDisk {
        from: HostId,
        to: HostId,
    },
    /// `to` becomes a copy of the whole machine, machine id included.
    CopyMachine {
        from: HostId,
        to: HostId,
    },
    /// The wall clock is off by so many seconds from here on.
    SetClock(HostId, i64),
    /// `--name` at the next start.
    SetName(HostId, PeerName),
    /// Hosts of different groups do not reach each other; whoever is in no group is in the first.
    Partition(Vec<BTreeSet<HostId>>),
    /// Hosts of all groups reach each other again.
    Heal,
    /// Two hosts do not reach each other.
    Cut(HostId, HostId),
    Mend(HostId, HostId),
    SetLoss {
        percent: u8,
    },
    /// So many containers are attached to the host instead of those before.
    Attach(HostId, u32),
    /// The operator's `connect`.
    Connect {
        host: HostId,
        to: HostId,
    },
    /// The operator's `forget`.
    Forget {
        host: HostId,
        target: HostId,
    },
    /// `reset`: the peer leaves for good and its state goes.
    Leave(HostId),
    /// The host falls silent for ever.
    Destroy(HostId),
    /// A container starts and wants an address.
    RunContainer(HostId),
    /// A container starts and wants the address with this number in the default subnet.
    ClaimAddress(HostId, u32),
    /// The container with this number, counted round, dies.
    StopContainer(HostId, usize),
    /// `rmpeer` on `at`, for every dead identity of `dead`.
    RemovePeer {
        at: HostId,
        dead: HostId,
    },
    /// `reset`: what the peer owns goes to another.
    HandOver(HostId),
    /// The host lies about all others to its neighbours.
    Lie(HostId),
}

impl World {
    /// Makes it happen, at this moment.
    pub fn apply(&mut self, fault: Fault) {
        self.trace.note(self.now, HostId(0), HostId(0), format!("{fault:?}"));
        match fault {
            Fault::Start(host) => self.start(host),
            Fault::Kill(host) => self.kill(host),
            Fault::KillAfter(host, outputs) => self.hosts[host.0].outputs_to_live = Some(outputs),
            Fault::PowerLoss(host) => {
                self.hosts[host.0].is_powered = false;
                self.kill(host);
                self.stop_all_containers(host);
            }
            Fault::Destroy(host) => {
                self.apply(Fault::PowerLoss(host));
                self.hosts[host.0].containers.is_destroyed = true;
                self.hosts[host.0].disk = Disk::default();
            }
            Fault::RunContainer(host) => self.run_container(host, None),
            Fault::ClaimAddress(host, number) => self.claim_address(host, number),
            Fault::StopContainer(host, number) => self.stop_container(host, number),
            Fault::RemovePeer { at, dead } => self.certify(at, dead),
            Fault::HandOver(host) => self.reset_addresses(host),
            Fault::Lie(host) => self.lie(host),
            Fault::LoseDisk(host) => self.hosts[host.0].disk = Disk::default(),
            Fault::CopyDisk { from, to } => self.hosts[to.0].disk = self.hosts[from.0].disk.clone(),
            Fault::CopyMachine { from, to } => {
                self.hosts[to.0].disk = self.hosts[from.0].disk.clone();
                self.hosts[to.0].machine = self.hosts[from.0].machine;
            }
            Fault::SetClock(host, seconds) => {
                self.hosts[host.0].clock_error = seconds.saturating_mul(1_000_000);
            }
            Fault::SetName(host, name) => self.hosts[host.0].name = Some(name),
            Fault::SetLoss { percent } => self.options.network.loss = f64::from(percent) / 100.0,
            Fault::Attach(host, containers) => self.attach(host, containers),
            Fault::Connect { host, to } => {
                let target = self.target_of(to);
                self.feed(host, Input::Connect(vec![target], Earlier::Keep));
            }
            Fault::Forget { host, target } => {
                let target = self.target_of(target);
                self.feed(host, Input::Forget(vec![target]));
            }
            Fault::Leave(host) => {
                self.stop_all_containers(host);
                self.feed(host, Input::Goodbye);
                self.work();
                self.kill(host);
                self.hosts[host.0].disk = Disk::default();
            }
            Fault::Partition(_) | Fault::Heal | Fault::Cut(..) | Fault::Mend(..) => self.rewire(fault),
        }
    }

    /// Makes it happen later.
    pub fn schedule(&mut self, after: Duration, fault: Fault) {
        if let Fault::Start(host) = fault {
            self.starting.insert(host);
        }
        self.queue.push(self.now + after, Event::Fault(fault));
    }

    fn rewire(&mut self, fault: Fault) {
        match fault {
            Fault::Partition(groups) => self.cuts.partition(groups),
            Fault::Cut(a, b) => self.cuts.cut(a, b),
            Fault::Mend(a, b) => self.cuts.mend(a, b),
            _ => self.cuts.partition(Vec::new()),
        }
        self.resume_streams();
    }

    pub(super) fn kill(&mut self, host: HostId) {
        self.hosts[host.0].outputs_to_live = None;
        if self.hosts[host.0].daemon.take().is_some() {
            self.drop_streams(host);
        }
    }

    /// Another live daemon has our key: the state directory is set aside and the daemon starts as a new identity.
    pub(super) fn restart_as_new(&mut self, host: HostId) {
        self.kill(host);
        self.hosts[host.0].disk = Disk::default();
        self.schedule(RESTART_DELAY, Fault::Start(host));
    }

    fn attach(&mut self, host: HostId, containers: u32) {
        let attached = self.node(host).map_or(1, |node| node.next_attach_time());
        let before = std::mem::take(&mut self.hosts[host.0].endpoints);
        let endpoints: BTreeMap<_, _> = (0..containers)
            .map(|container| {
                let (id, endpoint) = host::endpoint(host, container, attached);
                let endpoint = before.get(&id).cloned().unwrap_or(endpoint);
                (id, endpoint)
            })
            .collect();
        self.hosts[host.0].endpoints = endpoints.clone();
        self.feed(host, Input::Endpoints(endpoints));
    }

    pub(super) fn identity(&mut self, host: HostId) -> Identity {
        let simulated = &mut self.hosts[host.0];
        simulated.disk.identity(simulated.machine, self.options.scheme, &mut self.dice)
    }
}
