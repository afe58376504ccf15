//! When the next trial is due.
//!
//! ```text
//!   unproven    at the first train; after one that found nothing, 100 ms, 200 ms, … 5 s behind it
//!   proven      while trains leave: 50 ms behind the last, 25 ms when much speaks against segmented sends
//!   distrusted  after 5 s, 10 s, … 60 s; 200 ms behind a sound one
//! ```

use std::time::Duration;

use weave_mesh::time::Instant;

/// From one trial to the next while segmented trains leave.
pub(super) const INTERVAL: Duration = Duration::from_millis(50);
/// While much speaks against segmented sends.
pub(super) const INTERVAL_GRAVE: Duration = Duration::from_millis(25);
/// How long before its question a trial begins to send some trains plainly.
const GATHER: Duration = Duration::from_millis(10);
/// Between proofs that found nothing: the first time, and at most.
const PROOF_RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// Between retrials of a distrusted path: the first time, and at most.
pub(super) const RETRIAL: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];
/// After a send that was too long: the path has just become smaller, and its new size is soon known.
const RETRIAL_TOO_LONG: Duration = Duration::from_secs(1);
/// Between sound retrials.
const HEAL_INTERVAL: Duration = Duration::from_millis(200);

/// The last trial, the next one, and how far it was put off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    next: Option<Instant>,
    last: Instant,
    back_off: Duration,
}

impl Schedule {
    pub(super) const fn new(now: Instant) -> Self {
        Self { next: None, last: now, back_off: Duration::ZERO }
    }

    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|at| at <= now)
    }

    /// A train leaves on a path that is not proven.
    pub(super) fn prove(&mut self, now: Instant) {
        let at = now.max(self.last + self.back_off);
        self.next.get_or_insert(at);
    }

    /// A train leaves on a path that is. Whether the next trial is so near that it gathers trains.
    pub(super) fn gather(&mut self, pace: Duration, now: Instant) -> bool {
        let due = self.last + pace;
        let at = due.max(now + GATHER);
        self.next.get_or_insert(at);
        now + GATHER >= due
    }

    /// All trains are there.
    pub(super) const fn hold_now(&mut self, now: Instant) {
        self.next = Some(now);
    }

    /// A trial begins, and no other is planned.
    pub(super) const fn begin(&mut self, now: Instant) {
        (self.last, self.next) = (now, None);
    }

    /// It is the one of a path that is not proven: the next may have to wait longer.
    pub(super) fn put_off_proof(&mut self) {
        self.back_off = (self.back_off * 2).clamp(PROOF_RETRY[0], PROOF_RETRY[1]);
    }

    /// It is the one of a distrusted path, and the next will have to.
    pub(super) fn put_off_retrial(&mut self, now: Instant) {
        self.back_off = (self.back_off * 2).clamp(RETRIAL[0], RETRIAL[1]);
        self.next = Some(now + self.back_off);
    }

    /// The trial cannot be held: the next is when traffic wants one, or, of a distrusted path, in a while.
    pub(super) fn postpone(&mut self, is_distrusted: bool, now: Instant) {
        self.next = is_distrusted.then(|| now + RETRIAL[0]);
    }

    /// Much speaks against segmented sends.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.bring_forward((self.last + INTERVAL_GRAVE).max(now));
    }

    /// A retrial was sound. The trials of one retrial are one step of the back-off.
    pub(super) fn confirm(&mut self, now: Instant) {
        self.bring_forward(now + HEAL_INTERVAL);
        self.back_off /= 2;
    }

    fn bring_forward(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |planned| planned.min(at)));
    }

    /// The path is proven: trials follow its traffic.
    pub(super) const fn trust(&mut self) {
        self.next = None;
    }

    /// The path has to prove itself, at the next train.
    pub(super) const fn start_over(&mut self) {
        (self.back_off, self.next) = (Duration::ZERO, None);
    }

    /// The path is distrusted, and was good for long before or not.
    pub(super) fn distrust(&mut self, was_good: bool, now: Instant) {
        let again = if was_good { RETRIAL[0] } else { self.back_off };
        self.back_off = again.clamp(RETRIAL[0], RETRIAL[1]);
        self.next = Some(now + self.back_off);
    }

    /// The kernel refused a send for its length.
    pub(super) fn await_size(&mut self, now: Instant) {
        self.next = Some(now + RETRIAL_TOO_LONG);
    }
}
