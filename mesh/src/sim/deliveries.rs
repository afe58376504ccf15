//! How often sets were delivered: the store's promise is about once to each peer.

use std::collections::BTreeSet;

use super::HostId;
use crate::store::{Tag, Version};
use crate::wire::Message;

/// Deliveries to so many hosts are counted: enough to see repetition, few enough to remember each.
const WATCHED_HOSTS: usize = 64;

#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    /// Deltas and whole sets that arrived at the first 64 hosts.
    pub sets: u64,
    /// Of these, such as the same host had been sent before.
    pub repeated: u64,
    seen: BTreeSet<(HostId, Tag, Version)>,
}

impl Deliveries {
    pub(super) fn count(&mut self, to: HostId, message: &Message) {
        let (owner, version) = match message {
            Message::Delta(delta) => (delta.owner, delta.to()),
            Message::Part(part) if part.index == 0 => (Tag::from(&part.owner), part.version),
            _ => return,
        };
        if to.0 < WATCHED_HOSTS {
            self.sets += 1;
            self.repeated += u64::from(!self.seen.insert((to, owner, version)));
        }
    }
}
