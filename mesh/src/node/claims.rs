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
    /// Made at a time that no attachment can have: see the attach clock.
    Absurd,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::Subnet;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn endpoint(attached: u64) -> Endpoint {
        let address = Subnet { address: [10, 32, 0, 1].into(), prefix_len: 12 };
        Endpoint { mac: MAC, addresses: vec![address], container: String::new(), names: Vec::new(), attached }
    }

    /// Who has the MAC, and who the address, of claims made in this order.
    fn winners(claims: &[(u8, Weight, u64)]) -> (u8, u8) {
        let mut tally = Tally::default();
        for (owner, weight, attached) in claims {
            tally.add(PeerKey([*owner; 32]), *weight, &endpoint(*attached));
        }
        let claims = tally.decide();
        let address = claims.addresses.values().next().unwrap();
        assert_eq!(address.mac, MAC);
        (claims.macs[&MAC].0[0], address.owner.0[0])
    }

    #[test]
    fn the_later_attachment_wins_in_whatever_order_claims_are_heard() {
        let (early, late) = ((1, Weight::Live, 5), (2, Weight::Live, 6));

        assert_eq!(winners(&[early, late]), (2, 2));
        assert_eq!(winners(&[late, early]), (2, 2));
    }

    #[test]
    fn of_attachments_at_one_time_the_higher_key_wins() {
        assert_eq!(winners(&[(3, Weight::Live, 5), (2, Weight::Live, 5)]), (3, 3));
    }

    #[test]
    fn any_live_claim_beats_a_held_one() {
        assert_eq!(winners(&[(3, Weight::Held, 9), (2, Weight::Live, 1)]), (2, 2));
    }
}
