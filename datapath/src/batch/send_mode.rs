//! The two ways in which datagrams leave, and why the kernel refuses one of them.

use std::fmt;

/// How datagrams may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMode {
    /// Many in one call that the kernel or the device cuts (`UDP_SEGMENT`, Linux 4.18).
    Segmented,
    /// One by one.
    Plain,
}

impl fmt::Display for SendMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Segmented => "segmented",
            Self::Plain => "plain",
        })
    }
}

/// Why the kernel refused a segmented send; the datagrams were sent one by one instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// EMSGSIZE or EINVAL: a datagram is longer than the path takes in one piece.
    TooLong,
    /// EIO and others: the device or the path cannot do it.
    Unsupported,
}
