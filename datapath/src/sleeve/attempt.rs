//! Trying to agree on a session: when, by which way, with which cookie.
//!
//! ```text
//!   0 ms straight to every address ── 200 ms by relay too ── 300 ms again ── +0.5 s ── +1 s ── +2 s ── every 5 s …
//!        │ answered by any way: done, the others are forgotten
//! ```
//!
//! Where even the quickest of the last answers took longer than these waits, there is no use in asking again before: a
//! host that is short of time would get even more to do.
//!
//! Invariants:
//! - each try is a new message with a newer timestamp, so that a responder can refuse replays;
//! - at most [`UNDER_WAY_MAX`] messages wait for their answers, the newest ones.

use std::collections::VecDeque;
use std::time::Duration;

use rand_core::RngCore;
use weave_mesh::time::Instant;

use crate::sleeve::cookie::{COOKIE_LIFETIME, Cookie};
use crate::sleeve::handshake::Initiator;
use crate::sleeve::packet::{Index, MAC_BYTES};

/// When a handshake that went straight is tried by relay too.
pub const RELAY_AFTER: Duration = Duration::from_millis(200);
/// Waits between tries; the last one repeats.
const RETRIES: [Duration; 5] = [
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// So many answers are remembered: the quickest is near what any peer takes while this host is busy.
const ANSWERS_REMEMBERED: usize = 8;
/// Messages that wait for their answers at once.
const UNDER_WAY_MAX: usize = 4;
/// Answers that are tried on one message before it is given up: each costs two multiplications on the curve.
const ANSWERS_MAX: u32 = 8;
/// How soon a try is repeated when a cookie came.
const COOKIE_RETRY: Duration = Duration::from_millis(5);

/// Straight, or through a third peer; each has a cookie of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Straight,
    Relayed,
}

/// A message that waits for its answer.
#[derive(Debug)]
pub struct UnderWay {
    pub index: Index,
    pub direction: Direction,
    pub initiator: Initiator,
    /// What a cookie reply to it is bound to.
    pub mac1: [u8; MAC_BYTES],
    sent: Instant,
    answers_left: u32,
}

/// How long the last answers took, whoever gave them.
#[derive(Debug, Default)]
pub struct AnswerTimes {
    times: VecDeque<Duration>,
}

impl AnswerTimes {
    pub fn note(&mut self, message: &UnderWay, now: Instant) {
        if self.times.len() == ANSWERS_REMEMBERED {
            self.times.pop_front();
        }
        self.times.push_back(now.since(message.sent));
    }

    /// The quickest of them; nothing before the first.
    pub fn least(&self) -> Duration {
        self.times.iter().min().copied().unwrap_or_default()
    }
}

/// One peer's tries.
#[derive(Debug, Default)]
pub struct Attempts {
    under_way: Vec<UnderWay>,
    tries: usize,
    straight_at: Option<Instant>,
    relayed_at: Option<Instant>,
    cookies: [Option<(Cookie, Instant)>; 2],
    /// Names of messages that are forgotten, for the owner of the index table.
    retired: Vec<Index>,
}

impl UnderWay {
    pub fn new(index: Index, direction: Direction, initiator: Initiator, mac1: [u8; MAC_BYTES], sent: Instant) -> Self {
        Self { index, direction, initiator, mac1, sent, answers_left: ANSWERS_MAX }
    }
}

impl Attempts {
    /// Whether tries go on.
    pub const fn is_active(&self) -> bool {
        self.straight_at.is_some()
    }

    /// Starts trying at `now`, unless that goes on already.
    pub fn begin(&mut self, now: Instant) {
        self.straight_at.get_or_insert(now);
    }

    /// The peer may be reached otherwise than before: if tries go on, they start over at `now`.
    pub fn hasten(&mut self, now: Instant) {
        if self.is_active() {
            (self.tries, self.straight_at, self.relayed_at) = (0, Some(now), None);
        }
    }

    /// What to send now, and when the next try is: an answer takes `answer_time` or more.
    pub fn due(&mut self, answer_time: Duration, rng: &mut impl RngCore, now: Instant) -> Option<Direction> {
        if self.straight_at.is_some_and(|at| at <= now) {
            let wait = RETRIES[self.tries.min(RETRIES.len() - 1)].max(2 * answer_time);
            self.tries += 1;
            let jitter = wait.mul_f64(f64::from(rng.next_u32() >> 16) / f64::from(u16::MAX) / 4.0);
            self.straight_at = Some(now + wait + jitter);
            self.relayed_at = Some(now + RELAY_AFTER.max(answer_time * 3 / 2));
            return Some(Direction::Straight);
        }
        self.relayed_at.take_if(|at| *at <= now).map(|_| Direction::Relayed)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.straight_at.into_iter().chain(self.relayed_at).min()
    }

    pub fn sent(&mut self, message: UnderWay) {
        if self.under_way.len() == UNDER_WAY_MAX {
            self.retired.push(self.under_way.remove(0).index);
        }
        self.under_way.push(message);
    }

    /// The message that `index` names.
    pub fn get_mut(&mut self, index: Index) -> Option<&mut UnderWay> {
        self.under_way.iter_mut().find(|message| message.index == index)
    }

    /// An answer did not open; its message is given up when that goes on.
    pub fn refused(&mut self, index: Index) {
        let Some(at) = self.under_way.iter().position(|message| message.index == index) else { return };
        self.under_way[at].answers_left -= 1;
        if self.under_way[at].answers_left == 0 {
            self.retired.push(self.under_way.remove(at).index);
        }
    }

    /// A cookie came for tries in this direction: repeats at once, but not if the last cookie did not help.
    pub fn keep_cookie(&mut self, direction: Direction, cookie: Cookie, now: Instant) {
        let first = self.cookie(direction, now).is_none();
        self.cookies[direction as usize] = Some((cookie, now));
        if first && self.is_active() {
            let at = match direction {
                Direction::Straight => &mut self.straight_at,
                Direction::Relayed => &mut self.relayed_at,
            };
            *at = Some(now + COOKIE_RETRY);
        }
    }

    pub fn cookie(&self, direction: Direction, now: Instant) -> Option<&Cookie> {
        let (cookie, since) = self.cookies[direction as usize].as_ref()?;
        (now.since(*since) < COOKIE_LIFETIME).then_some(cookie)
    }

    /// Stops: a session was agreed on (`keep` names it from now on), or nobody wants one any more.
    pub fn end(&mut self, keep: Option<Index>) {
        self.retired.extend(self.under_way.drain(..).map(|message| message.index).filter(|index| Some(*index) != keep));
        (self.tries, self.straight_at, self.relayed_at) = (0, None, None);
    }

    /// Forgets the messages under way in favour of the other end's, and tries again only if that comes to nothing.
    pub fn yield_to_peer(&mut self, now: Instant) {
        self.retired.extend(self.under_way.drain(..).map(|message| message.index));
        if self.is_active() {
            (self.straight_at, self.relayed_at) = (Some(now + RETRIES[0] * 2), None);
        }
    }

    pub fn take_retired(&mut self) -> Vec<Index> {
        std::mem::take(&mut self.retired)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    /// The first tries within `until`, as (milliseconds, direction).
    fn schedule(until: u64) -> Vec<(u64, Direction)> {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut attempts = Attempts::default();
        attempts.begin(Instant::ZERO);
        let mut tries = Vec::new();
        while let Some(now) = attempts.poll_timeout().filter(|now| *now <= at(until)) {
            tries.extend(
                attempts.due(Duration::ZERO, &mut rng, now).map(|direction| (now.as_micros() / 1_000, direction)),
            );
        }
        tries
    }

    #[test]
    fn an_unanswered_handshake_goes_by_relay_after_200_ms() {
        assert_eq!(schedule(299), [(0, Direction::Straight), (200, Direction::Relayed)]);
    }

    #[test]
    fn straight_tries_go_on_for_ever_with_growing_waits() {
        let straight: Vec<_> = schedule(60_000).into_iter().filter(|(_, way)| *way == Direction::Straight).collect();
        let waits: Vec<_> = straight.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();

        assert!(waits.iter().zip(RETRIES).all(|(wait, least)| u128::from(*wait) >= least.as_millis()));
        assert!(waits.last().is_some_and(|wait| (5_000..=6_250).contains(wait)));
    }

    #[test]
    fn while_answers_take_long_tries_are_further_apart() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut attempts = Attempts::default();
        attempts.begin(at(0));
        assert_eq!(attempts.due(Duration::from_secs(1), &mut rng, at(0)), Some(Direction::Straight));

        assert_eq!(attempts.poll_timeout(), Some(at(1_500)));
        assert_eq!(attempts.due(Duration::from_secs(1), &mut rng, at(1_500)), Some(Direction::Relayed));
        assert!(attempts.poll_timeout() >= Some(at(2_000)));
    }

    #[test]
    fn a_cookie_hastens_the_next_try_once() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut attempts = Attempts::default();
        attempts.begin(Instant::ZERO);
        attempts.due(Duration::ZERO, &mut rng, Instant::ZERO);

        attempts.keep_cookie(Direction::Straight, [1; 16], at(1));
        assert_eq!(attempts.poll_timeout(), Some(at(1) + COOKIE_RETRY));
        attempts.due(Duration::ZERO, &mut rng, at(10));
        attempts.keep_cookie(Direction::Straight, [2; 16], at(11));
        assert!(attempts.poll_timeout() > Some(at(100)));
        assert_eq!(attempts.cookie(Direction::Straight, at(12)), Some(&[2; 16]));
        assert_eq!(attempts.cookie(Direction::Relayed, at(12)), None);
        assert_eq!(attempts.cookie(Direction::Straight, at(12) + COOKIE_LIFETIME), None);
    }

    #[test]
    fn news_of_a_peer_starts_its_tries_over_and_starts_none() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut attempts = Attempts::default();
        attempts.hasten(at(0));
        assert_eq!(attempts.poll_timeout(), None);
        attempts.begin(at(0));
        while let Some(now) = attempts.poll_timeout().filter(|now| *now < at(60_000)) {
            attempts.due(Duration::ZERO, &mut rng, now);
        }

        attempts.hasten(at(60_000));

        assert_eq!(attempts.due(Duration::ZERO, &mut rng, at(60_000)), Some(Direction::Straight));
        assert!(attempts.poll_timeout() == Some(at(60_000) + RELAY_AFTER));
    }

    #[test]
    fn after_the_end_nothing_is_due() {
        let mut attempts = Attempts::default();
        attempts.begin(Instant::ZERO);

        attempts.end(None);

        assert_eq!(attempts.poll_timeout(), None);
    }
}
