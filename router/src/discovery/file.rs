//! Peers of a file: one a line, as `launch` takes them; what follows a `#` is for people.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use weave_mesh::connector::Target;

/// How often it is looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
/// How long a file may be, octets: the most targets, each with the longest name.
const FILE_MAX_BYTES: u64 = 512 * 1024;

#[derive(Debug)]
pub(super) struct PeerFile {
    path: PathBuf,
}

impl PeerFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// # Errors
    /// When it cannot be read, or a line is no peer: a file that somebody is writing is not believed by half.
    pub(super) fn read(&self) -> Result<BTreeSet<Target>, String> {
        let path = self.path.display();
        let mut text = String::new();
        let file = File::open(&self.path).map_err(|error| format!("cannot read {path}: {error}"))?;
        file.take(FILE_MAX_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|error| format!("cannot read {path}: {error}"))?;
        if text.len() as u64 > FILE_MAX_BYTES {
            return Err(format!("{path} is longer than {FILE_MAX_BYTES} octets"));
        }
        parse(&text).map_err(|error| format!("{path}: {error}"))
    }
}

fn parse(text: &str) -> Result<BTreeSet<Target>, String> {
    let without_remark = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    let lines = text.lines().map(without_remark).enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(number, line)| line.parse().map_err(|error| format!("line {}: {error}", number + 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_peer_and_the_rest_is_for_people() {
        let peers = parse("# the first rack\n10.0.0.1\n\n host2.example:7000 # behind NAT\n").unwrap();
        let expected = ["10.0.0.1", "host2.example:7000"].map(|text| text.parse().unwrap());
        assert_eq!(peers, BTreeSet::from(expected));
        assert_eq!(parse(""), Ok(BTreeSet::new()));
    }

    #[test]
    fn a_line_that_is_no_peer_makes_the_whole_file_wrong() {
        let error = parse("10.0.0.1\n10.0.0.2 10.0.0.3\n").unwrap_err();
        assert!(error.starts_with("line 2:"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = PeerFile::new("/nowhere/peers".into()).read().unwrap_err();
        assert!(error.contains("/nowhere/peers"), "{error}");
    }
}
