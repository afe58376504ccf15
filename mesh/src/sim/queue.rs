//! What will happen, by time; what was pushed first comes first among events of one moment.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use super::stream::{Payload, Side, StreamId};
use super::{Fault, HostId};
use crate::connector::{DialError, DialId};
use crate::roster::Listing;
use crate::time::Instant;

#[derive(Debug)]
pub(super) enum Event {
    Syn { from: HostId, boot: u32, dial: DialId, to: HostId },
    DialFailed { host: HostId, boot: u32, dial: DialId, error: DialError },
    Arrive { stream: StreamId, side: Side, payload: Payload },
    HandshakeTimer { stream: StreamId, side: Side },
    NodeTimer { host: HostId, boot: u32 },
    Ask { host: HostId, boot: u32 },
    Listed { host: HostId, boot: u32, listing: Listing },
    Fault(Fault),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Queued>>,
    next: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Instant, event: Event) {
        self.heap.push(Reverse(Queued { at, number: self.next, event }));
        self.next += 1;
    }

    /// Everything happens so much later.
    pub(super) fn postpone(&mut self, time: Duration) {
        let postponed = |Reverse(queued): Reverse<Queued>| Reverse(Queued { at: queued.at + time, ..queued });
        self.heap = std::mem::take(&mut self.heap).into_iter().map(postponed).collect();
    }

    /// The next event, if it is due by `until`.
    pub(super) fn pop(&mut self, until: Instant) -> Option<(Instant, Event)> {
        if self.heap.peek()?.0.at > until {
            return None;
        }
        self.heap.pop().map(|Reverse(queued)| (queued.at, queued.event))
    }
}

#[derive(Debug)]
struct Queued {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
