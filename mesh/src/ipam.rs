//! IPAM: who owns which addresses, and which container holds which, without a coordinator.
//!
//! ```text
//!   allocate, claim, release ──► holdings   containers of this host and their addresses
//!                                space      what we own and nobody holds
//!   transfers, gossip        ──► ring       who owns what; signed, merged address by address
//! ```
//!
//! Allocation inside what we own asks nobody. The rest of the machine moves ownership, safely: see docs/ipam.md.
//!
//! Invariants:
//! - an address is allocated only while we own it, and after that is durable;
//! - `space` is what we own, less what containers anywhere are known to hold;
//! - an operation is answered once, or cancelled.

mod cidr;
mod holdings;
mod operation;
#[cfg_attr(not(test), expect(dead_code, reason = "transfers are made once peers ask each other"))]
mod ring;
#[cfg_attr(not(test), expect(dead_code, reason = "donations are made once peers ask each other"))]
mod space;
mod state;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::card::Card;
use crate::identity::{Identity, PeerKey};
use crate::name::{MeshId, PeerName};
use crate::verifier::Verifier;

pub use self::cidr::{Cidr, InvalidCidr, Range, SUBNET_PREFIX_MAX};
pub use self::holdings::Change;
pub use self::operation::{Answer, ClaimMode, Error, OPERATIONS_MAX, Ticket, Wait};
pub use self::ring::{FirstRing, Origin, Owner, PIECES_MAX, Right, SHARES_MAX, Transfer};
pub use self::state::{Restored, StateError};
pub use self::view::{IpamView, PendingView};

use self::holdings::Holdings;
use self::operation::{Attempt, Operation};
use self::ring::Ring;
use self::space::Space;

/// How the first ring comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// A majority of so many peers agrees; without a number, of the distinct peers given and ourselves.
    Consensus(Option<u32>),
    /// These peers, and all others are told the same.
    Seed(Vec<PeerName>),
    /// Others make it; we take no part.
    Observer,
}

/// What the operator chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `--ipalloc-range`, the same everywhere.
    pub range: Cidr,
    /// `--ipalloc-default-subnet`.
    pub default_subnet: Cidr,
    pub init: Init,
}

/// A configuration that makes no IPAM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("--ipalloc-range {0} is no subnet of 4 addresses or more")]
    Range(Cidr),
    #[error("--ipalloc-default-subnet {subnet} is no subnet of 4 addresses or more that overlaps the range {range}")]
    DefaultSubnet { subnet: Cidr, range: Cidr },
    #[error("--ipalloc-init seed= names more than {SHARES_MAX} peers, or none")]
    Seeds,
    #[error("what was stored of addresses cannot be used: {0}")]
    State(#[from] StateError),
}

/// Something for the node to do, in order.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Durable before what follows.
    PersistRing(Vec<u8>),
    PersistOwned(Change),
    Answer(Ticket, Result<Answer, Error>),
}

/// What IPAM may look at while it handles an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) card: &'a Card,
    pub(crate) identity: &'a Identity,
    pub(crate) verifier: &'a Verifier,
}

impl Surroundings<'_> {
    const fn mesh(&self) -> MeshId {
        self.card.mesh
    }
}

#[derive(Clone, Debug)]
struct Pending {
    operation: Operation,
    wait: Wait,
}

/// The machine; see the module.
#[derive(Debug)]
pub(crate) struct Ipam {
    config: Config,
    ring: Option<Ring>,
    space: Space,
    holdings: Holdings,
    /// The containers found running are all known: only now anything is allocated.
    is_resumed: bool,
    pending: BTreeMap<Ticket, Pending>,
    actions: VecDeque<Action>,
}

impl Ipam {
    pub(crate) fn new(config: Config, restored: &Restored, near: &Surroundings<'_>) -> Result<Self, ConfigError> {
        config.check()?;
        let mut ipam = Self {
            config,
            ring: None,
            space: Space::default(),
            holdings: Holdings::default(),
            is_resumed: false,
            pending: BTreeMap::new(),
            actions: VecDeque::new(),
        };
        restored.owned.iter().for_each(|change| ipam.holdings.replay(change));
        if let Some(bytes) = &restored.ring {
            ipam.restore(bytes, near)?;
        }
        ipam.measure(near);
        Ok(ipam)
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Addresses that running containers have; nothing is allocated before this is told.
    pub(crate) fn resume(&mut self, found: &[(String, Cidr)], near: &Surroundings<'_>) {
        for (container, address) in found {
            // A container that holds more than it may, or what another has, keeps what it has: we cannot take it away.
            drop(self.hold(container, *address));
        }
        self.is_resumed = true;
        self.retry(near);
    }

    pub(crate) fn allocate(&mut self, ticket: Ticket, container: &str, subnet: Cidr, near: &Surroundings<'_>) {
        let container = container.to_owned();
        self.begin(ticket, Operation::Allocate { container, subnet }, near);
    }

    pub(crate) fn claim(
        &mut self,
        ticket: Ticket,
        container: &str,
        address: Cidr,
        mode: ClaimMode,
        near: &Surroundings<'_>,
    ) {
        let container = container.to_owned();
        self.begin(ticket, Operation::Claim { container, address, mode }, near);
    }

    pub(crate) fn wait_for_ring(&mut self, ticket: Ticket, near: &Surroundings<'_>) {
        self.begin(ticket, Operation::AwaitRing, near);
    }

    pub(crate) fn take_over(&mut self, ticket: Ticket, peer: PeerKey, near: &Surroundings<'_>) {
        self.begin(ticket, Operation::TakeOver { peer, addresses: None }, near);
    }

    pub(crate) fn hand_over(&mut self, ticket: Ticket, near: &Surroundings<'_>) {
        self.begin(ticket, Operation::HandOver { to: None }, near);
    }

    /// The caller is gone.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        self.pending.remove(&ticket);
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
        if !given.is_empty() {
            self.retry(near);
        }
        match address {
            _ if !given.is_empty() || has_waited => Ok(()),
            Some(address) => Err(Error::NotHeld { container: container.to_owned(), address }),
            None => Err(Error::HoldsNone { container: container.to_owned() }),
        }
    }

    fn refuse_all_of(&mut self, container: &str) -> bool {
        let is_its = |pending: &Pending| pending.operation.container() == Some(container);
        let tickets: Vec<Ticket> =
            self.pending.iter().filter(|(_, pending)| is_its(pending)).map(|(id, _)| *id).collect();
        for ticket in &tickets {
            self.pending.remove(ticket);
            let refused = Err(Error::Released { container: container.to_owned() });
            self.actions.push_back(Action::Answer(*ticket, refused));
        }
        !tickets.is_empty()
    }

    pub(crate) fn addresses(&self, container: &str) -> &[Cidr] {
        self.holdings.of(container)
    }

    /// Every container with its addresses.
    pub(crate) fn containers(&self) -> impl Iterator<Item = (&str, &[Cidr])> {
        self.holdings.all()
    }

    fn begin(&mut self, ticket: Ticket, operation: Operation, near: &Surroundings<'_>) {
        match self.attempt(&operation, near) {
            Ok(answer) => self.actions.push_back(Action::Answer(ticket, answer)),
            Err(_) if self.pending.len() >= OPERATIONS_MAX => {
                self.actions.push_back(Action::Answer(ticket, Err(Error::TooMany)));
            }
            Err(wait) => drop(self.pending.insert(ticket, Pending { operation, wait })),
        }
    }

    /// Something has changed for those that wait.
    fn retry(&mut self, near: &Surroundings<'_>) {
        for (ticket, mut pending) in std::mem::take(&mut self.pending) {
            match self.attempt(&pending.operation, near) {
                Ok(answer) => self.actions.push_back(Action::Answer(ticket, answer)),
                Err(wait) => {
                    pending.wait = wait;
                    self.pending.insert(ticket, pending);
                }
            }
        }
    }

    fn attempt(&mut self, operation: &Operation, near: &Surroundings<'_>) -> Attempt {
        match operation {
            Operation::Allocate { container, subnet } => self.try_allocate(container, *subnet, near),
            Operation::Claim { container, address, mode } => self.try_claim(container, *address, *mode, near),
            Operation::AwaitRing => self.await_ring(near).map(|()| Ok(Answer::Ready)),
            Operation::TakeOver { .. } | Operation::HandOver { .. } => Err(Wait::Ring),
        }
    }

    fn try_allocate(&mut self, container: &str, subnet: Cidr, near: &Surroundings<'_>) -> Attempt {
        let range = self.config.range;
        let window = match subnet.hosts() {
            _ if !subnet.is_subnet() => return Ok(Err(Error::HostBits(subnet))),
            None => return Ok(Err(Error::TooSmall(subnet))),
            Some(hosts) => hosts.intersection(range.range()),
        };
        let Some(window) = window else { return Ok(Err(Error::OutsideRange { subnet, range })) };
        if let Some(has) = self.holdings.of(container).iter().find(|address| address.subnet() == subnet) {
            return Ok(Ok(Answer::Allocated(*has)));
        }
        if !self.is_resumed {
            return Err(Wait::Containers);
        }
        self.await_ring(near)?;
        let Some(address) = self.space.lowest(window) else { return Err(Wait::Space) };
        // A prefix that a subnet has is one that its addresses have.
        let Ok(address) = Cidr::new(address.into(), subnet.prefix_len()) else { return Err(Wait::Space) };
        Ok(self.hold(container, address).map(|()| Answer::Allocated(address)))
    }

    fn try_claim(&mut self, container: &str, address: Cidr, mode: ClaimMode, near: &Surroundings<'_>) -> Attempt {
        let number = u32::from(address.address());
        let is_ours_to_manage = self.config.range.range().contains(number);
        let is_decided = self.holdings.holder(number).is_some();
        if mode == ClaimMode::Found || is_decided || !is_ours_to_manage {
            return Ok(self.hold(container, address).map(|()| Answer::Claimed));
        }
        self.await_ring(near)?;
        if self.space.lowest(Range::one(number)).is_none() {
            return Err(Wait::Space);
        }
        Ok(self.hold(container, address).map(|()| Answer::Claimed))
    }

    fn hold(&mut self, container: &str, address: Cidr) -> Result<(), Error> {
        if let Some(change) = self.holdings.take(container, address)? {
            self.space.take(u32::from(address.address()));
            self.actions.push_back(Action::PersistOwned(change));
        }
        Ok(())
    }

    /// Nobody holds `address` any more.
    fn free(&mut self, address: u32, near: &Surroundings<'_>) {
        let is_ours = self.ring.as_ref().and_then(|ring| ring.owner(address)) == Some(Owner::Peer(near.card.key));
        if is_ours {
            self.space.give(Range::one(address));
        }
    }

    /// Makes the first ring if that is up to us alone.
    fn await_ring(&mut self, near: &Surroundings<'_>) -> Result<(), Wait> {
        if self.ring.is_some() {
            return Ok(());
        }
        match self.config.init {
            Init::Consensus(Some(1)) => {
                let owners = BTreeSet::from([near.card.key]);
                let first = FirstRing::propose(self.config.range.range(), owners, near.mesh(), near.identity);
                self.ring = Some(Ring::new(Arc::new(first), near.mesh()));
                self.persist();
                self.measure(near);
                Ok(())
            }
            Init::Consensus(_) => Err(Wait::Quorum { have: 1, need: 2 }),
            Init::Seed(_) | Init::Observer => Err(Wait::Ring),
        }
    }

    /// Counts anew what is free: what we own has changed.
    fn measure(&mut self, near: &Surroundings<'_>) {
        self.space = Space::default();
        let own = Owner::Peer(near.card.key);
        for range in self.ring.iter().flat_map(|ring| ring.owned_by(own)) {
            self.space.give(range);
            for address in self.holdings.within(range) {
                self.space.take(address);
            }
        }
    }
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        let is_usable = |subnet: Cidr| subnet.is_subnet() && subnet.hosts().is_some();
        let (range, subnet) = (self.range, self.default_subnet);
        if !is_usable(range) {
            return Err(ConfigError::Range(range));
        }
        if !is_usable(subnet) || subnet.range().intersection(range.range()).is_none() {
            return Err(ConfigError::DefaultSubnet { subnet, range });
        }
        match &self.init {
            Init::Seed(seeds) if seeds.is_empty() || seeds.len() > SHARES_MAX => Err(ConfigError::Seeds),
            Init::Seed(_) | Init::Consensus(_) | Init::Observer => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
