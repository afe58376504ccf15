//! What a cloud answers when it is asked for the machines of a group.

use std::net::IpAddr;

/// How many machines of one listing are looked at; what is beyond is as if it were not listed.
pub const INSTANCES_MAX: usize = 10_000;

/// What is to be expected of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs, or will soon: it is dialled, and counts where the first ring is agreed on.
    Expected,
    /// It may come back, and nobody waits for it: stopped, in a warm pool, on its way out.
    Aside,
    /// It is no more, and never will be.
    Gone,
}

/// One machine of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// What the cloud calls it; given once and never again.
    pub id: String,
    /// When it was launched, seconds since 1970.
    pub launched: u64,
    /// Where its daemon listens, if it has an address yet.
    pub address: Option<IpAddr>,
    pub standing: Standing,
}

/// The machines of a group, as one answer has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The machine that this daemon runs on.
    pub own: String,
    /// How many machines the group is to have; 0 when nobody said.
    pub desired: u32,
    pub instances: Vec<Instance>,
    /// Everything that was asked for was answered whole.
    pub is_complete: bool,
}

impl Listing {
    pub(super) fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().take(INSTANCES_MAX)
    }

    /// Whether the machine that asked is in the answer, as one that exists: otherwise the answer is an old one.
    pub(super) fn contains_itself(&self) -> bool {
        self.instances().any(|instance| instance.id == self.own && instance.standing != Standing::Gone)
    }
}
