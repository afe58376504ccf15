//! `mesh` and the pure half of `datapath` stay pure: no dependency that could open a socket, read a clock or run a thread,
//! and every dependency of the workspace has a licence and a source that we accept. (Calls into `std` are clippy's part:
//! `mesh/clippy.toml`.)

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use weave_netns_tests::source::files_under;

/// Crates that touch the world outside the process.
const WORLDLY: [&str; 14] = [
    "tokio",
    "mio",
    "socket2",
    "rustix",
    "nix",
    "rtnetlink",
    "netlink-sys",
    "hyper",
    "axum",
    "tracing-subscriber",
    "async-std",
    "smol",
    "signal-hook-registry",
    "sd-notify",
];

/// One of these must be on offer in the licence expression of every dependency.
const LICENCES: [&str; 9] = [
    "Apache-2.0",
    "MIT",
    "ISC",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Unicode-3.0",
    "Zlib",
    "Unlicense",
    "Apache-2.0 WITH LLVM-exception",
];

/// Dependencies of other platforms are not downloaded, so they are not looked at.
const PLATFORM: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

#[test]
fn mesh_depends_on_nothing_worldly() -> Result<()> {
    assert_pure(&["-p", "weave-mesh"])
}

#[test]
fn the_pure_half_of_datapath_depends_on_nothing_worldly() -> Result<()> {
    assert_pure(&["-p", "weave-datapath", "--no-default-features"])
}

#[test]
fn every_dependency_comes_from_the_registry_under_an_accepted_licence() -> Result<()> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--filter-platform", PLATFORM])?)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();

    let bad: Vec<_> = packages.filter(|package| !is_acceptable(package)).map(|package| package["id"].clone()).collect();

    assert!(bad.is_empty(), "not from crates.io, or under another licence than {LICENCES:?}: {bad:#?}");
    Ok(())
}

#[test]
fn every_dependency_is_used() -> Result<()> {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])?)?;
    let mut unused = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let source = sources_under(manifest.parent().unwrap_or(manifest))?;
        let names = package["dependencies"].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str());
        unused.extend(
            names
                .filter(|name| !source.contains(&name.replace('-', "_")))
                .map(|name| format!("{} in {}", name, package["name"])),
        );
    }

    assert!(unused.is_empty(), "listed and never named in the code: {unused:#?}");
    Ok(())
}

/// The text of all Rust files under a folder, but for fuzz targets, which are packages of their own.
fn sources_under(folder: &Path) -> Result<String> {
    let files = files_under(folder, &["rs"])?.into_iter();
    let own = files.filter(|path| path.components().all(|part| part.as_os_str() != "fuzz"));
    own.map(|path| Ok(std::fs::read_to_string(path)?)).collect()
}

fn is_acceptable(package: &serde_json::Value) -> bool {
    let licence = package["license"].as_str().unwrap_or_default();
    // "A OR B": one is enough. "A AND B": all are needed.
    let alternatives = licence.split(" OR ").flat_map(|part| part.split('/'));
    let offered = alternatives
        .into_iter()
        .any(|choice| choice.split(" AND ").all(|one| LICENCES.contains(&one.trim_matches(['(', ')', ' ']))));
    let ours = package["source"].is_null();
    let from_registry = package["source"].as_str().is_some_and(|source| source.contains("crates.io-index"));
    offered && (ours || from_registry)
}

fn assert_pure(selection: &[&str]) -> Result<()> {
    let arguments = [&["tree", "-e", "normal", "--prefix", "none", "--format", "{p}"], selection].concat();
    let tree = cargo(&arguments)?;
    let crates: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();

    let worldly: Vec<_> = WORLDLY.iter().filter(|name| crates.contains(*name)).collect();

    assert!(worldly.is_empty(), "{selection:?} depends on {worldly:?}");
    assert!(crates.len() > 3, "cargo tree listed no dependency: {tree}");
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output =
        Command::new(env!("CARGO")).args(arguments).args(["--locked", "--offline"]).current_dir(repository).output()?;
    ensure!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
