//! The bytes between a path's two ends: trains made up for the proof, questions about trains, and reports. Big-endian.
//!
//! ```text
//!   payload 7, made up     0   anything
//!   payload 7, question    1   id (8)   number (1)   number × [ first counter (8)  count (1) ]
//!   payload 8, report          id (8)   number (1)   number × [ arrived (8)  late (8) ]          bit n: first + n
//! ```
//!
//! A question names packets by the counters under which they were sealed, so that real traffic is its own canary: the
//! receiver keeps no state for it beyond the window that rejects replays.

use super::Stretch;
use crate::sleeve::replay::ReplayWindow;

/// Stretches that one question is about.
pub const STRETCHES_MAX: usize = 8;
/// Datagrams in a stretch: a bit of a report's words for each.
pub const COUNT_MAX: u8 = 64;

const MADE_UP: u8 = 0;
const QUESTION: u8 = 1;
const STRETCH_BYTES: usize = 9;
const FATE_BYTES: usize = 16;
const HEAD_BYTES: usize = 9;

/// What payload 7 holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Sent to be counted, not read.
    MadeUp,
    Question(Question),
}

/// "What became of these packets of the session that this question is sealed in?"
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: u64,
    pub stretches: Vec<Stretch>,
}

/// The answer, in the question's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub id: u64,
    pub fates: Vec<Fate>,
}

/// What became of a stretch: bit `n` speaks of its packet `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    pub arrived: u64,
    /// Arrived after a packet that was sealed later.
    pub late: u64,
}

/// Bytes that are neither message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a canary of this version")]
pub struct Malformed;

impl Message {
    /// # Errors
    /// When the bytes are of neither kind, or lengths and limits are wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.split_first().ok_or(Malformed)? {
            (&MADE_UP, _) => Ok(Self::MadeUp),
            (&QUESTION, rest) => Question::decode(rest).map(Self::Question),
            _ => Err(Malformed),
        }
    }
}

/// Makes `bytes` a datagram that is only to be counted.
pub fn make_up(bytes: &mut [u8]) {
    bytes.fill(MADE_UP);
}

impl Question {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![QUESTION];
        bytes.extend(self.id.to_be_bytes());
        bytes.push(self.stretches.len() as u8);
        for stretch in &self.stretches {
            bytes.extend(stretch.first.to_be_bytes());
            bytes.push(stretch.count);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (id, parts) = split::<STRETCH_BYTES>(bytes)?;
        let stretches = parts.iter().map(|&[a, b, c, d, e, f, g, h, count]| {
            let first = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            let is_sane = (1..=COUNT_MAX).contains(&count) && first.checked_add(count.into()).is_some();
            is_sane.then_some(Stretch { first, count, has_equal_tail: false }).ok_or(Malformed)
        });
        Ok(Self { id, stretches: stretches.collect::<Result<_, _>>()? })
    }

    /// What the window of the session that it came in says.
    pub fn answer(&self, window: &ReplayWindow) -> Report {
        let fate = |stretch: &Stretch| {
            let mut fate = Fate::default();
            for at in 0..stretch.count {
                let counter = stretch.first + u64::from(at);
                fate.arrived |= u64::from(window.has(counter)) << at;
                fate.late |= u64::from(window.was_late(counter)) << at;
            }
            fate
        };
        Report { id: self.id, fates: self.stretches.iter().map(fate).collect() }
    }
}

impl Report {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.push(self.fates.len() as u8);
        for fate in &self.fates {
            bytes.extend(fate.arrived.to_be_bytes());
            bytes.extend(fate.late.to_be_bytes());
        }
        bytes
    }

    /// # Errors
    /// When lengths or limits are wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (id, parts) = split::<FATE_BYTES>(bytes)?;
        let fates = parts.iter().map(|part| {
            let both = u128::from_be_bytes(*part);
            Fate { arrived: (both >> 64) as u64, late: both as u64 }
        });
        Ok(Self { id, fates: fates.collect() })
    }
}

/// An id, and as many parts of `N` octets as announced, with nothing behind.
fn split<const N: usize>(bytes: &[u8]) -> Result<(u64, &[[u8; N]]), Malformed> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(Malformed)?;
    let &[a, b, c, d, e, f, g, h, number] = head;
    let (parts, []) = rest.as_chunks::<N>() else { return Err(Malformed) };
    if parts.len() != usize::from(number) || parts.is_empty() || parts.len() > STRETCHES_MAX {
        return Err(Malformed);
    }
    Ok((u64::from_be_bytes([a, b, c, d, e, f, g, h]), parts))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stretch() -> impl Strategy<Value = Stretch> {
        (0..u64::MAX - 64, 1..=COUNT_MAX).prop_map(|(first, count)| Stretch { first, count, has_equal_tail: false })
    }

    proptest! {
        #[test]
        fn a_question_survives_its_bytes(id: u64, stretches in prop::collection::vec(stretch(), 1..=STRETCHES_MAX)) {
            let question = Question { id, stretches };
            prop_assert_eq!(Message::decode(&question.encode()), Ok(Message::Question(question)));
        }

        #[test]
        fn a_report_survives_its_bytes(id: u64, words in prop::collection::vec(any::<(u64, u64)>(), 1..=STRETCHES_MAX)) {
            let fates = words.into_iter().map(|(arrived, late)| Fate { arrived, late }).collect();
            let report = Report { id, fates };
            prop_assert_eq!(Report::decode(&report.encode()), Ok(report));
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Report::decode(&bytes);
            if let Ok(Message::Question(question)) = Message::decode(&bytes) {
                prop_assert!(question.stretches.len() <= STRETCHES_MAX);
                question.answer(&ReplayWindow::default());
            }
        }
    }

    #[test]
    fn an_answer_tells_lost_from_late() {
        let mut window = ReplayWindow::default();
        for counter in [10, 12, 11, 14] {
            assert!(window.accept(counter));
        }
        let question = Question { id: 5, stretches: vec![Stretch { first: 10, count: 5, has_equal_tail: false }] };

        let report = question.answer(&window);

        assert_eq!(report.fates, [Fate { arrived: 0b10111, late: 0b00010 }]);
    }
}
