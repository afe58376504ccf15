//! Where a cloud lists the machines of a group: how many agree on the first ring, and who has to be among them.
//!
//! Invariant: nobody proposes before two answers in a row said the same, with itself in them. What a member demands of a
//! quorum is a majority of the largest number heard of, and the oldest machine that it knows of.

use super::super::{Init, Ipam, Surroundings, Wait};
use super::{Need, UNMET_MAX};

impl Ipam {
    /// Whether there is no ring, and the cloud's next answer may bring one nearer.
    pub(crate) fn waits_for_listing(&self) -> bool {
        self.config.init == Init::Listed && self.ring.is_none()
    }

    /// What we demand of a quorum that we are in.
    pub(super) fn listed_need(&self, near: &Surroundings<'_>) -> Need {
        let heard = self.formation.peers.max(1);
        let Some(electorate) = near.roster.electorate() else { return Need { peers: heard, ..Need::default() } };
        let oldest = near.residents().get(electorate.oldest.as_str()).copied();
        let peers = electorate.peers.max(heard);
        if oldest == Some(near.card.key) {
            return Need { peers, ..Need::default() };
        }
        Need { peers, given: 1, known: oldest.into_iter().collect() }
    }

    /// Whether a proposal has a chance.
    pub(super) fn is_electorate_there(&self, near: &Surroundings<'_>) -> bool {
        let need = self.listed_need(near);
        let is_oldest_there = need.known.len() == need.given as usize;
        near.roster.is_confirmed() && is_oldest_there && near.reachable().len() >= need.peers as usize / 2
    }

    /// What is missing for a first ring.
    pub(super) fn missing_electors(&self, near: &Surroundings<'_>) -> Wait {
        if !near.roster.is_confirmed() {
            return Wait::Listing;
        }
        let residents = near.residents();
        let is_met = |instance: &str| residents.contains_key(instance);
        let unmet = near.roster.absentees(is_met).take(UNMET_MAX).map(|(id, address)| format!("{id} at {address}"));
        Wait::Quorum {
            have: near.reachable().len() + 1,
            need: self.listed_need(near).peers as usize / 2 + 1,
            oldest: near.roster.electorate().map(|it| it.oldest.clone()).filter(|oldest| !is_met(oldest)),
            unmet: unmet.collect(),
        }
    }
}
