//! Peers that nobody gave: what a list says goes to the node, and the node says what the next one should tell.

use weave_mesh::time::Instant;

use super::Control;
use crate::discovery::{List, Wanted};

impl Control {
    pub(super) fn follow_list(&mut self, list: &List, now: Instant) -> Wanted {
        match list {
            List::Machines(listing) => self.node.follow_listing(listing, now),
            List::Targets(targets) => self.node.follow_targets(targets, now),
        }
        Wanted { is_urgent: self.node.waits_for_listing(), also: self.node.instances_in_question() }
    }
}
