//! What a path does now and why, in the operator's words.

use std::fmt;

use weave_mesh::time::Instant;

use super::evidence::Tally;
use crate::batch::{Refusal, SendMode};

/// Why a path sends as it does; prints in the operator's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NotProvenYet,
    Moved,
    Silent,
    Proven,
    Healed,
    Refused(Refusal),
    /// Of segmented sends, beside plain ones.
    Bad {
        segmented: Tally,
        plain: Tally,
    },
}

/// A new verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub mode: SendMode,
    pub reason: Reason,
}

/// What a path does now, since when, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub mode: SendMode,
    pub since: Instant,
    pub reason: Reason,
}

impl Reason {
    /// Segmented sends did harm.
    pub const fn is_fault(&self) -> bool {
        matches!(self, Self::Silent | Self::Refused(_) | Self::Bad { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProvenYet => f.write_str("no trial has shown yet that segmented sends arrive"),
            Self::Moved => f.write_str("the peer's address changed, and no trial has passed there yet"),
            Self::Silent => f.write_str("the peer answered no trial for a while"),
            Self::Proven => f.write_str("segmented sends arrive whole and in order"),
            Self::Healed => f.write_str("segmented sends arrive whole and in order again"),
            Self::Refused(Refusal::TooLong) => {
                f.write_str("the kernel refused a segmented send: its datagrams are longer than the path takes")
            }
            Self::Refused(Refusal::Unsupported) => {
                f.write_str("the kernel refused a segmented send: device or route cannot segment")
            }
            Self::Bad { segmented, plain } => write!(
                f,
                "of segmented sends {} of {} packets were lost or damaged and {} came late; of plain sends beside them \
                 {} of {} and {}",
                segmented.lost, segmented.sent, segmented.late, plain.lost, plain.sent, plain.late
            ),
        }
    }
}
