//! fastd on a TAP device with the method that its documentation recommends, `salsa2012+umac`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use weave_netns_tests::topology::run;

use crate::daemon::Daemon;
use crate::ground::{Ground, Side};

const DEVICE: &str = "fastd0";
const PORT: u16 = 10_000;

pub(super) fn set_up(ground: &Ground, program: &Path) -> Result<Vec<Daemon>> {
    let keys = [keys(program)?, keys(program)?];
    let mut daemons = Vec::new();
    for (side, (own, peer)) in ground.sides().into_iter().zip([(&keys[0], &keys[1]), (&keys[1], &keys[0])]) {
        let file = side.host.directory().join("fastd.conf");
        fs::write(&file, configuration(side, ground.overlay(), &own.0, &peer.1))?;
        let mut command = side.host.namespace().command(program);
        daemons.push(Daemon::start(side.host, command.arg("--config").arg(&file))?);
        side.wait_device(DEVICE)?;
        side.bridge(DEVICE, ground.overlay())?;
    }
    Ok(daemons)
}

/// A secret key and its public one.
fn keys(program: &Path) -> Result<(String, String)> {
    let text = run(Command::new(program).arg("--generate-key"))?;
    let key = |label| text.lines().find_map(|line| Some(line.strip_prefix(label)?.trim().to_owned()));
    Ok((key("Secret:").context("no secret key")?, key("Public:").context("no public key")?))
}

fn configuration(side: Side<'_>, mtu: u32, secret: &str, peer: &str) -> String {
    let (own, other) = (side.host.address(), side.peer.address());
    format!(
        "mode tap;\ninterface \"{DEVICE}\";\nmethod \"salsa2012+umac\";\nmtu {mtu};\nbind {own}:{PORT};\n\
         secret \"{secret}\";\npeer \"other\" {{ key \"{peer}\"; remote {other}:{PORT}; }}\n"
    )
}
