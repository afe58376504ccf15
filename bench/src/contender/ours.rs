//! Two daemons of ours, with a password or without.
//!
//! ```text
//!   fastdp    as VXLAN by hand, set up by two daemons without a password
//!   sleeve    client ═ bridge ═ tap ═ daemon ═ eth0 ═════ eth0 ═ daemon ═ tap ═ bridge ═ server      with a password
//! ```

use anyhow::Result;
use weave_netns_tests::weave::{Launch, Weave};

use crate::PASSWORD;
use crate::daemon::Daemon;
use crate::ground::{DEADLINE, Ground, SERVER};

/// The kernel carries the frames.
pub(super) fn fast_path(ground: &Ground) -> Result<Vec<Daemon>> {
    set_up(ground, "fastdp", &Launch::new())
}

/// User space carries and seals the frames.
pub(super) fn sleeve(ground: &Ground) -> Result<Vec<Daemon>> {
    set_up(ground, "sleeve", &Launch::new().password(PASSWORD))
}

fn set_up(ground: &Ground, carrier: &str, launch: &Launch) -> Result<Vec<Daemon>> {
    let [a, b] = ground.sides();
    let daemons = [Weave::launch(a.host, launch.clone())?, Weave::launch(b.host, launch.clone().peer(a.host))?];
    for (daemon, side) in daemons.iter().zip([a, b]) {
        daemon.attach(side.container, &format!("{}/12", side.address))?;
    }
    weave_netns_tests::probe::ping_eventually(ground.client(), SERVER, DEADLINE)?;
    daemons[0].wait_path(&daemons[1], carrier, DEADLINE)?;
    daemons[1].wait_path(&daemons[0], carrier, DEADLINE)?;
    Ok(daemons.map(|daemon| Daemon::Ours(Box::new(daemon))).into())
}
