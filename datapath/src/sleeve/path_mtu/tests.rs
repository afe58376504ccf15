//! The search on simulated paths.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore as _, SeedableRng};
use weave_mesh::identity::PeerKey;

use super::*;

const FULL: usize = 1_390;
const WAY: Option<Via> = Some(Via::Relay(PeerKey([1; 32])));
const OTHER_WAY: Option<Via> = Some(Via::Relay(PeerKey([2; 32])));

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A path that takes `capacity` octets, and a peer that answers at once.
struct Path {
    mtu: PathMtu,
    capacity: usize,
    latency: Duration,
    loss_percent: u32,
    in_use: bool,
    now: Instant,
    underway: BTreeMap<(Instant, u64), SizeProbe>,
    sent: u64,
    sent_bytes: usize,
    rng: ChaCha20Rng,
}

impl Path {
    fn new(full: usize, capacity: usize, latency: Duration) -> Self {
        let mut path = Self {
            mtu: PathMtu::new(full),
            capacity,
            latency,
            loss_percent: 0,
            in_use: true,
            now: Instant::from_micros(1_000_000),
            underway: BTreeMap::new(),
            sent: 0,
            sent_bytes: 0,
            rng: ChaCha20Rng::seed_from_u64(1),
        };
        path.mtu.follow(WAY, path.now);
        path
    }

    fn send(&mut self) {
        while let Some(probe) = self.mtu.poll_probe() {
            self.sent += 1;
            self.sent_bytes += probe.size;
            let is_lost = self.rng.next_u32() % 100 < self.loss_percent;
            if probe.size <= self.capacity && !is_lost {
                self.underway.insert((self.now + self.latency * 2, self.sent), probe);
            }
        }
    }

    /// Runs until `done`, and says how long that took.
    fn run_until(&mut self, limit: Duration, done: impl Fn(&PathMtu) -> bool) -> Option<Duration> {
        let began = self.now;
        loop {
            self.send();
            if done(&self.mtu) {
                return Some(self.now.since(began));
            }
            let answer = self.underway.first_key_value().map(|((at, _), _)| *at);
            let next = self.mtu.poll_timeout(self.in_use).into_iter().chain(answer).min();
            let Some(next) = next.filter(|next| *next <= began + limit) else {
                self.now = began + limit;
                return None;
            };
            self.now = self.now.max(next);
            self.mtu.handle_timeout(self.in_use, &mut self.rng, self.now);
            while let Some(entry) = self.underway.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let probe = entry.remove();
                self.mtu.handle_answer(probe.nonce, probe.size, &mut self.rng, self.now);
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    fn time_to_find(&mut self, limit: usize, within: Duration) -> Option<Duration> {
        self.run_until(within, |mtu| mtu.limit() == limit && mtu.is_exact() && mtu.measured.is_some())
    }
}

#[test]
fn a_path_that_takes_everything_is_known_after_one_round_trip() {
    let mut path = Path::new(FULL, 65_000, millis(10));

    assert_eq!(path.time_to_find(FULL, millis(1_000)), Some(millis(20)));
}

#[test]
fn a_small_path_is_usable_within_150_ms_and_a_round_trip() {
    for latency in [millis(0), millis(20), millis(100)] {
        let mut path = Path::new(FULL, 640, latency);

        let took = path.run_until(millis(2_000), |mtu| mtu.limit() < FULL).expect("noticed");

        assert!(took <= latency * 4 + millis(150), "{took:?}");
        assert!(path.mtu.limit() <= 640);
    }
}

#[test]
fn a_path_that_shrinks_while_in_use_is_noticed_within_a_second() {
    let mut path = Path::new(FULL, FULL, millis(1));
    path.run_for(Duration::from_secs(10));

    path.capacity = 700;

    let took = path.run_until(millis(1_000), |mtu| mtu.limit() <= 700);
    assert!(took.is_some(), "still {}", path.mtu.limit());
    assert!(path.time_to_find(700, millis(1_000)).is_some());
}

#[test]
fn a_path_that_heals_is_used_in_full_within_four_seconds() {
    for healed in [FULL, 900, 641] {
        let mut path = Path::new(FULL, 640, millis(1));
        path.run_for(Duration::from_secs(10));

        path.capacity = healed;

        assert!(path.time_to_find(healed, Duration::from_secs(4)).is_some(), "{healed}: still {}", path.mtu.limit());
    }
}

#[test]
fn a_path_without_traffic_is_not_probed_once_it_is_known() {
    let mut path = Path::new(FULL, 640, millis(1));
    path.in_use = false;
    assert!(path.time_to_find(640, millis(2_000)).is_some());

    let sent = path.sent;
    path.run_for(Duration::from_secs(3_600));

    assert_eq!(path.sent, sent);
}

#[test]
fn a_path_in_use_costs_a_few_packets_a_second() {
    for (capacity, bytes) in [(FULL, 5_000), (640, 6_000)] {
        let mut path = Path::new(FULL, capacity, millis(1));
        path.run_for(Duration::from_secs(2));

        (path.sent, path.sent_bytes) = (0, 0);
        path.run_for(Duration::from_secs(100));

        assert!(path.sent <= 800, "{capacity}: {} probes", path.sent);
        assert!(path.sent_bytes / 100 <= bytes, "{capacity}: {} bytes a second", path.sent_bytes / 100);
    }
}

#[test]
fn a_path_that_loses_everything_changes_nothing() {
    let mut path = Path::new(FULL, FULL, millis(1));
    path.run_for(Duration::from_secs(2));

    path.capacity = 0;
    path.run_for(Duration::from_secs(100));

    assert_eq!((path.mtu.limit(), path.mtu.is_exact()), (FULL, true));
}

#[test]
fn random_loss_of_one_in_a_hundred_is_not_taken_for_a_small_path() {
    let mut path = Path::new(FULL, FULL, millis(1));
    path.loss_percent = 1;

    let lowered = path.run_until(Duration::from_secs(3_600), |mtu| mtu.limit() < FULL);

    assert_eq!(lowered, None);
}

#[test]
fn another_way_is_measured_anew() {
    let mut path = Path::new(FULL, 640, millis(1));
    path.run_for(Duration::from_secs(2));
    assert_eq!(path.mtu.limit(), 640);

    path.mtu.follow(OTHER_WAY, path.now);
    assert_eq!(path.mtu.limit(), FULL);
    // What was sent by the way before says nothing of this one.
    path.mtu.handle_answer(1, 700, &mut path.rng, path.now);
    path.capacity = 800;

    assert!(path.time_to_find(800, millis(2_000)).is_some());
}

#[test]
fn an_answer_that_comes_late_still_counts() {
    let mut path = Path::new(FULL, FULL, millis(1));
    path.capacity = 640;
    path.run_until(millis(1_000), |mtu| mtu.limit() < FULL).expect("noticed");

    assert!(path.mtu.handle_answer(1, FULL, &mut path.rng, path.now));

    assert_eq!((path.mtu.limit(), path.mtu.is_exact()), (FULL, true));
}

#[test]
fn what_is_known_is_told_in_words() {
    let mut path = Path::new(FULL, 640, millis(1));
    assert_eq!(path.mtu.status(path.now).to_string(), "not measured yet, taken to be the overlay's");

    path.run_until(millis(1_000), |mtu| mtu.limit() < FULL).expect("noticed");
    let searching = path.mtu.status(path.now).to_string();
    assert!(searching.contains("are being tried; measured 0 s ago; longer TCP is cut"), "{searching}");

    path.in_use = false;
    path.run_for(Duration::from_secs(9));
    let known = path.mtu.status(path.now).to_string();
    assert!(
        known.starts_with("frames of 640 octets arrive by sleeve, longer ones do not; measured 8 s ago"),
        "{known}"
    );
}

proptest! {
    #[test]
    fn any_path_is_found_exactly(capacity in 448usize..9_000, jumbo: bool, latency in 0u64..150, loss_percent in 0u32..3) {
        let full = if jumbo { 8_891 } else { FULL };
        let mut path = Path::new(full, capacity, millis(latency));
        path.loss_percent = loss_percent;

        let found = path.time_to_find(capacity.min(full), Duration::from_secs(60));

        prop_assert!(found.is_some(), "at {} of {capacity}", path.mtu.limit());
    }

    #[test]
    fn whatever_is_answered_the_limit_stays_within_bounds(
        answers in proptest::collection::vec((0u64..40, 0usize..3_000, 0u64..300, any::<bool>()), 0..200),
    ) {
        let mut mtu = PathMtu::new(FULL);
        let (mut rng, mut now) = (ChaCha20Rng::seed_from_u64(1), Instant::ZERO);
        mtu.follow(WAY, now);
        for (nonce, size, wait, in_use) in answers {
            mtu.handle_answer(nonce, size, &mut rng, now);
            now += millis(wait);
            mtu.handle_timeout(in_use, &mut rng, now);
            prop_assert!(mtu.limit() <= FULL && mtu.limit() >= 1);
            prop_assert!((0..16).any(|_| mtu.poll_probe().is_none()), "more probes than a round has");
        }
    }
}
