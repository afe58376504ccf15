//! `/etc/hosts`: what a container is called leads to its address on the overlay, before Docker's own.
//!
//! Newer engines write the file between a container's creation and its start, so it is changed at the start.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::prepare::rewrite;

/// Beside the bundle's configuration, from creation to start.
const NOTE: &str = "weave-rs-hosts.json";
/// Ends a line of ours.
const MARK: &str = "# weave-rs";

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    file: PathBuf,
    line: String,
}

/// Notes what the file is to say once the container starts.
pub(crate) fn note(bundle: &Bundle, address: &str, names: &[String]) -> Result<()> {
    let Some(file) = bundle.source_of("/etc/hosts").filter(|_| !names.is_empty()) else { return Ok(()) };
    let note = Note { file, line: format!("{address}\t{} {MARK}", names.join(" ")) };
    bundle.put(NOTE, &serde_json::to_vec(&note)?)
}

/// Writes what was noted. `root` is where runc keeps its state.
pub(crate) fn start(root: &Path, id: &str) -> Result<()> {
    let Some(bundle) = bundle_of(root, id) else { return Ok(()) };
    let Ok(note) = fs::read(bundle.join(NOTE)) else { return Ok(()) };
    let note: Note = serde_json::from_slice(&note).context("what /etc/hosts is to say is not understood")?;
    rewrite(&note.file, |text| with_first(text, &note.line))
}

/// The folder that a container was made of, as runc remembers it.
fn bundle_of(root: &Path, id: &str) -> Option<PathBuf> {
    let state: Value = serde_json::from_slice(&fs::read(root.join(id).join("state.json")).ok()?).ok()?;
    let labels = state["config"]["labels"].as_array()?;
    labels.iter().find_map(|label| label.as_str()?.strip_prefix("bundle=").map(PathBuf::from))
}

fn with_first(text: &str, line: &str) -> String {
    let others = text.lines().filter(|other| !other.ends_with(MARK));
    [line].into_iter().chain(others).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_line_is_the_first_and_there_is_one() {
        let before = "127.0.0.1\tlocalhost\n172.17.0.2\tweb\n";
        let once = with_first(before, "10.32.0.1\tweb # weave-rs");
        let again = with_first(&once, "10.32.0.2\tweb # weave-rs");

        assert_eq!(once, format!("10.32.0.1\tweb # weave-rs\n{before}"));
        assert_eq!(again, format!("10.32.0.2\tweb # weave-rs\n{before}"));
    }
}
