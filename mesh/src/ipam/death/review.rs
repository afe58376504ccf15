//! Who is found dead without anybody saying so: whose instance lives on as somebody else, or is no more. And clones, which are
//! no such thing.
//!
//! Invariants:
//! - a machine id proves nothing: images carry theirs to every machine that is made of them, and some have none. Only an
//!   instance id, which the cloud gives once, tells that two identities were of one machine;
//! - a successor has been reachable for long: a clock that was set back makes the dead one look like the later of the two.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Ipam, Problem, Surroundings};
use super::certificate::Reason;
use crate::card::Card;
use crate::identity::PeerKey;
use crate::members::{Member, Reach};

/// How long a peer is reachable until that is believed: longer than a dead one can seem so.
const LONG: Duration = Duration::from_secs(30);
/// What a card shows as its machine where there is no machine id.
const NO_MACHINE: [u8; 32] = [0; 32];

/// Who seems to live on the host of `card` now: good enough to be asked, and no proof of anything.
pub(super) fn seeming_successor(card: &Card, near: &Surroundings<'_>) -> Option<PeerKey> {
    let is_alike = |other: &Card| match (card.instance_id.as_str(), other.instance_id.as_str()) {
        ("", "") => card.machine != NO_MACHINE && card.machine == other.machine,
        (one, other) => one == other,
    };
    let others = near.members.iter().filter(|(_, member)| member.reach.is_reachable()).map(|(_, member)| &*member.card);
    let alike = std::iter::once(near.card).chain(others).filter(|other| other.key != card.key && is_alike(other));
    alike.max_by_key(|other| other.incarnation).map(|other| other.key)
}

/// By its instance id, who lives on it: the identity of the highest incarnation, and whether it has for long.
fn living_instances<'a>(near: &Surroundings<'a>) -> BTreeMap<&'a str, (u64, PeerKey, bool)> {
    let members = near.members.iter().filter_map(|(_, member)| match member.reach {
        Reach::Reachable { since } => Some((&*member.card, near.now.since(since) >= LONG)),
        _ => None,
    });
    let mut living = BTreeMap::new();
    for (card, is_long) in members.chain([(near.card, true)]).filter(|(card, _)| !card.instance_id.is_empty()) {
        let this = (card.incarnation, card.key, is_long);
        let best = living.entry(card.instance_id.as_str()).or_insert(this);
        *best = (*best).max(this);
    }
    living
}

impl Ipam {
    /// Looks at everybody: who is dead, who is a clone of ours, and of whom there is nothing to complain any more.
    pub(in crate::ipam) fn review_members(&mut self, near: &Surroundings<'_>) {
        self.review_accusations(near);
        self.find_outlived(near);
        self.find_terminated(near);
        self.find_clones(near);
        self.forget_complaints(near);
    }

    /// Who is not reachable any more, and whom nobody calls dead.
    fn missing_members<'a>(&self, near: &Surroundings<'a>) -> impl Iterator<Item = (PeerKey, &'a Member)> {
        let is_missing = |member: &Member| matches!(member.reach, Reach::Unreachable { .. } | Reach::Lost { .. });
        let missing = near.members.iter().filter(move |(_, member)| is_missing(member));
        let is_called_dead = |key: &PeerKey| self.certificates.contains_key(key) || self.accusations.contains_key(key);
        missing.filter(move |(key, _)| !is_called_dead(key)).map(|(key, member)| (*key, member))
    }

    /// Whose machine the cloud has no more.
    fn find_terminated(&mut self, near: &Surroundings<'_>) {
        let is_gone = |member: &Member| near.roster.is_gone(&member.card.instance_id);
        let missing = self.missing_members(near).filter(|(_, member)| is_gone(member));
        let dead: Vec<PeerKey> = missing.map(|(key, _)| key).collect();
        dead.into_iter().for_each(|dead| self.accuse(dead, Reason::Terminated, near));
    }

    fn find_outlived(&mut self, near: &Surroundings<'_>) {
        let living = living_instances(near);
        let mut dead = Vec::new();
        for (key, member) in self.missing_members(near) {
            match living.get(member.card.instance_id.as_str()) {
                Some((incarnation, successor, true)) if *incarnation > member.card.incarnation => {
                    dead.push((key, *successor));
                }
                Some(_) | None => {}
            }
        }
        dead.into_iter().for_each(|(dead, successor)| self.accuse(dead, Reason::Outlived { successor }, near));
    }

    /// Two machines with one machine id were made of one image: nothing is concluded from it, and a person is told.
    fn find_clones(&mut self, near: &Surroundings<'_>) {
        let own = near.card;
        let is_clone = |card: &Card| {
            card.machine != NO_MACHINE && card.machine == own.machine && card.instance_id == own.instance_id
        };
        let long = near.members.iter().filter(|(_, member)| match member.reach {
            Reach::Reachable { since } => near.now.since(since) >= LONG,
            _ => false,
        });
        let clones: Vec<PeerKey> = long.filter(|(_, member)| is_clone(&member.card)).map(|(key, _)| *key).collect();
        for clone in clones.into_iter().filter(|clone| !self.problems.contains_key(clone)).collect::<Vec<_>>() {
            self.note_problem(clone, Problem::SameMachine);
        }
    }

    /// What was wrong with a peer goes with it.
    pub(in crate::ipam) fn forget_complaints(&mut self, near: &Surroundings<'_>) {
        let is_gone = |peer: &PeerKey| {
            near.members.get(peer).is_none_or(|member| member.departed.is_some())
                || self.certificates.contains_key(peer)
        };
        let gone: Vec<PeerKey> = self.problems.keys().copied().filter(is_gone).collect();
        gone.iter().for_each(|peer| drop(self.problems.remove(peer)));
    }
}
