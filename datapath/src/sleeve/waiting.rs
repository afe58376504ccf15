//! Frames that wait for a session, oldest out first when there are too many.

use std::collections::VecDeque;
use std::time::Duration;

use weave_mesh::time::Instant;

use crate::offload::segment::{Outgoing, Shape};

/// Frames that wait for one peer: at a thousand a second, as long as a handshake by relay takes.
pub const FRAMES_MAX: usize = 256;
/// Octets that wait for all peers together.
pub const BYTES_MAX: usize = 2 << 20;
/// How long a frame waits: longer, and whoever sent it has sent another.
pub const WAIT_MAX: Duration = Duration::from_secs(3);

/// One peer's waiting frames.
#[derive(Debug, Default)]
pub struct Waiting {
    frames: VecDeque<(Instant, Frame)>,
}

/// A frame as it came from the TAP.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub shape: Shape,
    pub bytes: Vec<u8>,
}

impl Waiting {
    /// Keeps a frame. `bytes` counts what waits for all peers; returns how many frames had to go for it, which may be
    /// this one.
    pub fn push(&mut self, frame: &Outgoing<'_>, bytes: &mut usize, now: Instant) -> usize {
        let mut dropped = 0;
        while self.frames.len() >= FRAMES_MAX || (*bytes + frame.bytes.len() > BYTES_MAX && !self.frames.is_empty()) {
            self.pop(bytes);
            dropped += 1;
        }
        if *bytes + frame.bytes.len() > BYTES_MAX {
            return dropped + 1;
        }
        *bytes += frame.bytes.len();
        self.frames.push_back((now, Frame { shape: frame.shape, bytes: frame.bytes.to_vec() }));
        dropped
    }

    pub fn pop(&mut self, bytes: &mut usize) -> Option<Frame> {
        let (_, frame) = self.frames.pop_front()?;
        *bytes -= frame.bytes.len();
        Some(frame)
    }

    /// Drops what waited too long, and returns how many frames that were.
    pub fn expire(&mut self, bytes: &mut usize, now: Instant) -> usize {
        let mut dropped = 0;
        while self.poll_timeout().is_some_and(|at| at <= now) {
            self.pop(bytes);
            dropped += 1;
        }
        dropped
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.frames.front().map(|(since, _)| *since + WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::segment::Sum;

    fn whole(bytes: &[u8]) -> Outgoing<'_> {
        Outgoing { bytes, shape: Shape::Whole(Sum::Finished) }
    }

    #[test]
    fn the_oldest_frames_give_way() {
        let (mut waiting, mut bytes) = (Waiting::default(), 0);
        let dropped: usize =
            (0..=FRAMES_MAX).map(|at| waiting.push(&whole(&[at as u8; 10]), &mut bytes, Instant::ZERO)).sum();

        assert_eq!((dropped, bytes), (1, FRAMES_MAX * 10));
        assert_eq!(waiting.pop(&mut bytes).map(|frame| frame.bytes), Some(vec![1; 10]));
    }

    #[test]
    fn all_peers_share_one_limit() {
        let (mut waiting, mut bytes) = (Waiting::default(), BYTES_MAX - 10);

        assert_eq!(waiting.push(&whole(&[0; 11]), &mut bytes, Instant::ZERO), 1);
        assert_eq!(waiting.push(&whole(&[0; 10]), &mut bytes, Instant::ZERO), 0);
        assert_eq!(bytes, BYTES_MAX);
    }

    #[test]
    fn a_frame_waits_for_three_seconds() {
        let (mut waiting, mut bytes) = (Waiting::default(), 0);
        waiting.push(&whole(&[0; 10]), &mut bytes, Instant::ZERO);

        assert_eq!(waiting.expire(&mut bytes, Instant::from_micros(2_999_999)), 0);
        assert_eq!(waiting.expire(&mut bytes, Instant::from_micros(3_000_000)), 1);
        assert_eq!((bytes, waiting.poll_timeout()), (0, None));
    }
}
