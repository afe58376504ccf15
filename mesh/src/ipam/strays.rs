//! Addresses that containers hold on one host and another peer owns.
//!
//! They come about when a daemon lost its state and finds its containers running, or when an operator attached an address
//! by hand. The owner must know of them, else it would give them to others.
//!
//! ```text
//!   holder   Holds(all strays of ours, numbered) ──► owner: in use; durable, then HoldsHeard
//!            again, until it is heard; a shorter list gives addresses back
//!
//!   its daemon loses its state: a successor on that machine is known by the certificate of death
//!   owner    what the dead one held is its successor's, assumed ──► TellHolds, until the successor says Holds itself
//! ```
//!
//! Invariant: what a container was known to hold is in use until the peer on its host says otherwise or is certified dead
//! without a successor.

use std::collections::BTreeSet;
use std::time::Duration;

use super::note::{ADDRESSES_MAX, Holds, HoldsNumber, Note};
use super::{Ipam, Owner, Problem, Range, Surroundings};
use crate::identity::PeerKey;
use crate::store::OWNERS_MAX;
use crate::time::Instant;

const TELL_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Strays {
    addresses: BTreeSet<u32>,
    counter: u64,
    /// Who has been told anything, ever; and who has not yet heard the latest.
    pub(super) told: BTreeSet<PeerKey>,
    unheard: BTreeSet<PeerKey>,
    tell_at: Option<Instant>,
}

impl Strays {
    /// Others became reachable, who may not have heard.
    pub(super) fn hurry(&mut self, now: Instant) {
        if !self.unheard.is_empty() {
            self.tell_at = Some(now);
        }
    }

    /// Whether a new owner of `range` is one of any of them.
    pub(super) fn is_any_within(&self, range: Range) -> bool {
        self.addresses.range(range.first..=range.last).next().is_some()
    }
}

impl Ipam {
    /// Every address of ours that we do not own, as consents and letters tell it.
    pub(super) fn own_holds(&mut self, near: &Surroundings<'_>) -> Holds {
        self.review_strays(near);
        let addresses = self.strays.addresses.iter().copied().take(ADDRESSES_MAX).collect();
        Holds { number: self.number(near), addresses }
    }

    const fn number(&self, near: &Surroundings<'_>) -> HoldsNumber {
        (near.card.incarnation, self.strays.counter)
    }

    /// Finds out what strays there are and who is to be told, after holdings or the ring have changed.
    pub(super) fn review_strays(&mut self, near: &Surroundings<'_>) {
        if !std::mem::take(&mut self.are_strays_stale) {
            return;
        }
        let own = Owner::Peer(near.card.key);
        let owner = |address: u32| self.ring.as_ref().and_then(|ring| ring.owner(address));
        let held = self.holdings.within(self.config.range.range());
        let addresses: BTreeSet<u32> = held.filter(|address| owner(*address) != Some(own)).collect();
        let owners = addresses.iter().filter_map(|address| match owner(*address) {
            // What the dead owned will be its heir's.
            Some(Owner::Peer(peer)) => Some(self.promises.get(&peer).map_or(peer, |promise| promise.heir)),
            Some(Owner::Named(_)) | None => None,
        });
        let owners: BTreeSet<PeerKey> = owners.collect();
        let strays = &mut self.strays;
        if addresses != strays.addresses {
            strays.addresses = addresses;
            strays.counter += 1;
            strays.unheard = strays.told.clone();
        }
        strays.unheard.extend(owners.difference(&strays.told));
        let is_news = !strays.unheard.is_empty();
        strays.told.extend(&owners);
        strays.told.retain(|peer| !self.certificates.contains_key(peer) && *peer != near.card.key);
        strays.unheard.retain(|peer| strays.told.contains(peer));
        strays.tell_at = (!strays.unheard.is_empty()).then_some(near.now);
        if is_news {
            self.persist();
        }
    }

    /// Whoever was told in an earlier life hears what holds now.
    pub(super) fn restore_strays(&mut self, told: BTreeSet<PeerKey>) {
        let unheard = told.clone();
        self.strays = Strays { told, unheard, counter: 1, ..Strays::default() };
    }

    pub(super) fn stray_timeout(&self) -> Option<Instant> {
        self.strays.tell_at
    }

    pub(super) fn tell_strays(&mut self, near: &Surroundings<'_>) {
        self.review_strays(near);
        if self.strays.tell_at.is_none_or(|at| at > near.now) {
            return;
        }
        self.strays.tell_at = (!self.strays.unheard.is_empty()).then_some(near.now + TELL_INTERVAL);
        let note = Note::Holds(self.own_holds(near));
        let unheard: Vec<PeerKey> = self.strays.unheard.iter().copied().collect();
        for peer in unheard.into_iter().filter(|peer| near.is_reachable(peer)) {
            self.write(peer, &note);
        }
    }

    pub(super) fn handle_holds_heard(&mut self, from: PeerKey, number: HoldsNumber, near: &Surroundings<'_>) {
        if number == self.number(near) {
            self.strays.unheard.remove(&from);
            if self.strays.unheard.is_empty() {
                self.strays.tell_at = None;
            }
        }
    }

    /// Whoever nobody was ever connected to has no containers, and never dies.
    pub(super) fn handle_holds(&mut self, from: PeerKey, holds: &Holds, near: &Surroundings<'_>) {
        if !near.is_member(&from) {
            return;
        }
        self.note_holds(from, holds, near);
        self.write(from, &Note::HoldsHeard { number: holds.number });
    }

    /// `holder` holds these addresses and no others of ours, unless a newer list of its is known.
    pub(super) fn note_holds(&mut self, holder: PeerKey, holds: &Holds, near: &Surroundings<'_>) {
        let known = self.lodgers.holds.get(&holder).map(|known| known.number);
        let has_room = self.lodgers.has_room_for(&holder, holds.addresses.len());
        let is_dead = self.certificates.contains_key(&holder);
        let is_empty = known.is_none() && holds.addresses.is_empty();
        if known >= Some(holds.number) || !has_room || is_dead || is_empty {
            return;
        }
        for address in &holds.addresses {
            self.space.take(*address);
            if let Some(container) = self.holdings.holder(*address) {
                let container = container.to_owned();
                self.note_problem(holder, Problem::HeldTwice { address: *address, container });
            }
        }
        let freed = self.lodgers.replace(holder, holds.clone());
        self.persist();
        self.free_all(&freed, near);
    }

    /// `dead` holds nothing any more. What containers of its host were known to hold, who is there now is asked.
    pub(super) fn bequeath_holds(&mut self, dead: &PeerKey, near: &Surroundings<'_>) {
        let freed = match self.living_on_host_of(dead) {
            Some(successor) if successor != near.card.key => self.lodgers.pass_on(dead, successor),
            Some(_) | None => self.lodgers.forget(dead),
        };
        self.free_all(&freed, near);
        self.verify_holds(near);
    }

    /// The last in the line of successors, unless it is dead, too.
    fn living_on_host_of(&self, dead: &PeerKey) -> Option<PeerKey> {
        let mut successor = self.certificates.get(dead)?.successor()?;
        // Certificates that contradict each other may lead round in a circle.
        for _ in 0..self.certificates.len() {
            match self.certificates.get(&successor) {
                Some(certificate) => successor = certificate.successor()?,
                None => return Some(successor),
            }
        }
        None
    }

    /// Asks those of whom we assume it what they hold.
    pub(super) fn verify_holds(&mut self, near: &Surroundings<'_>) {
        let assumed: Vec<PeerKey> = self.lodgers.assumed().filter(|holder| near.is_reachable(holder)).collect();
        assumed.into_iter().for_each(|holder| self.write(holder, &Note::TellHolds));
    }

    /// `from` wants to know what containers of ours hold, from here on.
    pub(super) fn handle_tell_holds(&mut self, from: PeerKey, near: &Surroundings<'_>) {
        if self.is_resumed && !self.certificates.contains_key(&from) && self.strays.told.len() < OWNERS_MAX {
            self.review_strays(near);
            self.strays.told.insert(from);
            self.strays.unheard.insert(from);
            self.strays.tell_at = Some(near.now);
            self.persist();
        }
    }

    fn free_all(&mut self, freed: &[u32], near: &Surroundings<'_>) {
        freed.iter().for_each(|address| self.free(*address, near));
        self.is_changed |= !freed.is_empty();
    }
}
