//! The underlay, as data: how long bytes take, what gets lost, who is cut off from whom.
//!
//! TCP repairs loss, so a lost segment is a delay here; bytes of one stream stay in order while those of different
//! streams overtake each other. What a partition stops is sent again when it heals.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use super::HostId;
use crate::time::Instant;

/// The first retransmission timeout of TCP on Linux; doubles with each further loss.
const RETRANSMISSION_TIMEOUT: Duration = Duration::from_millis(200);
/// The first retransmission timeout of a SYN.
const SYN_TIMEOUT: Duration = Duration::from_secs(1);
/// Losses in a row after which a segment gets through all the same.
const LOSSES_MAX: u32 = 6;
/// What one segment of a stream carries, octets.
const SEGMENT_BYTES: usize = 1_448;
/// Ethernet, IPv4 and TCP headers of one segment, octets.
const SEGMENT_HEADER_BYTES: usize = 14 + 20 + 32;

#[derive(Clone, Debug)]
pub struct Network {
    /// One way, drawn for each send.
    pub latency: RangeInclusive<Duration>,
    /// Of a segment: 0 is none, 1 is all.
    pub loss: f64,
    /// That a send resets its stream.
    pub reset: f64,
    /// What a host sends at most, octets per second.
    pub uplink: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(500)..=Duration::from_millis(10),
            loss: 0.0,
            reset: 0.0,
            uplink: 125_000_000,
        }
    }
}

impl Network {
    pub(super) fn latency(&self, dice: &mut Dice) -> Duration {
        dice.between(*self.latency.start(), *self.latency.end())
    }

    /// How long one send takes until its last byte is there.
    pub(super) fn travel(&self, dice: &mut Dice) -> Duration {
        self.latency(dice) + self.repair(RETRANSMISSION_TIMEOUT, dice)
    }

    /// How long the first packet of a dial takes.
    pub(super) fn travel_of_syn(&self, dice: &mut Dice) -> Duration {
        self.latency(dice) + self.repair(SYN_TIMEOUT, dice)
    }

    fn repair(&self, first: Duration, dice: &mut Dice) -> Duration {
        let losses = (0..LOSSES_MAX).take_while(|_| dice.happens(self.loss)).count();
        (0..losses).map(|loss| first * (1 << loss)).sum()
    }

    /// How long a host's uplink is busy with `bytes`.
    pub(super) fn serialisation(&self, bytes: usize) -> Duration {
        Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / self.uplink.max(1))
    }
}

/// Octets on the wire for one send of `bytes`: with headers, and an acknowledgement for every two segments.
pub(super) fn framed_bytes(bytes: usize) -> usize {
    let segments = bytes.div_ceil(SEGMENT_BYTES).max(1);
    bytes + (segments + segments.div_ceil(2)) * SEGMENT_HEADER_BYTES
}

/// Who cannot reach whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Cuts {
    /// The groups of a partition; a host in none of them is in the first.
    groups: Vec<BTreeSet<HostId>>,
    /// Pairs without a path, lower host first.
    pairs: BTreeSet<(HostId, HostId)>,
}

impl Cuts {
    pub(super) fn partition(&mut self, groups: Vec<BTreeSet<HostId>>) {
        self.groups = groups;
    }

    pub(super) fn cut(&mut self, a: HostId, b: HostId) {
        self.pairs.insert((a.min(b), a.max(b)));
    }

    pub(super) fn mend(&mut self, a: HostId, b: HostId) {
        self.pairs.remove(&(a.min(b), a.max(b)));
    }

    pub(super) fn are_apart(&self, a: HostId, b: HostId) -> bool {
        let group = |host| self.groups.iter().position(|group| group.contains(&host)).unwrap_or(0);
        self.pairs.contains(&(a.min(b), a.max(b))) || group(a) != group(b)
    }

    /// Whether every host can reach every other.
    pub(super) fn are_none(&self) -> bool {
        self.pairs.is_empty() && self.groups.iter().filter(|group| !group.is_empty()).count() <= 1
    }
}

/// The world's only source of chance.
#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit.max(1) as u64) as usize
    }

    pub(super) fn happens(&mut self, probability: f64) -> bool {
        // Nothing is drawn for what never happens: a fault added to a scenario leaves the rest of it as it was.
        probability > 0.0 && ((self.number() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    pub(super) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_micros()).unwrap_or(u64::MAX - 1);
        from + Duration::from_micros(self.number() % (span + 1))
    }
}

/// What has crossed the underlay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Octets in streams.
    pub payload_bytes: u64,
    /// The same with Ethernet, IP and TCP headers and acknowledgements, about.
    pub wire_bytes: u64,
    pub sends: u64,
    pub messages: u64,
    /// Octets in streams, by sending host.
    pub sent_bytes: Vec<u64>,
}

impl Traffic {
    pub(super) fn count(&mut self, from: HostId, bytes: usize, messages: usize) {
        self.payload_bytes += bytes as u64;
        self.wire_bytes += framed_bytes(bytes) as u64;
        self.sends += 1;
        self.messages += messages as u64;
        if self.sent_bytes.len() <= from.0 {
            self.sent_bytes.resize(from.0 + 1, 0);
        }
        self.sent_bytes[from.0] += bytes as u64;
    }
}

/// When a host's uplink is free again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uplink {
    free_at: Instant,
}

impl Uplink {
    /// When the last of `bytes` has left.
    pub(super) fn send(&mut self, bytes: usize, network: &Network, now: Instant) -> Instant {
        self.free_at = self.free_at.max(now) + network.serialisation(bytes);
        self.free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_separates_groups_and_a_cut_separates_a_pair() {
        let mut cuts = Cuts::default();
        assert!(cuts.are_none());

        cuts.partition(vec![BTreeSet::from([HostId(0)]), BTreeSet::from([HostId(1)])]);
        cuts.cut(HostId(0), HostId(2));

        assert!(cuts.are_apart(HostId(1), HostId(0)));
        assert!(cuts.are_apart(HostId(2), HostId(0)));
        assert!(!cuts.are_apart(HostId(0), HostId(3)));
        cuts.partition(Vec::new());
        cuts.mend(HostId(2), HostId(0));
        assert!(cuts.are_none());
    }

    #[test]
    fn a_lossy_network_delays_and_never_loses() {
        let network = Network { loss: 1.0, ..Network::default() };

        assert!(network.travel(&mut Dice::new(1)) > RETRANSMISSION_TIMEOUT * 63);
    }
}
