//! VpnCloud as it is: a TUN device, a shared password, the cipher that its own speed test likes best.

use std::path::Path;

use anyhow::Result;

use crate::PASSWORD;
use crate::daemon::Daemon;
use crate::ground::Ground;

const DEVICE: &str = "vpn0";
const PORT: u16 = 3210;

pub(super) fn set_up(ground: &Ground, program: &Path) -> Result<Vec<Daemon>> {
    let mut daemons = Vec::new();
    for side in ground.sides() {
        // It looks up which address it would reach the world from.
        side.run("ip route add default dev eth0")?;
        let mut command = side.host.namespace().command(program);
        command.args(["--device", DEVICE, "--type", "tun", "--mode", "router", "--no-port-forwarding"]);
        command.args(["--password", PASSWORD, "--listen", &PORT.to_string(), "--ifup", "true"]);
        command.args([
            "--peer",
            &format!("{}:{PORT}", side.peer.address()),
            "--claim",
            &format!("{}/32", side.address),
        ]);
        daemons.push(Daemon::start(side.host, &mut command)?);
        side.wait_device(DEVICE)?;
        side.route(DEVICE, ground.overlay())?;
    }
    Ok(daemons)
}
