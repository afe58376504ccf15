//! Which carrier a peer's frames take.

use std::fmt;

use crate::tables::Why;

/// Why a carrier was chosen; prints in the operator's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A new peer whose fast path has not answered yet.
    NotProvenYet,
    /// The kernel was already programmed to it when this daemon started.
    Adopted,
    HeartbeatAnswered,
    /// Full-size heartbeats were lost while sleeve probes sent at the same times were answered.
    HeartbeatsLost {
        lost: u32,
    },
    Healed,
    Forbidden(Why),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProvenYet => f.write_str("fast path has not answered a heartbeat yet"),
            Self::Adopted => f.write_str("found in the kernel at start"),
            Self::HeartbeatAnswered => f.write_str("fast path answered a full-size heartbeat"),
            Self::HeartbeatsLost { lost } => {
                write!(f, "fast path lost {lost} full-size heartbeats in a row while sleeve probes were answered")
            }
            Self::Healed => f.write_str("fast path answers full-size heartbeats again"),
            Self::Forbidden(why) => write!(f, "fast path is not used: {why}"),
        }
    }
}
