//! Who should be here: what a cloud, a file or a DNS name lists.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Node;
use crate::connector::{Target, Weight};
use crate::ipam::Ipam;
use crate::roster::Listing;
use crate::time::Instant;

/// How many listed machines that nobody was met on are dialled at a time. One that answers leads to all others.
const DIALLED_MAX: usize = 16;

impl Node {
    /// Takes in what a cloud answered: who is missing is dialled, who is gone is called dead, and a first ring may be made.
    pub fn follow_listing(&mut self, listing: &Listing, now: Instant) {
        self.roster.handle_listing(listing, now);
        let members = &self.members;
        self.roster.forget(|id| members.iter().any(|(_, member)| member.card.instance_id == id));
        self.dial_absentees(now);
        self.inform_ipam(now, Ipam::handle_listing);
        self.view_changed();
        self.finish(now);
    }

    fn dial_absentees(&mut self, now: Instant) {
        let reachable = self.members.iter().filter(|(key, _)| self.topology.is_reachable(key));
        let met: BTreeSet<&str> = reachable.map(|(_, member)| member.card.instance_id.as_str()).collect();
        let addresses = self.roster.to_dial(DIALLED_MAX, |id| met.contains(id));
        let targets = addresses.iter().filter_map(target_at).collect();
        self.connector.set_listed(&targets, Weight::Hint, now);
    }

    /// These are listed to be dialled, by whoever wrote the list: they count as if they had been given.
    pub fn follow_targets(&mut self, targets: &BTreeSet<Target>, now: Instant) {
        self.connector.set_listed(targets, Weight::Given, now);
        self.view_changed();
        self.finish(now);
    }

    /// The machines of which the next answer should tell, whether or not they are of the group any more: those of members,
    /// and those that were listed.
    pub fn instances_in_question(&self) -> BTreeSet<String> {
        let members = self.members.iter().map(|(_, member)| member.card.instance_id.as_str());
        let members = members.filter(|id| !id.is_empty() && !self.roster.is_gone(id));
        members.chain(self.roster.living()).map(str::to_owned).collect()
    }
}

fn target_at(address: &IpAddr) -> Option<Target> {
    address.to_string().parse().ok()
}
