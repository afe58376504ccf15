//! What is wrong with other peers' addresses and needs a person: told once, and kept to be shown.

use std::fmt;
use std::sync::Arc;

use super::{Action, FirstRing, Ipam, Origin, Range};
use crate::identity::PeerKey;
use crate::name::PeerName;

/// Of how many peers a problem is remembered.
const PROBLEMS_MAX: usize = 64;

/// Something about the ring that needs a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    OtherRange {
        ours: Range,
        theirs: Range,
    },
    OtherSeeds {
        ours: Vec<PeerName>,
        theirs: Vec<PeerName>,
    },
    OtherRing {
        ours: Arc<FirstRing>,
        theirs: Arc<FirstRing>,
    },
    /// Both signed a transfer of the same version at this address.
    Conflict {
        address: u32,
        signers: [PeerKey; 2],
    },
    /// Its container has an address that one of ours has, too.
    HeldTwice {
        address: u32,
        container: String,
    },
    /// It shows our machine id.
    SameMachine,
    /// We were away, and do not understand what its ring has become.
    Away,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |address: &u32| std::net::Ipv4Addr::from(*address);
        match self {
            Self::OtherRange { ours, theirs } => {
                write!(
                    f,
                    "its range of addresses is {theirs}, ours {ours}; launch with the same --ipalloc-range everywhere"
                )
            }
            Self::OtherSeeds { ours, theirs } => {
                write!(
                    f,
                    "its seeds are {}, ours {}; launch with the same --ipalloc-init everywhere",
                    List(theirs),
                    List(ours)
                )
            }
            Self::OtherRing { ours, theirs } => write!(
                f,
                "its ring was made by {theirs}, ours by {ours}: two groups were started apart; run `weave-rs reset` on one of them"
            ),
            Self::Conflict { address, signers: [one, other] } => {
                write!(f, "both {one} and {other} gave away {}; one of them runs an old copy of its state", ip(address))
            }
            Self::HeldTwice { address, container } => {
                write!(f, "a container of its has {}, and so has {container} here; restart one of them", ip(address))
            }
            Self::Away => f.write_str(
                "this host was away for so long that it cannot follow what became of the addresses it owned; nothing of them is given out: run `weave-rs reset` here",
            ),
            Self::SameMachine => f.write_str(
                "it has the machine id of this host: both were made of one image; give each an /etc/machine-id of its own",
            ),
        }
    }
}

struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(number, item)| {
            f.write_str(if number == 0 { "" } else { ", " })?;
            item.fmt(f)
        })
    }
}

impl fmt::Display for FirstRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Agreed { owners, proposer, .. } => write!(f, "{proposer} among {}", List(owners)),
            Origin::Seeds(names) => write!(f, "seeds {}", List(names)),
        }
    }
}

impl Ipam {
    /// Remembers what is wrong with a peer, and warns of it once.
    pub(super) fn note_problem(&mut self, peer: PeerKey, problem: Problem) {
        let is_known = self.problems.get(&peer) == Some(&problem);
        let has_room = self.problems.len() < PROBLEMS_MAX || self.problems.contains_key(&peer);
        if !is_known && has_room {
            self.actions.push_back(Action::Problem(peer, problem.clone()));
            self.problems.insert(peer, problem);
        }
    }
}
