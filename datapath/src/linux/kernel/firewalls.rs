//! The firewalls' part of kernel state: whether our tables are as we left them, and our accepts where others drop.
//!
//! ```text
//!   all of it replaced ─► read back at once ───────────────────────────────────┐
//!   a device's chains ──► known by what was written ─► read back at leisure ───┴─► compared whenever the ruleset was changed
//! ```
//!
//! Invariant: what our tables hold is what was read back when nobody else had changed the ruleset, or was written since.
//! When somebody has changed it before that could be read back, it is written again.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::guard::{self, Listing};
use crate::linux::firewall::{self, Accepts};
use crate::plan::{Accept, GuardedDevice, InstalledGuard, LinkName, Plan};

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

/// What our tables are the result of, and what `nft` shows of them as of one generation of the ruleset.
#[derive(Debug)]
struct Installed {
    guard: InstalledGuard,
    /// Without the devices whose chains were not read back since they were written.
    shown: Listing,
    generation: u32,
}

/// Whether our tables are as we left them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tables {
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

    /// Notes that all of the guard was replaced, unless somebody else changed the ruleset too since generation `before`:
    /// then nobody can tell what it is, and it is installed again.
    pub(super) fn note_replaced(&mut self, bridge: &LinkName, guard: InstalledGuard, before: u32) {
        self.installed = None;
        let Ok(Some(listing)) = firewall::list_guard(bridge) else { return };
        if let Some(generation) = self.follow_own_change(before) {
            let shown = Listing::of(&listing, &guard.devices.keys().cloned().collect());
            self.installed = Some(Installed { guard, shown, generation });
        }
    }

    /// Notes what devices were given since generation `before`; nothing for those whose chains were removed.
    pub(super) fn note_devices(&mut self, devices: Vec<(LinkName, Option<GuardedDevice>)>, before: u32) {
        let latest = self.follow_own_change(before);
        let Some(installed) = &mut self.installed else { return };
        for (device, guarded) in devices {
            installed.shown.chains.remove(&device);
            match guarded {
                Some(guarded) => drop(installed.guard.devices.insert(device, guarded)),
                None => drop(installed.guard.devices.remove(&device)),
            }
        }
        if let Some(latest) = latest.filter(|_| installed.generation == before) {
            installed.generation = latest;
        }
    }

    /// Whether nobody has changed the ruleset but we.
    pub(super) fn is_latest(&self) -> bool {
        let generation = firewall::generation().ok();
        self.installed.as_ref().is_some_and(|installed| Some(installed.generation) == generation)
    }

    /// The generation of the ruleset after one change of ours, if nobody else has changed it since `before`. It is not the
    /// chains of iptables that we have changed.
    fn follow_own_change(&mut self, before: u32) -> Option<u32> {
        let latest = firewall::generation().ok().filter(|latest| *latest == before.wrapping_add(1))?;
        self.accepted = self.accepted.map(|seen| if seen == before { latest } else { seen });
        Some(latest)
    }

    /// Forgets the guard when somebody changed it, so that the next check installs it again; and puts back the accepts
    /// that Docker loses when it restarts.
    pub(super) fn look(&mut self, plan: &Plan, next: Instant) -> Tables {
        let generation = firewall::generation().unwrap_or_default();
        if self.accept_due.is_none_or(|due| Instant::now() >= due) || self.accepted != Some(generation) {
            self.accept_due = Some(next);
            self.accept(plan, generation);
            self.obstacles = firewall::obstacles(&plan.names.bridge, !plan.exposed.is_empty());
        }
        self.guard(&plan.names.bridge, firewall::generation().unwrap_or_default())
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

    fn guard(&mut self, bridge: &LinkName, generation: u32) -> Tables {
        let Some(installed) = &self.installed else { return Tables::Intact };
        match (installed.generation == generation, installed.unread(bridge)) {
            (true, None) => Tables::Intact,
            (true, Some(_)) | (false, None) => self.compare(bridge, generation),
            (false, Some(unread)) => match firewall::run_nft(&unread) {
                Ok(()) => {
                    let latest = self.follow_own_change(generation);
                    self.compare(bridge, latest.unwrap_or(generation))
                }
                Err(_) => {
                    self.installed = None;
                    Tables::Changed
                }
            },
        }
    }

    /// Forgets what is not as it was. `generation`: the one as of which what was written holds.
    fn compare(&mut self, bridge: &LinkName, generation: u32) -> Tables {
        let Some(mut installed) = self.installed.take() else { return Tables::Intact };
        let Ok(Some(listing)) = firewall::list_guard(bridge) else { return Tables::Changed };
        let listing = Listing::of(&listing, &installed.guard.devices.keys().cloned().collect());
        if listing.common != installed.shown.common {
            return Tables::Changed;
        }
        let is_as_written = firewall::generation().is_ok_and(|latest| latest == generation);
        if is_as_written {
            installed.generation = generation;
        }
        let guard = installed.take_up(listing, is_as_written);
        self.installed = Some(installed);
        guard
    }
}

impl Installed {
    /// The script that writes again what was not read back, if there is anything.
    fn unread(&self, bridge: &LinkName) -> Option<String> {
        let devices = self.guard.devices.iter().filter(|(device, _)| !self.shown.chains.contains_key(*device));
        let script: String = devices.map(|(device, it)| guard::replacement(bridge, device, &it.chains)).collect();
        (!script.is_empty()).then_some(script)
    }

    /// Forgets the devices whose chains are not what they were. What was not known yet is known from now on, if it is what
    /// was written.
    fn take_up(&mut self, mut listing: Listing, is_as_written: bool) -> Tables {
        let (count, known) = (self.guard.devices.len(), &self.shown.chains);
        self.guard.devices.retain(|device, _| match (known.get(device), listing.chains.get(device)) {
            (Some(before), Some(now)) => before == now,
            (None, Some(_)) => true,
            (_, None) => false,
        });
        let devices = &self.guard.devices;
        listing
            .chains
            .retain(|device, _| devices.contains_key(device) && (is_as_written || known.contains_key(device)));
        self.shown = listing;
        if self.guard.devices.len() == count { Tables::Intact } else { Tables::Changed }
    }
}
