//! How many connections a peer keeps, and with whom.
//!
//! ```text
//!   Full   up to 24 peers: a connection to every peer            ── more than 24 reachable ──► Thin
//!   Thin   goal = max(8, 2 log2 N)                               ◄── fewer than 16 reachable ── Full
//!
//!            0 ······ low = goal-2 ─────── high = goal+2 ······ cap = max(24, goal+4)
//!            dials more                    refers newcomers     refuses everyone, referring them
//!                                          drops one a second
//! ```
//!
//! In a thin mesh each peer keeps its two neighbours on the ring of keys, which alone connects everyone, and fills up
//! with peers drawn at random, of which it prefers those with few connections. A peer with none follows referrals.
//! Unreachable peers are tried in turn, so that the halves of a partition find each other, and hosts that all come back
//! without the one that they were told of.
//!
//! Invariants:
//! - a connection is dropped as surplus only in a thin mesh, above `high`, never one of the ring, and never one that
//!   leaves its other end below `goal`;
//! - chosen, avoided, referred and turned-away peers are bounded by the constants below.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::connector::Connector;
use crate::identity::{PeerKey, digest};
use crate::members::{Member, Members, Reach};
use crate::store::Direction;
use crate::time::Instant;
use crate::topology::Topology;
use crate::wire::{CONTACTS_MAX, Contact};

/// Above this many reachable peers a full mesh is thinned.
const FULL_MAX: usize = 24;
/// Below this many a thin mesh fills up.
const THIN_MIN: usize = 16;
/// A peer never has more connections than this, as long as its goal is at most 20 (1,024 peers).
const CAP: usize = 24;
/// How many peers are dialled at one time.
const CHOSEN_MAX: usize = 4;
/// How long a chosen peer may take to be connected.
const CHOICE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer that refused us, or did not answer, is not chosen.
const AVOID: Duration = Duration::from_secs(30);
const AVOIDED_MAX: usize = 256;
/// Of two peers of a full mesh one dials first; the other waits this long.
const DEFERENCE: Duration = Duration::from_secs(3);
/// How many referred peers are remembered.
const REFERRED_MAX: usize = 64;
/// How many peers that were turned away are remembered, to be named to others.
const TURNED_AWAY_MAX: usize = 64;
/// How many peers are drawn for each random choice; of these the one with the fewest connections is taken.
const DRAWS: usize = 3;
/// How often an unreachable peer is tried in a thin mesh.
const REACH_OUT_INTERVAL: Duration = Duration::from_secs(10);
/// How often one is tried that was unreachable for so long that its set is given up.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);
/// Reviews follow changes after this long, so that changes of one moment are reviewed together.
const REVIEW_DELAY: Duration = Duration::from_millis(250);
/// Reviews follow each other at this interval while something is left to do.
const REVIEW_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Full,
    Thin,
}

/// How many connections are too few, too many, and out of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    low: usize,
    goal: usize,
    high: usize,
    cap: usize,
}

/// What a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    pub own: PeerKey,
    pub topology: &'a Topology,
    pub members: &'a Members,
    /// Whom the operator has forgotten.
    pub connector: &'a Connector,
    /// Peers with an open connection, accepted by both ends or not yet.
    pub connected: &'a BTreeSet<PeerKey>,
    /// Where a peer is dialled whose card has no address but which others have seen.
    pub listen_port: u16,
}

/// What to do about connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    pub wanted: BTreeMap<PeerKey, Vec<SocketAddr>>,
    /// One connection too many.
    pub surplus: Option<PeerKey>,
}

/// Whether a new connection is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    Accept,
    Refer(Vec<Contact>),
}

#[derive(Debug)]
pub struct Degree {
    shape: Shape,
    /// Peers we want to be connected to, and since when.
    chosen: BTreeMap<PeerKey, Choice>,
    avoided: BTreeMap<PeerKey, Instant>,
    /// Peers named by those who turned us away.
    referred: VecDeque<Contact>,
    /// Peers that we turned away ourselves.
    turned_away: VecDeque<Contact>,
    next_reach_out: Instant,
    next_search: Instant,
    review_at: Option<Instant>,
    last_review: Option<Instant>,
    rng: ChaCha8Rng,
}

#[derive(Clone, Debug)]
struct Choice {
    since: Instant,
    addresses: Vec<SocketAddr>,
}

impl Degree {
    pub fn new(seed: u64) -> Self {
        Self {
            shape: Shape::Full,
            chosen: BTreeMap::new(),
            avoided: BTreeMap::new(),
            referred: VecDeque::new(),
            turned_away: VecDeque::new(),
            next_reach_out: Instant::ZERO,
            next_search: Instant::ZERO,
            review_at: None,
            last_review: None,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Something changed that a review should look at.
    pub fn request_review(&mut self, now: Instant) {
        self.review_at.get_or_insert(now + REVIEW_DELAY);
    }

    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.review_at
    }

    /// Peers that somebody at its limit named to us.
    pub fn handle_referral(&mut self, contacts: Vec<Contact>, now: Instant) {
        for contact in contacts {
            if !self.referred.iter().any(|known| known.key == contact.key) {
                self.referred.push_back(contact);
            }
        }
        while self.referred.len() > REFERRED_MAX {
            self.referred.pop_front();
        }
        self.review_at = Some(now);
    }

    /// `peer` does not want a connection, or could not be reached.
    pub fn avoid(&mut self, peer: PeerKey, now: Instant) {
        self.chosen.remove(&peer);
        if self.avoided.len() < AVOIDED_MAX {
            self.avoided.insert(peer, now + AVOID);
        }
        self.request_review(now);
    }

    /// Whether a connection with `peer`, which is not among the connected, is accepted.
    pub fn admit(&mut self, peer: Contact, mesh: &Surroundings<'_>) -> Admission {
        let bounds = self.bounds(mesh.topology.reachable_count());
        let limit = match self.shape {
            Shape::Thin if mesh.topology.is_reachable(&peer.key) && !is_ring_neighbour(&peer.key, mesh) => bounds.high,
            Shape::Thin | Shape::Full => bounds.cap,
        };
        if mesh.connected.len() < limit {
            return Admission::Accept;
        }
        let contacts = self.sample(&peer.key, mesh);
        if !peer.addresses.is_empty() && !self.turned_away.iter().any(|known| known.key == peer.key) {
            self.turned_away.push_back(peer);
            if self.turned_away.len() > TURNED_AWAY_MAX {
                self.turned_away.pop_front();
            }
        }
        Admission::Refer(contacts)
    }

    /// Peers to try instead of us: members with few connections, and others that we turned away.
    fn sample(&mut self, newcomer: &PeerKey, mesh: &Surroundings<'_>) -> Vec<Contact> {
        let mut drawn: Vec<(usize, Contact)> = Vec::new();
        for _ in 0..2 * CONTACTS_MAX {
            let Some(peer) = self.draw(mesh).filter(|peer| peer != newcomer) else { continue };
            let Some(contact) = mesh.contact(&peer) else { continue };
            if !drawn.iter().any(|(_, known)| known.key == peer) {
                drawn.push((mesh.topology.degree(&peer), contact));
            }
        }
        drawn.sort_by_key(|(degree, _)| *degree);
        let members = drawn.into_iter().map(|(_, contact)| contact).take(CONTACTS_MAX / 2);
        let mut contacts: Vec<Contact> = members.collect();
        let others = self.turned_away.len();
        for _ in 0..CONTACTS_MAX {
            if contacts.len() >= CONTACTS_MAX || others == 0 {
                break;
            }
            let contact = &self.turned_away[self.rng.next_u32() as usize % others];
            if contact.key != *newcomer && !contacts.iter().any(|known| known.key == contact.key) {
                contacts.push(contact.clone());
            }
        }
        contacts
    }

    /// A reachable peer at random, most of the time.
    fn draw(&mut self, mesh: &Surroundings<'_>) -> Option<PeerKey> {
        mesh.topology.at(self.rng.next_u32() as usize % mesh.topology.positions())
    }

    fn bounds(&self, reachable: usize) -> Bounds {
        let log2 = reachable.max(2).next_power_of_two().trailing_zeros() as usize;
        let goal = (2 * log2).max(8);
        let cap = CAP.max(goal + 4);
        match self.shape {
            Shape::Full => Bounds { low: reachable.saturating_sub(1).min(CAP), goal, high: cap, cap },
            Shape::Thin => Bounds { low: goal - 2, goal, high: goal + 2, cap },
        }
    }

    /// Decides anew, if a review is due.
    pub fn review(&mut self, mesh: &Surroundings<'_>, now: Instant) -> Option<Review> {
        self.review_at.filter(|at| *at <= now)?;
        self.review_at = None;
        let reachable = mesh.topology.reachable_count();
        self.shape = match self.shape {
            Shape::Full if reachable > FULL_MAX => Shape::Thin,
            Shape::Thin if reachable < THIN_MIN => Shape::Full,
            shape => shape,
        };
        self.drop_choices(mesh, now);
        let bounds = self.bounds(reachable);
        self.choose(&bounds, mesh, now);
        let surplus = self.surplus(&bounds, mesh, now);
        let is_settled = self.chosen.is_empty()
            && surplus.is_none()
            && mesh.connected.len() >= bounds.low
            && mesh.members.unreachable_count() == 0;
        self.review_at = match is_settled {
            false => Some(now + REVIEW_INTERVAL),
            true => mesh.members.has_lost().then_some(self.next_search),
        };
        self.last_review = Some(now);
        let wanted = self.chosen.iter().map(|(peer, choice)| (*peer, choice.addresses.clone())).collect();
        Some(Review { wanted, surplus })
    }

    fn drop_choices(&mut self, mesh: &Surroundings<'_>, now: Instant) {
        self.avoided.retain(|_, until| *until > now);
        self.referred.retain(|contact| !mesh.topology.is_reachable(&contact.key));
        self.chosen.retain(|peer, choice| {
            !mesh.connected.contains(peer) && !mesh.connector.is_forgotten(peer, &choice.addresses)
        });
        let late: Vec<PeerKey> = self
            .chosen
            .iter()
            .filter(|(_, choice)| now.since(choice.since) >= CHOICE_TIMEOUT)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            self.avoid(peer, now);
        }
    }

    fn choose(&mut self, bounds: &Bounds, mesh: &Surroundings<'_>, now: Instant) {
        match self.shape {
            Shape::Full => self.choose_all(mesh, now),
            Shape::Thin => self.choose_ring(mesh, now),
        }
        let missing = bounds.low.saturating_sub(mesh.connected.len());
        if missing > 0 || mesh.connected.is_empty() {
            self.choose_referred(mesh, now);
        }
        if self.shape == Shape::Thin {
            for _ in 0..2 * CHOSEN_MAX {
                if self.chosen.len() >= missing.min(CHOSEN_MAX) {
                    break;
                }
                self.choose_at_random(mesh, now);
            }
        }
        self.reach_out(mesh, now);
    }

    fn choose_all(&mut self, mesh: &Surroundings<'_>, now: Instant) {
        let candidates: Vec<PeerKey> = mesh
            .members
            .iter()
            .filter(|(peer, member)| {
                let waited = now.since(member.reach.since()) >= DEFERENCE;
                member.reach.is_reachable() && (waited || dials_first(&mesh.own, peer))
            })
            .map(|(peer, _)| *peer)
            .collect();
        for peer in candidates {
            self.choose_one(peer, mesh, now);
        }
    }

    /// The nearest peer on either side of the ring of keys that can be connected to.
    fn choose_ring(&mut self, mesh: &Surroundings<'_>, now: Instant) {
        let is_free = |peer: &PeerKey| !self.avoided.contains_key(peer) && !mesh.is_forgotten(peer);
        let is_open = |peer: &PeerKey| mesh.connected.contains(peer) || is_free(peer);
        let next = mesh.topology.ring_from(mesh.own).find(is_open);
        let previous = mesh.topology.ring_from(mesh.own).rev().find(is_open);
        for peer in next.into_iter().chain(previous) {
            self.choose_one(peer, mesh, now);
        }
    }

    fn choose_referred(&mut self, mesh: &Surroundings<'_>, now: Instant) {
        for _ in 0..self.referred.len() {
            if self.chosen.len() >= CHOSEN_MAX {
                return;
            }
            let Some(contact) = self.referred.pop_front() else { return };
            let is_barred = self.avoided.contains_key(&contact.key)
                || mesh.connector.is_forgotten(&contact.key, &contact.addresses);
            if !mesh.connected.contains(&contact.key) && !is_barred {
                let Contact { key, addresses } = mesh.completed(contact);
                self.chosen.insert(key, Choice { since: now, addresses });
            }
        }
    }

    fn choose_at_random(&mut self, mesh: &Surroundings<'_>, now: Instant) {
        let drawn: Vec<PeerKey> = (0..DRAWS).filter_map(|_| self.draw(mesh)).collect();
        let candidates = drawn.into_iter().filter(|peer| !mesh.connected.contains(peer));
        if let Some(peer) = candidates.min_by_key(|peer| mesh.topology.degree(peer)) {
            self.choose_one(peer, mesh, now);
        }
    }

    /// Tries one unreachable peer: it may be alive in another part of a divided mesh, or have come back when nobody was
    /// there to dial. Those that were unreachable for long are tried seldom.
    fn reach_out(&mut self, mesh: &Surroundings<'_>, now: Instant) {
        let (is_due, is_late) = (now >= self.next_reach_out, now >= self.next_search);
        let is_candidate = |peer: &PeerKey, member: &Member| {
            let is_missed = match member.reach {
                Reach::Unreachable { .. } => is_due,
                Reach::Lost { .. } => is_late,
                Reach::Heard { .. } | Reach::Reachable { .. } => false,
            };
            is_missed && member.departed.is_none() && !self.avoided.contains_key(peer) && !mesh.is_forgotten(peer)
        };
        let candidates = mesh.members.iter().filter(|(peer, member)| is_candidate(peer, member));
        let candidates: Vec<PeerKey> = candidates.map(|(peer, _)| *peer).collect();
        if is_late {
            self.next_search = now + SEARCH_INTERVAL;
        }
        if candidates.is_empty() {
            return;
        }
        let interval = match self.shape {
            Shape::Full => REVIEW_INTERVAL,
            Shape::Thin => REACH_OUT_INTERVAL,
        };
        self.next_reach_out = now + interval;
        let peer = candidates[self.rng.next_u32() as usize % candidates.len()];
        self.choose_one(peer, mesh, now);
    }

    fn choose_one(&mut self, peer: PeerKey, mesh: &Surroundings<'_>, now: Instant) {
        let is_busy = self.chosen.len() >= CHOSEN_MAX || self.chosen.contains_key(&peer);
        if is_busy || mesh.connected.contains(&peer) || self.avoided.contains_key(&peer) {
            return;
        }
        let contact = mesh.contact(&peer);
        if let Some(contact) = contact.filter(|it| !mesh.connector.is_forgotten(&peer, &it.addresses)) {
            self.chosen.insert(peer, Choice { since: now, addresses: contact.addresses });
        }
    }

    /// The connection to drop: of those above `high`, one whose other end has the most.
    fn surplus(&self, bounds: &Bounds, mesh: &Surroundings<'_>, now: Instant) -> Option<PeerKey> {
        let is_early = self.last_review.is_some_and(|last| now.since(last) < REVIEW_INTERVAL);
        if self.shape == Shape::Full || is_early || mesh.connected.len() <= bounds.high {
            return None;
        }
        let droppable = mesh.connected.iter().filter(|peer| {
            mesh.topology.is_reachable(peer)
                && mesh.topology.degree(peer) > bounds.goal
                && !is_ring_neighbour(peer, mesh)
        });
        droppable.max_by_key(|peer| mesh.topology.degree(peer)).copied()
    }
}

/// Which of two peers dials the other in a full mesh: both compute the same.
fn dials_first(own: &PeerKey, peer: &PeerKey) -> bool {
    let (low, high) = if own < peer { (own, peer) } else { (peer, own) };
    let is_low_first = digest("weave-rs first dialler", &[&low.0, &high.0])[0] & 1 == 0;
    is_low_first == (own < peer)
}

fn is_ring_neighbour(peer: &PeerKey, mesh: &Surroundings<'_>) -> bool {
    let mut ring = mesh.topology.ring_from(mesh.own);
    ring.next().as_ref() == Some(peer) || ring.next_back().as_ref() == Some(peer)
}

impl Surroundings<'_> {
    /// Whether the operator wants no dial to `peer`.
    fn is_forgotten(&self, peer: &PeerKey) -> bool {
        let holds = |contact: Contact| self.connector.is_forgotten(peer, &contact.addresses);
        self.connector.forgotten().next().is_some() && self.contact(peer).is_some_and(holds)
    }

    /// Where somebody else says that a peer is, after where it says so itself.
    fn completed(&self, referred: Contact) -> Contact {
        let own = self.contact(&referred.key).map(|contact| contact.addresses).unwrap_or_default();
        let mut addresses = own.clone();
        addresses.extend(referred.addresses.into_iter().filter(|address| !own.contains(address)));
        Contact { key: referred.key, addresses }
    }

    /// A peer with the addresses to dial: its own word, else where its neighbours see it.
    fn contact(&self, peer: &PeerKey) -> Option<Contact> {
        let member = self.members.get(peer)?;
        let mut addresses = member.card.addresses.clone();
        if addresses.is_empty() {
            let seen = self.topology.neighbours(peer).filter_map(|set| set.edge(peer));
            addresses.extend(seen.take(2).map(|edge| match edge.direction {
                Direction::Outbound => edge.remote,
                Direction::Inbound => SocketAddr::new(edge.remote.ip(), self.listen_port),
            }));
        }
        addresses.extend(member.address);
        addresses.dedup();
        addresses.truncate(crate::card::ADDRESSES_MAX);
        (!addresses.is_empty()).then_some(Contact { key: *peer, addresses })
    }
}

#[cfg(test)]
mod tests;
