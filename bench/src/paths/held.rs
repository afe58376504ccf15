//! The limits of the data paths.

use super::Outcome;
use super::results::Results;
use crate::contender::REFERENCE;
use crate::limits::Bound::{AtLeast, AtMost};
use crate::limits::Limit;
use crate::statistics::{median, percentile};

/// Those of each underlay that was measured.
pub(super) fn limits(outcomes: &[Outcome]) -> Vec<Limit> {
    outcomes.iter().flat_map(|outcome| throughput(outcome).into_iter().chain(cost(outcome))).collect()
}

fn throughput(outcome: &Outcome) -> Vec<Limit> {
    let underlay = outcome.underlay;
    let keys = ["sleeve", "fastdp", REFERENCE, "wireguard-go", "weave-router"];
    let [sleeve, fast, reference, go, original] = keys.map(|key| outcome.of(key));
    let one = |results: &Results| median(&results.tcp[0]);
    let ratio = |ours: Option<&Results>, theirs: Option<&Results>| Some(one(ours?) / one(theirs?));
    // A jumbo underlay leaves less work per byte, of which VXLAN has little to begin with.
    let (of_vxlan, of_go) = if underlay < JUMBO { (0.17, 1.7) } else { (0.3, 2.0) };
    let udp = sleeve.map(|ours| median(&ours.plain).max(median(&ours.segmented)) / one(ours));
    vec![
        Limit::new(format!("{underlay}: sleeve of VXLAN, 1 stream"), AtLeast(of_vxlan), "", ratio(sleeve, reference)),
        Limit::new(format!("{underlay}: sleeve of wireguard-go, 1 stream"), AtLeast(of_go), "", ratio(sleeve, go)),
        Limit::new(format!("{underlay}: sleeve of the original's"), AtLeast(12.0), "", ratio(sleeve, original)),
        Limit::new(format!("{underlay}: fast path of VXLAN, 1 stream"), AtLeast(0.95), "", ratio(fast, reference)),
        Limit::new(format!("{underlay}: sleeve, full UDP of TCP"), AtLeast(0.8), "", udp),
    ]
}

fn cost(outcome: &Outcome) -> Vec<Limit> {
    let (underlay, sleeve) = (outcome.underlay, outcome.of("sleeve"));
    let of = |figure: fn(&Results) -> f64| sleeve.map(figure);
    vec![
        Limit::new(format!("{underlay}: sleeve, CPU"), AtMost(4.0), "s/GB", of(|ours| median(&ours.cpu_per_gigabyte))),
        Limit::new(format!("{underlay}: sleeve, ping p50"), AtMost(0.12), "ms", of(|ours| median(&ours.idle))),
        Limit::new(format!("{underlay}: sleeve, ping p99"), AtMost(0.3), "ms", of(|ours| percentile(&ours.idle, 0.99))),
        Limit::new(format!("{underlay}: sleeve, small"), AtLeast(90.0), "1000/s", of(|ours| median(&ours.small) / 1e3)),
    ]
}

/// Bytes from which an underlay counts as jumbo.
const JUMBO: u32 = 4_000;
