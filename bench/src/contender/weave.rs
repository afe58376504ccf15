//! The router of the original Weave Net, encrypted and without the kernel's Open vSwitch, alone: neither its IPAM nor its
//! DNS, and no Docker.
//!
//! ```text
//!   client ═ bridge weave ═ veth ═ pcap ═ weaver ═ eth0 ═════ eth0 ═ weaver ═ …
//! ```

use std::path::Path;

use anyhow::Result;

use crate::PASSWORD;
use crate::daemon::Daemon;
use crate::ground::Ground;

/// Which the router makes.
const BRIDGE: &str = "weave";

pub(super) fn set_up(ground: &Ground, program: &Path) -> Result<Vec<Daemon>> {
    let mut daemons = Vec::new();
    for side in ground.sides() {
        let number = side.host.number();
        let mut command = side.host.namespace().command(program);
        command.args(["--name", &format!("02:00:00:00:00:{number:02x}"), "--nickname", &format!("h{number}")]);
        command.args(["--port", "6783", "--password", PASSWORD, "--weave-bridge", BRIDGE, "--no-fastdp", "--no-dns"]);
        command.args(["--ipalloc-range", "", "--docker-api", "", "--http-addr", "", "--status-addr", ""]);
        command.arg("--db-prefix").arg(side.host.directory().join("weave"));
        command.arg(side.peer.address().to_string());
        daemons.push(Daemon::start(side.host, &mut command)?);
        side.wait_device(BRIDGE)?;
        side.cable(BRIDGE, ground.overlay())?;
        // As its script does: the router passes on unfinished checksums as they are.
        side.container.namespace().run("ethtool -K ethwe tx off")?;
    }
    Ok(daemons)
}
