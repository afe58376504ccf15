//! Our accepts in a table of iptables: which chain they belong to, and what has to be changed. Pure.
//!
//! ```text
//!   iptables -S ─► Filter ─► where is what we need dropped? ─► DOCKER-USER, FORWARD or nowhere
//!                      └───► what of ours is there, in either chain? ─► changes(…)
//! ```
//!
//! Invariant: what is there after the changes depends on the table and the wish alone, and not on what we did before:
//! whoever chooses another chain cleans the first.

use std::fmt::{self, Display, Formatter};

use super::LinkName;

/// What our rules end in, as `iptables -S` lists them, and as arguments.
const RULE_END: &str = " -m comment --comment weave-rs -j ACCEPT";

/// A chain in which our accepts may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// The one that Docker leaves to others.
    DockerUser,
    Forward,
}

/// One change of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub action: Action,
    pub chain: Chain,
    /// Which packets, in the words in which `iptables -S` lists a rule.
    pub matching: String,
}

/// What is done with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// At the head of the chain, unless it is there.
    Insert,
    Delete,
}

/// The table `filter`, as `iptables -S` lists it.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a>(pub &'a str);

impl Chain {
    const ALL: [Self; 2] = [Self::DockerUser, Self::Forward];

    pub const fn name(self) -> &'static str {
        match self {
            Self::DockerUser => "DOCKER-USER",
            Self::Forward => "FORWARD",
        }
    }
}

impl Change {
    /// The rule as arguments of iptables.
    pub fn rule(&self) -> impl Iterator<Item = &str> {
        self.matching.split(' ').chain(RULE_END.split_whitespace())
    }
}

impl Display for Chain {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Filter<'_> {
    /// What makes the accepts for `bridge` those that are `wanted`, in the chain where they are needed and no other.
    pub fn changes(self, bridge: &LinkName, wanted: &[&str]) -> Vec<Change> {
        let place = self.place();
        let mut changes = Vec::new();
        for chain in Chain::ALL {
            let present: Vec<&str> = self.ours(chain, bridge).collect();
            let wanted = if place == Some(chain) { wanted } else { &[] };
            let change = |action, matching: &str| Change { action, chain, matching: matching.to_owned() };
            let missing = wanted.iter().filter(|matching| !present.contains(matching));
            changes.extend(missing.map(|matching| change(Action::Insert, matching)));
            let surplus = present.iter().filter(|matching| !wanted.contains(matching));
            changes.extend(surplus.map(|matching| change(Action::Delete, matching)));
        }
        changes
    }

    /// What takes all accepts for `bridge` away.
    pub fn removals(self, bridge: &LinkName) -> Vec<Change> {
        let all = Chain::ALL.into_iter().flat_map(|chain| self.ours(chain, bridge).map(move |rule| (chain, rule)));
        all.map(|(chain, rule)| Change { action: Action::Delete, chain, matching: rule.to_owned() }).collect()
    }

    /// Where packets that are forwarded must be accepted, lest somebody drop them.
    fn place(self) -> Option<Chain> {
        let drops = match self.first_verdict() {
            Some(Verdict::AsksDockerUser) => return Some(Chain::DockerUser),
            Some(Verdict::Drops) => true,
            None => self.has("-P FORWARD DROP"),
        };
        match (drops, self.has("-N DOCKER-USER")) {
            (true, _) => Some(Chain::Forward),
            (false, true) => Some(Chain::DockerUser),
            // Docker is too old to have one, or about to make it.
            (false, false) => self.has("-N DOCKER").then_some(Chain::Forward),
        }
    }

    /// What becomes of packets that no other rule of FORWARD speaks of.
    fn first_verdict(self) -> Option<Verdict> {
        self.0.lines().find_map(|line| match line.strip_prefix("-A FORWARD -j ")? {
            "DOCKER-USER" => Some(Verdict::AsksDockerUser),
            target if target == "DROP" || target.starts_with("REJECT") => Some(Verdict::Drops),
            _ => None,
        })
    }

    fn has(self, line: &str) -> bool {
        self.0.lines().any(|listed| listed == line)
    }

    /// What our rules for `bridge` match.
    fn ours<'b>(self, chain: Chain, bridge: &'b LinkName) -> impl Iterator<Item = &'b str>
    where
        Self: 'b,
    {
        let start = format!("-A {chain} ");
        self.0
            .lines()
            .filter_map(move |line| line.strip_prefix(&start)?.strip_suffix(RULE_END))
            .filter(|matching| matching.split(' ').any(|word| word == bridge.as_str()))
    }
}

enum Verdict {
    AsksDockerUser,
    Drops,
}

#[cfg(test)]
mod tests;
