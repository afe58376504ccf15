//! Who has which MAC and which address, when several owners claim one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::identity::PeerKey;
use crate::name::MacAddr;
use crate::store::Endpoint;

/// Conflicts decided: the claim of a reachable owner beats that of a held one, then the higher (time of attachment,
/// owner key) wins, everywhere alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    pub macs: BTreeMap<MacAddr, PeerKey>,
    pub addresses: BTreeMap<IpAddr, AddressClaim>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressClaim {
    pub owner: PeerKey,
    pub mac: MacAddr,
}

/// Whether an owner's claims yield to everyone else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    Held,
    Live,
}

/// What decides between two claims; the greater wins.
type Rank = (Weight, u64, PeerKey);

/// Collects the claims of one owner after the other.
#[derive(Debug, Default)]
pub(super) struct Tally {
    macs: BTreeMap<MacAddr, Rank>,
    addresses: BTreeMap<IpAddr, (Rank, MacAddr)>,
}

impl Tally {
    pub(super) fn add(&mut self, owner: PeerKey, weight: Weight, endpoint: &Endpoint) {
        let rank = (weight, endpoint.attached, owner);
        let best = self.macs.entry(endpoint.mac).or_insert(rank);
        *best = (*best).max(rank);
        for subnet in &endpoint.addresses {
            let claim = (rank, endpoint.mac);
            let best = self.addresses.entry(subnet.address).or_insert(claim);
            *best = (*best).max(claim);
        }
    }

    pub(super) fn decide(self) -> Claims {
        let macs = self.macs.into_iter().map(|(mac, (_, _, owner))| (mac, owner)).collect();
        let addresses = self.addresses.into_iter();
        let addresses =
            addresses.map(|(address, ((_, _, owner), mac))| (address, AddressClaim { owner, mac })).collect();
        Claims { macs, addresses }
    }
}
