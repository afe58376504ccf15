//! Steps of which each has its reverse: whichever fails, what was begun is taken back. Pure: it says what is next, and is
//! told how that went.
//!
//! ```text
//!   forward   a ─► b ─► c ─► end                  every step done
//!                       │ fails
//!   back      a' ◄ b' ◄ c'     end, with why      the step that failed is taken back too: it may have done half
//! ```
//!
//! Invariant: at the end either every step is done, or every one that was begun is taken back.

/// What is to happen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<S> {
    Do(S),
    /// The reverse of a step that was begun; it may not fail.
    Undo(S),
    End,
}

/// Steps under way, in one direction or the other. `E` is why it turned round.
#[derive(Debug)]
pub struct Chain<S: 'static, E> {
    steps: &'static [S],
    /// How many steps are done or, on the way back, are still to be taken back.
    at: usize,
    failure: Option<E>,
}

impl<S: Copy, E> Chain<S, E> {
    pub const fn new(steps: &'static [S]) -> Self {
        Self { steps, at: 0, failure: None }
    }

    pub fn next(&self) -> Next<S> {
        match (&self.failure, self.at.checked_sub(1)) {
            (None, _) => self.steps.get(self.at).map_or(Next::End, |step| Next::Do(*step)),
            (Some(_), Some(last)) => self.steps.get(last).map_or(Next::End, |step| Next::Undo(*step)),
            (Some(_), None) => Next::End,
        }
    }

    /// What was to happen has.
    pub const fn advance(&mut self) {
        if self.failure.is_none() { self.at += 1 } else { self.at = self.at.saturating_sub(1) }
    }

    /// The step that was to be done cannot be. On the way back nothing can fail any more.
    pub fn fail(&mut self, why: E) {
        if self.failure.is_none() {
            self.at = (self.at + 1).min(self.steps.len());
            self.failure = Some(why);
        }
    }

    /// Whether it turned round.
    pub const fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Why it turned round, if it did.
    pub fn into_failure(self) -> Option<E> {
        self.failure
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEPS: [usize; 5] = [0, 1, 2, 3, 4];

    proptest! {
        #[test]
        fn whichever_step_fails_what_was_begun_is_taken_back_and_nothing_else(failing in 0..=STEPS.len()) {
            let mut chain = Chain::new(&STEPS);
            let (mut begun, mut undone) = (Vec::new(), Vec::new());
            loop {
                match chain.next() {
                    Next::Do(step) => {
                        begun.push(step);
                        if step == failing { chain.fail("no") } else { chain.advance() }
                    }
                    Next::Undo(step) => {
                        undone.push(step);
                        chain.fail("not heard");
                        chain.advance();
                    }
                    Next::End => break,
                }
            }

            undone.reverse();
            let expected: &[usize] = if failing < STEPS.len() { &begun } else { &[] };
            prop_assert_eq!(undone.as_slice(), expected);
            prop_assert_eq!(begun.len(), (failing + 1).min(STEPS.len()));
            prop_assert_eq!(chain.into_failure(), (failing < STEPS.len()).then_some("no"));
        }
    }
}
