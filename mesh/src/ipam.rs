//! IPAM: who owns which addresses, and which container holds which, without a coordinator.
//!
//! ```text
//!   allocate, claim, release ──► pending     operations that wait
//!                                allocation  addresses out of what we own
//!                                holdings    containers of this host and their addresses
//!                                space       what we own and nobody holds
//!   news                     ──► spread      who tells it to whom
//!                                following   ring.rs: who owns what; signed, merged address by address
//!                                newcomer    from whom we have the ring
//!                                away        a ring that may be an old one
//!   letters                  ──► formation   the first ring, by a quorum
//!                                donation    space from those who have it
//!                                leaving     all of it to another peer, before we go
//!                                death       what the dead owned, by consent
//!                                forgetting  the dead of whom nothing is left
//!                                strays      addresses that our containers hold and another owns
//!                                lodgers     addresses of ours that containers elsewhere hold
//! ```
//!
//! Allocation inside what we own asks nobody. The rest of the machine moves ownership, safely: see docs/ipam.md.
//!
//! Invariants:
//! - an address is allocated only while we own it, and after that is durable;
//! - `space` is what we own, less what containers anywhere are known to hold;
//! - an operation is answered once, or cancelled.

mod action;
mod allocation;
mod away;
mod cidr;
mod config;
mod death;
mod donation;
mod following;
mod forgetting;
mod formation;
mod holdings;
mod leaving;
#[cfg(test)]
pub(crate) mod lies;
mod lodgers;
mod newcomer;
mod note;
mod operation;
mod pending;
mod problem;
mod ring;
mod rules;
mod space;
mod spread;
mod state;
mod strays;
mod surroundings;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use crate::card::SignedCard;
use crate::identity::PeerKey;
use crate::time::Instant;

pub(crate) use self::action::Action;
pub use self::cidr::{Cidr, InvalidCidr, Range, SUBNET_PREFIX_MAX};
pub use self::config::{Config, ConfigError, Init};
pub use self::death::{Approval, Certificate, Estate, Reason, Succession};
pub use self::holdings::Change;
pub use self::note::Note;
pub use self::operation::{Answer, ClaimMode, Error, OPERATIONS_MAX, Ticket, Wait};
pub use self::problem::Problem;
pub use self::ring::{FirstRing, Origin, Owner, PIECES_MAX, Right, SHARES_MAX, Transfer, Version};
pub use self::spread::{RingNews, RingState};
pub use self::state::{Restored, StateError};
pub use self::view::{IpamView, PendingView};

use self::away::Away;
use self::death::{Approvals, Deaths, Promise};
use self::donation::Donations;
use self::following::Ahead;
use self::formation::Formation;
use self::holdings::Holdings;
use self::lodgers::Lodgers;
use self::newcomer::Newcomer;
use self::operation::Operation;
use self::pending::Pending;
use self::ring::Ring;
#[cfg(test)]
pub(crate) use self::rules::Rule;
use self::rules::Rules;
use self::space::Space;
use self::strays::Strays;
pub(crate) use self::surroundings::Surroundings;

/// How often members are looked at for those that are dead.
const REVIEW_INTERVAL: Duration = Duration::from_secs(5);

/// The machine; see the module.
#[derive(Debug)]
pub(crate) struct Ipam {
    config: Config,
    ring: Option<Ring>,
    space: Space,
    holdings: Holdings,
    /// The containers found running are all known: only now anything is allocated.
    is_resumed: bool,
    pending: BTreeMap<Ticket, Pending>,
    formation: Formation,
    /// Somebody who takes no part in making the ring wants it.
    formation_is_wanted: bool,
    donations: Donations,
    /// Whom we believe dead, and why.
    certificates: BTreeMap<PeerKey, Certificate>,
    /// Since when, in this life of ours.
    buried: BTreeMap<PeerKey, Instant>,
    /// Who is called dead and was reached lately.
    accusations: BTreeMap<PeerKey, Certificate>,
    /// Cards of those whom we called dead, newer than those of the members.
    newer: BTreeMap<PeerKey, (u64, SignedCard)>,
    started: Instant,
    /// When we last rose above somebody who called us dead.
    refuted: Option<Instant>,
    /// By the dead peer.
    promises: BTreeMap<PeerKey, Promise>,
    successions: BTreeMap<Estate, Approvals>,
    ahead: Ahead,
    /// While our ring may be an old one.
    away: Option<Away>,
    /// Since when no neighbour is there.
    alone_since: Option<Instant>,
    /// Until all of the ring is told.
    newcomer: Option<Newcomer>,
    deaths: Deaths,
    strays: Strays,
    are_strays_stale: bool,
    lodgers: Lodgers,
    problems: BTreeMap<PeerKey, Problem>,
    rules: Rules,
    /// What operations wait for may have come.
    is_changed: bool,
    /// Something has to be durable before the next action.
    is_unsaved: bool,
    persist_at: Option<Instant>,
    review_at: Instant,
    rng: ChaCha8Rng,
    actions: VecDeque<Action>,
}

impl Ipam {
    pub(crate) fn new(
        config: Config,
        restored: &Restored,
        seed: u64,
        near: &Surroundings<'_>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let mut ipam = Self {
            config,
            ring: None,
            space: Space::default(),
            holdings: Holdings::default(),
            is_resumed: false,
            pending: BTreeMap::new(),
            formation: Formation::default(),
            formation_is_wanted: false,
            donations: Donations::default(),
            certificates: BTreeMap::new(),
            buried: BTreeMap::new(),
            accusations: BTreeMap::new(),
            newer: BTreeMap::new(),
            started: near.now,
            refuted: None,
            promises: BTreeMap::new(),
            successions: BTreeMap::new(),
            ahead: Ahead::default(),
            away: None,
            alone_since: None,
            newcomer: None,
            deaths: Deaths::default(),
            strays: Strays::default(),
            are_strays_stale: true,
            lodgers: Lodgers::default(),
            problems: BTreeMap::new(),
            rules: Rules::default(),
            is_changed: false,
            is_unsaved: false,
            persist_at: None,
            review_at: near.now + REVIEW_INTERVAL,
            rng: ChaCha8Rng::seed_from_u64(seed),
            actions: VecDeque::new(),
        };
        restored.owned.iter().for_each(|change| ipam.holdings.replay(change));
        if let Some(bytes) = &restored.ring {
            ipam.restore(bytes, near)?;
        }
        ipam.newcomer = ipam.ring.is_none().then(Newcomer::default);
        ipam.begin_away(near);
        ipam.start_formation(near);
        ipam.measure(near);
        Ok(ipam)
    }

    /// Breaks a rule from here on: whoever watches should notice.
    #[cfg(test)]
    pub(crate) fn break_rule(&mut self, rule: Rule) {
        self.rules = Rules::broken(rule);
        if rule == Rule::RememberVote {
            self.formation.voter = formation::Voter::default();
        }
    }

    /// The next thing to do; once [`Self::settle`] is through.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        if std::mem::take(&mut self.is_unsaved) {
            return Some(Action::PersistRing(self.image()));
        }
        self.actions.pop_front()
    }

    /// What every input ends with: what is due, and what follows for those that wait.
    pub(crate) fn settle(&mut self, near: &Surroundings<'_>) {
        if self.poll_timeout() <= near.now {
            self.handle_timeout(near);
        }
        while std::mem::take(&mut self.is_changed) {
            self.pursue_inheritances(near);
            self.retry(near);
            self.handle_formation_timeout(near);
        }
        self.tell_strays(near);
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let timers = [
            self.formation_timeout(),
            self.donation_timeout(),
            self.death_timeout(),
            self.stray_timeout(),
            self.ahead.retry_at,
            self.away_timeout(),
            self.newcomer_timeout(),
            self.persist_at,
        ];
        timers.into_iter().flatten().min().map_or(self.review_at, |at| at.min(self.review_at))
    }

    fn handle_timeout(&mut self, near: &Surroundings<'_>) {
        self.handle_formation_timeout(near);
        self.handle_donation_timeout(near);
        if self.death_timeout().is_some_and(|at| at <= near.now) {
            self.pursue_inheritances(near);
        }
        if self.ahead.retry_at.is_some_and(|at| at <= near.now) {
            self.follow_ahead(near);
        }
        self.handle_away_timeout(near);
        self.handle_newcomer_timeout(near);
        if self.persist_at.is_some_and(|at| at <= near.now) {
            self.persist();
        }
        if self.review_at <= near.now {
            self.review_at = near.now + REVIEW_INTERVAL;
            self.review_members(near);
            self.void_promises(near);
            self.remind_heirs(near);
            self.pursue_successions(near);
            self.retry_ahead(near);
            self.verify_holds(near);
            self.forget_dead(near);
            self.mend(near);
        }
    }

    /// Who is reachable has changed.
    pub(crate) fn handle_topology(&mut self, near: &Surroundings<'_>) {
        self.note_solitude(near);
        self.hurry_formation(near);
        self.hurry_requests(near);
        self.hurry_askings(near);
        self.strays.hurry(near.now);
        self.review_members(near);
        self.pursue_successions(near);
        self.retry_ahead(near);
        self.is_changed |= !self.pending.is_empty();
    }

    /// The cloud was heard: who is gone, and who agrees on the first ring.
    pub(crate) fn handle_listing(&mut self, near: &Surroundings<'_>) {
        self.hurry_formation(near);
        self.review_members(near);
        self.is_changed = true;
    }

    /// A letter that is signed by `from`.
    pub(crate) fn handle_note(&mut self, from: PeerKey, note: Note, near: &Surroundings<'_>) {
        match note {
            Note::Prepare { ballot, need } => self.handle_prepare(from, ballot, &need, near),
            Note::Promise { ballot, accepted, need } => self.handle_promise(from, ballot, accepted, need, near),
            Note::Refuse { promised } => self.handle_refuse(promised, near),
            Note::Exists { first } => {
                if self.is_usable(from, &first, near) {
                    self.join(first, near);
                }
            }
            Note::Accept { ballot, first } => self.handle_accept(from, ballot, first, near),
            Note::Accepted { ballot } => self.handle_accepted(from, ballot, near),
            Note::Wanted => self.handle_wanted(from, near),
            Note::AskRole => self.handle_ask_role(from),
            Note::Observes => self.handle_observes(from, near),
            Note::Request { id, window } => self.handle_request(from, id, window, near),
            Note::Granted { transfers, .. } => self.handle_granted(from, &transfers, near),
            Note::Denied { id, is_held, transfers } => self.handle_denied(from, id, is_held, &transfers, near),
            Note::Ask { certificate, id, ring, members } => {
                self.handle_ask(from, &certificate, id, (ring, members), near);
            }
            Note::Approve { estate, certificate } => self.handle_approve(from, estate, certificate.as_ref(), near),
            Note::Approved { estate, approval } => self.handle_approved(from, estate, approval, near),
            Note::Consent(consent) => self.handle_consent(from, &consent, near),
            Note::Occupied { dead, heir, id } => self.handle_occupied(from, dead, (heir, id), near),
            Note::Withdraw { dead, id } => self.handle_withdraw(from, dead, id, near),
            Note::Holds(holds) => self.handle_holds(from, &holds, near),
            Note::HoldsHeard { number } => self.handle_holds_heard(from, number, near),
            Note::TellHolds => self.handle_tell_holds(from, near),
            Note::HandOver { id, transfers } => self.handle_hand_over(from, id, &transfers, near),
            Note::HandOverHeard { id } => self.handle_hand_over_heard(id),
            Note::Newer { card } => self.handle_newer(card, near),
            Note::Accused { certificate } => self.refute(&certificate, near),
        }
    }

    fn write(&mut self, to: PeerKey, note: &Note) {
        self.actions.push_back(Action::Write(to, note.encode()));
    }
}

#[cfg(test)]
mod tests;
