//! What reports say about segmented sends, weighed so that the network's own faults never count against them.
//!
//! ```text
//!   report ─► Tally of segmented, Tally of plain ─► weight of this trial ─► score: the sum, never below zero
//!                                                                          │
//!                                             ALARM ◄── segmented sends are at fault
//! ```
//!
//! The test is a CUSUM of log likelihood ratios over *bad* packets (lost, damaged or late), for bodies and for tails:
//!
//! - Sound path: a bad packet is one of the segmented ones with chance `p0 = segmented / (segmented + plain)`, however
//!   many are bad: loss at random, at whatever rate, strikes both kinds alike.
//! - Faulty path: segmented ones are bad [`BODY_ODDS`] times as often (tails: [`TAIL_ODDS`]), chance `p1`.
//! - Each bad segmented packet adds `ln(p1/p0)`, each bad plain one `ln((1-p1)/(1-p0))`, which is negative, and each good
//!   segmented one takes [`GOOD`] away.
//!
//! **Bound on false alarms.** On a sound path the exponential of a trial's weight has a mean of at most 1: exactly 1 for
//! the ratio alone when bad packets fall on the kinds independently, less when without replacement, and both cap and
//! subtraction only lower it. So (Lundberg's inequality, or Ville's for the likelihood ratio) an excursion of the score from zero
//! reaches [`ALARM`] with a chance of at most `e^-18` = 1.5e-8. Two scores of at most 40 trials a second start at most
//! 288,000 excursions an hour: fewer than 0.005 false alarms an hour at any rate of loss, in fact far fewer, since a trial
//! without a bad segmented packet starts none. Bursts strike neighbours together, which the bound does not cover: so one
//! trial counts no more than [`TRIAL_MOST`], and a trial whose segmented packets all arrived in order halves the score.

use super::Stretch;
use super::question::Fate;

/// A score that convicts.
pub const ALARM: f64 = 18.0;
/// What one trial may add: at least four have to agree.
const TRIAL_MOST: f64 = ALARM / 4.0;
/// How much more often bodies of segmented sends are bad on a faulty path.
const BODY_ODDS: f64 = 4.0;
/// The same of tails, which are few and fail all or not at all.
const TAIL_ODDS: f64 = 16.0;
/// Scores that call for trains of our own: five bad packets, or two bad tails.
const GRAVE_BODIES: f64 = 2.0;
const GRAVE_TAILS: f64 = 1.2;
/// What a good segmented packet takes away: below 4 % of bad ones there is no conviction.
const GOOD: f64 = 0.02;

/// Packets of one kind and how many of them were bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: u32,
    pub lost: u32,
    pub late: u32,
    /// Trains whose last packet is as long as the others, and how many of those were bad.
    pub tails: u32,
    pub bad_tails: u32,
}

impl Tally {
    pub fn add(&mut self, stretch: &Stretch, fate: Fate) {
        let all = u64::MAX >> (64 - u32::from(stretch.count.clamp(1, 64)));
        let bad = (!fate.arrived | fate.late) & all;
        self.sent += u32::from(stretch.count);
        self.lost += (!fate.arrived & all).count_ones();
        self.late += (fate.arrived & fate.late & all).count_ones();
        if stretch.has_equal_tail {
            self.tails += 1;
            self.bad_tails += u32::from(bad > all >> 1);
        }
    }

    pub const fn bad(&self) -> u32 {
        self.lost + self.late
    }

    /// Bad enough to look closer, though nothing is there to compare with.
    pub const fn is_suspicious(&self) -> bool {
        4 * self.bad() >= self.sent && self.sent > 0 || self.bad_tails > 0
    }

    fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.late += other.late;
        self.tails += other.tails;
        self.bad_tails += other.bad_tails;
    }
}

/// What one report says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finding {
    /// Most of both kinds arrived, and nothing speaks against segmented sends.
    Sound,
    /// Segmented sends did worse, perhaps by chance.
    Doubtful,
    /// Neither.
    Nothing,
}

/// The scores of one path.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    bodies: f64,
    tails: f64,
    /// Both kinds since both scores were zero.
    pub segmented: Tally,
    pub plain: Tally,
}

impl Evidence {
    /// Counts a trial.
    pub fn weigh(&mut self, segmented: &Tally, plain: &Tally) -> Finding {
        let bodies = weight(segmented.bad(), segmented.sent, plain.bad(), plain.sent, BODY_ODDS);
        let tails = weight(segmented.bad_tails, segmented.tails, plain.bad_tails, plain.tails, TAIL_ODDS);
        self.bodies = add(self.bodies, bodies, segmented.bad() == 0);
        self.tails = add(self.tails, tails, segmented.bad() == 0);
        self.segmented.merge(segmented);
        self.plain.merge(plain);
        if !self.is_doubtful() {
            *self = Self::default();
        }
        if bodies > 0.0 || tails > 0.0 {
            return Finding::Doubtful;
        }
        let mostly = |tally: &Tally| tally.sent > 0 && 2 * tally.lost < tally.sent;
        if mostly(segmented) && mostly(plain) { Finding::Sound } else { Finding::Nothing }
    }

    /// Too much to wait for the traffic to tell.
    pub fn is_grave(&self) -> bool {
        self.bodies >= GRAVE_BODIES || self.tails >= GRAVE_TAILS
    }

    fn is_doubtful(&self) -> bool {
        self.bodies > 0.0 || self.tails > 0.0
    }

    pub fn convicts(&self) -> bool {
        self.bodies >= ALARM || self.tails >= ALARM
    }
}

/// The log likelihood ratio of one trial. Without one of the kinds there is nothing to compare.
fn weight(bad_segmented: u32, segmented: u32, bad_plain: u32, plain: u32, odds: f64) -> f64 {
    if segmented == 0 || plain == 0 {
        return 0.0;
    }
    let [segmented, plain, good] = [segmented, plain, segmented - bad_segmented].map(f64::from);
    let sound = segmented / (segmented + plain);
    let faulty = odds * segmented / (odds * segmented + plain);
    let ratio =
        f64::from(bad_segmented) * (faulty / sound).ln() + f64::from(bad_plain) * ((1.0 - faulty) / (1.0 - sound)).ln();
    ratio - good * GOOD
}

fn add(score: f64, weight: f64, all_good: bool) -> f64 {
    let sum = (score + weight.min(TRIAL_MOST)).max(0.0);
    // Half of next to nothing is nothing.
    let rest = if all_good { sum / 2.0 } else { sum };
    if rest < GOOD { 0.0 } else { rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(sent: u32, lost: u32) -> Tally {
        Tally { sent, lost, ..Tally::default() }
    }

    #[test]
    fn a_tally_tells_lost_late_and_the_tail() {
        let stretch = Stretch { first: 0, count: 4, has_equal_tail: true };
        let mut tally = Tally::default();

        tally.add(&stretch, Fate { arrived: 0b0111, late: 0b0010 });

        assert_eq!(tally, Tally { sent: 4, lost: 1, late: 1, tails: 1, bad_tails: 1 });
    }

    #[test]
    fn segmented_packets_that_alone_are_lost_convict_after_four_trials() {
        let mut evidence = Evidence::default();
        for trial in 1..=4 {
            assert_eq!(evidence.weigh(&tally(16, 16), &tally(16, 0)), Finding::Doubtful);
            assert_eq!(evidence.convicts(), trial == 4);
        }
    }

    #[test]
    fn a_path_that_loses_both_kinds_alike_is_never_suspected() {
        let mut evidence = Evidence::default();
        for lost in 0..=16 {
            evidence.weigh(&tally(16, lost), &tally(16, lost));
            assert!(!evidence.is_doubtful());
        }
    }

    #[test]
    fn without_plain_sends_beside_them_there_is_no_evidence() {
        let mut evidence = Evidence::default();

        assert_eq!(evidence.weigh(&tally(64, 64), &tally(0, 0)), Finding::Nothing);
        assert!(!evidence.is_doubtful());
    }

    #[test]
    fn a_dead_path_is_neither_sound_nor_doubtful() {
        assert_eq!(Evidence::default().weigh(&tally(16, 16), &tally(16, 16)), Finding::Nothing);
    }

    /// The property that the bound rests on, by exact enumeration.
    #[test]
    fn the_mean_of_the_exponential_of_a_weight_is_at_most_one_on_a_sound_path() {
        for (segmented, plain, odds) in [(16, 16, BODY_ODDS), (45, 8, BODY_ODDS), (4, 4, TAIL_ODDS), (1, 4, TAIL_ODDS)]
        {
            for percent in [1, 5, 20, 60, 95] {
                let rate = f64::from(percent) / 100.0;
                let chance = |sent: u32, bad: u32| {
                    let ways = (0..bad).map(|n| f64::from(sent - n) / f64::from(n + 1)).product::<f64>();
                    ways * rate.powi(bad as i32) * (1.0 - rate).powi((sent - bad) as i32)
                };
                let mut mean = 0.0;
                for (a, b) in (0..=segmented).flat_map(|a| (0..=plain).map(move |b| (a, b))) {
                    let weight = weight(a, segmented, b, plain, odds).min(TRIAL_MOST);
                    mean += chance(segmented, a) * chance(plain, b) * weight.exp();
                }
                assert!(mean <= 1.0 + 1e-9, "{segmented}:{plain} at {percent} %: {mean}");
            }
        }
    }
}
