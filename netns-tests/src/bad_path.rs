//! Two hosts on a bad wire whose daemons reach each other by sleeve alone, and what the first says of its sends.
//!
//! ```text
//!   h1 ══ eth0 (TAP, USO) ══ bad wire ══ eth0 (TAP, USO) ══ h2        sleeve only
//!   └ 10.32.0.1                                              └ 10.32.0.2
//! ```

use std::time::Duration;

use anyhow::{Context, Result};

use crate::probe::{TcpStreamProbe, UdpStreamProbe, eventually};
use crate::scene::Scene;
use crate::topology::Topology;
use crate::weave::Launch;
use crate::wire::{Faults, Heading, Segmented, Wire};

/// The pair and its wire. Fields go in this order when it is dropped.
#[derive(Debug)]
pub struct BadPath {
    /// Two hosts, the second of which dials the first.
    pub scene: Scene,
    /// What is between them; without faults at first.
    pub wire: Wire,
}

impl BadPath {
    /// Two daemons that launch alike; all chance on the wire comes from `seed`. Returns when both use sleeve.
    pub fn new(seed: u64, launch: &Launch) -> Result<Self> {
        let net = Topology::new()?;
        let (a, b, wire) = net.bad_wire(seed)?;
        let launch = |number, hosts: &[_]| {
            let launch = launch.clone().argument("--no-fastdp");
            if number == 0 { launch } else { launch.peer(&hosts[0]) }
        };
        let scene = Scene::on(net, vec![a, b], launch)?;
        scene.wait_carrier("sleeve")?;
        Ok(Self { scene, wire })
    }

    /// A TCP stream from the first container to the second, as fast as it goes.
    pub fn stream(&self) -> Result<TcpStreamProbe> {
        let Scene { containers, .. } = &self.scene;
        TcpStreamProbe::start(&containers[0], &containers[1], self.scene.address(1))
    }

    /// The same at about 50 Mbit/s.
    pub fn paced_stream(&self) -> Result<TcpStreamProbe> {
        let Scene { containers, .. } = &self.scene;
        TcpStreamProbe::start_paced(&containers[0], &containers[1], self.scene.address(1))
    }

    /// Numbered datagrams the same way.
    pub fn numbers(&self) -> Result<UdpStreamProbe> {
        let Scene { containers, .. } = &self.scene;
        UdpStreamProbe::start(&containers[0], &containers[1], self.scene.address(1))
    }

    /// The first host's path to the second, as `status paths --json` has it.
    pub fn path(&self) -> Result<serde_json::Value> {
        let paths = self.scene.weaves[0].json(&["status", "paths"])?;
        Ok(paths[0].clone())
    }

    /// How it sends there.
    pub fn sends(&self) -> Result<serde_json::Value> {
        Ok(self.path()?["sends"].clone())
    }

    /// Whether trains leave as one segmented send.
    pub fn is_segmented(&self) -> Result<bool> {
        self.sends()?["segmented"].as_bool().context("`status paths` does not say how datagrams leave")
    }

    /// Waits until they do, and returns how long that took.
    pub fn wait_segmented(&self, deadline: Duration) -> Result<Duration> {
        eventually(deadline, "sends are segmented", || self.is_segmented())
            .with_context(|| format!("{:?}", self.sends()))
    }

    /// Waits until they no longer do, and returns how long that took.
    pub fn wait_plain(&self, deadline: Duration) -> Result<Duration> {
        eventually(deadline, "sends are plain", || Ok(!self.is_segmented()?))
            .with_context(|| format!("{:?}", self.sends()))
    }

    /// What becomes of the first host's segmented sends from here on.
    pub fn set_segmented(&self, segmented: Segmented) {
        self.wire.set_faults(Heading::There, Faults::segmented(segmented));
    }
}
