//! Members that are gone for good go from memory and from the disk.
//!
//! ```text
//!   addresses managed       IPAM says who may be forgotten, since it knows what hangs on the dead
//!   no addresses managed    whoever is away for a day
//!   a full list             who is gone longest, of those on whom nothing hangs, gives way to who comes
//! ```

use std::time::Duration;

use super::{Node, Output, Persist};
use crate::identity::PeerKey;
use crate::time::Instant;

/// How long the identity of a peer is kept that is gone, where no addresses are managed.
const KEEP_LOST: Duration = Duration::from_secs(24 * 3_600);

impl Node {
    /// As if the peer had never been; unless it is there.
    pub(super) fn forget_member(&mut self, peer: &PeerKey, now: Instant) {
        if self.members.forget(peer) {
            self.drop_set(peer, now);
            self.outputs.push_back(Output::Persist(Persist::Forget(*peer)));
            self.view_changed();
        }
    }

    /// Without addresses nobody is asked about the dead.
    pub(super) fn forget_lost(&mut self, now: Instant) {
        if self.ipam.is_some() {
            return;
        }
        let is_over =
            |peer: &PeerKey| self.members.get(peer).is_some_and(|member| now.since(member.reach.since()) >= KEEP_LOST);
        let over: Vec<PeerKey> = self.members.lost().into_iter().filter(is_over).collect();
        over.iter().for_each(|peer| self.forget_member(peer, now));
    }

    /// Makes room for a newcomer in a full list of members.
    pub(super) fn make_room_for(&mut self, newcomer: &PeerKey, now: Instant) {
        if !self.members.is_full() || self.members.get(newcomer).is_some() {
            return;
        }
        let may_go = |peer: &PeerKey| self.ipam.as_ref().is_none_or(|ipam| ipam.may_give_way(peer));
        let Some(oldest) = self.members.lost().into_iter().find(may_go) else { return };
        self.inform_ipam(now, |ipam, near| ipam.forget(&oldest, near));
        self.forget_member(&oldest, now);
    }
}
