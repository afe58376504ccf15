//! Who is in the group of this instance, as one value; what may be read off it is pure.
//!
//! ```text
//!   DescribeInstances         ids, addresses, states, launch times ─┐
//!   DescribeAutoScalingGroups desired capacity, lifecycle states ───┴─→ Listing
//! ```
//!
//! Invariants: an instance is listed once. What AWS may say one day and we do not know yet is kept as it was said, and
//! counts as alive.

use std::net::Ipv4Addr;

pub use self::state::{InstanceState, Lifecycle, Stage};
use crate::identity::InstanceId;
use crate::problem::Problem;

pub(crate) mod merge;
mod state;

/// What makes instances peers of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They carry the tag `weave:peerGroupName` with this value.
    Tag(String),
    /// They are in the Auto Scaling group of this name.
    Group(String),
}

/// The group of this instance at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub own: InstanceId,
    pub scope: Scope,
    /// How many instances the Auto Scaling groups among them are to have together; none where there is no such group or
    /// it may not be asked for. Instances outside any group are not counted.
    pub desired: Option<u32>,
    /// In the order of their ids, this one among them. EC2 lists terminated ones for about an hour.
    pub instances: Vec<Instance>,
    /// Those that were asked for by their ids and are not in the scope (any more): a group may let go of an instance that
    /// lives on.
    pub others: Vec<Instance>,
    /// Whether every page of every call that the listing rests on came whole, and this instance is in it: only then does
    /// an absence mean anything.
    pub complete: bool,
    /// What is missing, and why.
    pub problems: Vec<Problem>,
}

/// One instance of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: InstanceId,
    /// Seconds since 1970; zero where only its group tells of it. A start after a stop counts as a launch.
    pub launched: i64,
    /// The primary private address of its primary interface; a terminated one has none.
    pub address: Option<Ipv4Addr>,
    pub state: InstanceState,
    /// What its Auto Scaling group does with it.
    pub lifecycle: Option<Lifecycle>,
    /// Its Auto Scaling group.
    pub group: Option<String>,
}

impl Instance {
    /// Whether it is gone for good. EC2's word alone counts: one that is shutting down still leaves, one that its group
    /// has terminated may still run.
    pub fn is_gone(&self) -> bool {
        self.state == InstanceState::Terminated
    }

    /// Whether to dial it and to wait for it. Not so what is stopped or on its way there, sits in a warm pool, or was put
    /// aside by its operator (standby): should such a one run, it dials by itself.
    pub fn is_expected(&self) -> bool {
        let runs = matches!(self.state, InstanceState::Pending | InstanceState::Running | InstanceState::Unknown(_));
        let is_aside = |lifecycle: &Lifecycle| {
            matches!(lifecycle, Lifecycle::Warmed(_) | Lifecycle::Standby | Lifecycle::Terminated)
        };
        runs && !self.lifecycle.as_ref().is_some_and(is_aside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(state: &str, lifecycle: Option<&str>) -> Instance {
        let lifecycle = lifecycle.map(Lifecycle::of_word);
        let state = InstanceState::of_word(state);
        Instance { id: "i-1".parse().unwrap(), launched: 0, address: None, state, lifecycle, group: None }
    }

    #[test]
    fn only_ec2_says_that_an_instance_is_gone() {
        assert!(instance("terminated", None).is_gone());
        for (state, lifecycle) in
            [("shutting-down", None), ("stopped", None), ("running", Some("Terminated")), ("vanishing", None)]
        {
            assert!(!instance(state, lifecycle).is_gone(), "{state} {lifecycle:?}");
        }
    }

    #[test]
    fn what_runs_in_service_is_expected_and_so_is_what_nobody_knows() {
        for (state, lifecycle) in [
            ("pending", Some("Pending:Wait")),
            ("running", None),
            ("running", Some("InService")),
            ("running", Some("Terminating:Wait")),
            ("running", Some("ReplacingRootVolume:Wait")),
            ("running", Some("Pondering")),
            ("levitating", None),
        ] {
            assert!(instance(state, lifecycle).is_expected(), "{state} {lifecycle:?}");
        }
    }

    #[test]
    fn what_is_aside_or_ends_is_not_expected() {
        for (state, lifecycle) in [
            ("stopped", Some("InService")),
            ("stopping", None),
            ("shutting-down", Some("Terminating")),
            ("terminated", None),
            ("running", Some("Warmed:Running")),
            ("running", Some("Warmed:Pending:Wait")),
            ("running", Some("Standby")),
        ] {
            assert!(!instance(state, lifecycle).is_expected(), "{state} {lifecycle:?}");
        }
    }

    #[test]
    fn an_instance_whose_disk_is_replaced_is_still_expected() {
        assert!(instance("running", Some("ReplacingRootVolume:Proceed")).is_expected());
        assert!(instance("running", Some("RootVolumeReplaced")).is_expected());
    }
}
