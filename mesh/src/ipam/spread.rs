//! How ring and certificates reach everybody: news at once, and a comparison from time to time.
//!
//! ```text
//!   news       a transfer, a certificate ──► every neighbour, which passes on what is news to it
//!   compare    RingState ──► differs: RingNews, all of it ──► differs still: RingNews, all of it, back
//! ```
//!
//! Invariants:
//! - what is passed on was sound and new, so it crosses each connection about once;
//! - who has not been told all of a ring tells nobody of it (`newcomer`);
//! - a ring of another origin changes nothing here but a problem that names both;
//! - what a promise forbids is not believed, whoever tells it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::death::{Certificate, Succession};
use super::ring::Ring;
use super::{Action, FirstRing, Ipam, Problem, Surroundings, Transfer};
use crate::connector::ConnectionId;
use crate::identity::{Hash, PeerKey, digest};

/// How many transfers, or certificates, one message carries, besides a first ring and a part of a succession.
const NEWS_TRANSFERS_MAX: usize = 128;
const NEWS_CERTIFICATES_MAX: usize = 32;
/// Which ring a peer has, and in what state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingState {
    /// The hash of the first ring.
    pub ring: Option<Hash>,
    /// A hash over everything that is gossiped.
    pub state: Hash,
}

/// Transfers and certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingNews {
    /// To which ring the transfers belong.
    pub ring: Option<Hash>,
    /// The first ring itself, when everything is told.
    pub first: Option<Arc<FirstRing>>,
    pub transfers: Vec<Arc<Transfer>>,
    pub certificates: Vec<Certificate>,
    /// A part of what justifies a take-over.
    pub succession: Option<Box<Succession>>,
    /// The state that the sender has: the receiver, if it then has another, tells everything in turn.
    pub compare: Option<Hash>,
}

impl RingNews {
    /// As many as these certificates need.
    fn of_certificates(certificates: &[Certificate]) -> impl Iterator<Item = Self> {
        certificates.chunks(NEWS_CERTIFICATES_MAX).map(|part| Self { certificates: part.to_vec(), ..Self::default() })
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        self.transfers.len() <= NEWS_TRANSFERS_MAX
            && self.certificates.len() <= NEWS_CERTIFICATES_MAX
            && self.succession.as_ref().is_none_or(|part| part.is_within_limits())
            && self.certificates.iter().all(Certificate::is_within_limits)
            && self.first.as_ref().is_none_or(|first| first.is_within_limits())
    }
}

impl Ipam {
    pub(crate) fn state(&self) -> RingState {
        let state = self.ring.as_ref().map_or_else(|| digest("weave-rs ipam", &[]), |ring| self.state_of(ring));
        RingState { ring: self.ring.as_ref().map(|ring| *ring.id()), state }
    }

    /// The state that we would have with this ring.
    pub(super) fn state_of(&self, ring: &Ring) -> Hash {
        let dead: Vec<u8> = self.dead_owners_in(ring).flat_map(|dead| dead.0).collect();
        digest("weave-rs ipam", &[&ring.state(), &dead])
    }

    /// A neighbour told its state.
    pub(crate) fn handle_state(&mut self, from: ConnectionId, theirs: &RingState, near: &Surroundings<'_>) {
        if self.is_newcomer() {
            if theirs.ring.is_some() {
                self.hear_of_ring(from, theirs.state, near);
            }
            return;
        }
        if let Some(peer) = near.neighbour(from) {
            self.note_told(peer, theirs.ring, theirs.state, near);
        }
        if self.state() != *theirs {
            let compare = self.may_be_the_whole(theirs).then(|| self.state().state);
            self.tell_all(from, compare, near);
        }
    }

    fn tell_all(&mut self, to: ConnectionId, compare: Option<Hash>, near: &Surroundings<'_>) {
        let all = self.everything(compare, near);
        self.actions.extend(all.into_iter().map(|news| Action::Tell(to, news)));
    }

    /// All that is gossiped, in parts; the last asks for a comparison with `compare`.
    fn everything(&self, compare: Option<Hash>, near: &Surroundings<'_>) -> Vec<RingNews> {
        let transfers = self.ring.as_ref().map(|ring| ring.history(self.config.range.range())).unwrap_or_default();
        let (certificates, successions) = (self.told_certificates(near), self.told_successions());
        let mut transfers = transfers.chunks(NEWS_TRANSFERS_MAX);
        let mut certificates = certificates.chunks(NEWS_CERTIFICATES_MAX);
        let mut successions = successions.into_iter();
        let parts = transfers.len().max(certificates.len()).max(successions.len());
        let part = |_| RingNews {
            ring: self.ring.as_ref().map(|ring| *ring.id()),
            first: self.ring.as_ref().map(|ring| Arc::clone(ring.first())),
            transfers: transfers.next().unwrap_or_default().to_vec(),
            certificates: certificates.next().unwrap_or_default().to_vec(),
            succession: successions.next().map(Box::new),
            compare: None,
        };
        let mut all: Vec<RingNews> = (0..parts.max(1)).map(part).collect();
        if let Some(last) = all.last_mut() {
            last.compare = compare;
        }
        all
    }

    /// Tells all neighbours everything.
    pub(super) fn spread_all(&mut self, near: &Surroundings<'_>) {
        let all = self.everything(Some(self.state().state), near);
        self.actions.extend(all.into_iter().map(|news| Action::Spread { news, except: None }));
    }

    /// Tells neighbours what is new.
    pub(super) fn spread(
        &mut self,
        transfers: &[Arc<Transfer>],
        certificates: &[Certificate],
        except: Option<ConnectionId>,
    ) {
        for part in transfers.chunks(NEWS_TRANSFERS_MAX) {
            self.spread_news(RingNews { transfers: part.to_vec(), ..RingNews::default() }, except);
        }
        for news in RingNews::of_certificates(certificates) {
            self.spread_news(news, except);
        }
    }

    pub(super) fn tell_certificates(&mut self, to: ConnectionId, certificates: &[Certificate]) {
        let ring = self.ring.as_ref().map(|ring| *ring.id());
        for news in RingNews::of_certificates(certificates) {
            self.actions.push_back(Action::Tell(to, RingNews { ring, ..news }));
        }
    }

    /// Tells neighbours something about our ring.
    pub(super) fn spread_news(&mut self, news: RingNews, except: Option<ConnectionId>) {
        let ring = self.ring.as_ref().map(|ring| *ring.id());
        self.actions.push_back(Action::Spread { news: RingNews { ring, ..news }, except });
    }

    /// News from `peer` over `from`.
    pub(crate) fn handle_news(&mut self, from: ConnectionId, peer: PeerKey, news: &RingNews, near: &Surroundings<'_>) {
        let certified: Vec<Certificate> =
            news.certificates.iter().filter(|certificate| self.hear(peer, certificate, near)).cloned().collect();
        self.spread(&[], &certified, Some(from));
        if self.belongs(from, peer, news, near) {
            let heard = news.succession.as_ref().and_then(|part| self.hear_succession(peer, part, near));
            if let Some(part) = heard {
                self.spread_news(RingNews { succession: Some(Box::new(part)), ..RingNews::default() }, Some(from));
            }
            if news.first.is_some() {
                self.follow_guide(from, near);
            }
            self.gather(peer, news, near);
            let fresh = self.learn(peer, &news.transfers, near);
            // What is new to a newcomer is new to nobody else.
            if !self.is_newcomer() {
                self.spread(&fresh, &[], Some(from));
            }
            // The last part of all that there is comes with a comparison.
            if let Some(theirs) = news.compare {
                self.leave_guide(peer, theirs, near);
            }
        }
        if let Some(theirs) = news.compare {
            self.note_told(peer, news.ring, theirs, near);
        }
        if !self.is_newcomer() && news.compare.is_some_and(|theirs| theirs != self.state().state) {
            self.tell_all(from, None, near);
        }
    }

    /// Whether `news` is of our ring, which it may just have become.
    fn belongs(&mut self, from: ConnectionId, peer: PeerKey, news: &RingNews, near: &Surroundings<'_>) -> bool {
        let Some(theirs) = news.ring else { return false };
        match (&self.ring, &news.first) {
            (Some(ring), _) if *ring.id() == theirs => true,
            (Some(ring), Some(first)) => {
                let (ours, theirs) = (Arc::clone(ring.first()), Arc::clone(first));
                if self.is_usable(peer, first, near) {
                    self.note_problem(peer, Problem::OtherRing { ours, theirs });
                }
                false
            }
            (Some(_), None) => false,
            (None, Some(first)) => {
                let is_good = self.is_usable(peer, first, near) && first.id(near.mesh()) == theirs;
                if is_good {
                    self.join(Arc::clone(first), near);
                }
                is_good
            }
            (None, None) => {
                // The whole is asked for by telling that there is nothing here.
                self.hear_of_ring(from, Hash::default(), near);
                false
            }
        }
    }
}
