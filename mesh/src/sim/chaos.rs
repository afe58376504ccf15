//! Faults drawn at random, each with its repair: what no scenario thought of.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Fault, HostId, World};
use crate::name::PeerName;

/// How long a fault lasts at most.
const REPAIR_MAX: Duration = Duration::from_secs(40);
/// Names that several hosts may be given.
const SHARED_NAMES: u8 = 2;

impl World {
    /// Schedules so many random faults within `time` from now on, and after it the start of every host. All of it is
    /// repaired [`REPAIR_MAX`] later.
    pub fn schedule_chaos(&mut self, faults: usize, time: Duration) {
        for _ in 0..faults {
            let after = self.dice.between(Duration::ZERO, time);
            let repaired = after + self.dice.between(Duration::ZERO, REPAIR_MAX);
            for (is_repair, fault) in self.draw() {
                self.schedule(if is_repair { repaired } else { after }, fault);
            }
        }
        let end = time + REPAIR_MAX;
        self.schedule(end, Fault::Heal);
        self.schedule(end, Fault::SetLoss { percent: 0 });
        for host in (0..self.hosts.len()).map(HostId) {
            self.schedule(end, Fault::Start(host));
        }
    }

    /// A fault and its repair.
    fn draw(&mut self) -> Vec<(bool, Fault)> {
        let (host, other) = (self.any_host(), self.any_host());
        let number = self.dice.below(1_000);
        let restart = |faults: &[Fault]| {
            let faults = faults.iter().cloned().map(|fault| (false, fault));
            faults.chain([(true, Fault::Start(host))]).collect()
        };
        match self.dice.below(12) {
            0 => restart(&[Fault::Kill(host)]),
            1 => restart(&[Fault::PowerLoss(host)]),
            2 => vec![(false, Fault::KillAfter(host, number as u32 % 30)), (true, Fault::Start(host))],
            3 => restart(&[Fault::Kill(host), Fault::SetClock(host, 500 - number as i64)]),
            4 => restart(&[Fault::Kill(host), Fault::LoseDisk(host)]),
            5 if host != other => restart(&[Fault::Kill(host), Fault::CopyMachine { from: other, to: host }]),
            6 => {
                let shared = PeerName([2, 0, 0, 0, 0, 1 + number as u8 % SHARED_NAMES]);
                let own = PeerName([2, 0, 0, 1, (host.0 >> 8) as u8, host.0 as u8]);
                let mut faults: Vec<_> = restart(&[Fault::Kill(host), Fault::SetName(host, shared)]);
                // As long as both insist on one name, the newcomer is refused: that is no fault that passes.
                faults.extend(
                    [Fault::Kill(host), Fault::SetName(host, own), Fault::Start(host)].map(|fault| (true, fault)),
                );
                faults
            }
            7 => vec![(false, Fault::Leave(host)), (true, Fault::Start(host))],
            8 if host != other => vec![(false, Fault::Cut(host, other)), (true, Fault::Mend(host, other))],
            9 => vec![(false, self.draw_partition()), (true, Fault::Heal)],
            10 => vec![(false, Fault::SetLoss { percent: number as u8 % 30 }), (true, Fault::SetLoss { percent: 0 })],
            _ => vec![(false, Fault::Attach(host, number as u32 % 10))],
        }
    }

    pub(super) fn draw_partition(&mut self) -> Fault {
        let mut groups = vec![BTreeSet::new(); 2 + self.dice.below(2)];
        for host in (0..self.hosts.len()).map(HostId) {
            let group = self.dice.below(groups.len());
            groups[group].insert(host);
        }
        Fault::Partition(groups)
    }

    fn any_host(&mut self) -> HostId {
        HostId(self.dice.below(self.hosts.len()))
    }
}
