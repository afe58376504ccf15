//! WireGuard in user space: wireguard-go and boringtun, told what to do by wg(8) over their socket.
//!
//! ```text
//!   client ═ route ═ tun ═ daemon ═ eth0 ═════ eth0 ═ daemon ═ tun ═ route ═ server
//! ```
//!
//! Their sockets are named after the device under `/run/wireguard`, which all namespaces share: so each device has a
//! name of its own. Both remove theirs when they end.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::topology::run;

use crate::daemon::Daemon;
use crate::ground::{DEADLINE, Ground, Side};

const PORT: u16 = 51820;
/// IPv6 40 or IPv4 20, UDP 8, WireGuard 32: what wg-quick(8) takes away.
const OVERHEAD: u32 = 80;

pub(super) fn wireguard_go(ground: &Ground, program: &Path) -> Result<Vec<Daemon>> {
    set_up(ground, program, &["--foreground"])
}

pub(super) fn boringtun(ground: &Ground, program: &Path) -> Result<Vec<Daemon>> {
    set_up(ground, program, &["--foreground", "--disable-drop-privileges"])
}

fn set_up(ground: &Ground, program: &Path, arguments: &[&str]) -> Result<Vec<Daemon>> {
    let sides = ground.sides();
    let public = sides.iter().map(make_key).collect::<Result<Vec<_>>>()?;
    let mut daemons = Vec::new();
    for (side, peer) in sides.iter().zip(public.iter().rev()) {
        let device = device(side);
        daemons.push(Daemon::start(side.host, side.host.namespace().command(program).args(arguments).arg(&device))?);
        side.wait_device(&device)?;
        let (key, address, remote) = (key_file(side), side.peer.address(), side.remote);
        let line = format!(
            "wg set {device} private-key {key} listen-port {PORT} peer {peer} allowed-ips {remote}/32 \
             endpoint {address}:{PORT}"
        );
        eventually(DEADLINE, "its socket is there", || side.run(&line).map(|_| true))?;
        side.route(&device, ground.underlay - OVERHEAD)?;
    }
    Ok(daemons)
}

/// Keeps the private key in the host's directory, and returns the public one.
fn make_key(side: &Side<'_>) -> Result<String> {
    let private = run(Command::new("wg").arg("genkey"))?;
    std::fs::write(key_file(side), &private)?;
    Ok(side.host.namespace().pipe("wg pubkey", &private)?.trim().to_owned())
}

fn key_file(side: &Side<'_>) -> String {
    side.host.directory().join("wg.key").display().to_string()
}

/// Unique on this machine and at most 15 letters: from the namespace's name, which is.
fn device(side: &Side<'_>) -> String {
    side.host.namespace().name().replace('-', "")
}
