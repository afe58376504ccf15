//! Ports of containers that no book knows: which namespaces are behind them, by what the kernel shows.
//!
//! ```text
//!   vethwepl1ul4w9x, a port of the bridge: its name is made of the number of the namespace behind it
//!        └── /run/netns/*, /run/docker/netns/*, /proc/PID/ns/net: which of them has that number?
//! ```
//!
//! Invariants:
//! - nothing inside a namespace says which port it is behind, or whose it is;
//! - only namespaces behind such ports are entered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::netns::Netns;
use super::veth::{self, Attached};
use crate::plan::LinkName;

/// Where namespaces have names: those that people give, and those of Docker's sandboxes.
const NAMED: &str = "/run/netns";
const SANDBOXES: &str = "/run/docker/netns";
/// How many names of each kind, and how many processes, are looked at.
const NAMES_MAX: usize = 16_384;
const PROCESSES_MAX: usize = 262_144;
/// How many processes of one namespace are told.
const TOLD_MAX: usize = 1_024;

/// What is behind a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    pub port: Attached,
    /// The name of the namespace under `/run/netns`.
    pub name: Option<PathBuf>,
    /// The same of a sandbox of Docker's.
    pub sandbox: Option<PathBuf>,
    /// Processes in it, lowest first.
    pub processes: Vec<u32>,
}

/// Where one namespace was seen.
#[derive(Debug, Default)]
struct Seen {
    name: Option<PathBuf>,
    sandbox: Option<PathBuf>,
    processes: Vec<u32>,
}

/// Finds the namespaces behind `ports`, with what is inside; those of which nothing is found are left out. Takes some
/// microseconds for each process of the host; call it when there are such ports.
pub fn behind(ports: &BTreeSet<LinkName>) -> Vec<Behind> {
    let mut seen: BTreeMap<LinkName, Seen> = BTreeMap::new();
    let mut note = |inode: Option<u64>, note: &dyn Fn(&mut Seen)| {
        if let Some(port) = inode.and_then(|inode| veth::host_link(inode).ok()).filter(|port| ports.contains(port)) {
            note(seen.entry(port).or_default());
        }
    };
    for path in entries(Path::new(NAMED), NAMES_MAX) {
        note(inode_of(&path), &|seen| seen.name = Some(path.clone()));
    }
    for path in entries(Path::new(SANDBOXES), NAMES_MAX) {
        note(inode_of(&path), &|seen| seen.sandbox = Some(path.clone()));
    }
    for process in entries(Path::new("/proc"), PROCESSES_MAX) {
        let Some(number) = number_of(&process) else { continue };
        note(linked_inode(&process.join("ns/net")), &|seen| {
            if seen.processes.len() < TOLD_MAX {
                seen.processes.push(number);
            }
        });
    }
    seen.into_iter().filter_map(|(port, seen)| seen.look_inside(&port)).collect()
}

impl Seen {
    fn look_inside(mut self, port: &LinkName) -> Option<Behind> {
        self.processes.sort_unstable();
        let processes = self.processes.iter().map(|process| PathBuf::from(format!("/proc/{process}/ns/net")));
        let mut places = self.name.iter().chain(&self.sandbox).cloned().chain(processes);
        // The first may have gone since it was seen.
        let found = places.find_map(|path| veth::inspect(&Netns::open(path).ok()?).ok().flatten())?;
        let Self { name, sandbox, processes } = self;
        (found.host_link == *port).then_some(Behind { port: found, name, sandbox, processes })
    }
}

fn entries(directory: &Path, limit: usize) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.take(limit).filter_map(|entry| Some(entry.ok()?.path()))
}

fn inode_of(path: &Path) -> Option<u64> {
    Some(fs::metadata(path).ok()?.ino())
}

/// The number in a link of the form `net:[4026531840]`, which costs less than opening what it leads to.
fn linked_inode(path: &Path) -> Option<u64> {
    fs::read_link(path).ok()?.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn number_of(process: &Path) -> Option<u32> {
    process.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_processs_namespace_is_the_one_of_its_file() {
        let own = Path::new("/proc/self/ns/net");

        assert_eq!(linked_inode(own), inode_of(own));
        assert!(linked_inode(own).is_some());
        assert_eq!(number_of(Path::new("/proc/42")), Some(42));
        assert_eq!(number_of(Path::new("/proc/self")), None);
    }
}
