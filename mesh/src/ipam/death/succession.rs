//! What justifies a take-over: everybody's signed approval. It travels with the ring, and every host judges it by itself.
//!
//! ```text
//!   take-over ──► does its owner itself approve?                 it came back, and bows to it
//!            └──► is its owner dead, as far as we can tell?      accusation.rs; of ourselves: the heir was out of reach
//!            └──► has everybody approved whom we know, or is dead?
//!                  somebody has not ──► asked by us, if it is there ──► Approve ──► Approved
//!                                  └──► not reachable: it is waited for
//! ```
//!
//! Invariants:
//! - what one owns that is alive goes to nobody: whoever reaches it believes nothing of the kind;
//! - an approval is of the incarnation that its signer believes dead; a newer one voids it;
//! - what is kept of a succession is signed by those whom we know, so nobody can fill it with inventions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::note::Note;
use super::super::ring::Ring;
use super::super::{Action, Ipam, Right, RingNews, Surroundings, Transfer};
use super::accusation::told;
use super::certificate::Certificate;
use super::estate::{Approval, Approvals, Estate, Succession, parts};
use crate::identity::PeerKey;
use crate::members::{HOLD, Reach};

/// How many successions are kept, and how many approvals of all of them: of 64 in a mesh of a thousand.
const SUCCESSIONS_MAX: usize = 64;
const APPROVALS_KEPT_MAX: usize = 65_536;

impl Ipam {
    /// All that something in the ring rests on, in parts.
    pub(in crate::ipam) fn told_successions(&self) -> Vec<Succession> {
        self.succeeded().flat_map(|(estate, approvals)| parts(*estate, approvals)).collect()
    }

    /// The estates that were taken over, as far as that is kept, and who approved.
    pub(super) fn succeeded(&self) -> impl Iterator<Item = (&Estate, &Approvals)> {
        let estates = self.ring.iter().flat_map(Ring::estates);
        estates.filter_map(|estate| Some((estate, self.successions.get(estate)?)))
    }

    /// Tells all neighbours what an estate rests on.
    pub(super) fn spread_estate(&mut self, estate: &Estate) {
        let Some(approvals) = self.successions.get(estate) else { return };
        for part in parts(*estate, approvals) {
            self.spread_news(RingNews { succession: Some(Box::new(part)), ..RingNews::default() }, None);
        }
    }

    /// What we believe of take-overs and names, besides what these transfers prove.
    pub(in crate::ipam) fn believes<'a>(
        &self,
        transfers: &[Arc<Transfer>],
        near: &Surroundings<'a>,
    ) -> impl Fn(&Transfer) -> bool + use<'a> {
        let is_news = |transfer: &&Arc<Transfer>| self.ring.as_ref().is_some_and(|ring| !ring.knows(transfer));
        let estates = transfers.iter().filter(is_news).filter_map(|transfer| transfer.estate());
        let mut believed: BTreeSet<Estate> = estates.collect();
        believed.retain(|estate| self.is_succeeded(estate, near));
        let members = near.members;
        move |transfer| match transfer.right {
            Right::Grant { .. } => true,
            Right::TakeOver { .. } => transfer.estate().is_some_and(|estate| believed.contains(&estate)),
            Right::Bind { name } => members.get(&transfer.to).is_some_and(|member| member.card.name == name),
        }
    }

    /// Whether it was taken over, as far as that is kept.
    pub(in crate::ipam) fn is_done(&self, estate: &Estate) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.estates().contains(estate))
    }

    /// The estates that their heirs have taken over, as they say, and that we cannot follow yet: of heirs that live, so that
    /// whoever says so and lies can be removed.
    pub(super) fn published(&self, near: &Surroundings<'_>) -> BTreeSet<Estate> {
        let mut estates: BTreeSet<Estate> = self.ahead.transfers().filter_map(Transfer::estate).collect();
        estates.retain(|estate| self.is_alive(&estate.heir, near));
        estates
    }

    /// Whether it may be: we believe that it is dead, or are called dead ourselves and were not there.
    fn is_due(&self, estate: &Estate, near: &Surroundings<'_>) -> bool {
        estate.dead == near.card.key || self.certificates.contains_key(&estate.dead)
    }

    fn is_succeeded(&self, estate: &Estate, near: &Surroundings<'_>) -> bool {
        let Some(approvals) = self.successions.get(estate) else { return false };
        approvals.contains_key(&estate.dead)
            || (self.is_due(estate, near) && self.lacking(estate, approvals, near).is_empty())
    }

    /// Who has not approved, as far as we know, and is not dead. We ourselves do by believing it.
    fn lacking(&self, estate: &Estate, approvals: &Approvals, near: &Surroundings<'_>) -> Vec<PeerKey> {
        let own = near.card.key;
        let newest = match self.newest(&estate.dead, near) {
            Some((incarnation, _)) if estate.dead != own => incarnation,
            Some(_) | None => 0,
        };
        let has_approved = |by: &PeerKey| approvals.get(by).is_some_and(|approval| approval.incarnation >= newest);
        let exempt = [own, estate.dead, estate.heir];
        self.alive(near).into_iter().filter(|peer| !exempt.contains(peer) && !has_approved(peer)).collect()
    }

    /// `from` tells a part of a succession; what of it is news.
    pub(in crate::ipam) fn hear_succession(
        &mut self,
        from: PeerKey,
        part: &Succession,
        near: &Surroundings<'_>,
    ) -> Option<Succession> {
        let estate = part.estate;
        let known = self.successions.get(&estate);
        let ring = *self.ring.as_ref()?.id();
        if known.is_none() && !self.may_succeed(&estate, near) {
            return None;
        }
        let is_news = |by: &PeerKey, approval: &Approval| {
            let earlier = known.and_then(|known| known.get(by));
            earlier.is_none_or(|earlier| earlier.incarnation < approval.incarnation)
                && (*by == estate.dead || self.is_alive(by, near))
        };
        let mut news = Succession { estate, approvals: part.approvals.clone() };
        news.approvals.retain(|by, approval| is_news(by, approval));
        if known.is_some() && news.approvals.is_empty() {
            return None;
        }
        if !news.approvals.iter().all(|(by, approval)| estate.is_approved(&ring, by, approval, near.verifier)) {
            self.actions.push_back(Action::Breach(from, "an approval is not signed"));
            return None;
        }
        self.keep(&news, near);
        Some(news)
    }

    /// Whether it makes sense that we are told of it: of our own by one whom we did not reach meanwhile.
    fn may_succeed(&self, estate: &Estate, near: &Surroundings<'_>) -> bool {
        let was_away = match near.members.get(&estate.heir).map(|heir| heir.reach) {
            Some(Reach::Reachable { since }) => near.now.since(since) < HOLD,
            Some(Reach::Unreachable { .. } | Reach::Lost { .. }) => true,
            Some(Reach::Heard { .. }) | None => false,
        };
        let is_ours = estate.dead == near.card.key;
        estate.heir != estate.dead && if is_ours { was_away } else { self.is_known(&estate.dead, near) }
    }

    /// Keeps approvals. Of too many estates the one goes that the fewest approve whom we know; of too many approvals those
    /// of the estate that has the most, since nobody but invented members makes so many.
    pub(super) fn keep(&mut self, news: &Succession, near: &Surroundings<'_>) {
        self.successions.entry(news.estate).or_default().extend(&news.approvals);
        let by_approvals = |(_, approvals): &(&Estate, &Approvals)| approvals.len();
        let excess = if self.successions.len() > SUCCESSIONS_MAX {
            self.successions.iter().min_by_key(by_approvals)
        } else if self.successions.values().map(BTreeMap::len).sum::<usize>() > APPROVALS_KEPT_MAX {
            self.successions.iter().max_by_key(by_approvals)
        } else {
            None
        };
        let excess = excess.map(|(estate, _)| *estate);
        excess.iter().for_each(|estate| drop(self.successions.remove(estate)));
        self.retry_ahead(near);
        self.persist_later(near);
    }

    /// Asks those who are there for the approvals that we miss, for the heir of each estate whom most approve: its owner
    /// alone, if that is there.
    pub(in crate::ipam) fn pursue_successions(&mut self, near: &Surroundings<'_>) {
        if self.successions.is_empty() {
            return;
        }
        let open = self.successions.iter().filter(|(estate, _)| !self.is_done(estate));
        let mut best: BTreeMap<PeerKey, (&Estate, &Approvals)> = BTreeMap::new();
        for (estate, approvals) in open {
            let (other, most) = best.entry(estate.dead).or_insert((estate, approvals));
            if approvals.len() > most.len() {
                (*other, *most) = (estate, approvals);
            }
        }
        let asked = best.into_values().flat_map(|(estate, approvals)| {
            let asked = match self.is_due(estate, near) {
                true => self.lacking(estate, approvals, near),
                false => vec![estate.dead],
            };
            asked.into_iter().filter(|peer| near.is_reachable(peer)).map(|peer| (peer, *estate))
        });
        for (peer, estate) in asked.collect::<Vec<_>>() {
            let certificate = self.certificates.get(&estate.dead).map(|certificate| told(certificate, near));
            self.write(peer, &Note::Approve { estate, certificate });
        }
    }

    /// `from` misses our approval. It gets it if we promised that asking, or do now, or see it in our ring.
    pub(in crate::ipam) fn handle_approve(
        &mut self,
        from: PeerKey,
        estate: Estate,
        certificate: Option<&Certificate>,
        near: &Surroundings<'_>,
    ) {
        // It may know of a later life than we, and an approval of an earlier one is none.
        if let Some(certificate) = certificate.filter(|certificate| self.hear(from, certificate, near)) {
            self.spread(&[], std::slice::from_ref(certificate), None);
        }
        let is_promised = self.promise_late(&estate, near);
        let is_done = self.is_done(&estate);
        // Who came to this ring when it was done has never heard of the dead one.
        let is_stranger = is_done && !self.is_known(&estate.dead, near);
        let shown = certificate.filter(|told| told.dead == estate.dead && is_stranger && told.is_sound(near.verifier));
        let incarnation = self.buried(&estate.dead, near).or_else(|| shown.map(|told| told.incarnation));
        if let Some(incarnation) = incarnation.filter(|_| is_promised || is_done)
            && let Some(ring) = &self.ring
        {
            let approval = estate.approve(ring.id(), incarnation, near.identity);
            self.write(from, &Note::Approved { estate, approval });
        }
    }

    /// Ours, if we believe that it is dead.
    pub(super) fn approval(&self, estate: &Estate, near: &Surroundings<'_>) -> Option<Approval> {
        Some(estate.approve(self.ring.as_ref()?.id(), self.buried(&estate.dead, near)?, near.identity))
    }

    /// Up to which incarnation we believe `peer` dead. Of ourselves nobody else may say so.
    fn buried(&self, peer: &PeerKey, near: &Surroundings<'_>) -> Option<u64> {
        if *peer == near.card.key {
            return Some(near.card.incarnation);
        }
        let certified = self.certificates.get(peer)?.incarnation;
        let newest = self.newest(peer, near).map_or(0, |(incarnation, _)| incarnation);
        Some(certified.max(newest))
    }

    pub(in crate::ipam) fn handle_approved(
        &mut self,
        from: PeerKey,
        estate: Estate,
        approval: Approval,
        near: &Surroundings<'_>,
    ) {
        if self.successions.contains_key(&estate) {
            let part = Succession { estate, approvals: BTreeMap::from([(from, approval)]) };
            self.hear_succession(from, &part, near);
        }
    }
}
