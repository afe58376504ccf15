//! Space moves from those who have it to those who need it.
//!
//! ```text
//!   asker                              owner
//!   Request(window)  ────────────────► the biggest aligned free block there, at most half of what is free
//!                    ◄──────────────── Granted: durable at the owner before it leaves
//!   durable, then used                 Denied: nothing free; the next owner is asked
//! ```
//!
//! Invariants:
//! - one request is under way for each window;
//! - a request that is repeated is answered with the same grant;
//! - what is granted was free, and is the granter's no longer before anybody is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;

use super::leaving::HandingOver;
use super::note::{Note, TRANSFERS_MAX};
use super::rules::Rule;
use super::{Ipam, Owner, Range, Surroundings, Transfer, Wait};
use crate::identity::PeerKey;
use crate::time::Instant;

/// After this time an owner counts as one that has nothing.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_millis(400);
/// When nobody had anything, all are asked again after this time.
const ROUND_INTERVAL: Duration = Duration::from_secs(3);
/// How many windows are asked for at once; one for each operation at most.
const WINDOWS_MAX: usize = 256;
/// Of how many peers the latest grant is remembered: a peer that repeats its request later gets more instead.
const GRANTED_MAX: usize = 1_024;
/// So many pieces of ours are left as they are.
const UNMENDED_MAX: usize = 3;

/// A request under way, or a round of them that came to nothing.
#[derive(Debug)]
struct Request {
    id: u64,
    /// Who is asked; nobody while a round rests.
    owner: Option<PeerKey>,
    /// Who has nothing, as far as this round knows.
    tried: BTreeSet<PeerKey>,
    /// When the next step is due.
    deadline: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Donations {
    requests: BTreeMap<Range, Request>,
    /// The latest grant to each peer, by the id of its request.
    granted: BTreeMap<PeerKey, (u64, Vec<Arc<Transfer>>)>,
    pub(super) handing_over: Option<HandingOver>,
}

impl Donations {
    /// Nothing was granted to the peer, as far as we remember.
    pub(super) fn forget(&mut self, peer: &PeerKey) {
        self.granted.remove(peer);
    }
}

impl Ipam {
    /// Nothing of `window` is free here: what is waited for, and the next step towards it.
    pub(super) fn await_space(&mut self, window: Range, near: &Surroundings<'_>) -> Wait {
        if let Some(request) = self.donations.requests.get(&window) {
            return request.owner.map_or(Wait::Space, Wait::Peer);
        }
        if self.donations.requests.len() >= WINDOWS_MAX {
            return Wait::Space;
        }
        self.request(window, BTreeSet::new(), near)
    }

    /// Asks the next owner of `window`.
    fn request(&mut self, window: Range, tried: BTreeSet<PeerKey>, near: &Surroundings<'_>) -> Wait {
        let owner = self.choose_owner(window, &tried, near);
        let id = self.rng.next_u64();
        let delay = if owner.is_some() { REQUEST_TIMEOUT } else { ROUND_INTERVAL };
        if let Some(owner) = owner {
            self.write(owner, &Note::Request { id, window });
        }
        self.donations.requests.insert(window, Request { id, owner, tried, deadline: near.now + delay });
        owner.map_or(Wait::Space, Wait::Peer)
    }

    /// One of the reachable owners of `window`, the more probably the more of it is its.
    fn choose_owner(&mut self, window: Range, tried: &BTreeSet<PeerKey>, near: &Surroundings<'_>) -> Option<PeerKey> {
        let mut weights: BTreeMap<PeerKey, u64> = BTreeMap::new();
        for (piece, owner) in self.ring.as_ref()?.pieces() {
            if let (Owner::Peer(owner), Some(part)) = (owner, piece.intersection(window))
                && owner != near.card.key
                && !tried.contains(&owner)
                && !self.certificates.contains_key(&owner)
            {
                *weights.entry(owner).or_default() += part.size();
            }
        }
        weights.retain(|owner, _| near.is_reachable(owner));
        let total: u64 = weights.values().sum();
        let mut left = self.rng.next_u64() % total.max(1);
        weights.into_iter().find_map(|(owner, weight)| match left.checked_sub(weight) {
            Some(less) => {
                left = less;
                None
            }
            None => Some(owner),
        })
    }

    /// A request came to nothing: the next owner is asked.
    fn try_next(&mut self, window: Range, near: &Surroundings<'_>) {
        let Some(request) = self.donations.requests.remove(&window) else { return };
        let mut tried = request.tried;
        if !self.is_wanted(window) {
            return;
        }
        match request.owner {
            Some(owner) => drop(tried.insert(owner)),
            None => tried.clear(),
        }
        self.request(window, tried, near);
        self.is_changed = true;
    }

    pub(super) fn donation_timeout(&self) -> Option<Instant> {
        let requests = self.donations.requests.values().map(|request| request.deadline);
        let handing_over = self.donations.handing_over.iter().filter(|handing| !handing.is_heard);
        requests.chain(handing_over.map(|handing| handing.deadline)).min()
    }

    pub(super) fn handle_donation_timeout(&mut self, near: &Surroundings<'_>) {
        let is_due = |request: &Request| request.deadline <= near.now;
        let due: Vec<Range> =
            self.donations.requests.iter().filter(|(_, request)| is_due(request)).map(|(window, _)| *window).collect();
        due.into_iter().for_each(|window| self.try_next(window, near));
        if let Some(handing) = self.donations.handing_over.as_mut().filter(|handing| !handing.is_heard)
            && handing.deadline <= near.now
        {
            handing.deadline = near.now + REQUEST_TIMEOUT;
            let note = Note::HandOver { id: handing.id, transfers: handing.transfers.clone() };
            let to = handing.to;
            self.write(to, &note);
        }
    }

    /// Whether an operation still waits for space in `window`.
    fn is_wanted(&self, window: Range) -> bool {
        self.pending.values().any(|pending| self.window(&pending.operation) == Some(window))
    }

    /// The ring or the reachable peers have changed: rounds that rest begin again, and who is gone is not waited for.
    pub(super) fn hurry_requests(&mut self, near: &Surroundings<'_>) {
        for request in self.donations.requests.values_mut() {
            if request.owner.is_none_or(|owner| !near.is_reachable(&owner)) {
                request.deadline = near.now;
            }
        }
    }

    pub(super) fn handle_request(&mut self, from: PeerKey, id: u64, window: Range, near: &Surroundings<'_>) {
        let is_dead = self.certificates.contains_key(&from);
        if !self.is_resumed || is_dead || self.is_leaving() || self.may_be_outdated() {
            return;
        }
        if let Some((_, transfers)) = self.donations.granted.get(&from).filter(|(earlier, _)| *earlier == id) {
            let note = Note::Granted { id, transfers: transfers.clone() };
            self.write(from, &note);
            return;
        }
        let has_room = |block: &Range| self.ring.as_ref().is_some_and(|ring| ring.has_room_for(*block));
        let cut = self.space.donation(window);
        let block = cut.map(|cut| self.whole_piece(window, cut, near).unwrap_or(cut));
        match block.filter(has_room) {
            Some(block) => {
                self.grant(&[block], from, near);
                let transfers = self.latest(block);
                if self.donations.granted.len() >= GRANTED_MAX {
                    self.donations.granted.clear();
                }
                self.donations.granted.insert(from, (id, transfers.clone()));
                self.write(from, &Note::Granted { id, transfers });
            }
            None => {
                let is_held = window.size() == 1 && self.holds(window.first);
                let transfers = self.latest(window);
                self.write(from, &Note::Denied { id, is_held, transfers });
            }
        }
    }

    /// Makes one piece of some of ours that touch, when they are many: each is one more transfer to whoever has it next.
    pub(super) fn mend(&mut self, near: &Surroundings<'_>) {
        let own = near.card.key;
        let is_ready = self.is_resumed && !self.is_leaving() && !self.may_be_outdated();
        let Some(ring) = self.ring.as_mut().filter(|_| is_ready) else { return };
        if ring.owned_by(Owner::Peer(own)).nth(UNMENDED_MAX).is_none() {
            return;
        }
        let transfers = ring.mend(own, near.identity);
        if !transfers.is_empty() {
            self.persist();
            self.spread(&transfers, &[], None);
        }
    }

    /// A piece of the ring that is ours, all of it free, and hardly smaller than `cut`, which would be cut out of another: the
    /// biggest of at most half of what is free. So the ring is cut no further by hosts that come when there are pieces enough.
    fn whole_piece(&self, window: Range, cut: Range, near: &Surroundings<'_>) -> Option<Range> {
        let free: u64 = self.space.within(window).map(Range::size).sum();
        let is_fit = |piece: &Range| {
            let size = piece.size();
            window.covers(*piece) && size * 2 <= free && size * 4 >= cut.size() && self.space.covers(*piece)
        };
        let pieces = self.ring.iter().flat_map(|ring| ring.owned_by(Owner::Peer(near.card.key)));
        pieces.filter(is_fit).max_by_key(|piece| piece.size())
    }

    /// What led to how the ring is inside `window`, as much of it as a note carries: an asker may not know all of it.
    fn latest(&self, window: Range) -> Vec<Arc<Transfer>> {
        let history = self.ring.as_ref().map(|ring| ring.history(window)).unwrap_or_default();
        history[history.len().saturating_sub(TRANSFERS_MAX)..].to_vec()
    }

    /// Gives `blocks`, which are free, to `to`; durable and told to all neighbours.
    pub(super) fn grant(&mut self, blocks: &[Range], to: PeerKey, near: &Surroundings<'_>) -> Vec<Arc<Transfer>> {
        let Some(ring) = &mut self.ring else { return Vec::new() };
        let transfers: Vec<_> = blocks.iter().flat_map(|block| ring.give(*block, to, near.identity)).collect();
        self.measure(near);
        if self.rules.keeps(Rule::PersistGrant) {
            self.persist();
        } else {
            self.persist_later(near);
        }
        self.spread(&transfers, &[], None);
        transfers
    }

    pub(super) fn handle_granted(&mut self, from: PeerKey, transfers: &[Arc<Transfer>], near: &Surroundings<'_>) {
        let fresh = self.learn(from, transfers, near);
        self.spread(&fresh, &[], None);
        self.forget_requests(|request| request.owner == Some(from));
        self.is_changed = true;
    }

    fn forget_requests(&mut self, is_over: impl Fn(&Request) -> bool) {
        self.donations.requests.retain(|_, request| !is_over(request));
    }

    pub(super) fn handle_denied(
        &mut self,
        from: PeerKey,
        id: u64,
        is_held: bool,
        transfers: &[Arc<Transfer>],
        near: &Surroundings<'_>,
    ) {
        let fresh = self.learn(from, transfers, near);
        self.spread(&fresh, &[], None);
        let asked = self.donations.requests.iter().find(|(_, request)| request.id == id && request.owner == Some(from));
        let Some(window) = asked.map(|(window, _)| *window) else { return };
        if is_held {
            self.refuse_claims(window.first, from);
        }
        self.try_next(window, near);
    }
}
