//! Peers that the operator wants no dial to, whoever names them: what `forget` left.
//!
//! Invariant: at most [`FORGOTTEN_MAX`] are remembered; the oldest goes first.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Destination, Target};
use crate::identity::PeerKey;

/// As many as there may be targets.
const FORGOTTEN_MAX: usize = super::TARGETS_MAX;

/// One target that was forgotten, and who answered there if anybody did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oblivion {
    pub target: Target,
    pub peer: Option<PeerKey>,
}

impl Oblivion {
    fn covers(&self, address: &SocketAddr, default_port: u16) -> bool {
        match self.target.portless_address() {
            Some(host) => host == address.ip(),
            None => self.target.destination(default_port) == Destination::Address(*address),
        }
    }

    fn is_at(&self, destination: &Destination, default_port: u16) -> bool {
        match destination {
            Destination::Address(address) => self.covers(address, default_port),
            Destination::Name { .. } => self.target.destination(default_port) == *destination,
        }
    }
}

/// All of them, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Forgotten(Vec<Oblivion>);

impl Forgotten {
    pub(super) fn restore(&mut self, stored: Vec<Oblivion>) {
        self.0 = stored;
        self.0.truncate(FORGOTTEN_MAX);
    }

    pub(super) fn add(&mut self, target: &Target, peer: Option<PeerKey>) {
        self.0.retain(|known| known.target != *target);
        self.0.push(Oblivion { target: target.clone(), peer });
        self.0.drain(..self.0.len().saturating_sub(FORGOTTEN_MAX));
    }

    /// The operator wants a connection to `target` after all.
    pub(super) fn forgive(&mut self, target: &Target, default_port: u16) {
        let destination = target.destination(default_port);
        self.0.retain(|known| !known.is_at(&destination, default_port));
    }

    /// One of the operator's targets led to `peer`. Returns whether it was forgotten.
    pub(super) fn forgive_peer(&mut self, peer: &PeerKey, addresses: &[SocketAddr], default_port: u16) -> bool {
        let before = self.0.len();
        self.0.retain(|known| !is_about(known, peer, addresses, default_port));
        self.0.len() < before
    }

    pub(super) fn holds(&self, peer: &PeerKey, addresses: &[SocketAddr], default_port: u16) -> bool {
        self.0.iter().any(|known| is_about(known, peer, addresses, default_port))
    }

    /// Whether the operator has forgotten `target`, whoever names it.
    pub(super) fn has(&self, target: &Target, default_port: u16) -> bool {
        let destination = target.destination(default_port);
        self.0.iter().any(|known| known.is_at(&destination, default_port))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Oblivion> {
        self.0.iter()
    }
}

fn is_about(known: &Oblivion, peer: &PeerKey, addresses: &[SocketAddr], default_port: u16) -> bool {
    known.peer.as_ref() == Some(peer) || addresses.iter().any(|address| known.covers(address, default_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 6783;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    fn key(byte: u8) -> PeerKey {
        PeerKey([byte; 32])
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_host_is_forgotten_at_any_port_and_an_endpoint_at_its_own() {
        let mut forgotten = Forgotten::default();
        forgotten.add(&target("10.0.0.1"), None);
        forgotten.add(&target("10.0.0.2:7000"), None);

        assert!(forgotten.holds(&key(1), &addresses(&["10.0.0.9:1", "10.0.0.1:7000"]), PORT));
        assert!(forgotten.holds(&key(1), &addresses(&["10.0.0.2:7000"]), PORT));
        assert!(!forgotten.holds(&key(1), &addresses(&["10.0.0.2:6783"]), PORT));
    }

    #[test]
    fn a_name_is_forgotten_with_the_peer_that_answered_to_it() {
        let mut forgotten = Forgotten::default();
        forgotten.add(&target("host1.example"), Some(key(1)));

        assert!(forgotten.holds(&key(1), &[], PORT));
        assert!(!forgotten.holds(&key(2), &[], PORT));
        forgotten.forgive(&target("host1.example:6783"), PORT);
        assert!(!forgotten.holds(&key(1), &[], PORT));
    }

    #[test]
    fn what_is_given_again_is_forgiven_by_address_or_by_peer() {
        let mut forgotten = Forgotten::default();
        forgotten.add(&target("10.0.0.1"), Some(key(1)));
        forgotten.add(&target("10.0.0.2"), Some(key(2)));

        forgotten.forgive(&target("10.0.0.1:6783"), PORT);
        assert!(forgotten.forgive_peer(&key(2), &[], PORT));
        assert!(!forgotten.forgive_peer(&key(2), &[], PORT));

        assert_eq!(forgotten.iter().count(), 0);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut forgotten = Forgotten::default();
        for number in 0..=FORGOTTEN_MAX {
            forgotten.add(&target(&format!("host{number}")), None);
        }

        assert_eq!(forgotten.iter().count(), FORGOTTEN_MAX);
        assert_eq!(forgotten.iter().next().unwrap().target, target("host1"));
    }
}
