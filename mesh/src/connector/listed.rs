//! Targets that nobody gave: a list has them (a cloud's, a file, a DNS name), and with it they come and go.
//!
//! Invariants:
//! - a target that the operator gives is the operator's, also when it is listed;
//! - what the operator has forgotten is not dialled because it is listed;
//! - listed targets are not kept across restarts: the list is asked again.

use std::collections::BTreeSet;

use super::goal::{Goal, Pursuit};
use super::{Connector, TARGETS_MAX, Target};
use crate::time::Instant;

/// What listed targets are worth where peers agree on the first ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// As much as given ones: somebody wrote the list for that.
    Given,
    /// Nothing: they are somewhere to begin.
    #[default]
    Hint,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    targets: BTreeSet<Target>,
    weight: Weight,
}

impl Listed {
    pub(super) fn contains(&self, target: &Target) -> bool {
        self.targets.contains(target)
    }

    /// The operator gave it, or forgot it.
    pub(super) fn remove(&mut self, target: &Target) {
        self.targets.remove(target);
    }

    /// Whether the target counts where peers agree on the first ring.
    pub(super) fn has_weight(&self, target: &Target) -> bool {
        self.weight == Weight::Given || !self.contains(target)
    }
}

impl Connector {
    /// Replaces the listed targets; of more than [`TARGETS_MAX`] the first. Those that stay go on as they are.
    pub fn set_listed(&mut self, targets: &BTreeSet<Target>, weight: Weight, now: Instant) {
        let listed = std::mem::take(&mut self.listed.targets);
        self.listed.weight = weight;
        self.pursuits
            .retain(|goal, _| goal.target().is_none_or(|target| !listed.contains(target) || targets.contains(target)));
        for target in targets.iter().take(TARGETS_MAX) {
            let goal = Goal::Target(target.clone());
            let is_given = self.pursuits.contains_key(&goal) && !listed.contains(target);
            if is_given || self.forgotten.has(target, self.config.default_port) {
                continue;
            }
            let destination = target.destination(self.config.default_port);
            self.pursuits.entry(goal).or_insert_with(|| Pursuit::new(vec![destination], now));
            self.listed.targets.insert(target.clone());
        }
        self.satisfy_goals();
        self.handle_timeout(now);
    }
}
