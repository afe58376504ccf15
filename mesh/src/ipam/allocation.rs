//! Addresses out of what we own: given to containers of this host, and taken back.
//!
//! Invariants:
//! - an address is allocated only while we own it and no container anywhere is known to hold it;
//! - nothing is allocated before the containers found running are known.

use std::net::Ipv4Addr;

use super::operation::{Attempt, Operation};
use super::space::Space;
use super::{Action, Answer, Change, Cidr, ClaimMode, Error, Ipam, Owner, Range, Surroundings, Wait};

impl Ipam {
    /// Addresses that running containers have; nothing is allocated before this is told.
    pub(crate) fn resume(&mut self, found: &[(String, Cidr)]) {
        for (container, address) in found {
            // A container that holds more than it may, or what another has, keeps what it has: we cannot take it away.
            drop(self.hold(container, *address));
        }
        self.is_resumed = true;
        self.are_strays_stale = true;
        self.is_changed = true;
    }

    /// `container` gives back one address or all; what it waited for is refused when it gives back all.
    pub(crate) fn release(
        &mut self,
        container: &str,
        address: Option<Ipv4Addr>,
        near: &Surroundings<'_>,
    ) -> Result<(), Error> {
        let given = self.holdings.give(container, address);
        for address in &given {
            self.actions
                .push_back(Action::PersistOwned(Change::Give { container: container.into(), address: *address }));
            self.free(u32::from(*address), near);
        }
        let has_waited = address.is_none() && self.refuse_all_of(container);
        self.is_changed |= !given.is_empty();
        match address {
            _ if !given.is_empty() || has_waited => Ok(()),
            Some(address) => Err(Error::NotHeld { container: container.to_owned(), address }),
            None => Err(Error::HoldsNone { container: container.to_owned() }),
        }
    }

    /// `heir` holds from here on what `container` held of `addresses`; what exceeds its limit stays where it is.
    pub(crate) fn pass_on(&mut self, container: &str, heir: &str, addresses: &[Ipv4Addr]) {
        let held = self.holdings.of(container).to_vec();
        for address in held.into_iter().filter(|held| addresses.contains(&held.address())) {
            for change in self.holdings.pass_on(container, heir, address) {
                self.actions.push_back(Action::PersistOwned(change));
            }
        }
    }

    pub(crate) fn addresses(&self, container: &str) -> &[Cidr] {
        self.holdings.of(container)
    }

    /// Every container with its addresses.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (&str, &[Cidr])> {
        self.holdings.all()
    }

    pub(super) fn try_allocate(&mut self, container: &str, subnet: Cidr, near: &Surroundings<'_>) -> Attempt {
        let window = match self.window_of(subnet) {
            Ok(window) => window,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(has) = self.holdings.of(container).iter().find(|address| address.subnet() == subnet) {
            return Ok(Ok(Answer::Allocated(*has)));
        }
        if !self.is_resumed {
            return Err(Wait::Containers);
        }
        self.await_ring(near)?;
        self.await_others()?;
        let Some(address) = self.unclaimed(window, near) else { return Err(self.await_space(window, near)) };
        // A prefix that a subnet has is one that its addresses have.
        let Ok(address) = Cidr::new(address.into(), subnet.prefix_len()) else { return Err(Wait::Space) };
        Ok(self.hold(container, address).map(|()| Answer::Allocated(address)))
    }

    /// The lowest free address that no endpoint of another peer has: one that was attached by hand is published before
    /// its owner is told of it.
    fn unclaimed(&self, window: Range, near: &Surroundings<'_>) -> Option<u32> {
        self.space.lowest(window, |address| {
            let claim = near.claims.addresses.get(&Ipv4Addr::from(address).into());
            claim.is_none_or(|claim| claim.owner == near.card.key)
        })
    }

    /// The addresses of `subnet` that a container may have.
    fn window_of(&self, subnet: Cidr) -> Result<Range, Error> {
        let range = self.config.range;
        match subnet.hosts() {
            _ if !subnet.is_subnet() => Err(Error::HostBits(subnet)),
            None => Err(Error::TooSmall(subnet)),
            Some(hosts) => hosts.intersection(range.range()).ok_or(Error::OutsideRange { subnet, range }),
        }
    }

    /// Where an operation needs an address of ours.
    pub(super) fn window(&self, operation: &Operation) -> Option<Range> {
        match operation {
            Operation::Allocate { subnet, .. } => self.window_of(*subnet).ok(),
            Operation::Claim { address, .. } => Some(Range::one(address.address().into())),
            Operation::AwaitRing | Operation::TakeOver { .. } | Operation::HandOver => None,
        }
    }

    pub(super) fn try_claim(
        &mut self,
        container: &str,
        address: Cidr,
        mode: ClaimMode,
        near: &Surroundings<'_>,
    ) -> Attempt {
        let number = u32::from(address.address());
        let is_ours_to_manage = self.config.range.range().contains(number);
        let is_decided = self.holdings.holder(number).is_some();
        if mode == ClaimMode::Found || is_decided || !is_ours_to_manage {
            return Ok(self.hold(container, address).map(|()| Answer::Claimed));
        }
        if !self.is_resumed {
            return Err(Wait::Containers);
        }
        self.await_ring(near)?;
        self.await_others()?;
        match self.ring.as_ref().and_then(|ring| ring.owner(number)) {
            Some(Owner::Peer(owner)) if owner == near.card.key => match self.lodgers.holder(number) {
                Some(peer) => Ok(Err(Error::HeldElsewhere { address: address.address(), peer })),
                None => Ok(self.hold(container, address).map(|()| Answer::Claimed)),
            },
            Some(Owner::Peer(owner)) if !near.is_reachable(&owner) => Err(Wait::Unreachable(owner)),
            Some(_) | None => Err(self.await_space(Range::one(number), near)),
        }
    }

    /// Whether a container, here or elsewhere, is known to hold the address.
    pub(super) fn holds(&self, address: u32) -> bool {
        self.holdings.holder(address).is_some() || self.lodgers.has(address)
    }

    fn hold(&mut self, container: &str, address: Cidr) -> Result<(), Error> {
        if let Some(change) = self.holdings.take(container, address)? {
            self.are_strays_stale |= !self.space.take(u32::from(address.address()));
            self.actions.push_back(Action::PersistOwned(change));
        }
        Ok(())
    }

    /// A holder of `address` is gone.
    pub(super) fn free(&mut self, address: u32, near: &Surroundings<'_>) {
        let is_ours = self.ring.as_ref().and_then(|ring| ring.owner(address)) == Some(Owner::Peer(near.card.key));
        self.are_strays_stale |= !is_ours;
        if is_ours && !self.holds(address) {
            self.space.give(Range::one(address));
        }
    }

    /// Counts anew what is free: what we own has changed.
    pub(super) fn measure(&mut self, near: &Surroundings<'_>) {
        self.space = Space::default();
        self.are_strays_stale = true;
        self.is_changed = true;
        let own = Owner::Peer(near.card.key);
        for range in self.ring.iter().flat_map(|ring| ring.owned_by(own)) {
            self.space.give(range);
            for address in self.holdings.within(range).chain(self.lodgers.within(range)) {
                self.space.take(address);
            }
        }
    }
}
