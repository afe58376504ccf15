//! Two keys with one name, and two daemons with one key.
//!
//! ```text
//!   one name    the key seen first is reachable ──► the newcomer is refused, both keys named
//!               met after a partition           ──► the lower key keeps it, the other takes its derived one
//!
//!   one key     we hear incarnation h > ours    ──► we go on at h + JUMP (a lost state, a clock set back)
//!               we hear exactly ours + JUMP     ──► a live twin jumped above us: it started earlier, we step aside
//! ```

use super::own::JUMP;
use super::{CloseReason, Event, Node, Output, Persist, Warning};
use crate::card::Card;
use crate::identity::PeerKey;
use crate::name::PeerName;
use crate::store::Version;
use crate::time::Instant;
use crate::wire::{Message, Refusal};

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
        } else if ours != theirs + JUMP {
            self.step_aside(now);
        }
        Err(Refusal::DuplicateIdentity { key })
    }

    /// Somebody has a version of our own set.
    pub(super) fn handle_own_version(&mut self, heard: Version, now: Instant) {
        let ours = self.own.card().incarnation;
        let is_believable = heard.incarnation <= self.own.incarnation_max();
        if heard <= self.own.set().version() || heard.incarnation < ours || !is_believable {
            return;
        }
        if heard.incarnation == ours + JUMP {
            self.step_aside(now);
            return;
        }
        let incarnation = heard.incarnation.saturating_add(JUMP);
        self.outputs.push_back(Output::Persist(Persist::Incarnation(incarnation)));
        self.warn(Warning::Outlived { heard: heard.incarnation });
        self.change_card(self.own.card().name, incarnation, now);
    }

    fn step_aside(&mut self, now: Instant) {
        let key = self.key();
        self.event(Event::IdentityTaken);
        let refusal = Refusal::DuplicateIdentity { key };
        self.leave(&Message::Refusal(refusal.clone()), &CloseReason::RefusedHere(refusal), now);
    }

    /// Whether the name of a new connection's peer is free, its own, or contested among reachable peers already.
    pub(super) fn examine_name(&self, card: &Card) -> Result<(), Refusal> {
        let own = self.own.card();
        let holder = if own.name == card.name { Some(own.key) } else { self.members.holder(card.name) };
        match holder {
            Some(holder) if holder != card.key && !self.topology.is_reachable(&card.key) => {
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
