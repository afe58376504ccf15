//! tinc 1.0 as it is: router mode on a TUN device, its own choice of cipher and digest.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::daemon::Daemon;
use crate::ground::{Ground, Side};

const DEVICE: &str = "tinc0";
const KEY_BITS: u32 = 2048;

pub(super) fn set_up(ground: &Ground, program: &Path) -> Result<Vec<Daemon>> {
    let sides = ground.sides();
    let public = sides.iter().map(|side| make_keys(side, program)).collect::<Result<Vec<_>>>()?;
    let mut daemons = Vec::new();
    for (side, peer) in sides.iter().zip(public.iter().rev()) {
        fs::write(side.host.directory().join("hosts").join(name(side.peer.number())), peer)?;
        let mut command = side.host.namespace().command(program);
        command.arg("--no-detach").arg("--config").arg(side.host.directory());
        command.arg(format!("--pidfile={}", side.host.directory().join("tinc.pid").display()));
        daemons.push(Daemon::start(side.host, &mut command)?);
        side.wait_device(DEVICE)?;
        side.route(DEVICE, ground.overlay())?;
    }
    Ok(daemons)
}

/// Writes the configuration of one host, and returns the file that tells the other about it.
fn make_keys(side: &Side<'_>, program: &Path) -> Result<String> {
    let directory = side.host.directory();
    let (own, peer) = (name(side.host.number()), name(side.peer.number()));
    let about = directory.join("hosts").join(&own);
    fs::create_dir_all(directory.join("hosts"))?;
    fs::write(
        directory.join("tinc.conf"),
        format!("Name = {own}\nConnectTo = {peer}\nInterface = {DEVICE}\nAddressFamily = ipv4\n"),
    )?;
    fs::write(&about, format!("Address = {}\nSubnet = {}/32\n", side.host.address(), side.address))?;
    // It asks where to put the keys; no answer means where they belong.
    side.run(&format!("{} --config {} --generate-keys={KEY_BITS}", program.display(), directory.display()))?;
    Ok(fs::read_to_string(about)?)
}

fn name(number: u8) -> String {
    format!("h{number}")
}
