//! The table of all peers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use weave_mesh::identity::{NoiseKey, PeerKey};

use crate::engine::peer::Peer;
use crate::sleeve::relay::RelayId;

/// Addresses remembered for each peer on average, before those that are no longer in use are forgotten.
const ADDRESSES_PER_PEER: usize = 16;

/// Where a peer is in the table of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// All peers, found by whatever a packet names them by.
#[derive(Debug, Default)]
pub(super) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    by_key: BTreeMap<PeerKey, Slot>,
    by_noise_key: BTreeMap<NoiseKey, Slot>,
    by_relay_id: BTreeMap<RelayId, Slot>,
    by_address: BTreeMap<SocketAddr, Slot>,
}

impl Peers {
    pub(super) fn get(&self, slot: Slot) -> Option<&Peer> {
        self.slots.get(slot.0 as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Peer> {
        self.slots.get_mut(slot.0 as usize)?.as_deref_mut()
    }

    /// Two different peers at once.
    pub(super) fn pair_mut(&mut self, one: Slot, other: Slot) -> Option<(&mut Peer, &mut Peer)> {
        let [one, other] = self.slots.get_disjoint_mut([one.0 as usize, other.0 as usize]).ok()?;
        one.as_deref_mut().zip(other.as_deref_mut())
    }

    pub(super) fn by_key(&self, key: &PeerKey) -> Option<Slot> {
        self.by_key.get(key).copied()
    }

    pub(super) fn by_noise_key(&self, key: &NoiseKey) -> Option<Slot> {
        self.by_noise_key.get(key).copied()
    }

    pub(super) fn by_relay_id(&self, id: RelayId) -> Option<Slot> {
        self.by_relay_id.get(&id).copied()
    }

    pub(super) fn by_address(&self, address: SocketAddr) -> Option<Slot> {
        self.by_address.get(&address).copied()
    }

    /// Whether a peer is known to have this address, whatever the port.
    pub(super) fn is_someone_at(&self, address: IpAddr) -> bool {
        let from = SocketAddr::new(address, 0);
        self.by_address.range(from..).next().is_some_and(|(found, _)| found.ip() == address)
    }

    /// In the order of keys.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.by_key.values().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots().filter_map(|slot| self.get(slot))
    }

    pub(super) fn insert(&mut self, peer: Peer) -> Slot {
        let key = peer.key;
        let at = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if at == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[at] = Some(Box::new(peer));
        let slot = Slot(u32::try_from(at).expect("members are far fewer than 2^32"));
        self.by_key.insert(key, slot);
        slot
    }

    pub(super) fn remove(&mut self, key: &PeerKey) -> Option<Box<Peer>> {
        let slot = self.by_key.remove(key)?;
        self.slots.get_mut(slot.0 as usize)?.take()
    }

    /// A packet of this peer came straight from `address`.
    pub(super) fn learn_address(&mut self, slot: Slot, address: SocketAddr) {
        let most = self.by_key.len() * ADDRESSES_PER_PEER;
        if self.by_address.len() >= most && !self.by_address.contains_key(&address) {
            self.index();
        }
        self.by_address.insert(address, slot);
    }

    /// Rebuilds what finds peers by other names than their keys. Of two peers that list one address or share a prefix
    /// of their keys, the lower key is found.
    pub(super) fn index(&mut self) {
        (self.by_noise_key, self.by_relay_id, self.by_address) = Default::default();
        for (&key, &slot) in &self.by_key {
            let Some(peer) = self.slots.get(slot.0 as usize).and_then(Option::as_deref) else { continue };
            self.by_noise_key.entry(peer.entry.noise_key).or_insert(slot);
            self.by_relay_id.entry(RelayId::of(&key)).or_insert(slot);
            for address in peer.route.straight(&peer.entry.addresses) {
                self.by_address.entry(address).or_insert(slot);
            }
        }
    }
}
