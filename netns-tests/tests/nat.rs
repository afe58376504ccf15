//! One host sits behind a masquerading router: it can dial, and cannot be dialled.
//!
//! ```text
//!   h1 ──── switch ──── n2 (NAT) ──── h2
//! ```

use anyhow::Result;
use weave_netns_tests::probe::{TcpStreamProbe, eventually, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::Launch;

#[test]
fn a_host_behind_nat_is_reached_over_sleeve_both_ways() -> Result<()> {
    let scene = behind_nat(&Launch::new().password("correct horse battery"))?;
    scene.wait_known()?;

    ping_eventually(&scene.containers[0], scene.address(1), SETTLED)?;
    scene.ping_both_ways(0, 1)?;
    let stream = TcpStreamProbe::start(&scene.containers[0], &scene.containers[1], scene.address(1))?;
    eventually(SETTLED, "bytes reach the hidden host", || Ok(stream.received() > 300_000))?;

    stream.finish()?;
    Ok(())
}

#[test]
fn a_host_behind_nat_works_without_a_password() -> Result<()> {
    let scene = behind_nat(&Launch::new())?;
    scene.wait_known()?;

    ping_eventually(&scene.containers[0], scene.address(1), SETTLED)?;

    scene.ping_both_ways(0, 1)
}

fn behind_nat(launch: &Launch) -> Result<Scene> {
    let net = Topology::new()?;
    let hosts = vec![net.host()?, net.host_behind_nat()?];
    Scene::on(net, hosts, |number, hosts| if number == 0 { launch.clone() } else { launch.clone().peer(&hosts[0]) })
}
