//! One round of size probes: some sizes sent at once, each repeated while it is not answered, then a verdict.
//!
//! ```text
//!   sent ──► first answer ── SPACING ─► again ── SPACING ─► again ── GRACE + round trip ─► verdict
//!     └── patience, no answer ─► again, with small sizes too ── … ── GIVE_UP ─► no verdict: all is lost, or the peer
//! ```
//!
//! All sizes leave together, so what is answered says how long the others may take: a verdict needs no guess of the
//! round trip, and nothing is concluded about sizes while no size passes.

use std::time::Duration;

use weave_mesh::time::Instant;

/// Times that a size is sent before it counts as too long: at 1 % random loss, one verdict in a million is wrong.
pub(super) const COPIES: u32 = 3;
/// Sizes in one round: those that are spread, the limit, and all usual ones.
const SIZES_MAX: usize = 16;

/// Between copies: apart enough that one full queue does not take them all.
const SPACING: Duration = Duration::from_millis(25);
/// How much longer than a round trip the last copies may take.
const GRACE: Duration = Duration::from_millis(60);
/// When a round without any answer ends, at the earliest.
const GIVE_UP: Duration = Duration::from_secs(1);

/// Sizes that are being tried.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) nonce: u64,
    /// Ascending.
    probes: Vec<Probe>,
    copies: u32,
    copies_max: u32,
    sent: Instant,
    first_answer: Option<Instant>,
    round_trip: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    size: usize,
    answered: bool,
}

impl Round {
    pub(super) fn new(nonce: u64, sizes: impl IntoIterator<Item = usize>, copies_max: u32, now: Instant) -> Self {
        let mut round = Self {
            nonce,
            probes: Vec::with_capacity(SIZES_MAX),
            copies: 1,
            copies_max,
            sent: now,
            first_answer: None,
            round_trip: Duration::ZERO,
        };
        round.add(sizes);
        round
    }

    fn add(&mut self, sizes: impl IntoIterator<Item = usize>) {
        self.probes.extend(sizes.into_iter().map(|size| Probe { size, answered: false }));
        self.probes.sort_by_key(|probe| probe.size);
        self.probes.dedup_by_key(|probe| probe.size);
        self.probes.truncate(SIZES_MAX);
    }

    /// What is to be sent now, ascending.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = usize> + '_ {
        self.probes.iter().filter(|probe| !probe.answered).map(|probe| probe.size)
    }

    /// Returns the time it took, if no copy makes that ambiguous.
    pub(super) fn answer(&mut self, size: usize, now: Instant) -> Option<Duration> {
        let probe = self.probes.iter_mut().find(|probe| probe.size == size)?;
        probe.answered = true;
        let is_first = self.first_answer.replace(self.first_answer.unwrap_or(now)).is_none();
        if !is_first || self.copies > 1 {
            return None;
        }
        self.round_trip = now.since(self.sent);
        Some(self.round_trip)
    }

    /// Whether the round trip is known: the first copy was answered.
    pub(super) const fn is_measured(&self) -> bool {
        !self.round_trip.is_zero()
    }

    pub(super) const fn has_answer(&self) -> bool {
        self.first_answer.is_some()
    }

    /// The longest size has passed, so nothing is left to wait for.
    pub(super) fn is_over(&self) -> bool {
        self.probes.last().is_none_or(|probe| probe.answered)
    }

    /// When to send again, or to judge. `patience` is how long a first answer may take before that.
    pub(super) fn due(&self, patience: Duration) -> Instant {
        let may_repeat = self.copies < self.copies_max;
        match self.first_answer {
            Some(first) if may_repeat => first.max(self.sent) + SPACING,
            Some(first) => first.max(self.sent) + self.round_trip + GRACE,
            None if may_repeat || self.copies == 1 => self.sent + patience,
            None => self.sent + patience.max(GIVE_UP),
        }
    }

    /// Counts another copy of everything unanswered, if there may be one. While nothing was answered, `smaller` sizes
    /// join in, to tell a path that takes less from one that takes nothing.
    pub(super) fn repeat(&mut self, smaller: impl IntoIterator<Item = usize>, now: Instant) -> bool {
        if !self.has_answer() && self.copies == 1 {
            self.add(smaller);
            self.copies_max = COPIES;
        }
        let may_repeat = self.copies < self.copies_max;
        if may_repeat {
            self.copies += 1;
            self.sent = now;
        }
        may_repeat
    }

    /// The longest size that arrived, and the shortest above it that did not.
    pub(super) fn verdict(&self) -> Option<(usize, Option<usize>)> {
        let longest = self.probes.iter().rfind(|probe| probe.answered)?.size;
        Some((longest, self.unanswered().find(|size| *size > longest)))
    }

    /// Whether a size above `limit` is tried.
    pub(super) fn looks_above(&self, limit: usize) -> bool {
        self.probes.last().is_some_and(|probe| probe.size > limit)
    }
}
