//! Which counters of one session were received: a window that slides up (RFC 6479).
//!
//! ```text
//!   0 ─────────── too old ──────────│◄────── REPLAY_WINDOW ──────►│highest ──── new ───► 2^64
//!                                    one bit each, set = received
//! ```

/// How far behind the highest counter a packet may arrive: at 1,400 octets and 10 Gbit/s, 9 ms of reordering.
pub const REPLAY_WINDOW: u64 = 8_192;

/// One word more than the window needs, so that clearing whole words never forgets a counter inside it.
const WORDS: usize = (REPLAY_WINDOW / 64 + 1) as usize;

/// The counters received so far. Two calls per packet: [`Self::would_accept`] before opening, since it is cheap, and
/// [`Self::accept`] afterwards, since only an authentic packet may move the window.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One above the highest counter accepted.
    end: u64,
    words: [u64; WORDS],
    /// Those received after a higher one.
    late: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { end: 0, words: [0; WORDS], late: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// Whether `counter` is neither received nor too old.
    pub const fn would_accept(&self, counter: u64) -> bool {
        if counter >= self.end {
            return counter < u64::MAX;
        }
        self.end - counter <= REPLAY_WINDOW && self.words[Self::word(counter)] & Self::bit(counter) == 0
    }

    /// Whether `counter` is above all that were accepted: the packet is the newest of its session.
    pub const fn is_newest(&self, counter: u64) -> bool {
        counter >= self.end
    }

    /// Marks `counter` as received; false if it must be dropped.
    pub fn accept(&mut self, counter: u64) -> bool {
        if !self.would_accept(counter) {
            return false;
        }
        if counter >= self.end {
            self.slide_to(counter);
        } else {
            self.late[Self::word(counter)] |= Self::bit(counter);
        }
        self.words[Self::word(counter)] |= Self::bit(counter);
        true
    }

    /// Whether `counter` was received, as far as the window still shows.
    pub const fn has(&self, counter: u64) -> bool {
        self.shows(counter) && self.words[Self::word(counter)] & Self::bit(counter) != 0
    }

    /// Whether it was received after a higher one.
    pub const fn was_late(&self, counter: u64) -> bool {
        self.shows(counter) && self.late[Self::word(counter)] & Self::bit(counter) != 0
    }

    const fn shows(&self, counter: u64) -> bool {
        counter < self.end && self.end - counter <= REPLAY_WINDOW
    }

    /// Clears the words that come into the window.
    fn slide_to(&mut self, counter: u64) {
        let (first, last) = (self.end.div_ceil(64), counter / 64);
        let fresh = (last + 1).saturating_sub(first).min(WORDS as u64);
        for word in 0..fresh {
            let word = ((last - word) % WORDS as u64) as usize;
            (self.words[word], self.late[word]) = (0, 0);
        }
        self.end = counter + 1;
    }

    const fn word(counter: u64) -> usize {
        (counter / 64 % WORDS as u64) as usize
    }

    const fn bit(counter: u64) -> u64 {
        1 << (counter % 64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What the window means: every counter received, remembered for ever.
    #[derive(Default)]
    struct Model {
        received: BTreeSet<u64>,
        late: BTreeSet<u64>,
    }

    impl Model {
        fn accept(&mut self, counter: u64) -> bool {
            let too_old = self.received.last().is_some_and(|highest| highest + 1 > counter + REPLAY_WINDOW);
            let is_late = self.received.last().is_some_and(|highest| counter < *highest);
            let accepted = !too_old && counter < u64::MAX && self.received.insert(counter);
            if accepted && is_late {
                self.late.insert(counter);
            }
            accepted
        }
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set_of_all_counters(
            steps in proptest::collection::vec((0u8..4, 0u64..3 * REPLAY_WINDOW), 1..400),
        ) {
            let (mut window, mut model) = (ReplayWindow::default(), Model::default());
            let mut at = 0u64;
            for (kind, distance) in steps {
                let counter = match kind {
                    0 => at + 1,
                    1 => at + distance,
                    2 => at.saturating_sub(distance % 130),
                    _ => at.saturating_sub(distance),
                };
                prop_assert_eq!(window.would_accept(counter), window.clone().accept(counter));
                prop_assert_eq!(window.accept(counter), model.accept(counter), "counter {}", counter);
                at = at.max(counter);
            }
            let end = model.received.last().map_or(0, |highest| highest + 1);
            for counter in end.saturating_sub(REPLAY_WINDOW)..end + 2 {
                prop_assert_eq!(window.has(counter), model.received.contains(&counter), "counter {}", counter);
                prop_assert_eq!(window.was_late(counter), model.late.contains(&counter), "counter {}", counter);
            }
        }
    }

    #[test]
    fn the_oldest_counter_inside_the_window_is_accepted_once() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(REPLAY_WINDOW));

        assert!(!window.accept(0));
        assert!(window.accept(1));
        assert!(!window.accept(1));
    }

    #[test]
    fn the_last_counter_of_all_is_refused() {
        assert!(!ReplayWindow::default().accept(u64::MAX));
    }
}
