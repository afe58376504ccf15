//! Who is found dead without anybody saying so: whoever left for good, and whoever's machine lives on as somebody else.
//!
//! Invariants:
//! - a successor has been reachable for long while the other was not: who died a moment ago seems reachable still, and a
//!   clock that was set back makes it look like the later of two identities;
//! - a machine id that two peers showed while both were reachable for long certifies nobody, ever after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{Ipam, Surroundings};
use crate::card::Card;
use crate::identity::{Hash, PeerKey, digest};
use crate::members::Reach;

/// How long a peer is reachable until that is believed: longer than a dead one can seem so. When two identities of one
/// machine are, together, its id does not tell machines apart.
const LONG: Duration = Duration::from_secs(30);

/// What tells a machine from others: its instance id, else its machine id, unless there is none.
fn machine_of(card: &Card) -> Option<Hash> {
    match card.instance_id.as_str() {
        "" => (card.machine != [0; 32]).then_some(card.machine),
        id => Some(digest("weave-rs instance", &[id.as_bytes()])),
    }
}

impl Ipam {
    /// Certifies who left for good, and whose machine lives on as somebody else.
    pub(in crate::ipam) fn review_members(&mut self, near: &Surroundings<'_>) {
        let mut living: BTreeMap<Hash, (u64, PeerKey, bool)> = BTreeMap::new();
        let mut note = |shared: &mut BTreeSet<Hash>, card: &Card, is_long: bool| {
            let Some(machine) = machine_of(card) else { return };
            let this = (card.incarnation, card.key, is_long);
            let best = living.entry(machine).or_insert(this);
            if best.1 != card.key && best.2 && is_long {
                shared.insert(machine);
            }
            *best = (*best).max(this);
        };
        note(&mut self.shared_machines, near.card, true);
        for (_, member) in near.members.iter() {
            if let Reach::Reachable { since } = member.reach {
                note(&mut self.shared_machines, &member.card, near.now.since(since) >= LONG);
            }
        }
        let mut dead = Vec::new();
        for (key, member) in near.members.iter() {
            let is_gone = matches!(member.reach, Reach::Unreachable { .. } | Reach::Lost { .. });
            if !is_gone || self.certificates.contains_key(key) {
                continue;
            }
            let is_outlived = near.now.since(member.reach.since()) >= LONG;
            let machine = machine_of(&member.card).filter(|machine| !self.shared_machines.contains(machine));
            match machine.and_then(|machine| living.get(&machine)).filter(|_| is_outlived) {
                Some((incarnation, successor, true)) if *incarnation > member.card.incarnation && successor != key => {
                    dead.push((*key, Some(*successor)));
                }
                _ if member.departed.is_some() => dead.push((*key, None)),
                _ => {}
            }
        }
        dead.into_iter().for_each(|(dead, successor)| self.declare_dead(dead, successor, near));
    }
}
