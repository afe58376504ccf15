//! Every peer whose card is known: who it is, whether it is reachable, and what is to be remembered of it.
//!
//! ```text
//!   Heard ──────────► Reachable ◄────────► Unreachable ── an hour ──► Lost: its set is dropped, its identity stays
//!   (never reachable: forgotten after 30 s)      └── goodbye: its set is dropped at once
//!
//!   Lost, believed dead, owner of nothing ──► forgotten: ipam/forgetting.rs decides, and in a full list who comes instead
//! ```
//!
//! Invariants:
//! - a member's card is the newest that was seen, and was checked;
//! - of two reachable members with one name, [`Members::holder`] is the one with the lower key;
//! - there are at most [`OWNERS_MAX`] members, as in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::allowance::Allowance;
use crate::card::Card;
use crate::identity::PeerKey;
use crate::name::PeerName;
use crate::node::AUTHORED;
use crate::store::{OWNERS_MAX, Record, Tag};
use crate::time::Instant;
use crate::wire::Goodbye;

/// How long the kernel entries of an unreachable peer are held.
pub const HOLD: Duration = Duration::from_secs(120);
/// How long the set of an unreachable peer is kept.
const KEEP: Duration = Duration::from_secs(3_600);
/// How long a peer that was heard of may take to become reachable.
const HEARD_TIMEOUT: Duration = Duration::from_secs(30);

/// How far a peer is from us, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its card or set arrived, no chain of edges leads to it, and none ever did.
    Heard {
        since: Instant,
    },
    Reachable {
        since: Instant,
    },
    Unreachable {
        since: Instant,
    },
    /// Unreachable for so long that only its identity is kept.
    Lost {
        since: Instant,
    },
}

impl Reach {
    pub const fn is_reachable(self) -> bool {
        matches!(self, Self::Reachable { .. })
    }

    /// Whether nobody we know of was ever connected to it.
    pub const fn is_hearsay(self) -> bool {
        matches!(self, Self::Heard { .. })
    }

    pub const fn since(self) -> Instant {
        match self {
            Self::Heard { since } | Self::Reachable { since } | Self::Unreachable { since } | Self::Lost { since } => {
                since
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Member {
    pub card: Arc<Card>,
    /// The card as it was signed, and as it is in the member's set.
    pub record: Record,
    pub reach: Reach,
    /// What it said when it left; a higher incarnation is back.
    pub departed: Option<Goodbye>,
    /// Where its sleeve was last heard.
    pub address: Option<SocketAddr>,
    /// Whether its names are answered: from when it became reachable until it left or was unreachable for
    /// [`dns::HOLD`](crate::dns::HOLD). Outlasts our own restart, so that we do not answer for who was dead before.
    pub answering: bool,
    /// What it may still write, octets.
    letters: Allowance,
}

/// All members but ourselves.
#[derive(Debug, Default)]
pub struct Members {
    members: BTreeMap<PeerKey, Member>,
    /// Of reachable members.
    names: BTreeMap<PeerName, PeerKey>,
    /// Those to be persisted again.
    changed: BTreeSet<PeerKey>,
    unreachable: usize,
}

impl Members {
    pub fn get(&self, key: &PeerKey) -> Option<&Member> {
        self.members.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PeerKey, &Member)> {
        self.members.iter()
    }

    /// The card of the member that `tag` names, as the record that it is in its set.
    pub fn card_record(&self, tag: Tag) -> Option<Record> {
        let (key, member) = self.members.range(tag.first_key()..).next()?;
        (Tag::from(key) == tag).then(|| member.record.clone())
    }

    /// The reachable member called `name`.
    pub fn holder(&self, name: PeerName) -> Option<PeerKey> {
        self.names.get(&name).copied()
    }

    /// How many members are heard of or unreachable; while there are some, [`Self::expire`] has work.
    pub const fn unreachable_count(&self) -> usize {
        self.unreachable
    }

    /// Whether there is one of which only the identity is kept, and which may come back.
    pub fn has_lost(&self) -> bool {
        let is_lost = |member: &Member| matches!(member.reach, Reach::Lost { .. }) && member.departed.is_none();
        self.members.values().any(is_lost)
    }

    /// The member that says it is at `address`, or was heard there.
    pub fn at(&self, address: &SocketAddr) -> Option<PeerKey> {
        let is_there =
            |member: &Member| member.card.addresses.contains(address) || member.address.as_ref() == Some(address);
        self.members.iter().find(|(_, member)| is_there(member)).map(|(key, _)| *key)
    }

    /// Notes a checked card, unless a newer one is known. `record` is the card as signed. Returns the other reachable
    /// member of the same name, if there is one.
    pub fn note_card(&mut self, card: &Arc<Card>, record: &Record, now: Instant) -> Option<PeerKey> {
        match self.members.get_mut(&card.key) {
            Some(member) if member.card.incarnation > card.incarnation || member.record == *record => None,
            Some(member) => {
                let renamed_from = member.card.name;
                member.card = Arc::clone(card);
                member.record = record.clone();
                if member.departed.is_some_and(|departed| departed.incarnation < card.incarnation) {
                    member.departed = None;
                }
                let is_renamed = member.reach.is_reachable() && renamed_from != card.name;
                self.changed.insert(card.key);
                if !is_renamed {
                    return None;
                }
                self.release_name(renamed_from, &card.key);
                self.take_name(card.name, card.key)
            }
            None => {
                if !self.is_full() {
                    self.insert(card, record, Reach::Heard { since: now });
                }
                None
            }
        }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether there is room for nobody who is not a member yet.
    pub fn is_full(&self) -> bool {
        self.members.len() >= OWNERS_MAX
    }

    /// Those of which only the identity is kept, longest gone first.
    pub fn lost(&self) -> Vec<PeerKey> {
        let lost = self.members.iter().filter(|(_, member)| matches!(member.reach, Reach::Lost { .. }));
        let mut lost: Vec<_> = lost.map(|(key, member)| (member.reach.since(), *key)).collect();
        lost.sort_unstable();
        lost.into_iter().map(|(_, key)| key).collect()
    }

    /// Nothing of the peer is known from here on, as if it had never been. Whoever is reachable is not forgotten.
    pub fn forget(&mut self, key: &PeerKey) -> bool {
        let Some(member) = self.members.get(key).filter(|member| !member.reach.is_reachable()) else { return false };
        self.unreachable -= usize::from(!matches!(member.reach, Reach::Lost { .. }));
        self.members.remove(key);
        self.changed.remove(key);
        true
    }

    /// A member as it was persisted: unreachable as of now.
    pub fn restore(
        &mut self,
        card: &Arc<Card>,
        record: &Record,
        address: Option<SocketAddr>,
        answering: bool,
        now: Instant,
    ) {
        if !self.is_full() && !self.members.contains_key(&card.key) {
            let member = self.insert(card, record, Reach::Unreachable { since: now });
            (member.address, member.answering) = (address, answering);
        }
    }

    fn insert(&mut self, card: &Arc<Card>, record: &Record, reach: Reach) -> &mut Member {
        let (card, record) = (Arc::clone(card), record.clone());
        self.unreachable += 1;
        let (key, departed, address) = (card.key, None, None);
        let member = Member { card, record, reach, departed, address, answering: false, letters: AUTHORED };
        self.members.entry(key).insert_entry(member).into_mut()
    }

    /// Returns the other reachable member of the same name, if there is one.
    pub fn set_reachable(&mut self, key: &PeerKey, now: Instant) -> Option<PeerKey> {
        let member = self.members.get_mut(key)?;
        if !member.reach.is_reachable() {
            self.unreachable -= usize::from(!matches!(member.reach, Reach::Lost { .. }));
            member.reach = Reach::Reachable { since: now };
            member.answering = true;
            self.changed.insert(*key);
        }
        let name = member.card.name;
        self.take_name(name, *key)
    }

    pub fn set_unreachable(&mut self, key: &PeerKey, now: Instant) {
        let Some(member) = self.members.get_mut(key) else { return };
        if member.reach.is_reachable() {
            member.reach = Reach::Unreachable { since: now };
            self.unreachable += 1;
            let name = member.card.name;
            self.release_name(name, key);
        }
    }

    /// Its names are not answered any more.
    pub fn fall_silent(&mut self, key: &PeerKey) {
        if let Some(member) = self.members.get_mut(key)
            && std::mem::take(&mut member.answering)
        {
            self.changed.insert(*key);
        }
    }

    /// The lower key holds a name that two claim.
    fn take_name(&mut self, name: PeerName, key: PeerKey) -> Option<PeerKey> {
        let other = self.names.get(&name).copied().filter(|other| *other != key);
        self.names.insert(name, other.map_or(key, |other| other.min(key)));
        other
    }

    fn release_name(&mut self, name: PeerName, key: &PeerKey) {
        if self.names.get(&name) == Some(key) {
            self.names.remove(&name);
        }
    }

    /// The member has left for good, as it signed. Returns whether that is news: a second goodbye is none before it was
    /// back.
    pub fn depart(&mut self, goodbye: Goodbye) -> bool {
        let Some(member) = self.members.get_mut(&goodbye.owner) else { return false };
        if goodbye.incarnation < member.card.incarnation || member.departed.is_some() {
            return false;
        }
        member.departed = Some(goodbye);
        self.changed.insert(goodbye.owner);
        true
    }

    /// Whether `incarnation` of the member has left for good.
    pub fn has_departed(&self, key: &PeerKey, incarnation: u64) -> bool {
        let departed = self.members.get(key).and_then(|member| member.departed);
        departed.is_some_and(|departed| departed.incarnation >= incarnation)
    }

    pub fn set_address(&mut self, key: &PeerKey, address: SocketAddr) {
        if let Some(member) = self.members.get_mut(key)
            && member.address != Some(address)
        {
            member.address = Some(address);
            self.changed.insert(*key);
        }
    }

    /// Whether a letter of `key` that costs so much is within what it may write. Whoever is no member yet is held back by
    /// what its neighbour may hand on.
    pub(crate) fn allow_letter(&mut self, key: &PeerKey, cost: u64, now: Instant) -> bool {
        self.members.get_mut(key).is_none_or(|member| member.letters.take(cost, now))
    }

    /// Its set has changed: what is persisted is out of date.
    pub fn note_change(&mut self, key: &PeerKey) {
        self.changed.insert(*key);
    }

    /// The members to persist since this was last called; those never reachable are not.
    pub fn take_changed(&mut self) -> Vec<PeerKey> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.retain(|key| self.members.get(key).is_some_and(|member| !member.reach.is_hearsay()));
        changed.into_iter().collect()
    }

    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Forgets members that were heard of and did not become reachable, gives up those unreachable for long, and returns
    /// both: their sets are to be dropped.
    pub fn expire(&mut self, now: Instant) -> Vec<PeerKey> {
        let is_over = |member: &Member| match member.reach {
            Reach::Heard { since } => now.since(since) >= HEARD_TIMEOUT,
            Reach::Unreachable { since } => now.since(since) >= KEEP,
            Reach::Reachable { .. } | Reach::Lost { .. } => false,
        };
        let expired: Vec<PeerKey> =
            self.members.iter().filter(|(_, member)| is_over(member)).map(|(key, _)| *key).collect();
        for key in &expired {
            self.unreachable -= 1;
            let Some(member) = self.members.get_mut(key) else { continue };
            match member.reach {
                Reach::Unreachable { since } => {
                    member.reach = Reach::Lost { since };
                    self.changed.insert(*key);
                }
                Reach::Heard { .. } | Reach::Reachable { .. } | Reach::Lost { .. } => drop(self.members.remove(key)),
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests;
