//! What was asked for on the command line.
//!
//! ```text
//!   PART…            names in PARTS
//!   --ways LIST      of `paths`, keys in WAYS, with commas between them
//!   --underlays LIST of `paths`, MTUs
//!   --rounds N       of `paths`
//!   --seconds N      of each TCP measurement
//!   --peers N        of `sim`
//!   --KEY PATH       the program of the rival with that key
//! ```

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::contender::WAYS;
use crate::paths::Plan;
use crate::programs::Programs;
use crate::{addresses, bound, canary, crowd, docker, idle, micro, names, paths, profile, restart, sim, start};

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) parts: Vec<&'static Part>,
    plan: Plan,
    programs: Programs,
    peers: u32,
}

/// A section of the report.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    measure: fn(&Settings) -> Result<String>,
}

static PARTS: [Part; 13] = [
    Part { name: "paths", measure: |settings| paths::measure(&settings.plan, &settings.programs) },
    Part { name: "canary", measure: |_| canary::measure() },
    Part { name: "crowd", measure: |_| crowd::measure() },
    Part { name: "micro", measure: |_| micro::measure() },
    Part { name: "bound", measure: |_| bound::measure() },
    Part { name: "profile", measure: |settings| profile::measure(&settings.plan.underlays) },
    Part { name: "addresses", measure: |_| addresses::measure() },
    Part { name: "names", measure: |_| names::measure() },
    Part { name: "start", measure: |_| start::measure() },
    Part { name: "restart", measure: |_| restart::measure() },
    Part { name: "docker", measure: |_| docker::measure() },
    Part { name: "idle", measure: |_| idle::measure() },
    Part { name: "sim", measure: |settings| sim::measure(settings.peers) },
];

/// What `--help` prints.
pub(crate) fn usage() -> String {
    let parts = PARTS.each_ref().map(|part| part.name).join(" ");
    let ways = WAYS.map(|way| way.key).join(",");
    let programs: Vec<_> = WAYS.iter().filter(|way| way.program().is_some()).map(|way| way.key).collect();
    format!(
        "Measures the release binary beside what it is compared with, and prints the report.\n\n\
         Usage: weave-bench [PART]… [OPTION]…\n       weave-bench repeat WORK N\n\n\
         Parts, all of them unless some are named:\n  {parts}\n\n\
         Options:\n  \
         --ways LIST       of paths: {ways}\n  \
         --underlays LIST  of paths: MTUs, with commas between them [default: 1500,9001]\n  \
         --rounds N        of paths [default: 3]\n  \
         --seconds N       of each TCP measurement [default: 2]\n  \
         --peers N         of sim [default: 1000]\n  \
         --KEY PATH        the program of a rival: {}\n  \
         --help            this\n",
        programs.join(", ")
    )
}

impl Part {
    pub(crate) fn measure(&self, settings: &Settings) -> Result<String> {
        (self.measure)(settings)
    }
}

impl Settings {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let ways = WAYS.iter().map(|way| way.key.to_owned()).collect();
        let plan = Plan { ways, underlays: vec![1_500, 9_001], rounds: 3, seconds: 2 };
        let mut settings = Self { parts: Vec::new(), plan, programs: Programs::default(), peers: 1_000 };
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(option) => {
                    let value = words.next().with_context(|| format!("{word} takes a value"))?;
                    settings.set(option, &value).with_context(|| format!("{word} {value}"))?;
                }
                None => settings.parts.push(part(&word)?),
            }
        }
        if settings.parts.is_empty() {
            settings.parts = PARTS.iter().collect();
        }
        Ok(settings)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<()> {
        match option {
            "ways" => self.plan.ways = list(value)?,
            "underlays" => self.plan.underlays = list(value)?,
            "rounds" => self.plan.rounds = value.parse()?,
            "seconds" => self.plan.seconds = value.parse()?,
            "peers" => self.peers = value.parse()?,
            key if WAYS.iter().any(|way| way.key == key && way.program().is_some()) => self.programs.give(key, value),
            _ => bail!("no such option"),
        }
        let unknown = self.plan.ways.iter().find(|key| WAYS.iter().all(|way| way.key != key.as_str()));
        ensure!(unknown.is_none(), "`{}` is none of {:?}", unknown.map_or("", |key| key), WAYS.map(|way| way.key));
        Ok(())
    }
}

fn part(name: &str) -> Result<&'static Part> {
    let found = PARTS.iter().find(|part| part.name == name);
    found.with_context(|| format!("`{name}` is none of {:?}", PARTS.each_ref().map(|part| part.name)))
}

fn list<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(value: &str) -> Result<Vec<T>> {
    value.split(',').map(|item| Ok(item.parse()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_part_and_way() {
        let usage = usage();

        for name in PARTS.each_ref().map(|part| part.name).iter().chain(&WAYS.map(|way| way.key)) {
            assert!(usage.contains(name), "{name}");
        }
    }

    #[test]
    fn parts_and_options_stand_in_any_order() -> Result<()> {
        let words = ["--ways", "vxlan,tinc", "paths", "--underlays", "9001", "--tinc", "/tincd", "idle"];

        let settings = Settings::parse(words.map(str::to_owned).into_iter())?;

        let names: Vec<_> = settings.parts.iter().map(|part| part.name).collect();
        assert_eq!((names, settings.plan.underlays), (vec!["paths", "idle"], vec![9001]));
        assert!(Settings::parse(["--ways", "pigeon"].map(str::to_owned).into_iter()).is_err());
        assert!(Settings::parse(["--sleeve", "/bin/true"].map(str::to_owned).into_iter()).is_err());
        Ok(())
    }
}
