//! A new snapshot of the tables: who comes, who goes, what changes.

use std::sync::Arc;

use weave_mesh::identity::PeerKey;
use weave_mesh::time::Instant;

use crate::engine::Engine;
use crate::engine::peer::Peer;
use crate::engine::peers::Slot;
use crate::engine::stations::Stations;
use crate::sleeve::cookie::ResponderKeys;
use crate::tables::{Carrier, FastPath, PeerEntry, Standing, Tables};

impl Engine {
    pub(super) fn adopt_tables(&mut self, tables: Arc<Tables>, now: Instant) {
        let gone: Vec<PeerKey> =
            self.peers.iter().map(|peer| peer.key).filter(|key| !tables.peers.contains_key(key)).collect();
        for key in gone {
            self.remove_peer(&key);
        }
        for (key, entry) in tables.peers.iter().filter(|(key, _)| **key != tables.local.key) {
            let slot = match self.peers.by_key(key) {
                Some(slot) => self.update_peer(slot, entry, now),
                None => self.peers.insert(Peer::new(*key, entry.clone(), &self.config, now)),
            };
            self.follow_permission(slot, now);
            self.arm(slot, now);
        }
        if self.has_moved(&tables) {
            let slots: Vec<Slot> = self.peers.slots().collect();
            slots.into_iter().for_each(|slot| self.doubt_fast_path(slot, now));
        }
        self.peers.index();
        let owner = |key: &PeerKey| self.peers.by_key(key);
        let remote = tables.macs.iter().filter_map(|(&mac, key)| Some((mac, owner(key)?)));
        self.stations = Stations::new(&tables.local.macs, remote);
        self.flood = self
            .peers
            .slots()
            .filter(|&slot| self.peers.get(slot).is_some_and(|peer| gets_broadcasts(&peer.entry)))
            .collect();
        self.tables = tables;
    }

    fn update_peer(&mut self, slot: Slot, entry: &PeerEntry, now: Instant) -> Slot {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| peer.entry != *entry) else { return slot };
        if (peer.entry.noise_key, peer.entry.knock) != (entry.noise_key, entry.knock) {
            peer.responder = ResponderKeys::of(&entry.noise_key, &entry.knock);
        }
        // In a mesh that grows relays come and go all the time: that is news only where none is left that was tried.
        let relays_again = entry.relays.is_empty() || entry.relays.iter().any(|it| peer.entry.relays.contains(it));
        let reached_as_before =
            peer.entry.standing == entry.standing && peer.entry.addresses == entry.addresses && relays_again;
        if !reached_as_before {
            peer.attempts.hasten(now);
        }
        peer.memory.see_incarnation(entry.incarnation);
        let moved =
            matches!((peer.entry.fast, entry.fast), (FastPath::Allowed(from), FastPath::Allowed(to)) if from != to);
        peer.entry = entry.clone();
        if moved {
            self.doubt_fast_path(slot, now);
        }
        slot
    }

    /// One of the addresses between which the fast path worked is gone: its peer is on sleeve until it works again.
    fn doubt_fast_path(&mut self, slot: Slot, now: Instant) {
        let change = self.peers.get_mut(slot).and_then(|peer| peer.choice.move_away(now));
        self.announce(slot, change);
    }

    /// Whether this host has lost an address that it had.
    fn has_moved(&self, tables: &Tables) -> bool {
        self.tables.local.addresses.iter().any(|address| !tables.local.addresses.contains(address))
    }

    fn remove_peer(&mut self, key: &PeerKey) {
        let Some(mut peer) = self.peers.remove(key) else { return };
        peer.sessions.clear();
        peer.attempts.end(None);
        while peer.waiting.pop(&mut self.waiting_bytes).is_some() {}
        for index in peer.sessions.take_retired().into_iter().chain(peer.attempts.take_retired()) {
            self.indices.release(index);
        }
        self.timers.retain(|&(_, slot)| self.peers.get(slot).is_some());
    }

    /// Leaves a fast path that is forbidden, gives one that is allowed again its chance.
    fn follow_permission(&mut self, slot: Slot, now: Instant) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let change = match peer.entry.fast {
            FastPath::Forbidden(why) => peer.choice.forbid(why, now),
            FastPath::Allowed(_) => {
                peer.choice.allow(now);
                None
            }
        };
        self.announce(slot, change);
    }
}

fn gets_broadcasts(entry: &PeerEntry) -> bool {
    entry.applied == Carrier::Sleeve && entry.standing != Standing::Held
}
