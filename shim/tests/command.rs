//! The program itself, with `echo` in the place of runc.

use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_weave-rs-runc");

/// A container's folder, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, config: &Value) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("weave-rs-shim-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("config.json"), config.to_string())?;
        Ok(Self(folder))
    }

    fn config(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&std::fs::read(self.0.join("config.json"))?)?)
    }

    fn create(&self) -> Result<Output> {
        let ours = ["--weave-runtime=/bin/echo", "--weave-timeout=0", "--weave-socket=/nonexistent/weave.sock"];
        let mut command = Command::new(PROGRAM);
        command.args(ours).args(["--root", "/r", "create", "--bundle"]).arg(&self.0).arg("0123");
        Ok(command.output()?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_not_ours_is_passed_on_as_it_is() -> Result<()> {
    let arguments = ["--root", "/r", "exec", "--process", "/p", "0123"];
    let output = Command::new(PROGRAM).arg("--weave-runtime=/bin/echo").args(arguments).output()?;
    assert_eq!(String::from_utf8(output.stdout)?, arguments.join(" ") + "\n");
    Ok(())
}

#[test]
fn without_a_daemon_the_container_says_so_and_is_made_all_the_same() -> Result<()> {
    let namespaces = json!([{ "type": "network" }]);
    let config = json!({ "process": { "args": ["sh"] }, "linux": { "namespaces": namespaces } });
    let folder = Folder::with("excuse", &config)?;

    let output = folder.create()?;

    assert!(output.status.success() && output.stdout.starts_with(b"--root /r create"), "{output:?}");
    let config = folder.config()?;
    assert_eq!(config["process"]["args"], json!(["/.weave-rs"]));
    let said = Command::new(config["mounts"][0]["source"].as_str().context("a program is mounted")?).output()?;
    let text = String::from_utf8(said.stderr)?;
    assert!(said.status.code() == Some(125) && text.contains("does not run"), "{text}");
    Ok(())
}

#[test]
fn a_container_without_a_network_of_its_own_and_what_is_no_container_are_left_alone() -> Result<()> {
    for config in [json!({ "linux": { "namespaces": [] } }), json!([1])] {
        let folder = Folder::with("alone", &config)?;
        assert!(folder.create()?.status.success());
        assert_eq!(folder.config()?, config);
    }
    Ok(())
}
