//! The keeper thread's own state, and its loop.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use weave_mesh::name::MacAddr;

use super::firewalls::{Firewalls, Tables};
use super::underlay::Underlay;
use super::watcher::{Interest, Watcher};
use super::{Event, Generation};
use crate::guard::Guard;
use crate::linux::apply::{Failure, apply};
use crate::linux::garp::Announcer;
use crate::linux::netlink::Netlink;
use crate::linux::{firewall, observe, underlay};
use crate::plan::{GuardedDevice, InstalledGuard, Keep, LinkName, Observed, Plan, Step, diff};

/// How often everything is checked although nothing was heard.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// Between a notification and the check that it causes: many come together.
const SETTLE_DELAY: Duration = Duration::from_millis(20);
/// The least time between two checks caused by notifications; somebody who undoes us for ever must not take the CPU.
const CHECK_GAP: Duration = Duration::from_millis(200);
/// And the least time in terms of the thread's own CPU time, so that large tables keep it below one hundredth of a core
/// when nothing happens and below a twentieth when much does; but never so long that a repair takes more than seconds.
const IDLE_COST_RATIO: u32 = 100;
const IDLE_DELAY_MAX: Duration = Duration::from_secs(10);
const BUSY_COST_RATIO: u32 = 20;
const BUSY_DELAY_MAX: Duration = Duration::from_secs(2);
/// Between plans in terms of the time they take: while a mesh forms, dozens come in a second, and a new guard costs two
/// runs of `nft`.
const ASKED_COST_RATIO: u32 = 4;
const ASKED_DELAY_MAX: Duration = Duration::from_millis(250);
/// How often the ages of the fast path's entries are read.
const USED_INTERVAL: Duration = Duration::from_secs(1);
/// How often firewalls are looked at although no change was heard (an old iptables gives no notification), and the
/// least time between two looks.
const FIREWALL_INTERVAL: Duration = Duration::from_secs(30);
const FIREWALL_GAP: Duration = Duration::from_secs(1);
/// Between a change of ours and the look at what became of it: containers start and end meanwhile.
const READ_BACK_DELAY: Duration = Duration::from_secs(1);
/// Stations learnt at hand-plugged ports that are reported; more are switched and not reported.
const LEARNT_MAX: usize = 4096;
/// How often a plan is tried: a container that dies in between takes its port along, and the guard for it is refused.
const ATTEMPTS_MAX: u32 = 3;
/// Failures that are reported one by one.
const FAILURES_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Keeper {
    netlink: Netlink,
    links: Watcher,
    tables: Watcher,
    underlay: Underlay,
    plans: watch::Receiver<Option<(Generation, Arc<Plan>)>>,
    events: mpsc::Sender<Event>,
    /// The plan being kept.
    plan: Option<(Generation, Arc<Plan>)>,
    /// What was last reported about it.
    reported: Option<(Generation, Outcome)>,
    interest: Interest,
    firewalls: Firewalls,
    /// What was last told to be in the way.
    obstacles: Vec<String>,
    announcer: Announcer,
    learnt: BTreeMap<MacAddr, LinkName>,
    gone: BTreeSet<LinkName>,
    cause: Cause,
    timers: Timers,
}

#[derive(Debug)]
struct Timers {
    check: Instant,
    used: Instant,
    firewall: Instant,
    /// Before these nothing is done early.
    asked_not_before: Instant,
    suspected_not_before: Instant,
    firewall_not_before: Instant,
}

/// What came of making kernel state as a plan wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    failures: Vec<String>,
    /// Ports of containers that are not as they should be.
    closed: BTreeSet<LinkName>,
}

/// Why kernel state is compared with the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Asked,
    Suspected,
}

impl Keeper {
    pub(super) fn new(
        plans: watch::Receiver<Option<(Generation, Arc<Plan>)>>,
        events: mpsc::Sender<Event>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            netlink: Netlink::open()?,
            links: Watcher::of_links()?,
            tables: Watcher::of_tables()?,
            underlay: Underlay::follow()?,
            plans,
            events,
            plan: None,
            reported: None,
            interest: Interest::default(),
            firewalls: Firewalls::default(),
            obstacles: Vec::new(),
            announcer: Announcer::open()?,
            learnt: BTreeMap::new(),
            gone: BTreeSet::new(),
            cause: Cause::Suspected,
            timers: Timers {
                check: now,
                used: now,
                firewall: now,
                asked_not_before: now,
                suspected_not_before: now,
                firewall_not_before: now,
            },
        })
    }

    /// Runs until the handle is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let timer = self.timers.check.min(self.timers.used).min(self.timers.firewall);
            let underlay_due = self.underlay.due();
            tokio::select! {
                biased;
                asked = self.plans.changed() => {
                    if asked.is_err() {
                        return;
                    }
                    self.plan = self.plans.borrow_and_update().clone();
                    self.cause = Cause::Asked;
                    self.timers.check = self.timers.check.min(self.timers.asked_not_before);
                }
                () = sleep_until(underlay_due.unwrap_or(timer)), if underlay_due.is_some() => self.look_at_underlay().await,
                () = sleep_until(timer), if self.plan.is_some() => self.handle_timers().await,
                _ = self.underlay.readable() => self.underlay.hear(),
                _ = self.links.readable() => self.hear_links(),
                _ = self.tables.readable() => self.hear_tables(),
            }
        }
    }

    async fn look_at_underlay(&mut self) {
        if let Some(addresses) = self.underlay.look(&mut self.netlink) {
            self.tell(Event::Underlay { addresses }).await;
        }
    }

    fn hear_links(&mut self) {
        let Some((_, plan)) = &self.plan else {
            self.links.discard();
            return;
        };
        if self.links.drain(|message| self.interest.includes(message, &plan.names)) {
            let soon = (Instant::now() + SETTLE_DELAY).max(self.timers.suspected_not_before);
            self.timers.check = self.timers.check.min(soon);
        }
    }

    fn hear_tables(&mut self) {
        if self.tables.discard() {
            let delay = if self.firewalls.is_latest() { READ_BACK_DELAY } else { SETTLE_DELAY };
            let soon = (Instant::now() + delay).max(self.timers.firewall_not_before);
            self.timers.firewall = self.timers.firewall.min(soon);
        }
    }

    async fn handle_timers(&mut self) {
        let now = Instant::now();
        if now >= self.timers.firewall {
            self.look_at_firewalls(now);
            self.report_obstacles().await;
        }
        if now >= self.timers.check {
            self.check().await;
        }
        if now >= self.timers.used {
            let start = cpu_time();
            self.report_used().await;
            self.timers.used = now + USED_INTERVAL.max(idle_delay(cpu_time().saturating_sub(start)));
        }
    }

    /// Compares kernel state with the plan, and makes it so.
    async fn check(&mut self) {
        let cause = std::mem::replace(&mut self.cause, Cause::Suspected);
        let Some((generation, plan)) = self.plan.clone() else {
            return;
        };
        let (start, cpu_start) = (Instant::now(), cpu_time());
        // What was heard so far is part of the dump that follows.
        self.links.discard();
        let (steps, outcome) = match self.make_so(generation, &plan).await {
            Ok(outcome) => outcome,
            Err(error) => (0, Outcome { failures: vec![error], closed: plan.ports.keys().cloned().collect() }),
        };
        let now = Instant::now();
        let cost = cpu_time().saturating_sub(cpu_start);
        self.timers.check = now + CHECK_INTERVAL.max(idle_delay(cost));
        self.timers.asked_not_before = now + ((now - start) * ASKED_COST_RATIO).min(ASKED_DELAY_MAX);
        self.timers.suspected_not_before = now + CHECK_GAP.max((cost * BUSY_COST_RATIO).min(BUSY_DELAY_MAX));
        if cause == Cause::Suspected && steps > 0 && outcome.failures.is_empty() {
            self.tell(Event::Healed { steps }).await;
        }
        let report = (generation, outcome);
        if self.reported.as_ref() != Some(&report) {
            let (generation, Outcome { failures, closed }) = report.clone();
            self.reported = Some(report);
            self.tell(Event::Applied { generation, failures, closed }).await;
        }
    }

    /// The number of steps, and what came of them.
    async fn make_so(&mut self, generation: Generation, plan: &Plan) -> Result<(usize, Outcome), String> {
        let mut attempts = 0;
        loop {
            let steps = self.missing(generation, plan).await?;
            let outcome = self.attempt(&steps, plan);
            attempts += 1;
            if outcome.failures.is_empty() || attempts == ATTEMPTS_MAX || !self.lost_a_device(&steps) {
                return Ok((steps.len(), outcome));
            }
        }
    }

    /// The steps that lead to the plan.
    async fn missing(&mut self, generation: Generation, plan: &Plan) -> Result<Vec<Step>, String> {
        let mut observed = observe::observe(&mut self.netlink, &plan.names).map_err(|error| error.to_string())?;
        observed.guard = self.firewalls.installed().cloned();
        self.interest = Interest::in_devices_of(&observed);
        self.report_ports(&observed, generation, plan).await;
        let mut steps = diff(&observed, plan).map_err(|conflict| conflict.to_string())?;
        steps.retain(|step| !self.is_of_a_newcomer(step));
        Ok(steps)
    }

    fn attempt(&mut self, steps: &[Step], plan: &Plan) -> Outcome {
        let generation = firewall::generation().unwrap_or_default();
        let failures = apply(&mut self.netlink, &self.announcer, steps);
        let outcome = Outcome { failures: described(&failures), closed: closed(&failures, plan) };
        let done = steps.iter().filter(|step| !failures.iter().any(|failure| std::ptr::eq(failure.step, *step)));
        self.note_guard(&done.collect::<Vec<_>>(), &plan.names.bridge, generation);
        self.firewalls.follow(plan);
        outcome
    }

    /// Notes what was done to the guard since `generation` of the ruleset.
    fn note_guard(&mut self, done: &[&Step], bridge: &LinkName, generation: u32) {
        let mut devices = Vec::new();
        for step in done {
            match step {
                Step::InstallGuard(Guard { common, chains }) => {
                    let devices = chains.iter().filter_map(|(device, chains)| self.guarded(device, chains)).collect();
                    let guard = InstalledGuard { common: common.clone(), devices };
                    self.firewalls.note_replaced(bridge, guard, generation);
                }
                Step::GuardDevice { device, chains, .. } => {
                    let guarded = self.guarded(device, chains).map(|(_, guarded)| guarded);
                    devices.push((device.clone(), guarded));
                }
                Step::UnguardDevice { device, .. } => devices.push((device.clone(), None)),
                _ => {}
            }
        }
        if !devices.is_empty() {
            self.firewalls.note_devices(devices, generation);
        }
    }

    /// A device that was given `chains`, if it is still there.
    fn guarded(&mut self, device: &LinkName, chains: &str) -> Option<(LinkName, GuardedDevice)> {
        let index = self.netlink.link_index(device.as_str()).ok()??;
        Some((device.clone(), GuardedDevice { index, chains: chains.to_owned() }))
    }

    /// Whether a step takes away what the usher has set up for a later plan.
    fn is_of_a_newcomer(&self, step: &Step) -> bool {
        self.plans.borrow().as_ref().is_some_and(|(_, latest)| match step {
            Step::RemoveBridgeFdb { mac, .. } => latest.bridge_fdb.contains_key(mac),
            Step::RemoveVxlanFdb { mac, .. } => latest.vxlan_fdb.contains_key(mac),
            _ => false,
        })
    }

    /// Whether a device that was to be guarded is gone by now.
    fn lost_a_device(&mut self, steps: &[Step]) -> bool {
        let mut is_gone = |device: &LinkName| !matches!(self.netlink.link_index(device.as_str()), Ok(Some(_)));
        steps.iter().any(|step| match step {
            Step::InstallGuard(guard) => guard.chains.keys().any(&mut is_gone),
            Step::GuardDevice { device, .. } => is_gone(device),
            _ => false,
        })
    }

    fn look_at_firewalls(&mut self, now: Instant) {
        self.tables.discard();
        self.timers.firewall = now + FIREWALL_INTERVAL;
        self.timers.firewall_not_before = now + FIREWALL_GAP;
        if let Some((_, plan)) = &self.plan
            && self.firewalls.look(plan, now + FIREWALL_INTERVAL) == Tables::Changed
        {
            self.timers.check = now;
        }
    }

    async fn report_obstacles(&mut self) {
        let Some((_, plan)) = &self.plan else {
            return;
        };
        let routes = underlay::routes(&mut self.netlink, &plan.names.bridge).unwrap_or_default();
        let told: Vec<String> = plan.overlaps(&routes).into_iter().chain(self.firewalls.obstacles().to_vec()).collect();
        if told != self.obstacles {
            self.obstacles = told.clone();
            self.tell(Event::Obstacles { told }).await;
        }
    }

    async fn report_ports(&mut self, observed: &Observed, generation: Generation, plan: &Plan) {
        let gone: BTreeSet<LinkName> =
            plan.ports.keys().filter(|port| !observed.links.contains_key(port)).cloned().collect();
        let new: Vec<LinkName> = gone.difference(&self.gone).cloned().collect();
        self.gone = gone;
        for port in new {
            self.tell(Event::PortGone { port, generation }).await;
        }

        let learnt = learnt(observed, plan);
        let before = std::mem::replace(&mut self.learnt, learnt.clone());
        for (mac, port) in &before {
            if learnt.get(mac) != Some(port) {
                self.tell(Event::Forgotten { mac: *mac, port: port.clone() }).await;
            }
        }
        for (mac, port) in learnt {
            if before.get(&mac) != Some(&port) {
                self.tell(Event::Learnt { mac, port }).await;
            }
        }
    }

    async fn report_used(&mut self) {
        let Some((_, plan)) = &self.plan else {
            return;
        };
        if plan.vxlan.is_none() || plan.vxlan_fdb.is_empty() {
            return;
        }
        match observe::used_ages(&mut self.netlink, &plan.names.vxlan) {
            Ok(ages) if ages.is_empty() => {}
            Ok(ages) => self.tell(Event::Used { ages }).await,
            Err(error) => tracing::debug!(%error, "cannot read the fast path's entries"),
        }
    }

    /// Waits for control to take the event, unless control is gone or ends us.
    async fn tell(&self, event: Event) {
        let mut plans = self.plans.clone();
        let ended = async move { while plans.changed().await.is_ok() {} };
        tokio::select! {
            _ = self.events.send(event) => {}
            () = ended => {}
        }
    }
}

fn described(failures: &[Failure<'_>]) -> Vec<String> {
    let surplus = failures.len().saturating_sub(FAILURES_MAX);
    let rest = (surplus > 0).then(|| format!("and {surplus} more"));
    failures.iter().take(FAILURES_MAX).map(|failure| failure.error.to_string()).chain(rest).collect()
}

/// The ports of containers that a failure concerns. Without the guard nothing is opened, nor has any port more addresses
/// than before.
fn closed(failures: &[Failure<'_>], plan: &Plan) -> BTreeSet<LinkName> {
    let of = |step: &Step| match step {
        Step::InstallGuard(_) => plan.ports.keys().cloned().collect(),
        step => step.opened().cloned().into_iter().collect::<Vec<_>>(),
    };
    failures.iter().flat_map(|failure| of(failure.step)).filter(|link| plan.ports.contains_key(link)).collect()
}

fn idle_delay(cost: Duration) -> Duration {
    (cost * IDLE_COST_RATIO).min(IDLE_DELAY_MAX)
}

/// CPU time of this thread: on a busy host the wall clock would count other people's work as ours.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Stations heard at ports that somebody plugged by hand.
fn learnt(observed: &Observed, plan: &Plan) -> BTreeMap<MacAddr, LinkName> {
    let by_hand = |port: &LinkName| {
        ![&plan.names.vxlan, &plan.names.tap].contains(&port)
            && !plan.ports.contains_key(port)
            && observed.links.get(port).is_some_and(|link| link.port.is_some())
    };
    let learnt = observed.bridge_fdb.iter().filter(|(_, entry)| entry.keep == Keep::Learnt && by_hand(&entry.port));
    learnt.map(|(mac, entry)| (*mac, entry.port.clone())).take(LEARNT_MAX).collect()
}
