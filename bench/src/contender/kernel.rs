//! Without a daemon: a cable, and VXLAN as a careful operator sets it up with ip(8).
//!
//! ```text
//!   veth      client ══════════════════════ server
//!   vxlan     client ═ bridge ═ vxlan ═ eth0 ═════ eth0 ═ vxlan ═ bridge ═ server
//! ```

use anyhow::{Result, ensure};

use crate::daemon::Daemon;
use crate::ground::{Ground, bring_up};

/// A veth pair between the two containers, with the underlay's MTU; no host takes part.
pub(super) fn veth(ground: &Ground) -> Result<Vec<Daemon>> {
    let (mtu, peer) = (ground.underlay, ground.server().namespace().name());
    let client = ground.client().namespace();
    client.run(&format!("ip link add ethwe mtu {mtu} type veth peer name ethwe mtu {mtu} netns {peer}"))?;
    for side in ground.sides() {
        bring_up(side.container.namespace(), side.address)?;
    }
    Ok(Vec::new())
}

/// Kernel VXLAN with a fixed remote.
pub(super) fn vxlan(ground: &Ground) -> Result<Vec<Daemon>> {
    for side in ground.sides() {
        let (mtu, peer) = (ground.overlay(), side.peer.address());
        side.run(&format!("ip link add vx0 mtu {mtu} type vxlan id 42 dstport 4789 remote {peer} dev eth0 df set"))?;
        side.bridge("vx0", mtu)?;
    }
    Ok(Vec::new())
}

/// The same over a cable that takes no packet larger than its MTU, as one between two machines: segmentation is done in
/// software before it, and nothing is joined behind it but by the VXLAN device.
pub(super) fn vxlan_plain(ground: &Ground) -> Result<Vec<Daemon>> {
    let daemons = vxlan(ground)?;
    for side in ground.sides() {
        side.run("ethtool -K eth0 tso off gso off gro off tx-udp-segmentation off")?;
        let features = side.run("ethtool -k eth0")?;
        // Some devices refuse silently what ethtool(8) asks for.
        ensure!(features.contains("tx-udp-segmentation: off"), "offloads stay on: {features}");
    }
    Ok(daemons)
}
