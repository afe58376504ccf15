//! The machine on a simulated path: seeded loss, bursts, reordering and every fault of segmented sends.

use std::collections::VecDeque;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::question::{Message, Report};
use super::schedule::RETRIAL;
use super::*;
use crate::batch::Refusal;
use crate::sleeve::replay::ReplayWindow;

const STEP: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// What the operator is promised, under traffic.
const FALL_BACK: Duration = Duration::from_secs(1);

/// What happens to the packets of segmented sends alone.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Lost(f64),
    Reversed,
    SwappedPairs,
    EqualTailLost,
    /// Nothing passes from the first segmented send on, of whatever kind.
    BlocksAll,
}

struct Path {
    canary: Canary,
    window: ReplayWindow,
    rng: ChaCha20Rng,
    now: Instant,
    counter: u64,
    loss: f64,
    /// Whole trains, of either kind.
    burst: f64,
    /// Packets that change places with the next one, of either kind.
    jitter: f64,
    dead: bool,
    fault: Fault,
    answers: bool,
    round_trip: Duration,
    /// Whether containers go on sending when what they sent was lost.
    persistent: bool,
    underway: VecDeque<(Instant, Report)>,
    changes: Vec<(Instant, Change)>,
    made_up: u64,
}

const PEER: ([u8; 4], u16) = ([192, 0, 2, 1], 6783);

impl Path {
    fn new(seed: u64) -> Self {
        Self {
            canary: Canary::new(Instant::ZERO),
            window: ReplayWindow::default(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            now: Instant::ZERO,
            counter: 0,
            loss: 0.0,
            burst: 0.0,
            jitter: 0.0,
            dead: false,
            fault: Fault::None,
            answers: true,
            round_trip: Duration::from_millis(5),
            persistent: true,
            underway: VecDeque::new(),
            changes: Vec::new(),
            made_up: 0,
        }
    }

    fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && f64::from(self.rng.next_u32()) < chance * f64::from(u32::MAX)
    }

    fn stretch(&mut self, count: u8, has_equal_tail: bool) -> Stretch {
        let first = self.counter;
        self.counter += u64::from(count);
        Stretch { first, count, has_equal_tail }
    }

    /// Carries a train; false if none of it arrived.
    fn carry(&mut self, stretch: Stretch, mode: SendMode) -> bool {
        let mut order: Vec<u64> = (stretch.first..stretch.first + u64::from(stretch.count)).collect();
        if self.dead || self.chance(self.burst) {
            return false;
        }
        if mode == SendMode::Segmented {
            match self.fault {
                Fault::None => {}
                Fault::Lost(chance) => order.retain(|_| !self.chance(chance)),
                Fault::Reversed => order.reverse(),
                Fault::SwappedPairs => order.chunks_exact_mut(2).for_each(|pair| pair.reverse()),
                Fault::EqualTailLost if stretch.has_equal_tail => {
                    order.pop();
                }
                Fault::EqualTailLost => {}
                Fault::BlocksAll => self.dead = true,
            }
        }
        order.retain(|_| !self.chance(self.loss) && !self.dead);
        for at in 1..order.len() {
            if self.chance(self.jitter) {
                order.swap(at - 1, at);
            }
        }
        order.iter().filter(|counter| self.window.accept(**counter)).count() > 0
    }

    fn send(&mut self, count: u8, has_equal_tail: bool) -> bool {
        let stretch = self.stretch(count, has_equal_tail);
        let mode = self.canary.train(stretch, PEER.into(), Index(1), self.now);
        self.carry(stretch, mode)
    }

    /// One step in which containers send `trains`, and everything else that is due.
    fn step(&mut self, trains: u32, count: u8) {
        for _ in 0..trains {
            self.send(count, true);
        }
        self.work();
        self.now += STEP;
    }

    fn work(&mut self) {
        if self.canary.is_due(self.now) {
            for mode in [SendMode::Segmented, SendMode::Plain] {
                for &len in self.canary.made_up(mode) {
                    let stretch = self.stretch(len as u8, true);
                    self.canary.note_made_up(stretch, mode);
                    self.carry(stretch, mode);
                    self.made_up += len as u64;
                }
            }
            let (question, change) = self.canary.question(Index(1), self.now);
            self.changes.extend(change.map(|change| (self.now, change)));
            self.counter += 1;
            if let Some(question) = question
                && !self.dead
                && self.answers
                && !self.chance(self.loss)
            {
                let Ok(Message::Question(question)) = Message::decode(&question.encode()) else { panic!("a question") };
                let report = question.answer(&self.window);
                if !self.chance(self.loss) {
                    self.underway.push_back((self.now + self.round_trip, report));
                }
            }
        }
        while self.underway.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, report) = self.underway.pop_front().expect("looked at");
            let change = self.canary.report(&report, self.now);
            self.changes.extend(change.map(|change| (self.now, change)));
        }
    }

    /// Runs with one train every `every`, until `done` or the end; how long that took.
    fn run(&mut self, time: Duration, every: Duration, count: u8, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let begin = self.now;
        let mut next = self.now;
        while self.now.since(begin) < time {
            if self.now >= next {
                next = self.now + every;
                let arrived = self.send(count, true);
                if !arrived && !self.persistent {
                    // A TCP stream that lost its window waits for its retransmission timer, at least.
                    next = self.now + Duration::from_millis(200);
                }
            }
            self.step(0, 0);
            if done(self) {
                return Some(self.now.since(begin));
            }
        }
        None
    }

    fn prove(&mut self) {
        let taken = self.run(FALL_BACK, Duration::from_millis(1), 16, |path| path.canary.mode() == SendMode::Segmented);
        assert!(taken.is_some(), "never proven: {:?}", self.canary);
        self.changes.clear();
    }
}

fn is_plain(path: &Path) -> bool {
    path.canary.mode() == SendMode::Plain
}

#[test]
fn a_path_is_plain_until_a_trial_has_shown_that_segmented_sends_arrive() {
    let mut path = Path::new(1);
    assert_eq!(path.canary.mode(), SendMode::Plain);

    path.step(1, 8);
    path.run(path.round_trip + STEP * 2, HOUR, 2, |_| false);

    assert_eq!(path.changes, [(path.changes[0].0, Change { mode: SendMode::Segmented, reason: Reason::Proven })]);
}

#[test]
fn a_peer_that_answers_nothing_gets_plain_sends_for_ever_and_few_trials() {
    let mut path = Path::new(1);
    path.answers = false;

    assert_eq!(path.run(Duration::from_secs(60), STEP, 16, |path| !is_plain(path)), None);

    assert!(path.made_up < 20 * 56, "{} packets made up", path.made_up);
}

#[test]
fn a_path_that_was_never_used_makes_nothing_up() {
    let mut path = Path::new(1);

    (0..10_000).for_each(|_| path.step(0, 0));

    assert_eq!((path.made_up, path.canary.poll_timeout().is_none()), (0, true));
}

#[test]
fn every_fault_is_left_within_a_second_at_any_rate_of_traffic() {
    let faults = [
        Fault::Lost(1.0),
        Fault::Lost(0.5),
        Fault::Lost(0.2),
        Fault::Reversed,
        Fault::SwappedPairs,
        Fault::EqualTailLost,
    ];
    let mut worst = Duration::ZERO;
    for fault in faults {
        for loss in [0.0, 0.01, 0.05] {
            for (every, count) in [(STEP, 45), (STEP * 10, 45), (STEP * 10, 4), (STEP * 40, 16)] {
                // A fault that spares most packets takes longer to tell from chance where there are few.
                if fault == Fault::Lost(0.2) && count < 45 {
                    continue;
                }
                for (seed, persistent) in [(1, true), (2, false), (3, true), (4, false)] {
                    let mut path = Path::new(seed);
                    (path.loss, path.persistent) = (loss, persistent);
                    path.prove();
                    path.run(Duration::from_millis(300 + seed * 17), every, count, |_| false);

                    path.fault = fault;
                    let taken = path.run(FALL_BACK, every, count, is_plain);

                    let what = format!("{fault:?}, {loss} lost, {count} every {every:?}, seed {seed}");
                    worst = worst.max(taken.unwrap_or_else(|| panic!("not left: {what}: {:?}", path.canary)));
                    let reason = path.changes[0].1.reason;
                    assert!(matches!(reason, Reason::Bad { .. }), "{what}: {reason}");
                }
            }
        }
    }
    assert!(worst < FALL_BACK, "{worst:?}");
}

#[test]
fn segments_lost_at_one_in_ten_are_noticed_too() {
    for seed in 0..20 {
        let mut path = Path::new(seed);
        path.prove();
        path.fault = Fault::Lost(0.1);

        assert!(path.run(FALL_BACK * 2, STEP * 2, 45, is_plain).is_some(), "seed {seed}");
    }
}

#[test]
fn an_hour_of_random_loss_raises_no_alarm() {
    for (seed, loss) in [(1, 0.01), (2, 0.01), (3, 0.05), (4, 0.2)] {
        let mut path = Path::new(seed);
        path.loss = loss;
        path.run(HOUR, STEP * 12, 16, |_| false);

        let reasons: Vec<_> = path.changes.iter().map(|(_, change)| change.reason).collect();
        assert_eq!(reasons, [Reason::Proven], "{loss} lost");
    }
}

#[test]
fn an_hour_of_bursts_and_reordering_raises_no_alarm() {
    for (seed, burst, jitter) in [(1, 0.01, 0.0), (2, 0.03, 0.02), (3, 0.0, 0.3)] {
        let mut path = Path::new(seed);
        (path.loss, path.burst, path.jitter) = (0.005, burst, jitter);
        path.run(HOUR, STEP * 12, 16, |_| false);

        let reasons: Vec<_> = path.changes.iter().map(|(_, change)| change.reason).collect();
        assert_eq!(reasons, [Reason::Proven], "bursts {burst}, jitter {jitter}");
    }
}

#[test]
fn a_path_that_dies_for_both_kinds_is_not_convicted() {
    let mut path = Path::new(1);
    path.prove();
    path.dead = true;

    path.run(FALL_BACK * 10, STEP * 10, 16, |_| false);

    let reasons: Vec<_> = path.changes.iter().map(|(_, change)| change.reason).collect();
    assert_eq!(reasons, [Reason::Silent]);
}

#[test]
fn a_path_that_segmented_sends_bring_to_a_stop_is_plain_when_it_returns() {
    let mut path = Path::new(1);
    path.prove();
    path.fault = Fault::BlocksAll;

    let taken = path.run(FALL_BACK * 4, STEP * 10, 16, is_plain);

    assert!(taken.is_some_and(|taken| taken < FALL_BACK * 4), "{taken:?}");
}

#[test]
fn a_healed_path_is_trusted_again_within_seconds_and_one_that_fails_on_flaps_ever_less() {
    let mut path = Path::new(1);
    path.prove();
    path.fault = Fault::Lost(1.0);
    path.run(FALL_BACK, STEP * 10, 16, is_plain).expect("convicted");
    path.run(FALL_BACK * 2, STEP * 10, 16, |_| false);
    path.fault = Fault::None;

    // Retrials go on without traffic.
    let healed = path.run(FALL_BACK * 15, HOUR, 0, |path| !is_plain(path)).expect("healed");

    assert!(healed <= FALL_BACK * 6, "{healed:?}");
    assert_eq!(path.changes.last().map(|(_, change)| change.reason), Some(Reason::Healed));
}

#[test]
fn a_fault_that_only_trials_escape_flaps_at_most_once_a_minute_in_the_long_run() {
    let mut path = Path::new(1);
    let mut convictions = 0;
    let mut fault = Fault::None;
    let end = path.now + HOUR;
    while path.now < end {
        // The fault hides while the path is distrusted: the worst for whoever retries.
        let hidden = is_plain(&path);
        let wanted = if hidden { Fault::None } else { Fault::Lost(1.0) };
        if fault != wanted {
            fault = wanted;
            path.fault = wanted;
        }
        path.run(STEP * 10, STEP * 10, 16, |_| false);
    }
    convictions += path.changes.iter().filter(|(_, change)| matches!(change.reason, Reason::Bad { .. })).count();

    assert!((10..=64).contains(&convictions), "{convictions} convictions in an hour");
}

#[test]
fn a_refused_send_ends_segmented_sends_at_once_and_is_reported_once() {
    let mut path = Path::new(1);
    path.prove();

    let first = path.canary.refused(Refusal::Unsupported, path.now);
    let second = path.canary.refused(Refusal::Unsupported, path.now);

    let expected = Change { mode: SendMode::Plain, reason: Reason::Refused(Refusal::Unsupported) };
    assert_eq!((first, second), (Some(expected), None));
    assert!(path.canary.poll_timeout().is_some_and(|at| at == path.now + RETRIAL[0]));
}

#[test]
fn a_new_address_has_to_prove_itself_and_a_new_session_has_not() {
    let mut path = Path::new(1);
    path.prove();
    let stretch = Stretch { first: 0, count: 8, has_equal_tail: true };

    assert_eq!(path.canary.train(stretch, PEER.into(), Index(2), path.now), SendMode::Segmented);
    let elsewhere = SocketAddr::from(([192, 0, 2, 2], 6783));
    assert_eq!(path.canary.train(stretch, elsewhere, Index(2), path.now), SendMode::Plain);

    assert_eq!(path.canary.status().reason, Reason::Moved);
}

#[test]
fn traffic_that_runs_well_makes_nothing_up_and_stays_almost_wholly_segmented() {
    let mut path = Path::new(1);
    path.prove();
    let before = path.made_up;
    let (mut plain, mut all) = (0, 0);
    for _ in 0..10_000 {
        for _ in 0..10 {
            let stretch = path.stretch(45, true);
            let mode = path.canary.train(stretch, PEER.into(), Index(1), path.now);
            path.carry(stretch, mode);
            (plain, all) = (plain + u32::from(mode == SendMode::Plain), all + 1);
        }
        path.step(0, 0);
    }

    assert_eq!(path.made_up, before);
    assert!(f64::from(plain) / f64::from(all) <= 0.01, "{plain} of {all} plain");
}
