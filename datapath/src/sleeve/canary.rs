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
//! - while segmented trains leave, a trial ends every 50 ms at least (`schedule.rs`); when much speaks against them,
//!   made-up trains of both kinds fill the trials until it is settled: a path that stalls its own traffic is convicted
//!   all the same;
//! - a path that is quiet, or dead for both kinds, is not convicted;
//! - conviction costs four trials that agree ([`evidence`]); retrials back off, so a path flaps at most
//!   once in a minute for long.
//!
//! The receiving side needs no proof: the kernel merges (`UDP_GRO`) only what it could cut again into the same
//! datagrams, and each datagram is opened under its own tag.

use std::net::SocketAddr;

use weave_mesh::time::Instant;

use crate::batch::SendMode;
use crate::sleeve::packet::Index;

pub mod evidence;
mod judging;
pub mod question;
mod samples;
mod schedule;
mod trials;
mod verdict;

pub use samples::Stretch;
pub use verdict::{Change, Reason, Status};

use evidence::Evidence;
use question::Question;
use samples::{Samples, TRAINS};
use schedule::{INTERVAL, INTERVAL_GRAVE, Schedule};
use trials::Trials;

/// Datagrams of each made-up train but the first.
const SHORT: usize = 4;
/// Of the first one in a proof.
const LONG: usize = 16;

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
    schedule: Schedule,
    trials: Trials,
    evidence: Evidence,
    /// A segmented train was bad and no plain one beside it: the next trial makes up its own.
    suspects: bool,
    sound_in_a_row: u32,
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
            schedule: Schedule::new(now),
            trials: Trials::default(),
            evidence: Evidence::default(),
            suspects: false,
            sound_in_a_row: 0,
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
            State::Proven => return self.sample(stretch, now),
            State::Unproven => self.schedule.prove(now),
            State::Distrusted => {}
        }
        SendMode::Plain
    }

    /// Decides whether a train of a proven path is one of those sent plainly for comparison.
    fn sample(&mut self, stretch: Stretch, now: Instant) -> SendMode {
        let pace = if self.is_grave() { INTERVAL_GRAVE } else { INTERVAL };
        let gathers = self.schedule.gather(pace, now);
        let mode = self.samples.take(stretch, gathers);
        if mode == SendMode::Plain && self.samples.number(SendMode::Plain) == TRAINS {
            self.schedule.hold_now(now);
        }
        mode
    }

    /// Starts over when the peer is somewhere else; forgets samples of another session.
    pub fn follow(&mut self, destination: SocketAddr, session: Index, now: Instant) {
        if self.destination.is_some_and(|proven| proven != destination) {
            let trials = std::mem::take(&mut self.trials);
            *self = Self { reason: Reason::Moved, trials, ..Self::new(now) };
        }
        self.destination = Some(destination);
        if self.session != Some(session) {
            self.session = Some(session);
            self.samples = Samples::default();
            self.trials.clear();
        }
    }

    /// When to [`Self::follow`] the peer, and then, if one [`Self::is_due`], hold a trial: send what [`Self::made_up`]
    /// says and the [`Self::question`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.next()
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.schedule.is_due(now)
    }

    /// The trial that is due cannot be held: nothing goes straight to the peer now.
    pub fn postpone(&mut self, now: Instant) {
        self.schedule.postpone(self.state == State::Distrusted, now);
        self.distrust_evidence();
    }

    /// The trains of one kind to make up for the trial that is due, because traffic gave too few: datagrams in each.
    pub fn made_up(&self, mode: SendMode) -> &'static [usize] {
        match self.state {
            State::Proven if !self.is_grave() => &[],
            State::Proven => &[SHORT; TRAINS][self.samples.number(mode)..],
            State::Unproven | State::Distrusted => &[LONG, SHORT, SHORT, SHORT],
        }
    }

    /// A made-up train leaves.
    pub fn note_made_up(&mut self, stretch: Stretch, mode: SendMode) {
        self.samples.add(stretch, mode);
    }

    /// Much speaks against segmented sends.
    fn is_grave(&self) -> bool {
        self.suspects || self.evidence.is_grave()
    }

    /// The question of the trial that is due; it goes by itself, behind the trains. `session` is the one it will be
    /// sealed in.
    pub fn question(&mut self, session: Index, now: Instant) -> (Option<Question>, Option<Change>) {
        let change = self.notice_silence(now);
        self.schedule.begin(now);
        self.plan_next(now);
        let samples = std::mem::take(&mut self.samples);
        let is_worth_it = self.session == Some(session) && samples.number(SendMode::Segmented) > 0;
        (is_worth_it.then(|| self.trials.open(samples)), change)
    }

    /// The trial after the one that begins now, unless traffic or a report asks for an earlier one.
    fn plan_next(&mut self, now: Instant) {
        match self.state {
            State::Proven if self.is_grave() => self.schedule.hasten(now),
            State::Proven => {}
            State::Unproven => self.schedule.put_off_proof(),
            State::Distrusted => {
                if !self.trials.is_empty() {
                    self.trials.clear();
                    self.sound_in_a_row = 0;
                }
                self.schedule.put_off_retrial(now);
            }
        }
    }

    /// This host was away, or the session is gone: what is open says nothing.
    pub fn distrust_evidence(&mut self) {
        self.samples = Samples::default();
        self.trials.clear();
        (self.evidence, self.suspects) = (Evidence::default(), false);
    }
}

#[cfg(test)]
mod tests;
