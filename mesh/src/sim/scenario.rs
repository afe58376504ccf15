//! The run behind `weave-rs sim`: start everyone at once, split and heal, let it rest, add a peer, lose one.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Deliveries, Fault, Fidelity, HostId, Network, Options, Violation, World};
use crate::time::Instant;

/// Up to so many peers every stream is simulated to the byte.
const STREAMS_PEERS_MAX: usize = 64;
/// How many hosts every peer is told.
const SEEDS: usize = 3;
/// What is waited for at most.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(120);
/// Time to calm down before the idle rate is measured, and time to measure it.
const CALM_TIME: Duration = Duration::from_secs(60);
const IDLE_TIME: Duration = Duration::from_secs(60);
/// In a calm run at most one delivery in so many repeats one.
const REPEATED_MAX_SHARE: u64 = 20;
/// After this time nothing of a lost peer is held any more.
const HOLD_TIME: Duration = Duration::from_secs(130);

/// A partition: from when to when, counted from the start, into how many groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub from: Duration,
    pub until: Duration,
    pub groups: usize,
}

/// A text that is no split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form FROM-UNTIL or FROM-UNTIL/GROUPS, in seconds from the start, as in 20-80/3")]
pub struct InvalidSplit(String);

impl FromStr for Split {
    type Err = InvalidSplit;

    fn from_str(text: &str) -> Result<Self, InvalidSplit> {
        let parse = || {
            let (times, groups) = text.split_once('/').unwrap_or((text, "2"));
            let (from, until) = times.split_once('-')?;
            let (from, until): (u64, u64) = (from.parse().ok()?, until.parse().ok()?);
            let groups = groups.parse().ok().filter(|groups| (2..=1_000).contains(groups))?;
            let is_ordered = from < until && until <= 100_000;
            is_ordered.then_some(Self { from: Duration::from_secs(from), until: Duration::from_secs(until), groups })
        };
        parse().ok_or_else(|| InvalidSplit(text.to_owned()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub peers: usize,
    pub seed: u64,
    /// Of each segment, per cent.
    pub loss_percent: u8,
    pub splits: Vec<Split>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    pub scenario: Scenario,
    /// Virtual time from the start until everyone knew everyone.
    pub converged: Option<Duration>,
    /// Octets until then: in streams, and with headers on the wire.
    pub payload_bytes: u64,
    pub wire_bytes: u64,
    /// The most that one peer sent until then, octets in streams.
    pub sent_bytes_max: u64,
    /// Until everyone knew everyone again after each split.
    pub healed: Vec<Option<Duration>>,
    /// Octets that a peer sends per second when nothing happens, headers included.
    pub idle_bytes_per_second: u64,
    /// Until everyone knew a new peer, and until nobody reached a dead one.
    pub joined: Option<Duration>,
    pub died: Option<Duration>,
    /// Fewest, mean and most connections of a peer at rest.
    pub connections: (usize, f64, usize),
    /// Sets delivered, and those of them that were delivered to the same peer before.
    pub deliveries: (u64, u64),
    /// Resident memory per peer, if the caller can measure it, octets.
    pub memory_per_peer: Option<u64>,
    pub violations: Vec<Violation>,
    /// Equal for equal histories.
    pub trace_hash: u64,
    /// What happened last, to read when something is broken.
    pub last: Vec<String>,
}

impl Scenario {
    /// Runs it. `resident_bytes` measures the memory of this process, where that can be had.
    pub fn run(self, resident_bytes: impl Fn() -> Option<u64>) -> Report {
        let before = resident_bytes();
        let mut world = World::new(self.options());
        let mut report = Report::of(self);
        report.converged = world.await_convergence("everyone knows everyone");
        (report.payload_bytes, report.wire_bytes) = (world.traffic.payload_bytes, world.traffic.wire_bytes);
        report.sent_bytes_max = world.traffic.sent_bytes.iter().copied().max().unwrap_or(0);
        let splits = report.scenario.splits.clone();
        report.healed = splits.iter().map(|split| world.split(split)).collect();
        report.rest(&mut world);
        report.memory_per_peer =
            resident_bytes().zip(before).map(|(after, before)| after.saturating_sub(before) / report.peers());
        report.join_and_die(&mut world);
        report.violations = world.violations.clone();
        report.trace_hash = world.trace.hash();
        report.last = world.trace.recent().map(ToString::to_string).collect();
        report
    }

    /// Whether nothing disturbs the peers.
    const fn is_calm(&self) -> bool {
        self.loss_percent == 0 && self.splits.is_empty()
    }

    fn options(&self) -> Options {
        let fidelity = if self.peers <= STREAMS_PEERS_MAX { Fidelity::Streams } else { Fidelity::Messages };
        let network = Network { loss: f64::from(self.loss_percent) / 100.0, ..Network::default() };
        let seeds = SEEDS.min(self.peers);
        Options { peers: self.peers, seed: self.seed, seeds, fidelity, network, ..Options::default() }
    }
}

impl World {
    /// Waits until everyone knows everyone; the time it took from now on.
    fn await_convergence(&mut self, what: &str) -> Option<Duration> {
        let start = self.now;
        let at = self.run_until(CONVERGENCE_LIMIT, Self::is_converged);
        self.within(what, start, at)
    }

    fn within(&mut self, what: &str, start: Instant, at: Option<Instant>) -> Option<Duration> {
        if at.is_none() {
            let seconds = self.now.since(start).as_secs();
            self.violate(Violation::TooLate { at: self.now, what: what.to_owned(), seconds });
        }
        at.map(|at| at.since(start))
    }

    fn split(&mut self, split: &Split) -> Option<Duration> {
        let start = Instant::ZERO + split.from;
        self.run_for(start.since(self.now));
        let mut groups = vec![BTreeSet::new(); split.groups];
        for host in self.live().collect::<Vec<_>>() {
            groups[self.dice.below(split.groups)].insert(host);
        }
        self.apply(Fault::Partition(groups));
        self.run_for((Instant::ZERO + split.until).since(self.now));
        self.apply(Fault::Heal);
        self.await_convergence("everyone knows everyone after a split")
    }
}

impl Report {
    fn of(scenario: Scenario) -> Self {
        Self {
            scenario,
            converged: None,
            payload_bytes: 0,
            wire_bytes: 0,
            sent_bytes_max: 0,
            healed: Vec::new(),
            idle_bytes_per_second: 0,
            joined: None,
            died: None,
            connections: (0, 0.0, 0),
            deliveries: (0, 0),
            memory_per_peer: None,
            violations: Vec::new(),
            trace_hash: 0,
            last: Vec::new(),
        }
    }

    fn peers(&self) -> u64 {
        (self.scenario.peers as u64).max(1)
    }

    /// Whether everything held.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    fn rest(&mut self, world: &mut World) {
        world.run_for(CALM_TIME);
        let before = world.traffic.wire_bytes;
        world.run_for(IDLE_TIME);
        self.idle_bytes_per_second = (world.traffic.wire_bytes - before) / IDLE_TIME.as_secs() / self.peers();
        world.check_at_rest();
        if self.scenario.is_calm() && world.deliveries.repeated * REPEATED_MAX_SHARE > world.deliveries.sets {
            let Deliveries { sets, repeated, .. } = world.deliveries;
            world.violate(Violation::Repeated { at: world.now, sets, repeated });
        }
        let counts: Vec<usize> = world.live().filter_map(|host| Some(world.node(host)?.connection_count())).collect();
        let mean = counts.iter().sum::<usize>() as f64 / counts.len().max(1) as f64;
        let (fewest, most) = (counts.iter().min(), counts.iter().max());
        self.connections = (fewest.copied().unwrap_or(0), mean, most.copied().unwrap_or(0));
        self.deliveries = (world.deliveries.sets, world.deliveries.repeated);
    }

    /// A peer joins, and one that is no seed loses its power.
    fn join_and_die(&mut self, world: &mut World) {
        let newcomer = world.add_host();
        let others = world.live().count();
        let start = world.now;
        world.apply(Fault::Start(newcomer));
        let at = world.run_until(CONVERGENCE_LIMIT, |world| world.reached_by(newcomer) == others);
        self.joined = world.within("everyone knows a new peer", start, at);
        let victim = HostId(self.scenario.peers - 1);
        let Some(key) = world.key(victim) else { return };
        let start = world.now;
        world.apply(Fault::PowerLoss(victim));
        let at = world.run_until(CONVERGENCE_LIMIT, |world| world.reached_by_key(victim, &key) == 0);
        self.died = world.within("nobody reaches a dead peer", start, at);
        world.run_for(HOLD_TIME);
        world.check_at_rest();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { peers, seed, loss_percent, splits } = &self.scenario;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "{peers} peers, seed {seed}, loss {loss_percent} %, {} partitions", splits.len())?;
        writeln!(f, "everyone knows everyone  {}", Seconds(self.converged))?;
        writeln!(
            f,
            "bytes until then         {:.2} MiB in streams, about {:.2} MiB on the wire, {:.1} KiB sent per peer, {:.1} KiB at most",
            mib(self.payload_bytes),
            mib(self.wire_bytes),
            self.payload_bytes as f64 / 1_024.0 / self.peers() as f64,
            self.sent_bytes_max as f64 / 1_024.0,
        )?;
        for healed in &self.healed {
            writeln!(f, "partition healed in      {}", Seconds(*healed))?;
        }
        writeln!(f, "idle                     {} bytes/s sent per peer", self.idle_bytes_per_second)?;
        let (fewest, mean, most) = self.connections;
        writeln!(f, "connections              {fewest} to {most}, {mean:.1} on average")?;
        let (sets, repeated) = self.deliveries;
        writeln!(f, "sets delivered           {sets} to the first 64 hosts, {repeated} of them again")?;
        writeln!(f, "new peer known to all    {}", Seconds(self.joined))?;
        writeln!(f, "dead peer known to all   {}", Seconds(self.died))?;
        if let Some(bytes) = self.memory_per_peer {
            writeln!(f, "memory                   {:.1} KiB per peer", bytes as f64 / 1_024.0)?;
        }
        writeln!(f, "history                  {:016x}", self.trace_hash)?;
        for violation in &self.violations {
            writeln!(f, "BROKEN: {violation}")?;
        }
        if !self.is_good() {
            writeln!(f, "what happened last:")?;
            self.last.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            writeln!(
                f,
                "replay: weave-rs sim --peers {peers} --seed {seed} --loss {loss_percent}{}",
                SplitFlags(splits)
            )?;
        }
        Ok(())
    }
}

struct Seconds(Option<Duration>);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "{:.1} s", time.as_secs_f64()),
            None => f.write_str("never"),
        }
    }
}

struct SplitFlags<'a>(&'a [Split]);

impl fmt::Display for SplitFlags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(number, split)| {
            f.write_str(if number == 0 { " --partitions " } else { "," })?;
            write!(f, "{}-{}/{}", split.from.as_secs(), split.until.as_secs(), split.groups)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_read_from_its_text() {
        let split =
            |from, until, groups| Split { from: Duration::from_secs(from), until: Duration::from_secs(until), groups };

        assert_eq!("20-80".parse(), Ok(split(20, 80, 2)));
        assert_eq!("20-80/3".parse(), Ok(split(20, 80, 3)));
        for text in ["", "20", "80-20", "20-80/1", "20-80/x", "-1-5"] {
            assert_eq!(text.parse::<Split>(), Err(InvalidSplit(text.into())));
        }
    }
}
