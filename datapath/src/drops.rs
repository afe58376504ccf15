//! Why a frame or datagram went no further, with a counter for each reason. A drop is not an error: nothing is logged
//! per packet, and no packet from outside does more harm than a number going up.

/// Declares the reasons once: variant, then the operator's words.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $text:literal,)*) => {
        /// Why a frame or datagram was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Drop { $($(#[$doc])* $variant,)* }

        impl Drop {
            /// Every reason, in the order of the counters.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];
        }

        impl std::fmt::Display for Drop {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self { $(Self::$variant => $text,)* })
            }
        }
    };
}

reasons! {
    MalformedFrame => "frame from a container is too short to be Ethernet",
    MalformedOffload => "offload header of a frame does not fit it",
    NoSuchStation => "no peer owns the destination address",
    Reflected => "frame from this host carries a remote endpoint's source address",
    ReservedEthertype => "frame carries the ethertype of heartbeats",
    QueueFull => "queue of frames waiting for a session was full",
    WaitedTooLong => "frame waited too long for a session",
    TooLong => "frame is longer than a packet can carry",
    TooBigTold => "packet is longer than its path takes, and its sender was told so by ICMP",
    TooBigToldOften => "packet is longer than its path takes, and its sender was told often enough",
    TooBigUntold => "packet is longer than its path takes, may not be fragmented, and nobody may be told",
    LongerThanOurs => "size probe is longer than this host's own frames",
    OutboxFull => "more was to be sent at once than buffers hold",
    NoWay => "no direct address and no relay leads to the peer",
    Exhausted => "session is past its last packet or its last second",
    MalformedDatagram => "datagram is no sleeve packet",
    NoSuchSession => "packet names a session that does not exist",
    Replayed => "packet was received before or is too old",
    ForgedPacket => "packet is not sealed with its session's key",
    ForeignSource => "frame from a peer claims a source address of somebody else",
    NotForUs => "frame from a peer is for an endpoint of a third one",
    ForgedHandshake => "handshake is not meant for this peer or was altered",
    StrangersHandshake => "handshake comes from nobody who is a member here",
    OtherMesh => "handshake comes from another mesh",
    ReplayedHandshake => "handshake is not newer than the last one of its sender",
    WrongPassword => "handshake is answered under a password that is not ours",
    NoCommonCipher => "handshake offers no cipher that we have",
    Overloaded => "handshake without a cookie while too many arrive",
    StaleHandshake => "answer to a handshake that is no longer under way",
    MalformedEnvelope => "relayed packet is malformed or wrapped twice",
    HopLimit => "relayed packet passed too many hops",
    RelayRate => "relayed packet is over its source's rate",
    RelayNoWay => "no direct session leads a relayed packet on",
    ForgedHeartbeat => "heartbeat is malformed, forged or not of the current session",
}

/// How often each thing happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops([u64; Drop::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; Drop::ALL.len()])
    }
}

impl Drops {
    pub(crate) const fn count(&mut self, why: Drop) {
        self.0[why as usize] += 1;
    }

    pub const fn of(&self, why: Drop) -> u64 {
        self.0[why as usize]
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (Drop, u64)> + '_ {
        Drop::ALL.into_iter().map(|why| (why, self.of(why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_words() {
        let mut drops = Drops::default();
        for (times, why) in Drop::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| drops.count(why));
        }

        assert!(drops.iter().enumerate().all(|(times, (_, count))| count == times as u64));
        let words: std::collections::BTreeSet<_> = Drop::ALL.iter().map(Drop::to_string).collect();
        assert_eq!(words.len(), Drop::ALL.len());
    }
}
