//! What engines from 23 on do by themselves: `make test-engines` runs this against some, in root file systems of their own.
//!
//! ```text
//!   h1: dockerd ─► containerd ─► containerd-shim-weave-v1, found in PATH ─► weave-rs-runc ─► daemon
//! ```

use anyhow::Result;
use weave_netns_tests::docker::Docker;
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::{Launch, Weave};

#[test]
fn an_engine_finds_our_runtime_without_any_setting() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut docker = Docker::prepare(&host)?;
    let weave = Weave::launch(&host, Launch::new().environment("DOCKER_HOST", &docker.socket()))?;
    docker.find_our_runtime(&weave.socket())?;
    docker.start()?;
    let look = ["busybox", "/bin/busybox", "sh", "-c", "ip link show ethwe && hostname -i | grep ^10.32"];
    let run = |options: &[&str]| docker.ask(&[&["run", "--rm", "--network", "none"], options, &look].concat());

    let (code, _, told) = run(&["--runtime", "io.containerd.weave.v1"])?;
    assert_eq!(code, 0, "{told}");
    assert_ne!(run(&[])?.0, 0, "others run by Docker's own");
    Ok(())
}
