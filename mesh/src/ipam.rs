//! IPAM: who owns which addresses, and which container holds which, without a coordinator.
//!
//! ```text
//!   allocate, claim, release ──► holdings    containers of this host and their addresses
//!                                space       what we own and nobody holds
//!   news                     ──► spread      ring.rs: who owns what; signed, merged address by address
//!   letters                  ──► formation   the first ring, by a quorum
//!                                donation    space from those who have it
//!                                death       what the dead owned, by consent
//!                                strays      addresses that containers hold where another owns them
//! ```
//!
//! Allocation inside what we own asks nobody. The rest of the machine moves ownership, safely: see docs/ipam.md.
//!
//! Invariants:
//! - an address is allocated only while we own it, and after that is durable;
//! - `space` is what we own, less what containers anywhere are known to hold;
//! - an operation is answered once, or cancelled.

mod cidr;
mod config;
mod death;
mod donation;
mod formation;
mod holdings;
mod note;
mod operation;
mod ring;
mod rules;
mod space;
mod spread;
mod state;
mod strays;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use crate::card::Card;
use crate::connector::{ConnectionId, Connector};
use crate::identity::{Hash, Identity, PeerKey};
use crate::members::Members;
use crate::name::MeshId;
use crate::node::Claims;
use crate::node::links::Links;
use crate::time::Instant;
use crate::topology::Topology;
use crate::verifier::Verifier;

pub use self::cidr::{Cidr, InvalidCidr, Range, SUBNET_PREFIX_MAX};
pub use self::config::{Config, ConfigError, Init};
pub use self::death::Certificate;
pub use self::holdings::Change;
pub use self::note::Note;
pub use self::operation::{Answer, ClaimMode, Error, OPERATIONS_MAX, Ticket, Wait};
pub use self::ring::{FirstRing, Origin, Owner, PIECES_MAX, Right, SHARES_MAX, Transfer};
pub use self::spread::{Problem, RingNews, RingState};
pub use self::state::{Restored, StateError};
pub use self::view::{IpamView, PendingView};

use self::death::{Deaths, Promise};
use self::donation::Donations;
use self::formation::Formation;
use self::holdings::Holdings;
use self::operation::{Attempt, Operation};
use self::ring::Ring;
#[cfg(test)]
pub(crate) use self::rules::Rule;
use self::rules::Rules;
use self::space::Space;
use self::strays::{Lodgers, Strays};

/// Something for the node to do, in order.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Durable before what follows.
    PersistRing(Vec<u8>),
    PersistOwned(Change),
    Answer(Ticket, Result<Answer, Error>),
    /// A letter.
    Write(PeerKey, Vec<u8>),
    /// To every neighbour but one.
    Spread {
        news: RingNews,
        except: Option<ConnectionId>,
    },
    Tell(ConnectionId, RingNews),
    TellState(ConnectionId, RingState),
    Problem(PeerKey, Problem),
    /// The peer sent what it should not.
    Breach(PeerKey, &'static str),
}

/// What IPAM may look at while it handles an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) card: &'a Card,
    pub(crate) identity: &'a Identity,
    pub(crate) verifier: &'a Verifier,
    pub(crate) topology: &'a Topology,
    pub(crate) links: &'a Links,
    pub(crate) members: &'a Members,
    pub(crate) connector: &'a Connector,
    pub(crate) claims: &'a Claims,
    pub(crate) now: Instant,
}

/// The peers that the operator gave us, as far as they are known.
#[derive(Clone, Debug, Default)]
struct Given {
    /// How many distinct ones; and without ourselves.
    peers: u32,
    others: u32,
    known: Vec<PeerKey>,
}

impl Surroundings<'_> {
    const fn mesh(&self) -> MeshId {
        self.card.mesh
    }

    /// Other peers that letters reach: those to which edges lead, and neighbours, whose edge may not be published yet.
    fn reachable(&self) -> BTreeSet<PeerKey> {
        let neighbours = self.links.live().map(|(_, link)| link.peer);
        self.topology.ring_from(self.card.key).chain(neighbours).collect()
    }

    fn is_reachable(&self, peer: &PeerKey) -> bool {
        self.topology.is_reachable(peer) || self.links.live_to(peer).is_some()
    }

    fn given(&self) -> Given {
        let mut known = BTreeSet::new();
        let mut unknown = 0;
        for target in self.connector.leads() {
            match target.map(|peer| peer.unwrap_or(self.card.key)) {
                Some(peer) => drop(known.insert(peer)),
                None => unknown += 1,
            }
        }
        let peers = known.len() + unknown;
        let others = peers - usize::from(known.contains(&self.card.key));
        let count = |peers: usize| u32::try_from(peers).unwrap_or(u32::MAX);
        let known = known.into_iter().take(formation::NEED_KNOWN_MAX).collect();
        Given { peers: count(peers), others: count(others), known }
    }
}

/// How often members are looked at for those that are dead.
const REVIEW_INTERVAL: Duration = Duration::from_secs(5);

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
    formation: Formation,
    /// Somebody who takes no part in making the ring wants it.
    formation_is_wanted: bool,
    donations: Donations,
    certificates: BTreeMap<PeerKey, Certificate>,
    /// By the dead peer.
    promises: BTreeMap<PeerKey, Promise>,
    deaths: Deaths,
    /// Machine ids that several machines have.
    shared_machines: BTreeSet<Hash>,
    strays: Strays,
    are_strays_stale: bool,
    lodgers: Lodgers,
    problems: BTreeMap<PeerKey, Problem>,
    rules: Rules,
    /// What operations wait for may have come.
    is_changed: bool,
    persist_at: Option<Instant>,
    review_at: Instant,
    rng: ChaCha8Rng,
    actions: VecDeque<Action>,
}

impl Ipam {
    pub(crate) fn new(
        config: Config,
        restored: &Restored,
        seed: u64,
        near: &Surroundings<'_>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let mut ipam = Self {
            config,
            ring: None,
            space: Space::default(),
            holdings: Holdings::default(),
            is_resumed: false,
            pending: BTreeMap::new(),
            formation: Formation::default(),
            formation_is_wanted: false,
            donations: Donations::default(),
            certificates: BTreeMap::new(),
            promises: BTreeMap::new(),
            deaths: Deaths::default(),
            shared_machines: BTreeSet::new(),
            strays: Strays::default(),
            are_strays_stale: true,
            lodgers: Lodgers::default(),
            problems: BTreeMap::new(),
            rules: Rules::default(),
            is_changed: false,
            persist_at: None,
            review_at: near.now + REVIEW_INTERVAL,
            rng: ChaCha8Rng::seed_from_u64(seed),
            actions: VecDeque::new(),
        };
        restored.owned.iter().for_each(|change| ipam.holdings.replay(change));
        if let Some(bytes) = &restored.ring {
            ipam.restore(bytes, near)?;
        }
        ipam.start_formation(near);
        ipam.measure(near);
        Ok(ipam)
    }

    /// Breaks a rule from here on: whoever watches should notice.
    #[cfg(test)]
    pub(crate) fn break_rule(&mut self, rule: Rule) {
        self.rules = Rules::broken(rule);
        if rule == Rule::RememberVote {
            self.formation.voter = formation::Voter::default();
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

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

    pub(crate) fn hand_over(&mut self, ticket: Ticket, near: &Surroundings<'_>) {
        self.begin(ticket, Operation::HandOver, near);
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
        self.is_changed |= !given.is_empty();
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

    /// What every input ends with: what is due, and what follows for those that wait.
    pub(crate) fn settle(&mut self, near: &Surroundings<'_>) {
        if self.poll_timeout() <= near.now {
            self.handle_timeout(near);
        }
        while std::mem::take(&mut self.is_changed) {
            self.pursue_inheritances(near);
            self.retry(near);
            self.handle_formation_timeout(near);
        }
        self.tell_strays(near);
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let timers = [
            self.formation_timeout(),
            self.donation_timeout(),
            self.death_timeout(),
            self.stray_timeout(),
            self.persist_at,
        ];
        timers.into_iter().flatten().min().map_or(self.review_at, |at| at.min(self.review_at))
    }

    fn handle_timeout(&mut self, near: &Surroundings<'_>) {
        self.handle_formation_timeout(near);
        self.handle_donation_timeout(near);
        if self.death_timeout().is_some_and(|at| at <= near.now) {
            self.pursue_inheritances(near);
        }
        if self.persist_at.is_some_and(|at| at <= near.now) {
            self.persist();
        }
        if self.review_at <= near.now {
            self.review_at = near.now + REVIEW_INTERVAL;
            self.review_members(near);
            self.remind_heirs(near);
            self.verify_holds(near);
        }
    }

    /// Who is reachable has changed.
    pub(crate) fn handle_topology(&mut self, near: &Surroundings<'_>) {
        self.hurry_formation(near);
        self.hurry_requests(near);
        self.hurry_askings(near);
        self.strays.hurry(near.now);
        self.review_members(near);
        self.is_changed |= !self.pending.is_empty();
    }

    /// A letter that is signed by `from`.
    pub(crate) fn handle_note(&mut self, from: PeerKey, note: Note, near: &Surroundings<'_>) {
        match note {
            Note::Prepare { ballot, need } => self.handle_prepare(from, ballot, &need, near),
            Note::Promise { ballot, accepted, need } => self.handle_promise(from, ballot, accepted, need, near),
            Note::Refuse { promised } => self.handle_refuse(promised, near),
            Note::Exists { first } => {
                if self.is_usable(from, &first, near) {
                    self.adopt(first, near);
                }
            }
            Note::Accept { ballot, first } => self.handle_accept(from, ballot, first, near),
            Note::Accepted { ballot } => self.handle_accepted(from, ballot, near),
            Note::Wanted => self.handle_wanted(from, near),
            Note::Request { id, window } => self.handle_request(from, id, window, near),
            Note::Granted { transfers, .. } => self.handle_granted(from, &transfers, near),
            Note::Denied { id, is_held, transfers } => self.handle_denied(from, id, is_held, &transfers, near),
            Note::Ask { certificate, id, ring, members } => {
                self.handle_ask(from, &certificate, id, (ring, members), near);
            }
            Note::Consent(consent) => self.handle_consent(from, &consent, near),
            Note::Occupied { dead, heir, id } => self.handle_occupied(from, dead, (heir, id), near),
            Note::Withdraw { dead, id } => self.handle_withdraw(from, dead, id, near),
            Note::Holds(holds) => self.handle_holds(from, &holds, near),
            Note::HoldsHeard { number } => self.handle_holds_heard(from, number, near),
            Note::TellHolds => self.handle_tell_holds(from, near),
            Note::HandOver { id, transfers } => self.handle_hand_over(from, id, &transfers, near),
            Note::HandOverHeard { id } => self.handle_hand_over_heard(id),
        }
    }

    fn write(&mut self, to: PeerKey, note: &Note) {
        self.actions.push_back(Action::Write(to, note.encode()));
    }

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
        if let Some(certificate) = self.certificates.get(&near.card.key) {
            return Ok(Err(Error::CertifiedDead { by: certificate.by }));
        }
        match operation {
            Operation::Allocate { container, subnet } => self.try_allocate(container, *subnet, near),
            Operation::Claim { container, address, mode } => self.try_claim(container, *address, *mode, near),
            Operation::AwaitRing => self.await_ring(near).map(|()| Ok(Answer::Ready)),
            Operation::TakeOver { peer, addresses } => self.try_take_over(*peer, *addresses, near),
            Operation::HandOver => self.try_hand_over(near),
        }
    }

    fn try_allocate(&mut self, container: &str, subnet: Cidr, near: &Surroundings<'_>) -> Attempt {
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
    fn window(&self, operation: &Operation) -> Option<Range> {
        match operation {
            Operation::Allocate { subnet, .. } => self.window_of(*subnet).ok(),
            Operation::Claim { address, .. } => Some(Range::one(address.address().into())),
            Operation::AwaitRing | Operation::TakeOver { .. } | Operation::HandOver => None,
        }
    }

    /// A container elsewhere, or of another peer here, has the address.
    fn refuse_claims(&mut self, address: u32, peer: PeerKey) {
        let is_claim = |operation: &Operation| matches!(operation, Operation::Claim { address: claimed, .. } if u32::from(claimed.address()) == address);
        let pending = self.pending.iter().filter(|(_, pending)| is_claim(&pending.operation));
        let tickets: Vec<Ticket> = pending.map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            self.pending.remove(&ticket);
            let refused = Error::HeldElsewhere { address: address.into(), peer };
            self.actions.push_back(Action::Answer(ticket, Err(refused)));
        }
    }

    /// Whether a container, here or elsewhere, is known to hold the address.
    fn holds(&self, address: u32) -> bool {
        self.holdings.holder(address).is_some() || self.lodgers.has(address)
    }

    fn try_claim(&mut self, container: &str, address: Cidr, mode: ClaimMode, near: &Surroundings<'_>) -> Attempt {
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
        match self.ring.as_ref().and_then(|ring| ring.owner(number)) {
            Some(Owner::Peer(owner)) if owner == near.card.key => match self.lodgers.holder(number) {
                Some(peer) => Ok(Err(Error::HeldElsewhere { address: address.address(), peer })),
                None => Ok(self.hold(container, address).map(|()| Answer::Claimed)),
            },
            Some(Owner::Peer(owner)) if !near.is_reachable(&owner) => Err(Wait::Unreachable(owner)),
            Some(_) | None => Err(self.await_space(Range::one(number), near)),
        }
    }

    fn hold(&mut self, container: &str, address: Cidr) -> Result<(), Error> {
        if let Some(change) = self.holdings.take(container, address)? {
            self.are_strays_stale |= !self.space.take(u32::from(address.address()));
            self.actions.push_back(Action::PersistOwned(change));
        }
        Ok(())
    }

    /// A holder of `address` is gone.
    fn free(&mut self, address: u32, near: &Surroundings<'_>) {
        let is_ours = self.ring.as_ref().and_then(|ring| ring.owner(address)) == Some(Owner::Peer(near.card.key));
        self.are_strays_stale |= !is_ours;
        if is_ours && !self.holds(address) {
            self.space.give(Range::one(address));
        }
    }

    /// Counts anew what is free: what we own has changed.
    fn measure(&mut self, near: &Surroundings<'_>) {
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

#[cfg(test)]
mod tests;
