//! Whether segmented sends to a peer arrive as they should: the path proves it, again and again, at run time.
//!
//! UDP segmentation offload is mangled or stalled by some kernels, hypervisors and cards, and no device says so. Both
//! ends of a path are ours, so the path is tested, not the device: some trains leave as one segmented send, some beside
//! them one by one, and the peer reports what became of each packet.
//!
//! ```text
//!                  a trial found both kinds sound                    alarm: evidence.rs
//!   UNPROVEN ─────────────────────────────────────► PROVEN ─────────────────────────────► DISTRUSTED
//!   plain sends ◄───────────────────────────────── segmented     or refused by the kernel  plain sends
//!                  moved, or 64 questions unanswered  ▲                                       │
//!                                                     └────── three sound trials in a row ────┘
//!                                                              tried after 5 s, 10 s, … 60 s
//!
//!   a trial      traffic:  … S S S P S P S P S P ──► question: these counters? ──► report: arrived, late
//!                made up:  S(16) S(4) S(4) S(4)  P(16) P(4) P(4) P(4) ──► question …    S segmented  P plain
//! ```
//!
//! Invariants:
//! - a path is plain until it has proved itself, so a peer that answers no question gets plain sends;
//! - while segmented trains leave, a trial ends every [`INTERVAL`] at least; when much speaks against them, made-up
//!   trains of both kinds fill the trials until it is settled: a path that stalls its own traffic is convicted all the
//!   same;
//! - a path that is quiet, or dead for both kinds, is not convicted;
//! - conviction costs four trials that agree ([`evidence`]); retrials back off, so a path flaps at most
//!   once in a minute for long.
//!
//! The receiving side needs no proof: the kernel merges (`UDP_GRO`) only what it could cut again into the same
//! datagrams, and each datagram is opened under its own tag.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use weave_mesh::time::Instant;

use crate::batch::{Refusal, SendMode};
use crate::sleeve::packet::Index;

pub mod evidence;
pub mod question;

use evidence::{Evidence, Finding, Tally};
use question::{Question, Report};

/// From one trial to the next while segmented trains leave.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// While much speaks against segmented sends.
const INTERVAL_GRAVE: Duration = Duration::from_millis(25);
/// How long before its question a trial begins to send some trains plainly.
const GATHER: Duration = Duration::from_millis(10);
/// Trains of each kind in a trial.
const TRAINS: usize = 4;
/// Datagrams of each made-up train but the first.
const SHORT: usize = 4;
/// Of the first one in a proof.
const LONG: usize = 16;
/// Questions in a row without an answer after which segmented sends end: some three seconds of traffic.
const OPEN_MAX: usize = 64;
/// Between proofs that found nothing: the first time, and at most.
const PROOF_RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// Between retrials of a distrusted path: the first time, and at most.
const RETRIAL: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];
/// After a send that was too long: the path has just become smaller, and its new size is soon known.
const RETRIAL_TOO_LONG: Duration = Duration::from_secs(1);
/// Sound trials in a row that acquit, and the time between them.
const SOUND_TO_HEAL: u32 = 3;
const HEAL_INTERVAL: Duration = Duration::from_millis(200);
/// A path that was sound for so long starts over with short back-offs.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// Packets of one session with consecutive counters that left as one train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub first: u64,
    /// At most [`question::COUNT_MAX`].
    pub count: u8,
    /// The last is as long as the others, which some cards and kernels get wrong.
    pub has_equal_tail: bool,
}

/// Why a path sends as it does; prints in the operator's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NotProvenYet,
    Moved,
    Silent,
    Proven,
    Healed,
    Refused(Refusal),
    /// Of segmented sends, beside plain ones.
    Bad {
        segmented: Tally,
        plain: Tally,
    },
}

/// A new verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub mode: SendMode,
    pub reason: Reason,
}

/// What a path does now, since when, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub mode: SendMode,
    pub since: Instant,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unproven,
    Proven,
    Distrusted,
}

/// One path's proof and the evidence for the next verdict.
#[derive(Clone, Debug)]
pub struct Canary {
    state: State,
    since: Instant,
    reason: Reason,
    /// Where segmented sends were proven to arrive, and the session that the samples were sealed in.
    destination: Option<SocketAddr>,
    session: Option<Index>,
    samples: Samples,
    /// When the next trial is due.
    ask_at: Option<Instant>,
    asked: Instant,
    next_id: u64,
    open: VecDeque<Trial>,
    evidence: Evidence,
    /// A segmented train was bad and no plain one beside it: the next trial makes up its own.
    suspects: bool,
    sound_in_a_row: u32,
    back_off: Duration,
}

/// Trains of both kinds that the next question is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Samples {
    segmented: VecDeque<Stretch>,
    plain: VecDeque<Stretch>,
}

impl Samples {
    fn of(&self, mode: SendMode) -> &VecDeque<Stretch> {
        match mode {
            SendMode::Segmented => &self.segmented,
            SendMode::Plain => &self.plain,
        }
    }
}

#[derive(Clone, Debug)]
struct Trial {
    id: u64,
    segmented: usize,
    stretches: Vec<Stretch>,
}

impl Canary {
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Unproven,
            since: now,
            reason: Reason::NotProvenYet,
            destination: None,
            session: None,
            samples: Samples::default(),
            ask_at: None,
            asked: now,
            next_id: 0,
            open: VecDeque::new(),
            evidence: Evidence::default(),
            suspects: false,
            sound_in_a_row: 0,
            back_off: Duration::ZERO,
        }
    }

    /// How trains to this peer may leave.
    pub fn mode(&self) -> SendMode {
        match self.state {
            State::Proven => SendMode::Segmented,
            State::Unproven | State::Distrusted => SendMode::Plain,
        }
    }

    pub fn status(&self) -> Status {
        Status { mode: self.mode(), since: self.since, reason: self.reason }
    }

    /// A train of at least two datagrams is about to leave: says how. `session` names the one that sealed it.
    pub fn train(&mut self, stretch: Stretch, destination: SocketAddr, session: Index, now: Instant) -> SendMode {
        self.follow(destination, session, now);
        match self.state {
            State::Distrusted => SendMode::Plain,
            State::Unproven => {
                let at = now.max(self.asked + self.back_off);
                self.ask_at.get_or_insert(at);
                SendMode::Plain
            }
            State::Proven => self.sample(stretch, now),
        }
    }

    /// Decides whether a train of a proven path is one of those sent plainly for comparison.
    fn sample(&mut self, stretch: Stretch, now: Instant) -> SendMode {
        let due = self.asked + self.pace();
        let gathers = now + GATHER >= due;
        let at = due.max(now + GATHER);
        self.ask_at.get_or_insert(at);
        let Samples { segmented, plain } = &mut self.samples;
        // In turns, beginning with a segmented one: traffic of single trains stays segmented.
        if gathers && plain.len() < segmented.len().min(TRAINS) {
            plain.push_back(stretch);
            if plain.len() == TRAINS {
                self.ask_at = Some(now);
            }
            return SendMode::Plain;
        }
        if segmented.len() == TRAINS {
            segmented.pop_front();
        }
        segmented.push_back(stretch);
        SendMode::Segmented
    }

    /// Starts over when the peer is somewhere else; forgets samples of another session.
    pub fn follow(&mut self, destination: SocketAddr, session: Index, now: Instant) {
        if self.destination.is_some_and(|proven| proven != destination) {
            *self = Self { reason: Reason::Moved, next_id: self.next_id, ..Self::new(now) };
        }
        self.destination = Some(destination);
        if self.session != Some(session) {
            self.session = Some(session);
            self.samples = Samples::default();
            self.open.clear();
        }
    }

    /// When to [`Self::follow`] the peer, and then, if one [`Self::is_due`], hold a trial: send what [`Self::made_up`]
    /// says and the [`Self::question`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ask_at
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.ask_at.is_some_and(|at| at <= now)
    }

    /// The trial that is due cannot be held: nothing goes straight to the peer now.
    pub fn postpone(&mut self, now: Instant) {
        self.ask_at = match self.state {
            State::Distrusted => Some(now + RETRIAL[0]),
            State::Unproven | State::Proven => None,
        };
        self.distrust_evidence();
    }

    /// The trains of one kind to make up for the trial that is due, because traffic gave too few: datagrams in each.
    pub fn made_up(&self, mode: SendMode) -> &'static [usize] {
        match self.state {
            State::Proven if !self.is_grave() => &[],
            State::Proven => &[SHORT; TRAINS][self.samples.of(mode).len()..],
            State::Unproven | State::Distrusted => &[LONG, SHORT, SHORT, SHORT],
        }
    }

    /// A made-up train leaves.
    pub fn note_made_up(&mut self, stretch: Stretch, mode: SendMode) {
        match mode {
            SendMode::Segmented => self.samples.segmented.push_back(stretch),
            SendMode::Plain => self.samples.plain.push_back(stretch),
        }
    }

    /// Much speaks against segmented sends.
    fn is_grave(&self) -> bool {
        self.suspects || self.evidence.is_grave()
    }

    fn pace(&self) -> Duration {
        if self.is_grave() { INTERVAL_GRAVE } else { INTERVAL }
    }

    /// The question of the trial that is due; it goes by itself, behind the trains. `session` is the one it will be
    /// sealed in.
    pub fn question(&mut self, session: Index, now: Instant) -> (Option<Question>, Option<Change>) {
        let change = self.notice_silence(now);
        self.asked = now;
        self.ask_at = self.next_trial(now);
        let samples = std::mem::take(&mut self.samples);
        if self.session != Some(session) || samples.segmented.is_empty() {
            return (None, change);
        }
        self.next_id += 1;
        let id = self.next_id;
        let segmented = samples.segmented.len();
        let stretches: Vec<_> = samples.segmented.into_iter().chain(samples.plain).collect();
        if self.open.len() == OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back(Trial { id, segmented, stretches: stretches.clone() });
        (Some(Question { id, stretches }), change)
    }

    /// The trial after the one that begins now, unless traffic or a report asks for an earlier one.
    fn next_trial(&mut self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Proven => self.is_grave().then(|| now + INTERVAL_GRAVE),
            State::Unproven => {
                self.back_off = (self.back_off * 2).clamp(PROOF_RETRY[0], PROOF_RETRY[1]);
                None
            }
            State::Distrusted => {
                if !self.open.is_empty() {
                    self.open.clear();
                    self.sound_in_a_row = 0;
                }
                self.back_off = (self.back_off * 2).clamp(RETRIAL[0], RETRIAL[1]);
                Some(now + self.back_off)
            }
        }
    }

    /// Plain sends until a proof when nothing was answered for long: should segmented sends have stopped everything,
    /// this is what lets it go on.
    fn notice_silence(&mut self, now: Instant) -> Option<Change> {
        let is_silent = self.open.len() == OPEN_MAX;
        (self.state == State::Proven && is_silent).then(|| self.change(State::Unproven, Reason::Silent, now))
    }

    /// The peer's report on a trial.
    pub fn report(&mut self, report: &Report, now: Instant) -> Option<Change> {
        let at = self.open.iter().position(|trial| trial.id == report.id)?;
        // What was asked before it will not be answered any more.
        let trial = self.open.drain(..=at).next_back().filter(|trial| trial.stretches.len() == report.fates.len())?;
        let (mut segmented, mut plain) = (Tally::default(), Tally::default());
        for (at, (stretch, fate)) in trial.stretches.iter().zip(&report.fates).enumerate() {
            let tally = if at < trial.segmented { &mut segmented } else { &mut plain };
            tally.add(stretch, *fate);
        }
        let finding = self.evidence.weigh(&segmented, &plain);
        self.suspects = plain.sent == 0 && segmented.is_suspicious();
        if self.state != State::Distrusted && self.evidence.convicts() {
            let Evidence { segmented, plain, .. } = self.evidence;
            return Some(self.change(State::Distrusted, Reason::Bad { segmented, plain }, now));
        }
        match self.state {
            State::Proven => {
                if self.is_grave() {
                    self.hasten(self.asked + INTERVAL_GRAVE, now);
                }
                None
            }
            State::Unproven => match finding {
                Finding::Sound => Some(self.change(State::Proven, Reason::Proven, now)),
                Finding::Doubtful => {
                    self.hasten(self.asked + INTERVAL_GRAVE, now);
                    None
                }
                Finding::Nothing => None,
            },
            State::Distrusted => self.retried(finding, now),
        }
    }

    fn retried(&mut self, finding: Finding, now: Instant) -> Option<Change> {
        self.evidence = Evidence::default();
        if finding != Finding::Sound {
            self.sound_in_a_row = 0;
            return None;
        }
        self.sound_in_a_row += 1;
        if self.sound_in_a_row >= SOUND_TO_HEAL {
            return Some(self.change(State::Proven, Reason::Healed, now));
        }
        self.hasten(now + HEAL_INTERVAL, now);
        // The trials of one retrial are one step of the back-off.
        self.back_off /= 2;
        None
    }

    /// The kernel refused a segmented send of ours; the shell has sent its datagrams plainly.
    pub fn refused(&mut self, refusal: Refusal, now: Instant) -> Option<Change> {
        self.samples = Samples::default();
        self.open.clear();
        self.sound_in_a_row = 0;
        let known = self.state == State::Distrusted && self.reason == Reason::Refused(refusal);
        let change = (!known).then(|| self.change(State::Distrusted, Reason::Refused(refusal), now));
        if refusal == Refusal::TooLong {
            self.ask_at = Some(now + RETRIAL_TOO_LONG);
        }
        change
    }

    /// This host was away, or the session is gone: what is open says nothing.
    pub fn distrust_evidence(&mut self) {
        self.samples = Samples::default();
        self.open.clear();
        (self.evidence, self.suspects) = (Evidence::default(), false);
    }

    fn hasten(&mut self, at: Instant, now: Instant) {
        let at = at.max(now);
        self.ask_at = Some(self.ask_at.map_or(at, |planned| planned.min(at)));
    }

    fn change(&mut self, state: State, reason: Reason, now: Instant) -> Change {
        self.distrust_evidence();
        let was_good = self.state == State::Proven && now.since(self.since) >= FORGIVEN_AFTER;
        match state {
            State::Proven => self.ask_at = None,
            State::Unproven => (self.back_off, self.ask_at) = (Duration::ZERO, None),
            State::Distrusted => {
                let again = if was_good { RETRIAL[0] } else { self.back_off };
                self.back_off = again.clamp(RETRIAL[0], RETRIAL[1]);
                self.ask_at = Some(now + self.back_off);
            }
        }
        self.sound_in_a_row = 0;
        (self.state, self.since, self.reason) = (state, now, reason);
        Change { mode: self.mode(), reason }
    }
}

impl Reason {
    /// Segmented sends did harm.
    pub const fn is_fault(&self) -> bool {
        matches!(self, Self::Silent | Self::Refused(_) | Self::Bad { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProvenYet => f.write_str("no trial has shown yet that segmented sends arrive"),
            Self::Moved => f.write_str("the peer's address changed, and no trial has passed there yet"),
            Self::Silent => f.write_str("the peer answered no trial for a while"),
            Self::Proven => f.write_str("segmented sends arrive whole and in order"),
            Self::Healed => f.write_str("segmented sends arrive whole and in order again"),
            Self::Refused(Refusal::TooLong) => {
                f.write_str("the kernel refused a segmented send: its datagrams are longer than the path takes")
            }
            Self::Refused(Refusal::Unsupported) => {
                f.write_str("the kernel refused a segmented send: device or route cannot segment")
            }
            Self::Bad { segmented, plain } => write!(
                f,
                "of segmented sends {} of {} packets were lost or damaged and {} came late; of plain sends beside them \
                 {} of {} and {}",
                segmented.lost, segmented.sent, segmented.late, plain.lost, plain.sent, plain.late
            ),
        }
    }
}

#[cfg(test)]
mod tests;
