//! What the binary says of itself, without a daemon.
//!
//! Cargo builds `weave-rs` for this test as it builds everything else that tests need; the tests on network namespaces find
//! it there.

use std::process::{Command, Output};

fn weave(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weave-rs")).args(words).output().expect("the binary runs")
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = String::from_utf8(weave(&["--help"]).stdout).expect("UTF-8");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_explains_itself() {
    let commands = commands();

    assert!(commands.iter().any(|command| command == "launch"), "{commands:?}");
    for command in commands {
        let Output { status, stdout, stderr } = weave(&[&command, "--help"]);
        assert!(status.success() && stderr.is_empty(), "{command}");
        assert!(String::from_utf8_lossy(&stdout).contains("Usage: weave-rs"), "{command}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let told = String::from_utf8(weave(&["--version"]).stdout).expect("UTF-8");

    assert!(told.contains(env!("CARGO_PKG_VERSION")), "{told}");
}
