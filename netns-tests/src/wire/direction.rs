//! One direction of the wire: packets in, faults, packets out when their time has come.
//!
//! ```text
//!   TAP ─► segmented? cut, and the faults of segments ─► each packet: loss, bottleneck, delay, twice ─► held ─► TAP
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weave_datapath::linux::tap::Tap;
use weave_datapath::offload::vnet::Header;

use super::cut::{cut, spoil_checksum, spoil_payload};
use super::faults::{Bottleneck, Faults, Segmented};

/// Packets held at once; more are lost.
pub const HELD_MAX: usize = 65_536;
/// Packets taken before the other direction has its turn.
const BATCH: usize = 256;
/// The longest packet that a device hands over.
const PACKET_BYTES: usize = 70_000;

/// What a direction has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets handed over whole: frames, and segmented sends as one.
    pub packets: u64,
    /// Segmented UDP sends among them.
    pub segmented: u64,
    /// Lost by chance, in the bottleneck's queue, or as segments.
    pub lost: u64,
    /// Carried twice.
    pub doubled: u64,
    /// Segments changed, spoilt or put in another order.
    pub mangled: u64,
}

#[derive(Debug)]
pub(super) struct Direction {
    chance: Chance,
    /// By due time and order of arrival.
    held: BTreeMap<(Instant, u64), (Header, Vec<u8>)>,
    order: u64,
    /// When the bottleneck has sent all that waits.
    link_free: Option<Instant>,
    /// When the last stalled segment leaves.
    stalled: Option<Instant>,
    counts: Counts,
    buffer: Vec<u8>,
}

impl Direction {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: Chance(seed),
            held: BTreeMap::new(),
            order: 0,
            link_free: None,
            stalled: None,
            counts: Counts::default(),
            buffer: vec![0; PACKET_BYTES],
        }
    }

    /// When something is to be given.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.first_key_value().map(|(&(due, _), _)| due)
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes what waits in a device.
    pub(super) fn take(&mut self, tap: &Tap, faults: &Faults, now: Instant) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..BATCH {
            // A device whose host is going away has nothing more to say.
            let Ok(Some((header, length))) = tap.receive(&mut buffer) else { break };
            self.packet(header, &buffer[..length.min(PACKET_BYTES)], faults, now);
        }
        self.buffer = buffer;
    }

    /// Gives what is due to the other device.
    pub(super) fn give(&mut self, tap: &Tap, now: Instant) {
        while let Some(entry) = self.held.first_entry().filter(|entry| entry.key().0 <= now) {
            let (header, packet) = entry.remove();
            if tap.send(header, &packet).is_err() {
                self.counts.lost += 1;
            }
        }
    }

    fn packet(&mut self, header: Header, packet: &[u8], faults: &Faults, now: Instant) {
        self.counts.packets += 1;
        let segments = header.segmentation.and_then(|segmentation| cut(packet, segmentation.size.into()));
        self.counts.segmented += u64::from(segments.is_some());
        match segments {
            Some(segments) if !faults.is_good() => self.segments(segments, faults, now),
            _ => self.pass(header, packet.to_vec(), faults, now),
        }
    }

    /// The segments of one segmented send.
    fn segments(&mut self, mut segments: Vec<Vec<u8>>, faults: &Faults, now: Instant) {
        let count = segments.len();
        match faults.segmented {
            Segmented::Intact => {}
            Segmented::Dropped(percent) => segments.retain(|_| !self.chance.hits(percent)),
            Segmented::WrongChecksum => segments.iter_mut().for_each(|segment| spoil_checksum(segment)),
            Segmented::WrongPayload => segments.iter_mut().for_each(|segment| spoil_payload(segment)),
            Segmented::Reversed => segments.reverse(),
            Segmented::EqualTailLost if has_equal_tail(&segments) => segments.truncate(count - 1),
            Segmented::EqualTailLost => {}
            Segmented::Stalled(pause) => return self.stall(segments, pause, now),
        }
        self.counts.lost += (count - segments.len()) as u64;
        self.counts.mangled += match faults.segmented {
            Segmented::WrongChecksum | Segmented::WrongPayload | Segmented::Reversed => count as u64,
            _ => 0,
        };
        for segment in segments {
            self.pass(Header::default(), segment, faults, now);
        }
    }

    fn stall(&mut self, segments: Vec<Vec<u8>>, pause: Duration, now: Instant) {
        for segment in segments {
            let due = self.stalled.map_or(now, |last| last.max(now)) + pause;
            self.stalled = Some(due);
            self.hold(due, Header::default(), segment);
        }
    }

    /// One packet on its way through the faults that spare nobody.
    fn pass(&mut self, header: Header, packet: Vec<u8>, faults: &Faults, now: Instant) {
        if self.chance.hits(faults.loss_percent) {
            self.counts.lost += 1;
            return;
        }
        let Some(sent) = self.queue(packet.len() as u64, faults.bottleneck, now) else {
            self.counts.lost += 1;
            return;
        };
        let held_back = if self.chance.hits(faults.reorder_percent) { faults.held_back } else { Duration::ZERO };
        let due = sent + faults.delay + held_back;
        if self.chance.hits(faults.duplicate_percent) {
            self.counts.doubled += 1;
            self.hold(due, header, packet.clone());
        }
        self.hold(due, header, packet);
    }

    /// When the bottleneck has sent the packet, or nothing when its queue is full.
    fn queue(&mut self, bytes: u64, bottleneck: Option<Bottleneck>, now: Instant) -> Option<Instant> {
        let Some(Bottleneck { rate, queue }) = bottleneck else { return Some(now) };
        let begin = self.link_free.map_or(now, |free| free.max(now));
        let waiting = (begin - now).as_secs_f64() * rate as f64;
        if waiting > queue as f64 {
            return None;
        }
        let sent = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.link_free = Some(sent);
        Some(sent)
    }

    fn hold(&mut self, due: Instant, header: Header, packet: Vec<u8>) {
        if self.held.len() >= HELD_MAX {
            self.counts.lost += 1;
            return;
        }
        self.order += 1;
        self.held.insert((due, self.order), (header, packet));
    }
}

fn has_equal_tail(segments: &[Vec<u8>]) -> bool {
    segments.len() > 1 && segments.first().map(Vec::len) == segments.last().map(Vec::len)
}

/// Chance from a seed (SplitMix64).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn hits(&mut self, percent: f64) -> bool {
        percent > 0.0 && self.unit() * 100.0 < percent
    }

    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
