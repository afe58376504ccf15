//! Which carrier a peer's frames take, and why.
//!
//! ```text
//!                    answered heartbeat (first: one; after a demotion: three in a row)
//!            ┌────────────────────────────────────────────────────────────────┐
//!   start ─► SLEEVE                                                          FAST ◄─ start, adopted from the kernel
//!            └────────────────────────────────────────────────────────────────┘
//!                    three heartbeats in a row lost, each beside an answered sleeve probe; or one end has moved
//! ```
//!
//! A *tick* sends two probes at once: a full-size heartbeat by the fast path and a small packet by sleeve.
//!
//! ```text
//!   sleeve   heartbeat    verdict
//!   answered answered     the fast path works
//!   answered lost         a strike against the fast path
//!   lost     either       none: the host or the whole underlay may be away; the carrier stays
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use weave_mesh::time::Instant;

use crate::tables::{Carrier, Why};

/// How long after the sleeve probe's answer a heartbeat's answer may come.
const GRACE: Duration = Duration::from_millis(100);
/// Strikes that demote. With ticks of 200 ms a broken fast path is left within 0.8 s; at 1 % random loss a working one is
/// left once in some days.
const STRIKES_TO_DEMOTE: u32 = 3;
/// Answers in a row that promote again.
const ANSWERS_TO_HEAL: u32 = 3;
/// How long a tick is remembered for late answers.
const TICK_LIFETIME: Duration = Duration::from_secs(3);
/// Ticks remembered.
const TICKS_MAX: usize = 16;

/// Why a carrier was chosen; prints in the operator's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A new peer whose fast path has not answered yet.
    NotProvenYet,
    /// The kernel was already programmed to it when this daemon started.
    Adopted,
    HeartbeatAnswered,
    /// Full-size heartbeats were lost while sleeve probes sent at the same times were answered.
    HeartbeatsLost {
        lost: u32,
    },
    Healed,
    /// The peer or this host has another underlay address than before.
    Moved,
    Forbidden(Why),
}

/// A new choice, to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub carrier: Carrier,
    pub reason: Reason,
}

/// One peer's choice and the evidence for the next.
#[derive(Clone, Debug)]
pub struct Choice {
    carrier: Carrier,
    since: Instant,
    reason: Reason,
    ticks: VecDeque<Tick>,
    /// Heartbeats lost in a row, not counting ticks without a verdict.
    strikes: u32,
    /// Heartbeats answered in a row.
    answers: u32,
}

#[derive(Clone, Copy, Debug)]
struct Tick {
    nonce: u64,
    sent: Instant,
    sleeve_answered: Option<Instant>,
    /// Already counted as lost; a late answer takes that back.
    struck: bool,
}

impl Choice {
    /// For a peer met just now, whose frames the kernel sends by `applied`.
    pub const fn new(applied: Carrier, now: Instant) -> Self {
        let reason = match applied {
            Carrier::Sleeve => Reason::NotProvenYet,
            Carrier::Fast => Reason::Adopted,
        };
        Self { carrier: applied, since: now, reason, ticks: VecDeque::new(), strikes: 0, answers: 0 }
    }

    pub const fn carrier(&self) -> Carrier {
        self.carrier
    }

    pub const fn since(&self) -> Instant {
        self.since
    }

    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Evidence points to a change, and the next tick should come soon.
    pub const fn is_in_doubt(&self) -> bool {
        match self.carrier {
            Carrier::Fast => self.strikes > 0,
            Carrier::Sleeve => self.answers > 0,
        }
    }

    /// The fast path may not be used. Returns the change if it was.
    pub fn forbid(&mut self, why: Why, now: Instant) -> Option<Change> {
        self.distrust();
        let was = self.carrier;
        if self.reason == Reason::Forbidden(why) {
            return None;
        }
        let change = self.change(Carrier::Sleeve, Reason::Forbidden(why), now);
        (was == Carrier::Fast).then_some(change)
    }

    /// The fast path may be used; it has to prove itself if it was forbidden.
    pub fn allow(&mut self, now: Instant) {
        if matches!(self.reason, Reason::Forbidden(_)) {
            self.change(Carrier::Sleeve, Reason::NotProvenYet, now);
        }
    }

    /// One of the two underlay addresses is another one now, and the fast path has to prove itself between the new ones.
    /// Returns the change if it was used.
    pub fn move_away(&mut self, now: Instant) -> Option<Change> {
        self.distrust();
        (self.carrier == Carrier::Fast).then(|| self.change(Carrier::Sleeve, Reason::Moved, now))
    }

    /// Both probes of a tick were sent, with this nonce.
    pub fn tick(&mut self, nonce: u64, now: Instant) {
        while self.ticks.len() >= TICKS_MAX
            || self.ticks.front().is_some_and(|tick| now.since(tick.sent) > TICK_LIFETIME)
        {
            self.ticks.pop_front();
        }
        self.ticks.push_back(Tick { nonce, sent: now, sleeve_answered: None, struck: false });
    }

    /// The sleeve probe of a tick was answered.
    pub fn sleeve_answered(&mut self, nonce: u64, now: Instant) {
        if let Some(tick) = self.ticks.iter_mut().find(|tick| tick.nonce == nonce) {
            tick.sleeve_answered.get_or_insert(now);
        }
    }

    /// The heartbeat of a tick was answered.
    pub fn fast_answered(&mut self, nonce: u64, now: Instant) -> Option<Change> {
        let at = self.ticks.iter().position(|tick| tick.nonce == nonce)?;
        self.ticks.remove(at);
        self.strikes = 0;
        self.answers += 1;
        let (needed, reason) = match self.reason {
            Reason::HeartbeatsLost { .. } => (ANSWERS_TO_HEAL, Reason::Healed),
            _ => (1, Reason::HeartbeatAnswered),
        };
        let promote = self.carrier == Carrier::Sleeve && self.answers >= needed;
        promote.then(|| self.change(Carrier::Fast, reason, now))
    }

    /// Counts the ticks whose time is up.
    pub fn judge(&mut self, now: Instant) -> Option<Change> {
        for tick in &mut self.ticks {
            if tick.verdict_at().is_some_and(|at| at <= now) {
                tick.struck = true;
                self.strikes += 1;
                self.answers = 0;
            }
        }
        let demote = self.carrier == Carrier::Fast && self.strikes >= STRIKES_TO_DEMOTE;
        demote.then(|| self.change(Carrier::Sleeve, Reason::HeartbeatsLost { lost: self.strikes }, now))
    }

    /// When [`Self::judge`] has something to count.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ticks.iter().filter_map(Tick::verdict_at).min()
    }

    /// Forgets the evidence: this host's clock jumped, or the session that the heartbeats were sent under is gone.
    pub fn distrust(&mut self) {
        self.ticks.clear();
        self.strikes = 0;
        self.answers = 0;
    }

    fn change(&mut self, carrier: Carrier, reason: Reason, now: Instant) -> Change {
        self.distrust();
        (self.carrier, self.reason, self.since) = (carrier, reason, now);
        Change { carrier, reason }
    }
}

impl Tick {
    fn verdict_at(&self) -> Option<Instant> {
        self.sleeve_answered.filter(|_| !self.struck).map(|answered| answered + GRACE)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProvenYet => f.write_str("fast path has not answered a heartbeat yet"),
            Self::Adopted => f.write_str("found in the kernel at start"),
            Self::HeartbeatAnswered => f.write_str("fast path answered a full-size heartbeat"),
            Self::HeartbeatsLost { lost } => {
                write!(f, "fast path lost {lost} full-size heartbeats in a row while sleeve probes were answered")
            }
            Self::Healed => f.write_str("fast path answers full-size heartbeats again"),
            Self::Moved => f.write_str("an underlay address is another one, where the fast path has not answered yet"),
            Self::Forbidden(why) => write!(f, "fast path is not used: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(200);

    /// What happened to the two probes of a tick.
    #[derive(Clone, Copy)]
    struct Fate {
        sleeve: bool,
        fast: bool,
    }

    const BOTH: Fate = Fate { sleeve: true, fast: true };
    const SLEEVE_ONLY: Fate = Fate { sleeve: true, fast: false };
    const NEITHER: Fate = Fate { sleeve: false, fast: false };

    struct Clocked {
        choice: Choice,
        now: Instant,
        nonce: u64,
    }

    impl Clocked {
        fn new(applied: Carrier) -> Self {
            Self { choice: Choice::new(applied, Instant::ZERO), now: Instant::ZERO, nonce: 0 }
        }

        fn tick(&mut self, fate: Fate) -> Option<Change> {
            self.nonce += 1;
            self.choice.tick(self.nonce, self.now);
            if fate.sleeve {
                self.choice.sleeve_answered(self.nonce, self.now);
            }
            let change = if fate.fast { self.choice.fast_answered(self.nonce, self.now) } else { None };
            self.now += STEP;
            change.or_else(|| self.choice.judge(self.now))
        }
    }

    #[test]
    fn a_new_peer_moves_to_the_fast_path_at_the_first_answer() {
        let mut peer = Clocked::new(Carrier::Sleeve);

        assert_eq!(peer.tick(SLEEVE_ONLY), None);
        let change = peer.tick(BOTH).unwrap();

        assert_eq!(change, Change { carrier: Carrier::Fast, reason: Reason::HeartbeatAnswered });
        assert_eq!(peer.choice.since(), Instant::ZERO + STEP);
    }

    #[test]
    fn three_losses_beside_answered_sleeve_probes_demote() {
        let mut peer = Clocked::new(Carrier::Fast);

        assert_eq!([peer.tick(SLEEVE_ONLY), peer.tick(SLEEVE_ONLY)], [None, None]);
        let change = peer.tick(SLEEVE_ONLY).unwrap();

        assert_eq!(change.reason, Reason::HeartbeatsLost { lost: 3 });
        assert!(peer.now.since(Instant::ZERO) < Duration::from_secs(1));
        assert!(change.reason.to_string().contains("lost 3 full-size heartbeats"));
    }

    #[test]
    fn an_answer_in_between_starts_the_count_afresh() {
        let mut peer = Clocked::new(Carrier::Fast);

        for fate in [SLEEVE_ONLY, SLEEVE_ONLY, BOTH, SLEEVE_ONLY, SLEEVE_ONLY, BOTH] {
            assert_eq!(peer.tick(fate), None);
        }
    }

    #[test]
    fn a_late_answer_takes_its_strike_back() {
        let mut peer = Clocked::new(Carrier::Fast);

        for _ in 0..10 {
            assert_eq!(peer.tick(SLEEVE_ONLY), None);
            assert_eq!(peer.choice.fast_answered(peer.nonce, peer.now), None);
        }
    }

    #[test]
    fn when_both_are_lost_there_is_no_verdict() {
        for applied in [Carrier::Fast, Carrier::Sleeve] {
            let mut peer = Clocked::new(applied);

            assert!((0..100).all(|_| peer.tick(NEITHER).is_none()));
            assert_eq!(peer.choice.carrier(), applied);
        }
    }

    #[test]
    fn a_demoted_path_heals_after_three_answers_in_a_row() {
        let mut peer = Clocked::new(Carrier::Fast);
        for _ in 0..3 {
            peer.tick(SLEEVE_ONLY);
        }

        for fate in [BOTH, BOTH, SLEEVE_ONLY, BOTH, BOTH] {
            assert_eq!(peer.tick(fate), None);
        }
        assert_eq!(peer.tick(BOTH), Some(Change { carrier: Carrier::Fast, reason: Reason::Healed }));
    }

    #[test]
    fn an_adopted_carrier_stays_until_there_is_evidence() {
        let choice = Choice::new(Carrier::Fast, Instant::ZERO);

        assert_eq!((choice.carrier(), choice.reason()), (Carrier::Fast, Reason::Adopted));
    }

    #[test]
    fn evidence_from_before_a_clock_jump_does_not_count() {
        let mut peer = Clocked::new(Carrier::Fast);
        peer.tick(SLEEVE_ONLY);
        peer.tick(SLEEVE_ONLY);

        peer.choice.distrust();

        assert_eq!([peer.tick(SLEEVE_ONLY), peer.tick(SLEEVE_ONLY)], [None, None]);
        assert!(peer.tick(SLEEVE_ONLY).is_some());
    }

    #[test]
    fn a_fast_path_between_other_addresses_is_left_once_and_taken_at_its_first_answer() {
        let mut peer = Clocked::new(Carrier::Fast);

        let left = peer.choice.move_away(peer.now).unwrap();
        assert_eq!((left.carrier, left.reason), (Carrier::Sleeve, Reason::Moved));
        assert!(peer.choice.move_away(peer.now).is_none());

        assert!(peer.tick(BOTH).is_some_and(|change| change.carrier == Carrier::Fast));
    }

    #[test]
    fn a_forbidden_fast_path_is_left_once_and_proves_itself_again() {
        let mut peer = Clocked::new(Carrier::Fast);

        assert!(peer.choice.forbid(Why::SwitchedOff, peer.now).is_some());
        assert!(peer.choice.forbid(Why::SwitchedOff, peer.now).is_none());
        peer.choice.allow(peer.now);

        assert_eq!(peer.choice.reason(), Reason::NotProvenYet);
        assert!(peer.tick(BOTH).is_some());
    }
}
