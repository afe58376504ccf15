//! The steps of an operation and their reverses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand_core::{OsRng, RngCore};
use weave_datapath::linux::veth::{self, AttachSpec, Attached, check_addresses};
use weave_datapath::plan::LinkName;
use weave_mesh::card::Subnet;
use weave_mesh::ipam::Cidr;
use weave_mesh::name::MacAddr;
use weave_mesh::time::Instant;

use super::jobs::{Done, Made, Outcome, Place, Work};
use super::{Attachable, Errand, Former, KERNEL_TIMEOUT, Operation, OperationId, Progress, Seat, Step};
use crate::attach::{AttachError, Endpoint, Left, Wanted, distinct};
use crate::node::Control;
use crate::node::addressing::cidr;
use crate::node::burying::is_namespace;
use crate::request::{Question, Unknown};

impl Operation {
    pub(super) fn note_obtained(&mut self, address: Cidr) {
        self.addresses.push(Subnet { address: address.address().into(), prefix_len: address.prefix_len() });
        if !self.held.iter().any(|held| held.address() == address.address()) {
            self.fresh.push(address);
        }
    }
}

impl Control {
    pub(super) fn take_step(&mut self, id: OperationId, operation: &mut Operation, step: Step) -> Progress {
        let over = match step {
            Step::Look => return self.look(id, operation),
            Step::Addresses => return self.obtain(id, operation).unwrap_or_else(|error| Progress::Over(Err(error))),
            Step::Turn => return self.take_turn(operation),
            Step::Record => self.record(operation),
            Step::Port => return self.change_port(id, operation),
            Step::Weave => return self.weave_for(operation),
        };
        Progress::Over(over)
    }

    pub(super) fn take_back(&mut self, id: OperationId, operation: &mut Operation, step: Step) -> Progress {
        match step {
            Step::Look | Step::Weave => {}
            Step::Addresses => self.give_back(operation),
            Step::Turn => {
                if let Some(seat) = &mut operation.seat {
                    seat.has_turn = false;
                }
            }
            Step::Record => self.strike(operation),
            Step::Port => {
                let made = operation.seat.as_mut().and_then(|seat| Some((seat.place.clone()?, seat.made.take()?)));
                if let Some((place, Former(before))) = made {
                    if before.is_none() {
                        self.attaching.first_plans.retain(|link, _| Some(link) != operation.host_link());
                    }
                    return self.start_job(id, Work::Revert { place, before });
                }
            }
        }
        Progress::Over(Ok(()))
    }

    /// A namespace is looked into, and an endpoint of Docker's is looked up.
    fn look(&mut self, id: OperationId, operation: &mut Operation) -> Progress {
        let Some(seat) = &operation.seat else { return Progress::Over(Ok(())) };
        match Endpoint::of_label(&seat.container.label) {
            Some(endpoint) => Progress::Over(self.look_up(operation, endpoint)),
            None => self.start_job(id, Work::Look(seat.container.netns.clone())),
        }
    }

    /// What Docker's endpoint is to have was written down when Docker made it.
    fn look_up(&self, operation: &mut Operation, endpoint: Endpoint) -> Result<(), AttachError> {
        let Some(seat) = &mut operation.seat else { return Ok(()) };
        let ends = endpoint.ends()?;
        let known = self.ledger.get(ends.host.as_str()).filter(|entry| entry.holder == seat.container.label);
        match (&operation.errand, known) {
            (Errand::Attach { .. }, None) => return Err(AttachError::NoEndpoint(endpoint)),
            (_, None) => {}
            (_, Some(entry)) => operation.wanted = entry.addresses.iter().copied().map(Wanted::This).collect(),
        }
        (seat.host_link, seat.place) = (Some(ends.host.clone()), Some(Place::Here(ends)));
        Ok(())
    }

    fn start_job(&mut self, id: OperationId, work: Work) -> Progress {
        match self.attaching.jobs.start(id, work, self.clock.now()) {
            Ok(()) => Progress::Waits,
            Err(error) => Progress::Over(Err(error)),
        }
    }

    /// Takes up what a job of an operation has found or done.
    pub(super) fn note_done(&mut self, id: OperationId, done: Done) -> Result<(), AttachError> {
        let Some(mut operation) = self.attaching.operations.remove(&id) else { return Ok(()) };
        let result = self.take_up(&mut operation, done);
        self.attaching.operations.insert(id, operation);
        result
    }

    fn take_up(&mut self, operation: &mut Operation, done: Done) -> Result<(), AttachError> {
        let is_detached = matches!(operation.errand, Errand::Detach(_));
        let Some(seat) = &mut operation.seat else { return Ok(()) };
        match done {
            Ok(Outcome::Looked(netns, found)) => {
                self.note_whereabouts(&seat.container.label, found.host_link.as_str());
                if found.port.is_none() && !is_detached {
                    self.clear_way(&found.host_link, &seat.container.label);
                }
                (seat.place, seat.found) = (Some(Place::Inside(netns)), found.port);
                let known = self.ledger.get(found.host_link.as_str());
                seat.host_link = Some(found.host_link);
                if let Some(known) = known {
                    operation.holder.clone_from(&known.holder);
                }
            }
            Ok(Outcome::Made(Made { before, after, .. })) => {
                self.ledger.settle(&after);
                seat.made = Some(Former(before));
            }
            Ok(Outcome::Left(left)) => seat.found = left,
            Ok(Outcome::Reverted) => {}
            // A container that is no more can be detached all the same.
            Err(AttachError::Port(veth::AttachError::Open { .. })) if is_detached && self.is_known(seat) => {
                seat.host_link = self.ledger.port_of(&seat.container.label).and_then(|link| link.parse().ok());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A new namespace may have the number of one that is gone, and its port the name of that one's. What is known of a
    /// port that is not there is of nobody any more, although the kernel's word of its end is still under way.
    fn clear_way(&mut self, host_link: &LinkName, container: &str) {
        let is_at_work = |other: &Operation| other.host_link() == Some(host_link);
        if self.ledger.is_made(host_link.as_str()) && !self.attaching.operations.values().any(is_at_work) {
            self.close_port(host_link.as_str(), Some(container));
        }
    }

    fn is_known(&self, seat: &Seat) -> bool {
        let label = &seat.container.label;
        self.ledger.knows(label) || !self.node.addresses(label).is_empty()
    }

    /// A job that was given up has ended after all. What it made is nobody's, unless a later operation was for the same.
    pub(super) fn clean_up_after(&mut self, done: Done, now: Instant) {
        let Ok(Outcome::Made(Made { place, before, after })) = done else { return };
        if self.ledger.get(after.host_link.as_str()).is_none() {
            let started = self.attaching.jobs.start(OperationId::default(), Work::Revert { place, before }, now);
            drop(started);
        }
    }

    /// Asks for the next address that is wanted, until all are there.
    fn obtain(&mut self, id: OperationId, operation: &mut Operation) -> Result<Progress, AttachError> {
        if operation.addresses.is_empty() {
            self.admit(operation)?;
            operation.held = self.node.addresses(&operation.holder).to_vec();
        }
        while let Some(wanted) = operation.wanted.get(operation.addresses.len()).copied() {
            let container = operation.holder.clone();
            let question = match (wanted, &self.allocation) {
                (Wanted::In(subnet), Some(_)) => Question::Allocate { container, subnet },
                (Wanted::In(_), None) => return Err(AttachError::NoAddress),
                (Wanted::This(address), allocation) => match cidr(address).filter(|_| allocation.is_some()) {
                    Some(address) => Question::Claim { container, address, unknown: Unknown::Awaited },
                    None => {
                        operation.addresses.push(address);
                        continue;
                    }
                },
            };
            if let Some(seat) = &operation.seat {
                self.revive(&seat.container.label);
            }
            operation.asked = Some(self.pose_for(id, question));
            return Ok(Progress::Waits);
        }
        operation.addresses = distinct(std::mem::take(&mut operation.addresses))?;
        Ok(Progress::Over(Ok(())))
    }

    /// Whether addresses that are given by hand can be a container's, before anybody is asked for them.
    fn admit(&self, operation: &Operation) -> Result<(), AttachError> {
        if operation.seat.is_none() {
            return Ok(());
        }
        let given = |wanted: &Wanted| if let Wanted::This(subnet) = wanted { Some(*subnet) } else { None };
        let given: Vec<Subnet> = operation.wanted.iter().filter_map(given).collect();
        check_addresses(&given)?;
        let own: Vec<IpAddr> = self.node.card().addresses.iter().map(SocketAddr::ip).collect();
        match given.iter().find(|subnet| own.iter().any(|own| own.to_canonical() == subnet.address)) {
            Some(subnet) => Err(AttachError::OwnAddress(subnet.address)),
            None => self.exposure.admit_container(&given),
        }
    }

    /// What was obtained is free again, unless somebody else has come to use it.
    fn give_back(&mut self, operation: &mut Operation) {
        if let Some(asked) = operation.asked.take() {
            self.withdraw(asked);
        }
        for address in std::mem::take(&mut operation.fresh) {
            let ip = IpAddr::from(address.address());
            if self.ledger.holder(ip).is_some() || self.exposure.holds(ip) {
                continue;
            }
            let shares = |other: &&mut Operation| {
                other.holder == operation.holder && other.addresses.iter().any(|subnet| subnet.address == ip)
            };
            match self.attaching.operations.values_mut().find(shares) {
                Some(other) => other.fresh.push(address),
                None => drop(self.release(&operation.holder, Some(address.address()))),
            }
        }
    }

    fn take_turn(&mut self, operation: &mut Operation) -> Progress {
        let wanted = operation.host_link().cloned();
        let is_taken = self.attaching.operations.values().filter_map(|operation| operation.seat.as_ref());
        let is_taken = is_taken.filter(|seat| seat.has_turn && wanted.is_some()).any(|seat| seat.host_link == wanted);
        if is_taken {
            return Progress::Waits;
        }
        if let Some(seat) = &mut operation.seat {
            seat.has_turn = true;
        }
        Progress::Over(Ok(()))
    }

    fn record(&mut self, operation: &mut Operation) -> Result<(), AttachError> {
        match &operation.errand {
            Errand::Attach(_) => self.record_attached(operation),
            Errand::Detach(_) => {
                self.record_detached(operation);
                Ok(())
            }
            Errand::Expose(..) => self.record_exposed(operation),
        }
    }

    fn record_exposed(&mut self, operation: &mut Operation) -> Result<(), AttachError> {
        if let Errand::Expose(manner, gained) = &mut operation.errand {
            *gained = self.note_exposed(&operation.addresses, manner)?;
        }
        Ok(())
    }

    /// Writes down the port as it is going to be, and lets others know: they are ready when it is.
    fn record_attached(&mut self, operation: &mut Operation) -> Result<(), AttachError> {
        let (Errand::Attach(Attachable { name, .. }), Some(seat)) = (&operation.errand, &mut operation.seat) else {
            return Ok(());
        };
        let Some(host_link) = seat.host_link.clone() else { return Err(AttachError::Gone) };
        self.ledger.admit(host_link.as_str(), &seat.container, &operation.addresses)?;
        self.exposure.admit_container(&operation.addresses)?;
        let known = self.ledger.get(host_link.as_str()).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.holder != operation.holder) {
            // Somebody else was first in this namespace meanwhile.
            let gained: Vec<_> = operation.fresh.iter().map(|address| address.address()).collect();
            self.node.pass_on(&operation.holder, &known.holder, &gained, self.clock.now());
            operation.holder.clone_from(&known.holder);
        }
        let mac = known.as_ref().map(|known| known.mac).or_else(|| seat.found.as_ref().map(|found| found.mac));
        let port = Attached { host_link, mac: mac.unwrap_or_else(any_mac), addresses: operation.addresses.clone() };
        self.ledger.plan(&seat.container, &port, name.clone(), self.node.next_attach_time());
        if self.ledger.get(port.host_link.as_str()) == known.as_ref() {
            // What is so already needs no disk.
            return Ok(());
        }
        seat.recorded = Some(Former(known));
        self.store.write_ledger(&self.ledger)?;
        self.publish_endpoints();
        Ok(())
    }

    /// Nothing was, or nothing is.
    fn strike(&mut self, operation: &mut Operation) {
        if let Errand::Expose(_, gained) = &operation.errand {
            self.unexpose(gained);
        }
        // Of a detachment nothing was recorded: what is gone stays gone.
        let recorded = operation.seat.as_mut().and_then(|seat| Some((seat.host_link.clone()?, seat.recorded.take()?)));
        if let Some((host_link, Former(before))) = recorded {
            self.ledger.restore(host_link.as_str(), before);
            self.keep_ledger();
            self.publish_endpoints();
            self.weaving.touch(self.clock.now());
        }
    }

    fn change_port(&mut self, id: OperationId, operation: &Operation) -> Progress {
        let Some(seat) = &operation.seat else { return Progress::Over(Ok(())) };
        let loom = self.weaving.loom();
        let work = match (&operation.errand, &seat.place, &seat.host_link) {
            (Errand::Attach(_), Some(Place::Here(ends)), _) => self.ledger.get(ends.host.as_str()).map(|entry| {
                let (host_link, addresses) = (ends.host.clone(), operation.addresses.clone());
                Work::Pair {
                    ends: ends.clone(),
                    mtu: loom.mtu,
                    port: Attached { host_link, mac: entry.mac, addresses },
                }
            }),
            (Errand::Attach(Attachable { multicast_route, .. }), Some(Place::Inside(netns)), Some(host_link)) => {
                let mac = self.ledger.get(host_link.as_str()).map(|entry| entry.mac);
                let spec = AttachSpec {
                    mtu: loom.mtu,
                    mac,
                    addresses: operation.addresses.clone(),
                    resolver: loom.resolver,
                    multicast_route: *multicast_route,
                };
                Some(Work::Make { netns: Arc::clone(netns), spec })
            }
            (Errand::Detach(addresses), place, host_link) if self.takes_port(seat, addresses) => match place {
                Some(Place::Inside(netns)) => {
                    Some(Work::Take { netns: Arc::clone(netns), addresses: addresses.clone() })
                }
                Some(Place::Here(_)) | None => host_link.clone().map(Work::Remove),
            },
            (Errand::Attach(_) | Errand::Detach(_) | Errand::Expose(..), ..) => None,
        };
        work.map_or(Progress::Over(Ok(())), |work| self.start_job(id, work))
    }

    /// Whether detaching changes the port: addresses are the namespace's, and without any given it goes with the last
    /// container that asked for it. Somebody who names the namespace itself, and asked for nothing, means all of it.
    fn takes_port(&self, seat: &Seat, addresses: &[Subnet]) -> bool {
        let label = &seat.container.label;
        let Some(entry) = seat.host_link.as_ref().and_then(|link| self.ledger.get(link.as_str())) else { return true };
        if entry.is_endpoint() {
            return true;
        }
        let is_tenant = entry.tenants.iter().any(|tenant| tenant.container == *label);
        let is_alone = entry.tenants.len() == 1;
        if is_tenant { !addresses.is_empty() || is_alone } else { is_namespace(label) }
    }

    /// Writes down what is left, and frees the rest.
    fn record_detached(&mut self, operation: &mut Operation) {
        let (Errand::Detach(addresses), Some(seat)) = (&operation.errand, &operation.seat) else { return };
        let (label, host_link) = (seat.container.label.clone(), seat.host_link.as_ref().map(LinkName::to_string));
        let host_link = host_link.unwrap_or_default();
        let takes_port = self.takes_port(seat, addresses);
        let entry = self.ledger.get(&host_link).cloned();
        let before = entry.as_ref().map(|entry| entry.addresses.clone()).unwrap_or_default();
        let holder = entry.as_ref().map_or(&label, |entry| &entry.holder).clone();
        let is_endpoint = matches!(seat.place, Some(Place::Here(_)));
        match seat.found.as_ref().filter(|_| seat.place.is_some()) {
            _ if !takes_port => {
                if self.ledger.leave(&host_link, &label) == Left::Others {
                    self.forget_names_of(&label);
                }
            }
            Some(left) => {
                self.ledger.settle(left);
                operation.addresses = before.into_iter().filter(|subnet| !left.addresses.contains(subnet)).collect();
                self.release_all(&holder, &operation.addresses);
            }
            None => {
                self.attaching.forget_port(&host_link);
                self.ledger.remove(&host_link);
                let tenants = entry.into_iter().flat_map(|entry| entry.tenants);
                tenants.for_each(|tenant| self.forget_names_of(&tenant.container));
                self.forget_names_of(&label);
                operation.addresses = before;
                // Also what it was given and never had. Docker gives an endpoint's address back by itself.
                if !is_endpoint {
                    let _ = self.release(&holder, None);
                }
            }
        }
        self.keep_ledger();
    }

    fn weave_for(&mut self, operation: &mut Operation) -> Progress {
        let plan = self.weave();
        if let Some(Seat { host_link: Some(host_link), made: Some(Former(None)), .. }) = &operation.seat {
            self.attaching.first_plans.insert(host_link.clone(), plan);
        }
        if plan <= self.weaving.applied() {
            return Progress::Over(self.opened(operation.host_link()));
        }
        operation.plan = Some((plan, self.clock.now() + KERNEL_TIMEOUT));
        Progress::Waits
    }

    /// Whether the kernel has a port as the plan wants it.
    pub(super) fn opened(&self, host_link: Option<&LinkName>) -> Result<(), AttachError> {
        if host_link.is_some_and(|host_link| self.weaving.closed().contains(host_link)) {
            return Err(AttachError::Closed(self.weaving.failures().join("; ")));
        }
        Ok(())
    }

    /// A container is in one namespace at a time: a port in another is closed, or is left to the others behind it.
    fn note_whereabouts(&mut self, container: &str, host_link: &str) {
        let mut has_moved = false;
        if let Some(former) = self.ledger.port_of(container).filter(|former| *former != host_link) {
            let former = former.to_owned();
            self.ledger.leave(&former, container);
            has_moved = true;
        }
        for former in self.ledger.filed_under(container).into_iter().filter(|former| former != host_link) {
            if let Some((heir, addresses)) = self.ledger.pass_on(&former) {
                let addresses: Vec<_> =
                    addresses.into_iter().filter_map(cidr).map(|address| address.address()).collect();
                self.node.pass_on(container, &heir, &addresses, self.clock.now());
                has_moved = true;
            }
        }
        if has_moved {
            self.keep_ledger();
            self.publish_endpoints();
            self.weaving.touch(self.clock.now());
        }
    }

    /// A container has died. Others behind its port keep it, and not its name.
    pub(in crate::node) fn note_departure(&mut self, container: &str) {
        let Some(host_link) = self.ledger.port_of(container).map(str::to_owned) else { return };
        if self.ledger.get(&host_link).is_none_or(|entry| entry.tenants.len() < 2) {
            return;
        }
        self.ledger.leave(&host_link, container);
        self.forget_names_of(container);
        self.keep_ledger();
        self.publish_endpoints();
        self.weaving.touch(self.clock.now());
    }
}

/// A unicast address of our own making, so that a port is known before it is made.
pub(in crate::node) fn any_mac() -> MacAddr {
    let mut octets = [0; 6];
    OsRng.fill_bytes(&mut octets);
    octets[0] = octets[0] & 0xfc | 0x02;
    MacAddr(octets)
}
