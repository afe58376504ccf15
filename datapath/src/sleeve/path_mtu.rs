//! How long a frame to one peer may be: found by sealed probes alone, so that a firewall that drops ICMP hides nothing.
//!
//! ```text
//!   new way ─► all links' usual sizes at once ─► narrow ─► known ◄─┐
//!                                                  ▲        │ │    │ while in use: the limit itself, often;
//!                                                  │        │ └────┘ what is above it, now and then
//!                      another size is the longest ┴────────┘
//!                      (the limit lost thrice while smaller ones pass, or a longer one arrived)
//! ```
//!
//! This is the search of RFC 8899 (DPLPMTUD) with several sizes in flight. A size is that of an Ethernet frame; the
//! probe of a size is sealed, and relayed if need be, as a frame of that size, so no overhead enters the arithmetic.
//! The peer answers what it could deliver, which leaves out what is longer than its own overlay's frames.
//!
//! Invariants:
//! - until the first verdict about a way, it counts as taking everything: few paths take less;
//! - a longer size counts from the moment that it is answered, a shorter one after a verdict;
//! - nothing is concluded from silence: only from a size that is lost while another passes;
//! - nothing is sent on a path that is not in use, but for the search when its way is new.

use std::collections::VecDeque;
use std::time::Duration;

use rand_core::RngCore;
use weave_mesh::time::Instant;

use crate::sleeve::route::Via;

mod round;
mod sizes;
mod status;

pub use status::Status;

use round::{COPIES, Round};
use sizes::{spread, usual_below};

/// Sizes tried at once between what passes and what is lost: three rounds find an octet among hundreds.
const NARROWING: usize = 8;
/// Sizes tried at once to find out whether the path takes more again.
const RAISING: usize = 4;
/// How often the limit is confirmed while in use: a path that shrinks is noticed within 0.7 s.
const CONFIRM_EVERY: Duration = Duration::from_millis(400);
/// How often longer sizes are tried while in use.
const RAISE_EVERY: Duration = Duration::from_millis(2_500);
/// Without a verdict for this long, the next round tries the usual sizes at once.
const STALE_AFTER: Duration = Duration::from_secs(5);
/// How long the first answer of a round may take, before more is sent, while no round trip was measured.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// The same as twice the round trip, within these bounds; doubled after each round that measured none.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(60), Duration::from_secs(4));

/// What is to be sent: as many octets as a frame of this size, the first of them the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeProbe {
    pub nonce: u64,
    pub size: usize,
}

/// What is known of one peer's path.
#[derive(Clone, Debug)]
pub struct PathMtu {
    /// The longest frame of the overlay.
    full: usize,
    /// What the numbers are about.
    way: Option<Via>,
    limit: usize,
    /// The shortest size that counts as lost; above `full` when none does.
    lost: usize,
    /// When the last verdict was.
    measured: Option<Instant>,
    round: Option<Round>,
    next_nonce: u64,
    /// The first nonce sent by `way`: answers to older ones are about another.
    oldest_nonce: u64,
    round_trip: Option<Duration>,
    /// Rounds in a row that measured no round trip: the path is slower than we are patient, or a peer too busy to answer.
    unmeasured: u32,
    confirm_at: Instant,
    raise_at: Instant,
    /// At most one round's sizes.
    to_send: VecDeque<SizeProbe>,
}

impl PathMtu {
    /// `full` is the length of the overlay's longest frame.
    pub const fn new(full: usize) -> Self {
        Self {
            full,
            way: None,
            limit: full,
            lost: full + 1,
            measured: None,
            round: None,
            next_nonce: 0,
            oldest_nonce: 0,
            round_trip: None,
            unmeasured: 0,
            confirm_at: Instant::ZERO,
            raise_at: Instant::ZERO,
            to_send: VecDeque::new(),
        }
    }

    /// The way that the limit is about.
    pub const fn way(&self) -> Option<Via> {
        self.way
    }

    /// The length of the overlay's longest frame.
    pub const fn full(&self) -> usize {
        self.full
    }

    /// The longest frame that arrives, as far as is known.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the limit is exact; else a longer frame may arrive all the same, and a search is under way.
    pub const fn is_exact(&self) -> bool {
        self.lost == self.limit + 1
    }

    pub fn status(&self, now: Instant) -> Status {
        let Self { limit, full, .. } = *self;
        Status { limit, full, is_exact: self.is_exact(), measured: self.measured.map(|at| now.since(at)) }
    }

    /// Packets go by `way` now: if that is another one, all is to be found out anew.
    pub fn follow(&mut self, way: Option<Via>, now: Instant) {
        if self.way == way {
            return;
        }
        *self = Self { way, next_nonce: self.next_nonce, oldest_nonce: self.next_nonce + 1, ..Self::new(self.full) };
        if way.is_some() {
            self.begin(self.usual_sizes(), COPIES, now);
        }
    }

    /// Something other than a probe hints that the path has changed: looks at once.
    pub fn suspect(&mut self, now: Instant) {
        self.confirm_at = now;
    }

    /// Forgets the probes under way: this host's clock jumped.
    pub fn distrust(&mut self, now: Instant) {
        self.round = None;
        self.confirm_at = now;
    }

    /// A probe of `size` has arrived. Returns whether that changes the limit.
    pub fn handle_answer(&mut self, nonce: u64, size: usize, rng: &mut impl RngCore, now: Instant) -> bool {
        if nonce < self.oldest_nonce || nonce > self.next_nonce || size > self.full {
            return false;
        }
        let before = self.limit;
        if size > self.limit {
            self.limit = size;
            if self.lost <= size {
                self.lost = self.full + 1;
            }
        }
        match self.round.as_mut().filter(|round| round.nonce == nonce) {
            Some(round) => {
                self.round_trip = round.answer(size, now).or(self.round_trip);
                if round.is_over() {
                    self.conclude(rng, now);
                }
            }
            // Later than its round waited: whatever that concluded, or the next would, is out of date.
            None if self.limit != before => self.narrow(now),
            None => {}
        }
        self.limit != before
    }

    /// Does what is due. Returns whether that changes the limit.
    pub fn handle_timeout(&mut self, in_use: bool, rng: &mut impl RngCore, now: Instant) -> bool {
        if self.poll_timeout(in_use).is_none_or(|at| at > now) {
            return false;
        }
        let before = self.limit;
        let smaller = usual_below(self.limit);
        match self.round.as_mut().map(|round| round.repeat(smaller, now)) {
            Some(true) => self.enqueue(),
            Some(false) => self.conclude(rng, now),
            None => self.begin_due(now),
        }
        self.limit != before
    }

    /// When [`Self::handle_timeout`] has something to do; `in_use` while frames go by sleeve.
    pub fn poll_timeout(&self, in_use: bool) -> Option<Instant> {
        if let Some(round) = &self.round {
            return Some(round.due(self.patience()));
        }
        (in_use && self.way.is_some()).then(|| self.next_round_at())
    }

    /// What is to be sent, ascending in size within a round.
    pub fn poll_probe(&mut self) -> Option<SizeProbe> {
        self.to_send.pop_front()
    }

    fn next_round_at(&self) -> Instant {
        if self.limit < self.full { self.confirm_at.min(self.raise_at) } else { self.confirm_at }
    }

    fn begin_due(&mut self, now: Instant) {
        if self.measured.is_none_or(|measured| now.since(measured) >= STALE_AFTER) {
            self.begin(self.usual_sizes(), COPIES, now);
        } else if !self.is_exact() {
            self.narrow(now);
        } else if self.limit < self.full && self.raise_at <= now {
            // One copy: what is lost is tried again soon.
            self.begin(spread(self.limit, self.full + 1, RAISING), 1, now);
        } else {
            self.begin([self.limit], COPIES, now);
        }
    }

    fn begin(&mut self, sizes: impl IntoIterator<Item = usize>, copies_max: u32, now: Instant) {
        self.next_nonce += 1;
        self.round = Some(Round::new(self.next_nonce, sizes, copies_max, now));
        self.enqueue();
    }

    fn enqueue(&mut self) {
        let Some(round) = &self.round else { return };
        let nonce = round.nonce;
        self.to_send.clear();
        self.to_send.extend(round.unanswered().map(|size| SizeProbe { nonce, size }));
    }

    fn conclude(&mut self, rng: &mut impl RngCore, now: Instant) {
        let Some(round) = self.round.take() else { return };
        self.unmeasured = if round.is_measured() { 0 } else { self.unmeasured.saturating_add(1) };
        self.confirm_at = now + jittered(CONFIRM_EVERY, rng);
        let looked_above = round.looks_above(self.limit) || self.limit == self.full;
        let Some((longest, lost)) = round.verdict() else { return };
        self.measured = Some(now);
        self.limit = longest;
        self.lost = lost.unwrap_or_else(|| self.lost.max(longest + 1));
        if longest == self.full {
            self.lost = self.full + 1;
        }
        if looked_above {
            self.raise_at = now + jittered(RAISE_EVERY, rng);
        }
        self.narrow(now);
    }

    /// Tries sizes between what passes and what is lost, until nothing lies between.
    fn narrow(&mut self, now: Instant) {
        self.round = None;
        if !self.is_exact() {
            self.begin(spread(self.limit, self.lost, NARROWING), COPIES, now);
        }
    }

    /// Of repeated probes nobody knows which one was answered, so patience itself must grow until none is repeated
    /// (RFC 6298 sections 3 and 5).
    fn patience(&self) -> Duration {
        let usual = self.round_trip.map_or(FIRST_PATIENCE, |round_trip| round_trip * 2).max(PATIENCE.0);
        usual.saturating_mul(1 << self.unmeasured.min(8)).min(PATIENCE.1)
    }

    fn usual_sizes(&self) -> Vec<usize> {
        usual_below(self.full).chain([self.limit, self.full]).collect()
    }
}

/// Within a quarter of `interval`, so that peers do not probe in step.
fn jittered(interval: Duration, rng: &mut impl RngCore) -> Duration {
    interval.mul_f64(0.75 + f64::from(rng.next_u32() >> 16) / f64::from(u16::MAX) / 2.0)
}

#[cfg(test)]
mod tests;
