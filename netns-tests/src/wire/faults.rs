//! What one direction of the wire does to packets, as data.

use std::time::Duration;

/// All faults of one direction; the default is a good wire.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Packets lost, per cent.
    pub loss_percent: f64,
    /// Packets carried twice, per cent.
    pub duplicate_percent: f64,
    /// Packets held back by [`Self::held_back`], so that others overtake them, per cent.
    pub reorder_percent: f64,
    /// How long those are held back.
    pub held_back: Duration,
    /// Time on the wire.
    pub delay: Duration,
    /// A slow link with a queue in front, if there is one.
    pub bottleneck: Option<Bottleneck>,
    /// What becomes of the segments of segmented UDP sends; plain sends are spared.
    pub segmented: Segmented,
}

/// A link with a rate; what does not fit into its queue is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bottleneck {
    /// Octets per second.
    pub rate: u64,
    /// Octets that may wait.
    pub queue: u64,
}

/// A way in which a card, driver or hypervisor segments badly.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Segmented {
    /// It does not.
    #[default]
    Intact,
    /// Each segment is lost with this chance, per cent: 100 for a path that swallows them.
    Dropped(f64),
    /// UDP checksums are wrong, so the receiving kernel drops them.
    WrongChecksum,
    /// Payloads are changed under a right checksum, so the receiver cannot open them.
    WrongPayload,
    /// The last goes first.
    Reversed,
    /// The last one is lost where it is as long as the others.
    EqualTailLost,
    /// They trickle out, one after each such time.
    Stalled(Duration),
}

impl Segmented {
    /// Everything that a path has to leave by itself, in words.
    pub const KNOWN: [(&str, Self); 7] = [
        ("all segments dropped", Self::Dropped(100.0)),
        ("30 % of segments dropped", Self::Dropped(30.0)),
        ("wrong UDP checksums", Self::WrongChecksum),
        ("wrong payloads", Self::WrongPayload),
        ("segments reversed", Self::Reversed),
        ("tails as long as the rest dropped", Self::EqualTailLost),
        ("segments stalled", Self::Stalled(Duration::from_millis(20))),
    ];
}

impl Faults {
    /// Random loss alone.
    #[must_use]
    pub fn loss(percent: f64) -> Self {
        Self { loss_percent: percent, ..Self::default() }
    }

    /// One fault of segmented sends alone.
    #[must_use]
    pub fn segmented(segmented: Segmented) -> Self {
        Self { segmented, ..Self::default() }
    }

    /// Whether a super-packet may cross whole.
    pub(super) fn is_good(&self) -> bool {
        *self == Self { delay: self.delay, ..Self::default() }
    }
}
