//! What reports, silence and refusals do to a path.

use std::time::Duration;

use weave_mesh::time::Instant;

use super::evidence::{Evidence, Finding};
use super::question::Report;
use super::samples::Samples;
use super::{Canary, Change, Reason, State};
use crate::batch::Refusal;

/// Sound trials in a row that acquit.
const SOUND_TO_HEAL: u32 = 3;
/// A path that was sound for so long starts over with short back-offs.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

impl Canary {
    /// Plain sends until a proof when nothing was answered for long: should segmented sends have stopped everything,
    /// this is what lets it go on.
    pub(super) fn notice_silence(&mut self, now: Instant) -> Option<Change> {
        let is_silent = self.state == State::Proven && self.trials.is_full();
        is_silent.then(|| self.change(State::Unproven, Reason::Silent, now))
    }

    /// The peer's report on a trial.
    pub fn report(&mut self, report: &Report, now: Instant) -> Option<Change> {
        let [segmented, plain] = self.trials.close(report)?;
        let finding = self.evidence.weigh(&segmented, &plain);
        self.suspects = plain.sent == 0 && segmented.is_suspicious();
        if self.state != State::Distrusted && self.evidence.convicts() {
            let Evidence { segmented, plain, .. } = self.evidence;
            return Some(self.change(State::Distrusted, Reason::Bad { segmented, plain }, now));
        }
        match self.state {
            State::Proven => self.watched(now),
            State::Unproven => self.tried(finding, now),
            State::Distrusted => self.retried(finding, now),
        }
    }

    fn watched(&mut self, now: Instant) -> Option<Change> {
        if self.is_grave() {
            self.schedule.hasten(now);
        }
        None
    }

    fn tried(&mut self, finding: Finding, now: Instant) -> Option<Change> {
        match finding {
            Finding::Sound => return Some(self.change(State::Proven, Reason::Proven, now)),
            Finding::Doubtful => self.schedule.hasten(now),
            Finding::Nothing => {}
        }
        None
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
        self.schedule.confirm(now);
        None
    }

    /// The kernel refused a segmented send of ours; the shell has sent its datagrams plainly.
    pub fn refused(&mut self, refusal: Refusal, now: Instant) -> Option<Change> {
        self.samples = Samples::default();
        self.trials.clear();
        self.sound_in_a_row = 0;
        let known = self.state == State::Distrusted && self.reason == Reason::Refused(refusal);
        let change = (!known).then(|| self.change(State::Distrusted, Reason::Refused(refusal), now));
        if refusal == Refusal::TooLong {
            self.schedule.await_size(now);
        }
        change
    }

    fn change(&mut self, state: State, reason: Reason, now: Instant) -> Change {
        self.distrust_evidence();
        let was_good = self.state == State::Proven && now.since(self.since) >= FORGIVEN_AFTER;
        match state {
            State::Proven => self.schedule.trust(),
            State::Unproven => self.schedule.start_over(),
            State::Distrusted => self.schedule.distrust(was_good, now),
        }
        self.sound_in_a_row = 0;
        (self.state, self.since, self.reason) = (state, now, reason);
        Change { mode: self.mode(), reason }
    }
}
