//! How often sets were delivered: the store's promise is about once to each peer.

use std::collections::BTreeSet;

use super::HostId;
use crate::store::{Tag, Version};
use crate::wire::Message;

#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    /// Deltas and whole sets that arrived.
    pub sets: u64,
    /// Of these, such as the same peer had been sent before.
    pub repeated: u64,
    /// Receiver, owner and version of each, hashed.
    seen: BTreeSet<u64>,
}

impl Deliveries {
    pub(super) fn count(&mut self, to: HostId, message: &Message) {
        let (owner, version) = match message {
            Message::Delta(delta) => (delta.owner, delta.to()),
            Message::Part(part) if part.index == 0 => (Tag::from(&part.owner), part.version),
            _ => return,
        };
        self.sets += 1;
        if !self.seen.insert(hash(to, owner, version)) {
            self.repeated += 1;
        }
    }
}

/// Good enough to tell a few million deliveries apart.
fn hash(to: HostId, owner: Tag, version: Version) -> u64 {
    [to.0 as u64, u64::from_le_bytes(owner.0), version.incarnation, version.counter].iter().fold(0, |hash, word| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    })
}
