//! Files of this repository, for tests that read them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// All below a folder that have one of these extensions, sorted; not in hidden folders, nor in what cargo builds.
pub fn files_under(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut pending = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let path = entry.path();
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if entry.file_type()?.is_dir() && !is_hidden && !path.ends_with("target") {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
