//! A played cloud: hosts are machines of a group, which are launched and terminated, and every daemon asks who there is.
//!
//! ```text
//!   launch ──► Expected ── terminate ──► Aside ── SHUTTING_DOWN ──► Gone ── LISTED ──► listed no more
//!                             └── the host falls silent for ever; its address is given to another
//!
//!   daemon ── asks ──► refused, now and then; else the list as it was up to `lag` ago, now and then with machines missing
//! ```
//!
//! Invariant: an answer never says of a machine what was not true at some moment of the last `lag`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::host;
use super::queue::Event;
use super::{Fault, HostId, Input, World};
use crate::roster::{Instance, Listing, Outcome, Standing};
use crate::time::Instant;

/// How long a machine shuts down at least, and how much longer at most. EC2 takes some seconds to a minute.
const SHUTTING_DOWN: Duration = Duration::from_secs(5);
const SHUTTING_DOWN_MORE: Duration = Duration::from_secs(40);
/// How long a terminated machine is listed.
const LISTED: Duration = Duration::from_secs(3_600);
/// How many calls an account has at once, and a second: the buckets of `DescribeInstances`.
const CALLS_AT_ONCE: f64 = 100.0;
const CALLS_A_SECOND: f64 = 20.0;

/// What the cloud's answers are like.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// How old an answer may be.
    pub lag: Duration,
    /// How long one may take.
    pub latency: Duration,
    /// How likely a call fails.
    pub failing: f64,
    /// How likely an answer lacks machines.
    pub partial: f64,
}

impl Weather {
    pub const FAIR: Self =
        Self { lag: Duration::ZERO, latency: Duration::from_millis(200), failing: 0.0, partial: 0.0 };
}

#[derive(Debug)]
struct Machine {
    launched: Instant,
    /// What it was from when on; at the end it may be listed no more.
    history: Vec<(Instant, Option<Standing>)>,
}

impl Machine {
    fn at(&self, moment: Instant) -> Option<Standing> {
        self.history.iter().rev().find(|(since, _)| *since <= moment).and_then(|(_, standing)| *standing)
    }
}

/// The cloud.
#[derive(Debug)]
pub(super) struct Cloud {
    pub(super) weather: Weather,
    machines: BTreeMap<HostId, Machine>,
    desired: Vec<(Instant, u32)>,
    tokens: f64,
    refilled: Instant,
    /// How many calls there were, and how many were refused as too many.
    pub(super) calls: u64,
    pub(super) throttled: u64,
}

impl Cloud {
    pub(super) fn new(weather: Weather, desired: usize) -> Self {
        let desired = vec![(Instant::ZERO, u32::try_from(desired).unwrap_or(u32::MAX))];
        let (machines, refilled) = (BTreeMap::new(), Instant::ZERO);
        Self { weather, machines, desired, tokens: CALLS_AT_ONCE, refilled, calls: 0, throttled: 0 }
    }

    pub(super) fn launch(&mut self, host: HostId, now: Instant) {
        let history = vec![(now, Some(Standing::Expected))];
        self.machines.insert(host, Machine { launched: now, history });
    }

    /// Forgets the machines that were terminated so long ago that no answer has them.
    fn clean(&mut self, now: Instant) {
        let lag = self.weather.lag;
        let is_past = |machine: &Machine| {
            machine.history.last().is_some_and(|(since, standing)| standing.is_none() && now.since(*since) > lag)
        };
        self.machines.retain(|_, machine| !is_past(machine));
    }

    /// Whether the account has a call left.
    fn take_call(&mut self, now: Instant) -> bool {
        let refill = now.since(self.refilled).as_secs_f64() * CALLS_A_SECOND;
        self.tokens = (self.tokens + refill).min(CALLS_AT_ONCE);
        self.refilled = now;
        self.calls += 1;
        let has_call = self.tokens >= 1.0;
        if has_call {
            self.tokens -= 1.0;
        } else {
            self.throttled += 1;
        }
        has_call
    }

    fn desired_at(&self, moment: Instant) -> u32 {
        self.desired.iter().rev().find(|(since, _)| *since <= moment).map_or(0, |(_, desired)| *desired)
    }
}

impl World {
    /// A further machine of the group; its daemon starts `after` a while. It may have the address of one that is gone.
    pub fn launch(&mut self, after: Duration) -> HostId {
        let host = self.add_host();
        self.schedule(after, Fault::Start(host));
        host
    }

    /// The group is to have so many machines.
    pub fn set_desired(&mut self, machines: usize) {
        let desired = u32::try_from(machines).unwrap_or(u32::MAX);
        let now = self.now;
        if let Some(cloud) = &mut self.cloud {
            cloud.desired.push((now, desired));
        }
    }

    pub fn set_weather(&mut self, weather: Weather) {
        if let Some(cloud) = &mut self.cloud {
            cloud.weather = weather;
        }
    }

    /// How often the cloud was asked, and how many calls it refused as too many.
    pub fn cloud_calls(&self) -> (u64, u64) {
        self.cloud.as_ref().map_or((0, 0), |cloud| (cloud.calls, cloud.throttled))
    }

    /// The machine goes for ever. When the cloud will say so, asked at that moment.
    pub fn terminate(&mut self, host: HostId) -> Instant {
        let now = self.now;
        let gone = now + SHUTTING_DOWN + self.dice.between(Duration::ZERO, SHUTTING_DOWN_MORE);
        if let Some(cloud) = &mut self.cloud
            && let Some(machine) = cloud.machines.get_mut(&host)
        {
            let further = [(now, Some(Standing::Aside)), (gone, Some(Standing::Gone)), (gone + LISTED, None)];
            machine.history.extend(further);
        }
        self.apply(Fault::Destroy(host));
        gone
    }

    /// The daemon of `host` begins to ask.
    pub(super) fn begin_asking(&mut self, host: HostId) {
        if self.cloud.is_some() {
            let boot = self.host(host).boot;
            self.queue.push(self.now, Event::Ask { host, boot });
        }
    }

    /// Asks, and hears the answer at once or after the latency of the cloud.
    pub(super) fn handle_ask(&mut self, host: HostId, boot: u32) {
        if self.host(host).boot != boot || self.host(host).daemon.is_none() {
            return;
        }
        let now = self.now;
        let Some(cloud) = &mut self.cloud else { return };
        cloud.clean(now);
        let has_call = cloud.take_call(now);
        let weather = cloud.weather;
        let latency = self.dice.between(Duration::ZERO, weather.latency);
        let outcome = if !has_call {
            Outcome::Throttled
        } else if self.dice.happens(weather.failing) {
            Outcome::Failed
        } else {
            let listing = self.listing(host, weather);
            let instances = listing.instances.len();
            self.queue.push(now + latency, Event::Listed { host, boot, listing });
            let is_urgent = self.node(host).is_some_and(|node| node.waits_for_listing());
            Outcome::Answered { instances, is_urgent }
        };
        let Some(daemon) = &mut self.hosts[host.0].daemon else { return };
        let next = daemon.polling.next(outcome);
        self.queue.push(now + latency + next, Event::Ask { host, boot });
    }

    pub(super) fn handle_listed(&mut self, host: HostId, boot: u32, listing: Listing) {
        self.inbox.push_back((host, boot, Input::Listing(listing)));
    }

    /// The list as it was not long ago, or a part of it.
    fn listing(&mut self, host: HostId, weather: Weather) -> Listing {
        let lag = self.dice.between(Duration::ZERO, weather.lag);
        let moment = Instant::ZERO + self.now.since(Instant::ZERO + lag);
        let is_complete = !self.dice.happens(weather.partial);
        let own = self.host(host).instance.clone();
        let Some(cloud) = &self.cloud else {
            return Listing { own, desired: 0, instances: Vec::new(), is_complete: false };
        };
        let desired = cloud.desired_at(moment);
        let machines = cloud.machines.iter().filter_map(|(host, it)| Some((*host, it.launched, it.at(moment)?)));
        let mut instances: Vec<Instance> = machines
            .map(|(host, launched, standing)| Instance {
                id: self.hosts[host.0].instance.clone(),
                launched: launched.as_micros() / 1_000_000,
                address: Some(self.hosts[host.0].address.ip()),
                standing,
            })
            .collect();
        if !is_complete {
            instances.retain(|_| self.dice.happens(0.5));
        }
        Listing { own, desired, instances, is_complete }
    }
}

/// Where the next machine listens: where one did that is gone, or at an address of its own.
pub(super) fn address_of_next(world: &World, host: HostId) -> SocketAddr {
    let own = host::address_of(host);
    let Some(cloud) = &world.cloud else { return own };
    let is_gone = |machine: &Machine| machine.at(world.now) == Some(Standing::Gone);
    let is_tenant = |host: HostId| world.tenant(world.hosts[host.0].address) == Some(host);
    let gone = cloud.machines.iter().find(|(host, machine)| is_gone(machine) && is_tenant(**host));
    gone.map_or(own, |(host, _)| world.hosts[host.0].address)
}
