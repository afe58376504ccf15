//! What is known of a path's sizes, in the operator's words.

use std::fmt;
use std::time::Duration;

/// Prints as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub(super) limit: usize,
    pub(super) full: usize,
    pub(super) is_exact: bool,
    /// How long ago the last verdict was.
    pub(super) measured: Option<Duration>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, full, is_exact, measured } = *self;
        let Some(measured) = measured else { return f.write_str("not measured yet, taken to be the overlay's") };
        if limit == full {
            write!(f, "frames of {full} octets, the overlay's longest, arrive by sleeve")?;
        } else if is_exact {
            write!(f, "frames of {limit} octets arrive by sleeve, longer ones do not")?;
        } else {
            write!(f, "frames of {limit} octets arrive by sleeve, longer ones are being tried")?;
        }
        write!(f, "; measured {} s ago", measured.as_secs())?;
        if limit < full {
            f.write_str(
                "; longer TCP is cut into shorter segments, other packets are fragmented or their senders told by ICMP",
            )?;
        }
        Ok(())
    }
}
