//! A host with an engine and all of our ways into it: runtime, proxy and network driver.

use std::path::PathBuf;

use anyhow::Result;

use super::{Docker, DockerClient, Driver};
use crate::topology::Host;
use crate::weave::{Launch, Weave};

/// Fields are dropped in this order: an engine takes its containers off the network when it ends.
#[derive(Debug)]
pub struct Site {
    /// Its containers run by our runtime unless they ask for another.
    pub docker: Docker,
    pub weave: Weave,
    pub driver: Driver,
    /// Where the proxy listens.
    pub proxy: PathBuf,
    pub host: Host,
}

impl Site {
    /// Both run. A start waits so many seconds for our daemon.
    pub fn new(host: Host, launch: Launch, start_timeout: u32) -> Result<Self> {
        let (driver, mut docker) = (Driver::of(&host), Docker::prepare(&host)?);
        let proxy = host.directory().join("docker.sock");
        let launch = launch.environment("DOCKER_HOST", &docker.socket()).argument(&driver.argument());
        let weave = Weave::launch(&host, launch.argument(&format!("--docker-proxy={}", proxy.display())))?;
        docker.use_our_runtime(&weave.socket(), start_timeout)?;
        docker.start()?;
        Ok(Self { docker, weave, driver, proxy, host })
    }

    /// The client, by way of the proxy.
    pub fn through_proxy(&self) -> DockerClient {
        self.docker.through(&self.proxy)
    }
}
