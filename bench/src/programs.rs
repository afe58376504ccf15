//! Where the programs of others are: given on the command line, installed by `make rivals`, or in `PATH`.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Paths by the key of a way.
#[derive(Debug, Default)]
pub(crate) struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// What the command line says.
    pub(crate) fn give(&mut self, key: &str, path: &str) {
        self.0.insert(key.to_owned(), path.into());
    }

    /// The path of a program for one way.
    ///
    /// # Errors
    /// When it is not there, with how to get it.
    pub(crate) fn find(&self, key: &str, program: &str) -> Result<PathBuf> {
        if let Some(path) = self.0.get(key) {
            ensure!(path.is_file(), "no file {}", path.display());
            return Ok(path.clone());
        }
        let installed = rivals_directory().into_iter().chain(search_path());
        let found = installed.map(|directory| directory.join(program)).find(|path| path.is_file());
        found.with_context(|| format!("no program `{program}` (`make rivals`, or `--{key} PATH`)"))
    }

    /// What a program calls itself; empty when it is missing or does not say.
    pub(crate) fn version(&self, key: &str, program: &str) -> String {
        let output = self.find(key, program).ok().and_then(|path| Command::new(path).arg("--version").output().ok());
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
    }
}

/// Where `make rivals` puts what it builds: beside the directory of this program.
fn rivals_directory() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.parent()?.join("rivals/bin"))
}

fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect()
}
