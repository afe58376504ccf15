//! The firewalls' part of kernel state: whether our tables are as we left them, and our accepts where others drop.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::linux::firewall::{self, Accepts};
use crate::plan::{Accept, InstalledGuard, LinkName, Plan};

/// What the keeper knows of the firewalls.
#[derive(Debug, Default)]
pub(super) struct Firewalls {
    installed: Option<Installed>,
    /// The accepts that were last asked of iptables.
    asked: Option<BTreeSet<Accept>>,
    /// The generation of the ruleset in which they had these and no others.
    accepted: Option<u32>,
    /// What others drop, in sentences.
    obstacles: Vec<String>,
    /// When iptables is looked at although nftables did not change: an old iptables does not use it.
    accept_due: Option<Instant>,
}

/// What our tables are the result of, what `nft` shows of them, and as of which generation of the ruleset.
#[derive(Debug)]
struct Installed {
    guard: InstalledGuard,
    listing: String,
    generation: u32,
}

/// Whether our tables are as we left them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    Intact,
    Changed,
}

impl Firewalls {
    /// What our tables still are the result of.
    pub(super) fn installed(&self) -> Option<&InstalledGuard> {
        self.installed.as_ref().map(|installed| &installed.guard)
    }

    /// What others drop, as of the last look.
    pub(super) fn obstacles(&self) -> &[String] {
        &self.obstacles
    }

    /// Notes what is installed after `guard` was, unless somebody else changed the ruleset too since generation
    /// `before`: then nobody can tell what it is, and it is installed again.
    pub(super) fn remember(&mut self, bridge: &LinkName, guard: InstalledGuard, before: u32) {
        self.installed = None;
        let Some((listing, generation)) = firewall::list_guard(bridge).ok().flatten().zip(firewall::generation().ok())
        else {
            return;
        };
        if generation == before.wrapping_add(1) {
            self.installed = Some(Installed { guard, listing, generation });
            // The chains of iptables were not touched in between.
            self.accepted = self.accepted.map(|seen| if seen == before { generation } else { seen });
        }
    }

    /// Forgets the guard when somebody changed it, so that the next check installs it again; and puts back the accepts
    /// that Docker loses when it restarts.
    pub(super) fn look(&mut self, plan: &Plan, next: Instant) -> Guard {
        let generation = firewall::generation().unwrap_or_default();
        if self.accept_due.is_none_or(|due| Instant::now() >= due) || self.accepted != Some(generation) {
            self.accept_due = Some(next);
            self.accept(plan, generation);
            self.obstacles = firewall::obstacles(&plan.names.bridge, !plan.exposed.is_empty());
        }
        self.guard(&plan.names.bridge, generation)
    }

    /// Asks for the accepts of a plan that wants others than the last.
    pub(super) fn follow(&mut self, plan: &Plan) {
        if self.asked.as_ref().is_some_and(|asked| *asked != plan.accepts()) {
            self.accept(plan, firewall::generation().unwrap_or_default());
        }
    }

    fn accept(&mut self, plan: &Plan, generation: u32) {
        let wanted = plan.accepts();
        let accepts = firewall::set_accepts(&plan.names.bridge, &wanted);
        self.asked = Some(wanted);
        // Only what was found to be there counts as of `generation`; the next look finds what was added now.
        self.accepted = matches!(accepts, Ok(Accepts::Present)).then_some(generation);
        if let Err(error) = accepts {
            tracing::warn!(%error, "cannot let frames of the overlay pass iptables");
        }
    }

    fn guard(&mut self, bridge: &LinkName, generation: u32) -> Guard {
        let Some(installed) = self.installed.as_mut().filter(|installed| installed.generation != generation) else {
            return Guard::Intact;
        };
        if firewall::list_guard(bridge).ok().flatten().as_ref() == Some(&installed.listing) {
            installed.generation = generation;
            return Guard::Intact;
        }
        self.installed = None;
        Guard::Changed
    }
}
