//! How many votes are enough: each voter says with its vote what it demands of the others.
//!
//! Invariant: two quorums share a member as soon as what was given to their members overlaps enough.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::identity::PeerKey;

/// How many of the peers given to it a voter names.
pub(in crate::ipam) const NEED_KNOWN_MAX: usize = 128;

/// What a voter demands of a quorum that it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// How many peers it believes there are.
    pub peers: u32,
    /// How many distinct peers it was given.
    pub given: u32,
    /// Those of them that it knows.
    pub known: Vec<PeerKey>,
}

impl Need {
    fn is_met_by(&self, voters: &BTreeMap<PeerKey, Self>) -> bool {
        let present = self.known.iter().filter(|peer| voters.contains_key(peer)).count();
        self.given == 0 || present > self.given as usize / 2
    }
}

/// The largest group of `voters` in which everybody's need is met, if it is a majority of `peers`.
pub(super) fn quorum(voters: &BTreeMap<PeerKey, Need>, peers: u32) -> Option<BTreeSet<PeerKey>> {
    let mut group = voters.clone();
    loop {
        let unmet: Vec<PeerKey> =
            group.iter().filter(|(_, need)| !need.is_met_by(&group)).map(|(voter, _)| *voter).collect();
        if unmet.is_empty() {
            break;
        }
        unmet.iter().for_each(|voter| drop(group.remove(voter)));
    }
    (group.len() > peers as usize / 2).then(|| group.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PeerKey {
        PeerKey([number; 32])
    }

    fn voters(voters: &[(u8, &[u8], u32)]) -> BTreeMap<PeerKey, Need> {
        let need = |known: &[u8], given| Need { peers: 1, given, known: known.iter().copied().map(key).collect() };
        voters.iter().map(|(voter, known, given)| (key(*voter), need(known, *given))).collect()
    }

    #[test]
    fn a_quorum_is_a_majority() {
        let three = voters(&[(1, &[], 0), (2, &[], 0), (3, &[], 0)]);
        assert_eq!(quorum(&three, 5).map(|quorum| quorum.len()), Some(3));
        assert_eq!(quorum(&three, 6), None);
    }

    #[test]
    fn a_quorum_has_a_majority_of_what_was_given_to_each() {
        let without_seed = voters(&[(2, &[1], 1), (3, &[1], 1)]);
        assert_eq!(quorum(&without_seed, 3), None);
        let with_seed = voters(&[(1, &[], 0), (2, &[1], 1), (3, &[1], 1)]);
        assert_eq!(quorum(&with_seed, 3).unwrap().len(), 3);
        let with_unknown = voters(&[(1, &[], 0), (2, &[1], 2)]);
        assert_eq!(quorum(&with_unknown, 1), Some(BTreeSet::from([key(1)])), "whose need is not met is left out");
    }
}
