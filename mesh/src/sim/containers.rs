//! Containers on simulated hosts, which ask for addresses, claim them and die; and what must hold of their addresses.
//!
//! ```text
//!   Run, Claim ──► waiting ──► Event::Ipam ──► has an address until Stop, or until its host loses power
//!                    └── the daemon dies: asked again at its next start; what has an address is then found running
//! ```
//!
//! Invariant: no address is held by two live containers, at any moment, whatever happens to daemons, disks and network.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Fault, HostId, Input, Violation, World};
use crate::identity::PeerKey;
use crate::ipam::{Answer, Cidr, Error, Ticket};

/// How long a repair takes at most.
const REPAIR_MAX: Duration = Duration::from_secs(30);
/// How long hosts have to meet, and how long things then happen to them.
const MEETING_TIME: Duration = Duration::from_secs(10);
const CHAOS_TIME: Duration = Duration::from_secs(120);
/// How long it takes at most until everybody has found everybody again: dials back off to six minutes.
const REUNION_MAX: Duration = Duration::from_secs(600);
/// How long a disturbed first boot takes, and what disturbs it.
const BIRTH_TIME: Duration = Duration::from_secs(6);
const BIRTH_PARTITIONS: usize = 10;
const BIRTH_DEATHS: usize = 3;
const BIRTH_DEATH_DELAY: Duration = Duration::from_millis(400);

/// The containers of one host.
#[derive(Debug, Default)]
pub(super) struct Containers {
    /// By number; without an address while they wait for one.
    live: BTreeMap<u32, Wanted>,
    next: u32,
    /// Who waits under which ticket, in the present life of the daemon.
    tickets: BTreeMap<Ticket, u32>,
    next_ticket: u64,
    /// Every identity that the host ever had.
    pub(super) keys: BTreeSet<PeerKey>,
    /// Never to start again.
    pub(super) is_destroyed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Any,
    This(Cidr),
    Has(Cidr),
}

fn name_of(container: u32) -> String {
    format!("container-{container}")
}

impl Containers {
    fn found(&self) -> Vec<(String, Cidr)> {
        let has = |(container, wanted): (&u32, &Wanted)| match wanted {
            Wanted::Has(address) => Some((name_of(*container), *address)),
            Wanted::Any | Wanted::This(_) => None,
        };
        self.live.iter().filter_map(has).collect()
    }

    pub(super) fn held(&self) -> impl Iterator<Item = Cidr> {
        self.live.values().filter_map(|wanted| match wanted {
            Wanted::Has(address) => Some(*address),
            Wanted::Any | Wanted::This(_) => None,
        })
    }
}

impl World {
    /// What a daemon does first: it looks for running containers, and asks again for those that wait.
    pub(super) fn resume_containers(&mut self, host: HostId) {
        if self.options.ipam.is_none() {
            return;
        }
        let containers = &mut self.hosts[host.0].containers;
        containers.tickets.clear();
        let found = containers.found();
        let names: BTreeSet<String> = containers.live.keys().map(|container| name_of(*container)).collect();
        let waiting: Vec<(u32, Wanted)> = containers
            .live
            .iter()
            .filter(|(_, wanted)| !matches!(wanted, Wanted::Has(_)))
            .map(|(container, wanted)| (*container, *wanted))
            .collect();
        let remembered = self.node(host).map(|node| node.all_addresses()).unwrap_or_default();
        for container in remembered.into_keys().filter(|container| !names.contains(container)) {
            self.feed(host, Input::Release(container));
        }
        self.feed(host, Input::Resume(found));
        waiting.into_iter().for_each(|(container, wanted)| self.want(host, container, wanted));
    }

    fn want(&mut self, host: HostId, container: u32, wanted: Wanted) {
        let Some(subnet) = self.options.ipam.as_ref().map(|config| config.default_subnet) else { return };
        let containers = &mut self.hosts[host.0].containers;
        let ticket = Ticket(containers.next_ticket);
        containers.next_ticket += 1;
        containers.tickets.insert(ticket, container);
        let input = match wanted {
            Wanted::Any => Input::Allocate(ticket, name_of(container), subnet),
            Wanted::This(address) | Wanted::Has(address) => Input::Claim(ticket, name_of(container), address),
        };
        self.feed(host, input);
    }

    /// A container starts; with an address of its own choice, or any.
    pub(super) fn run_container(&mut self, host: HostId, address: Option<Cidr>) {
        if !self.hosts[host.0].is_powered {
            return;
        }
        let containers = &mut self.hosts[host.0].containers;
        let container = containers.next;
        containers.next += 1;
        let wanted = address.map_or(Wanted::Any, Wanted::This);
        containers.live.insert(container, wanted);
        self.want(host, container, wanted);
    }

    /// The container that has lived longest, after `number` others, dies.
    pub(super) fn stop_container(&mut self, host: HostId, number: usize) {
        let containers = &mut self.hosts[host.0].containers;
        let Some(container) = containers.live.keys().nth(number % containers.live.len().max(1)).copied() else {
            return;
        };
        containers.live.remove(&container);
        containers.tickets.retain(|_, waiting| *waiting != container);
        self.feed(host, Input::Release(name_of(container)));
    }

    /// All containers of a host die with it.
    pub(super) fn stop_all_containers(&mut self, host: HostId) {
        self.hosts[host.0].containers.live.clear();
        self.hosts[host.0].containers.tickets.clear();
    }

    pub(super) fn handle_address(&mut self, host: HostId, ticket: Ticket, answer: &Result<Answer, Error>) {
        self.trace.note(self.now, host, host, format!("{ticket:?}: {answer:?}"));
        let containers = &mut self.hosts[host.0].containers;
        let Some(container) = containers.tickets.remove(&ticket) else { return };
        let Some(wanted) = containers.live.get(&container).copied() else { return };
        match (answer, wanted) {
            (Ok(Answer::Allocated(address)), _) => self.give_address(host, container, *address),
            (Ok(Answer::Claimed), Wanted::This(address)) => self.give_address(host, container, address),
            (Err(_), _) => drop(containers.live.remove(&container)),
            (Ok(_), _) => {}
        }
    }

    /// The container has the address, and nobody else may.
    fn give_address(&mut self, host: HostId, container: u32, address: Cidr) {
        self.hosts[host.0].containers.live.insert(container, Wanted::Has(address));
        let mut others = self.hosts.iter().flat_map(|other| {
            let has = other
                .containers
                .live
                .iter()
                .filter(|(_, wanted)| matches!(wanted, Wanted::Has(has) if has.address() == address.address()));
            has.map(move |(container, _)| (other.id, *container))
        });
        let other = others.find(|other| *other != (host, container)).map(|(other, _)| other);
        if let Some(other) = other {
            self.violate(Violation::AddressTwice { at: self.now, host, other, address: address.address() });
        }
    }

    /// `reset`: all containers stop, and what is owned goes to another peer.
    pub(super) fn reset_addresses(&mut self, host: HostId) {
        let names: Vec<u32> = self.hosts[host.0].containers.live.keys().copied().collect();
        self.stop_all_containers(host);
        names.into_iter().for_each(|container| self.feed(host, Input::Release(name_of(container))));
        let containers = &mut self.hosts[host.0].containers;
        let ticket = Ticket(containers.next_ticket);
        containers.next_ticket += 1;
        self.feed(host, Input::HandOver(ticket));
    }

    /// `rmpeer` on one host, for every identity that another host had and has no more.
    pub(super) fn certify(&mut self, at: HostId, dead: HostId) {
        let living = if self.hosts[dead.0].containers.is_destroyed { None } else { self.key(dead) };
        let is_down = living.is_none() && !self.hosts[dead.0].containers.is_destroyed;
        if is_down {
            return;
        }
        let keys: Vec<PeerKey> =
            self.hosts[dead.0].containers.keys.iter().copied().filter(|key| Some(*key) != living).collect();
        for key in keys {
            let containers = &mut self.hosts[at.0].containers;
            let ticket = Ticket(containers.next_ticket);
            containers.next_ticket += 1;
            self.feed(at, Input::TakeOver(ticket, key));
        }
    }

    /// `rmpeer` on one host, for this identity.
    pub fn remove_peer(&mut self, at: HostId, dead: PeerKey) {
        let containers = &mut self.hosts[at.0].containers;
        let ticket = Ticket(containers.next_ticket);
        containers.next_ticket += 1;
        self.feed(at, Input::TakeOver(ticket, dead));
        self.work();
    }

    /// Schedules so many random events around containers within `time` from now on, faults among them; all of it is
    /// repaired soon after. Hosts below `trusted` never lose their disk and are never destroyed.
    fn schedule_container_chaos(&mut self, events: usize, time: Duration, trusted: usize) {
        for _ in 0..events {
            let after = self.dice.between(Duration::ZERO, time);
            let repaired = after + self.dice.between(Duration::ZERO, REPAIR_MAX);
            for (is_repair, fault) in self.draw_container_event(trusted) {
                self.schedule(if is_repair { repaired } else { after }, fault);
            }
        }
        let end = time + REPAIR_MAX;
        self.schedule(end, Fault::Heal);
        self.schedule(end, Fault::SetLoss { percent: 0 });
    }

    /// A history in which everybody meets, and then all sorts of things happen to containers, daemons, hosts and network.
    /// At its end all is repaired and everybody dead certified. Hosts below `trusted` never lose their disk.
    pub fn live_through(&mut self, events: usize, trusted: usize) {
        self.tell_everyone_the_seeds();
        self.run_for(MEETING_TIME);
        self.schedule_container_chaos(events, CHAOS_TIME, trusted);
        self.run_for(CHAOS_TIME + 2 * REPAIR_MAX);
        self.start_everyone();
        // A host that came back without its state may be the only one to know what its containers hold.
        self.run_until(REUNION_MAX, Self::is_converged);
        self.run_for(MEETING_TIME);
        self.certify_the_dead();
    }

    /// A history of a first boot: daemons die and the network splits while they agree on a ring, and every host runs a
    /// container at once.
    pub fn be_born(&mut self) {
        let hosts = self.hosts.len();
        self.tell_everyone_the_seeds();
        for host in (0..hosts).map(HostId) {
            self.schedule(self.options.start_within, Fault::RunContainer(host));
        }
        for _ in 0..BIRTH_PARTITIONS {
            let after = self.dice.between(Duration::ZERO, BIRTH_TIME);
            let partition = self.draw_partition();
            self.schedule(after, partition);
            // A vote that was told before the cut is worth most to those on the other side.
            (0..BIRTH_DEATHS).for_each(|_| self.schedule_sudden_death(after));
        }
        self.run_for(BIRTH_TIME + 2 * BIRTH_DEATH_DELAY);
        self.apply(Fault::Heal);
        self.start_everyone();
        self.run_for(MEETING_TIME);
    }

    /// Soon after `after` a daemon dies, and starts again.
    fn schedule_sudden_death(&mut self, after: Duration) {
        let (host, outputs) = (HostId(self.dice.below(self.hosts.len())), self.dice.below(40) as u32);
        let after = after + self.dice.between(Duration::ZERO, BIRTH_DEATH_DELAY);
        let is_sudden = self.dice.below(2) == 0;
        self.schedule(after, if is_sudden { Fault::Kill(host) } else { Fault::KillAfter(host, outputs) });
        let repair = self.dice.between(Duration::ZERO, BIRTH_DEATH_DELAY);
        self.schedule(after + repair, Fault::Start(host));
    }

    /// As with one configuration for all hosts: the seeds are told of themselves, too.
    pub fn tell_everyone_the_seeds(&mut self) {
        let seeds: Vec<HostId> = (0..self.options.seeds).map(HostId).collect();
        (0..self.hosts.len()).for_each(|host| self.set_targets(HostId(host), &seeds));
    }

    /// Nobody is about to die, and whoever can run does.
    fn start_everyone(&mut self) {
        for host in (0..self.hosts.len()).map(HostId) {
            self.hosts[host.0].outputs_to_live = None;
            self.apply(Fault::Start(host));
        }
    }

    fn draw_container_event(&mut self, trusted: usize) -> Vec<(bool, Fault)> {
        let (host, other) = (HostId(self.dice.below(self.hosts.len())), HostId(self.dice.below(self.hosts.len())));
        let number = self.dice.below(1_000);
        let restart = |faults: &[Fault]| -> Vec<(bool, Fault)> {
            let faults = faults.iter().cloned().map(|fault| (false, fault));
            faults.chain([(true, Fault::Start(host))]).collect()
        };
        match self.dice.below(32) {
            0..10 => vec![(false, Fault::RunContainer(host))],
            10..15 => vec![(false, Fault::StopContainer(host, number))],
            15..17 => vec![(false, Fault::ClaimAddress(host, number as u32))],
            17..19 => restart(&[Fault::Kill(host)]),
            19..21 => vec![(false, Fault::KillAfter(host, number as u32 % 30)), (true, Fault::Start(host))],
            21 => restart(&[Fault::PowerLoss(host)]),
            22 => restart(&[Fault::Kill(host), Fault::SetClock(host, 500 - number as i64)]),
            23..25 if host.0 >= trusted => restart(&[Fault::Kill(host), Fault::LoseDisk(host)]),
            25 if host.0 >= trusted && number < 300 => {
                let certify = (0..3).map(|_| HostId(self.dice.below(self.hosts.len()))).collect::<Vec<_>>();
                let certify = certify.into_iter().map(|at| (true, Fault::RemovePeer { at, dead: host }));
                [(false, Fault::Destroy(host))].into_iter().chain(certify).collect()
            }
            26..28 if host != other => vec![(false, Fault::Cut(host, other)), (true, Fault::Mend(host, other))],
            28..30 => vec![(false, self.draw_partition()), (true, Fault::Heal)],
            30 => vec![(false, Fault::SetLoss { percent: number as u8 % 30 }), (true, Fault::SetLoss { percent: 0 })],
            31 if host.0 >= trusted => {
                vec![(false, Fault::HandOver(host)), (true, Fault::Leave(host)), (true, Fault::Start(host))]
            }
            _ => vec![(false, Fault::RunContainer(host))],
        }
    }

    /// Certifies every identity that is dead, as operators would once all is quiet.
    fn certify_the_dead(&mut self) {
        for at in self.live().collect::<Vec<_>>() {
            for dead in (0..self.hosts.len()).map(HostId) {
                self.apply(Fault::RemovePeer { at, dead });
            }
        }
        self.work();
    }

    /// Whether rings are equal and every address is free at a live owner or held by a live container.
    pub fn is_all_space_usable(&self) -> bool {
        let Some(range) = self.options.ipam.as_ref().map(|config| config.range.range()) else { return true };
        let held = self.hosts.iter().flat_map(|host| host.containers.held());
        let held: BTreeSet<_> = held.filter(|address| range.contains(address.address().into())).collect();
        let views: Vec<_> = self.live().filter_map(|host| self.node(host)?.ipam_view()).collect();
        let free: u64 = views.iter().map(|view| view.free).sum();
        let is_same = views.windows(2).all(|pair| pair[0].owned == pair[1].owned);
        is_same && views.iter().all(|view| view.is_ready) && free + held.len() as u64 == range.size()
    }

    /// How many containers wait for an address.
    pub fn waiting_containers(&self) -> usize {
        let live = self.hosts.iter().flat_map(|host| host.containers.live.values());
        live.filter(|wanted| !matches!(wanted, Wanted::Has(_))).count()
    }

    /// How many containers have an address.
    pub fn addressed_containers(&self) -> usize {
        self.hosts.iter().map(|host| host.containers.held().count()).sum()
    }

    pub(super) fn claim_address(&mut self, host: HostId, number: u32) {
        let Some(subnet) = self.options.ipam.as_ref().map(|config| config.default_subnet) else { return };
        let Some(hosts) = subnet.hosts() else { return };
        let address = hosts.first + number % u32::try_from(hosts.size()).unwrap_or(u32::MAX);
        if let Ok(address) = Cidr::new(address.into(), subnet.prefix_len()) {
            self.run_container(host, Some(address));
        }
    }
}

#[cfg(test)]
mod tests;
