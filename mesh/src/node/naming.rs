//! Two keys with one name, and two daemons with one key.
//!
//! ```text
//!   one name    the key seen first is reachable ──► the newcomer is refused, both keys named
//!               met after a partition           ──► the lower key keeps it, the other takes its derived one
//!
//!   one key     we are shown incarnation h > ours    ──► we go on at h + JUMP (a lost state, a clock set back)
//!               we are shown exactly ours + JUMP     ──► a live twin jumped above us: it started earlier, we step aside
//! ```
//!
//! Shown is a set, a card or a goodbye that our own key has signed, or a handshake that proves it. What others only tell
//! of our key makes us ask.

use std::time::Duration;

use super::own::JUMP;
use super::{CloseReason, Event, Node, Output, Persist, Warning};
use crate::card::Card;
use crate::identity::PeerKey;
use crate::name::PeerName;
use crate::pace::Pace;
use crate::store::Version;
use crate::time::Instant;
use crate::wire::{Message, Refusal, Testimony};

/// Jumps follow each other at this interval at least, since each is a new card for everybody and a write for us.
const JUMP_INTERVAL: Duration = Duration::from_secs(1);

/// Later lives of our key that we were shown and are not above yet.
#[derive(Debug, Default)]
pub(super) struct Jumps {
    above: u64,
    pace: Pace,
}

impl Jumps {
    pub(super) const fn due(&self) -> Option<Instant> {
        self.pace.due()
    }
}

impl Node {
    /// Whether the card of a new connection may be ours.
    pub(super) fn examine_identity(&mut self, card: &Card, now: Instant) -> Result<(), Refusal> {
        let key = self.key();
        if card.key != key {
            return Ok(());
        }
        let (ours, theirs) = (self.own.card().incarnation, card.incarnation);
        if theirs == ours {
            return Err(Refusal::Itself);
        }
        if theirs > ours {
            self.handle_own_version(Version { incarnation: theirs, counter: 0 }, now);
        } else if ours != theirs.saturating_add(JUMP) {
            self.step_aside(now);
        }
        Err(Refusal::DuplicateIdentity { key })
    }

    /// Our own key has signed something of this version.
    pub(super) fn handle_own_version(&mut self, signed: Version, now: Instant) {
        let ours = self.own.card().incarnation;
        if signed <= self.own.set().version() || signed.incarnation < ours {
            return;
        }
        if signed.incarnation == ours.saturating_add(JUMP) {
            self.step_aside(now);
            return;
        }
        self.jumps.above = self.jumps.above.max(signed.incarnation);
        self.jumps.pace.request(JUMP_INTERVAL, now);
        self.jump_if_due(now);
    }

    /// The same for what a neighbour shows us when it refuses us.
    pub(super) fn handle_testimony(&mut self, proof: &Testimony, now: Instant) {
        let key = self.key();
        if let Some(incarnation) = proof.floor(&key, &mut self.verifier) {
            self.handle_own_version(Version { incarnation, counter: 0 }, now);
        }
    }

    /// Goes on above the latest life that was shown.
    pub(super) fn jump_if_due(&mut self, now: Instant) {
        if self.jumps.pace.due().is_none_or(|due| due > now) {
            return;
        }
        self.jumps.pace.note_done(now);
        let above = std::mem::take(&mut self.jumps.above);
        if above < self.own.card().incarnation {
            return;
        }
        let incarnation = above.saturating_add(JUMP);
        self.outputs.push_back(Output::Persist(Persist::Incarnation(incarnation)));
        self.warn(Warning::Outlived { heard: above });
        self.change_card(self.own.card().name, incarnation, now);
    }

    fn step_aside(&mut self, now: Instant) {
        let key = self.key();
        self.event(Event::IdentityTaken);
        let refusal = Refusal::DuplicateIdentity { key };
        self.leave(&Message::Refusal(refusal.clone()), &CloseReason::RefusedHere(refusal), now);
    }

    /// Whether the name of a new connection's peer is free, its own, or contested already: among reachable peers, or
    /// because somebody took it while the peer was away.
    pub(super) fn examine_name(&self, card: &Card) -> Result<(), Refusal> {
        let own = self.own.card();
        let holder = if own.name == card.name { Some(own.key) } else { self.members.holder(card.name) };
        let had_it = self.members.get(&card.key).is_some_and(|member| member.card.name == card.name);
        match holder {
            Some(holder) if holder != card.key && !had_it && !self.topology.is_reachable(&card.key) => {
                Err(Refusal::NameCollision { name: card.name, holder, newcomer: card.key })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// `peer` is reachable or has a new card; `other` is a reachable member of the same name.
    pub(super) fn resolve_names(&mut self, peer: &PeerKey, other: Option<PeerKey>, now: Instant) {
        let Some(member) = self.members.get(peer).filter(|member| member.reach.is_reachable()) else { return };
        let own = self.own.card();
        let (key, name, is_ours) = (own.key, member.card.name, own.name == member.card.name);
        let Some(other) = other.or_else(|| is_ours.then_some(key)) else { return };
        let (winner, loser) = (other.min(*peer), other.max(*peer));
        self.warn(Warning::NameCollision { name, winner, loser });
        let derived = PeerName::derived_from(&key.0);
        if loser == key && name != derived {
            self.outputs.push_back(Output::Persist(Persist::Name(derived)));
            self.change_card(derived, self.own.card().incarnation, now);
            self.event(Event::Renamed(derived));
        }
    }

    /// Somebody calls us dead up to this incarnation, which we signed once: a higher one says that we live.
    pub(super) fn rise_above(&mut self, incarnation: u64, now: Instant) {
        let ours = self.own.card().incarnation;
        if incarnation < ours || incarnation > self.own.incarnation_max() {
            return;
        }
        let higher = incarnation.saturating_add(1);
        self.outputs.push_back(Output::Persist(Persist::Incarnation(higher)));
        self.change_card(self.own.card().name, higher, now);
    }

    fn change_card(&mut self, name: PeerName, incarnation: u64, now: Instant) {
        match self.own.set_card(name, incarnation, now) {
            Ok(()) => self.publish(now),
            Err(error) => self.warn(Warning::NotPublished { problem: error.to_string() }),
        }
        self.view_changed();
    }
}
