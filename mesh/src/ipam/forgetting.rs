//! Who is dead and of no consequence is forgotten, so that years of hosts that come and go leave nothing behind.
//!
//! ```text
//!   believed dead ──► owns something, or is named by a promise or an asking ──► kept
//!                └──► owns nothing ── a day ──► everybody alive was there to hear of it ──► forgotten
//!                                          └──► somebody is away ── a week at most ───────► forgotten
//!
//!   told later that it is dead ──► an identity that means nothing here: nothing is kept, nothing passed on
//! ```
//!
//! Invariants:
//! - only of the dead nothing is asked, so nobody else is forgotten while addresses are managed: who is away may have been
//!   granted something, and an heir must ask it. In a full list of members alone the one gives way who is gone longest;
//! - each host forgets by its own clock: what it has forgotten is in no hash that neighbours compare;
//! - who hears late of a death would wait for the dead one's consent, so a certificate outlasts every absence up to a week.

use std::time::Duration;

use super::{Action, Estate, Ipam, Surroundings};
use crate::connector::ConnectionId;
use crate::identity::PeerKey;
use crate::members::Reach;
use crate::time::Instant;

/// How long the dead are remembered that own nothing.
const KEEP_DEAD: Duration = Duration::from_secs(24 * 3_600);
/// How long they are remembered for the sake of those who are away.
const KEEP_FOR_ABSENT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Whoever was there so long after a death has heard of it.
const SPREAD_TIME: Duration = Duration::from_secs(60);

impl Ipam {
    /// Forgets whom nothing here hangs on any more.
    pub(super) fn forget_dead(&mut self, near: &Surroundings<'_>) {
        let age = |at: Instant| near.now.since(at);
        let old = self.buried.iter().filter(|(dead, at)| age(**at) >= KEEP_DEAD && !near.is_reachable(dead));
        let old: Vec<(PeerKey, Instant)> =
            old.filter(|(dead, _)| !self.is_involved(dead)).map(|(dead, at)| (*dead, *at)).collect();
        if old.is_empty() {
            return;
        }
        let absent = self.absent_since(near);
        for (dead, at) in old {
            let has_everybody_heard = absent.is_none_or(|since| since >= at + SPREAD_TIME);
            if has_everybody_heard || age(at) >= KEEP_FOR_ABSENT {
                self.forget(&dead, near);
            }
        }
    }

    /// Since when the one is away that is away longest and not dead.
    fn absent_since(&self, near: &Surroundings<'_>) -> Option<Instant> {
        let alive = near.members.iter().filter(|(peer, _)| !self.certificates.contains_key(peer));
        let absent = alive.filter_map(|(_, member)| match member.reach {
            Reach::Unreachable { since } | Reach::Lost { since } => Some(since),
            Reach::Heard { .. } | Reach::Reachable { .. } => None,
        });
        absent.min()
    }

    /// Whether anything here is about the peer besides that it was: it owns addresses, or an estate waits for it.
    fn is_involved(&self, peer: &PeerKey) -> bool {
        self.is_owner(peer)
            || self.promises.iter().any(|(dead, promise)| dead == peer || promise.heir == *peer)
            || self.deaths.is_about(peer)
    }

    /// Whether a newcomer may have the place of the peer when there is no other.
    pub(crate) fn may_give_way(&self, peer: &PeerKey) -> bool {
        !self.is_involved(peer) && !self.lodgers.holds.contains_key(peer)
    }

    /// Nothing of the peer is known from here on.
    pub(crate) fn forget(&mut self, peer: &PeerKey, near: &Surroundings<'_>) {
        self.certificates.remove(peer);
        self.buried.remove(peer);
        self.accusations.remove(peer);
        self.newer.remove(peer);
        self.problems.remove(peer);
        self.donations.forget(peer);
        self.forget_successions(peer);
        self.actions.push_back(Action::Forget(*peer));
        self.persist_later(near);
    }

    /// What came to nothing. What justifies how the ring is stays with it, for those who have yet to follow.
    fn forget_successions(&mut self, peer: &PeerKey) {
        if self.successions.keys().any(|estate| estate.dead == *peer || estate.heir == *peer) {
            let ring = self.ring.as_ref();
            let is_done = |estate: &Estate| ring.is_some_and(|ring| ring.estates().contains(estate));
            self.successions.retain(|estate, _| (estate.dead != *peer && estate.heir != *peer) || is_done(estate));
        }
    }

    /// Tells a neighbour, which was out of reach, who died: it may have missed that, and rings that are equal do not show it.
    pub(crate) fn tell_deaths(&mut self, to: ConnectionId, near: &Surroundings<'_>) {
        let told: Vec<_> = self.certificates.values().map(|known| super::death::told(known, near)).collect();
        self.tell_certificates(to, &told);
    }
}
