//! Who should be in the mesh, as a cloud's list of machines says, against who is there.
//!
//! ```text
//!   Listing ──► Roster ┬─ absentees    expected, and no reachable peer is on it: dialled
//!                      ├─ is_gone      terminated, or the cloud knows it no more: its identity is called dead
//!                      └─ electorate   how many agree on the first ring, and who has to be among them
//! ```
//!
//! Invariants:
//! - gone is for ever, since a cloud gives an id once. Identity is that id and never an address, which is given again;
//! - that a machine is not listed proves something only when it was listed before, and in complete answers with ourselves in
//!   them that are [`ABSENCE`] apart: answers may be old, and pages may be missing;
//! - the electorate is what two complete answers in a row say alike. It names the oldest machine, so that two quorums share a
//!   member even when the group grows between them.

mod listing;
mod polling;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;

pub use self::listing::{INSTANCES_MAX, Instance, Listing, Standing};
pub use self::polling::{Outcome, Polling};

/// How long a machine is missing from the list until it is gone. EC2 lists terminated ones for about an hour.
pub const ABSENCE: Duration = Duration::from_secs(300);

/// What is remembered of one machine.
#[derive(Clone, Debug)]
struct Entry {
    address: Option<IpAddr>,
    standing: Standing,
    /// Since when it is not listed any more.
    missing: Option<Instant>,
}

/// Who agrees on the first ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Electorate {
    /// How many machines there are or are to be.
    pub peers: u32,
    /// The oldest of them, by time of launch and then by id: no quorum is without it.
    pub oldest: String,
    /// Those listed.
    members: BTreeSet<String>,
}

impl Electorate {
    fn of(listing: &Listing) -> Option<Self> {
        let expected = || listing.instances().filter(|instance| instance.standing == Standing::Expected);
        let oldest = expected().min_by_key(|instance| (instance.launched, &instance.id))?.id.clone();
        let members: BTreeSet<String> = expected().map(|instance| instance.id.clone()).collect();
        let listed = u32::try_from(members.len()).unwrap_or(u32::MAX);
        Some(Self { peers: listed.max(listing.desired), oldest, members })
    }
}

/// The machine; see the module.
#[derive(Debug, Default)]
pub struct Roster {
    /// The machine that this daemon runs on; empty before the first answer.
    own: String,
    entries: BTreeMap<String, Entry>,
    electorate: Option<Electorate>,
    is_confirmed: bool,
    /// How many answers were taken in.
    answers: u64,
}

impl Roster {
    /// Takes in an answer. What it says is gone is believed in any case, what it does not say only when it is complete.
    pub fn handle_listing(&mut self, listing: &Listing, now: Instant) {
        self.own.clone_from(&listing.own);
        self.answers += 1;
        listing.instances().for_each(|instance| self.note(instance));
        if listing.is_complete && listing.contains_itself() {
            self.note_absence(listing, now);
            let electorate = Electorate::of(listing);
            self.is_confirmed = electorate.is_some() && electorate == self.electorate;
            self.electorate = electorate;
        }
    }

    fn note(&mut self, instance: &Instance) {
        let Instance { address, standing, .. } = *instance;
        let entry = self.entries.entry(instance.id.clone()).or_insert(Entry { address, standing, missing: None });
        if entry.standing != Standing::Gone {
            *entry = Entry { address, standing, missing: None };
        }
    }

    fn note_absence(&mut self, listing: &Listing, now: Instant) {
        let listed: BTreeSet<&str> = listing.instances().map(|instance| instance.id.as_str()).collect();
        for (_, entry) in self.entries.iter_mut().filter(|(id, _)| !listed.contains(id.as_str())) {
            let since = *entry.missing.get_or_insert(now);
            entry.standing = match entry.standing {
                Standing::Expected | Standing::Aside if now.since(since) < ABSENCE => Standing::Aside,
                Standing::Expected | Standing::Aside | Standing::Gone => Standing::Gone,
            };
        }
    }

    /// Forgets what is gone and not listed any more, unless `is_needed`.
    pub fn forget(&mut self, is_needed: impl Fn(&str) -> bool) {
        self.entries.retain(|id, entry| entry.standing != Standing::Gone || entry.missing.is_none() || is_needed(id));
    }

    /// Whether the machine is no more, and never will be.
    pub fn is_gone(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.standing == Standing::Gone)
    }

    /// Machines that are not gone, as far as is known; also those not listed any more.
    pub fn living(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|(_, entry)| entry.standing != Standing::Gone).map(|(id, _)| id.as_str())
    }

    /// Who agrees on the first ring, as far as the last answer says.
    pub const fn electorate(&self) -> Option<&Electorate> {
        self.electorate.as_ref()
    }

    /// Whether two answers in a row said so.
    pub const fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// The other machines that are expected, and on which nobody `is_met`.
    pub fn absentees(&self, is_met: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, IpAddr)> {
        let others = self.entries.iter().filter(|(id, entry)| entry.standing == Standing::Expected && **id != self.own);
        let absent = others.filter(move |(id, _)| !is_met(id));
        absent.filter_map(|(id, entry)| Some((id.as_str(), entry.address?)))
    }

    /// At most `most` of them, others with each answer: some may be dead, and the list does not say so yet. Every host begins
    /// elsewhere, so that those who start together do not all dial the same.
    pub fn to_dial(&self, most: usize, is_met: impl Fn(&str) -> bool) -> Vec<IpAddr> {
        let absent: Vec<(&str, IpAddr)> = self.absentees(is_met).collect();
        let after = absent.partition_point(|(id, _)| *id < self.own.as_str());
        let turns = usize::try_from(self.answers).unwrap_or(usize::MAX).wrapping_mul(most);
        let start = after.wrapping_add(turns) % absent.len().max(1);
        absent.iter().cycle().skip(start).take(most.min(absent.len())).map(|(_, address)| *address).collect()
    }
}

#[cfg(test)]
mod tests;
