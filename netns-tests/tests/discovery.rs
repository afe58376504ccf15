//! Peers that nobody gave: the hosts of a played AWS, of a file and of a DNS name find each other.
//!
//! ```text
//!   cloud: EC2, Auto Scaling, and the metadata of each instance ◄── h2, h3, h4: no peer is given
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use weave_netns_tests::cloud::Cloud;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::{Launch, Weave};

/// A terminated instance is heard of at the next answer, 19 s later at most, and nobody waits for anything else.
const BURIED: Duration = Duration::from_secs(60);

/// How many peers a host reaches, itself included.
fn reachable(weave: &Weave) -> Result<usize> {
    let status = weave.json(&["status"])?;
    let peers = status["peers"].as_array().context("peers")?;
    Ok(peers.iter().filter(|peer| peer["reachable"] == true).count())
}

/// How many owners the address range has.
fn owners(weave: &Weave) -> Result<usize> {
    let status = weave.json(&["status"])?;
    Ok(status["ipam"]["owners"].as_array().context("owners")?.len())
}

#[test]
fn hosts_of_a_group_find_each_other_share_the_range_out_and_bury_their_dead() -> Result<()> {
    let cloud = Cloud::new(3)?;
    let mut weaves = (0..3).map(|index| cloud.daemon(index, Launch::new())).collect::<Result<Vec<_>>>()?;
    for (weave, host) in weaves.iter().zip(cloud.hosts()) {
        let container = host.container()?;
        let printed = weave.run(&["attach", &container.target(), "--wait", "30"])?;
        assert!(printed.trim().parse::<Ipv4Addr>().is_ok(), "{printed}");
        eventually(SETTLED, "all are met", || Ok(reachable(weave)? == 3))?;
        assert!(weave.run(&["status"])?.contains("Discovery: aws (3 listed)"));
    }
    let mut dead = weaves.pop().context("three daemons")?;
    dead.kill()?;
    cloud.terminate(2);
    for weave in &weaves {
        eventually(BURIED, "the dead one's addresses are others'", || Ok(owners(weave)? == 2))
            .with_context(|| weave.run(&["status", "ipam"]).unwrap_or_default())?;
    }
    Ok(())
}

#[test]
fn a_password_that_aws_keeps_is_waited_for_and_is_nobody_elses_to_read() -> Result<()> {
    const PASSWORD: &str = "correct horse battery staple";
    let cloud = Cloud::new(2)?;
    let launch = || Launch::new().argument("--password-parameter=/mesh/password");
    let mut early = cloud.prepare(0, launch())?;
    early.spawn()?;
    early.wait_log("the password cannot be had yet", SETTLED)?;
    assert!(early.log().contains("GetParameter: ParameterNotFound"), "{}", early.log());
    cloud.set_parameter("/mesh/password", PASSWORD);
    early.wait_ready()?;
    let late = cloud.daemon(1, launch())?;
    for weave in [&early, &late] {
        eventually(SETTLED, "both have the same", || Ok(reachable(weave)? == 2))?;
        assert!(weave.run(&["status"])?.contains("Encryption: enabled"), "{}", weave.run(&["status"])?);
        assert!(!weave.log().contains(PASSWORD) && !weave.http("GET", "/report")?.1.contains(PASSWORD));
    }
    Ok(())
}

#[test]
fn who_is_written_into_a_file_is_dialled_and_who_is_taken_out_stays_connected() -> Result<()> {
    let net = Topology::new()?;
    let (one, other) = (net.host()?, net.host()?);
    let list = one.directory().join("peers");
    std::fs::write(&list, "# nobody yet\n")?;
    let other_weave = Weave::launch(&other, Launch::new())?;
    let weave = Weave::launch(&one, Launch::new().argument(&format!("--discover=file:{}", list.display())))?;
    assert_eq!(reachable(&weave)?, 1);

    std::fs::write(&list, format!("{} # the other\n", other.address()))?;
    eventually(SETTLED, "the peer of the file is met", || Ok(reachable(&weave)? == 2))?;

    std::fs::write(&list, "not a peer\n")?;
    eventually(SETTLED, "what is wrong is said", || Ok(weave.run(&["status"])?.contains("line 1")))?;
    std::fs::write(&list, "")?;
    eventually(SETTLED, "it is right again", || Ok(weave.run(&["status"])?.contains("(0 listed)")))?;
    assert_eq!((reachable(&weave)?, reachable(&other_weave)?), (2, 2));
    Ok(())
}

#[test]
fn a_host_that_is_no_instance_asks_nobody_where_it_is() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new())?;
    let status = weave.json(&["status"])?;
    assert_eq!(status["discovery"]["source"], "none");
    Ok(())
}
