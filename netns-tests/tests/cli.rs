//! What scripts rely on: exit codes, one line on standard error, stable words, valid JSON.
//!
//! ```text
//!   h1 ◄── weave-rs status, attach, connect, …
//! ```

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::Value;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::{Answer, Launch, Weave};

#[test]
fn a_stopped_daemon_is_called_stopped() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;
    weave.stop()?;

    for words in [&["status"][..], &["status", "peers"], &["peers"], &["report"], &["connect", "192.168.48.2"]] {
        let answer = weave.ask(words)?;
        assert_one_line(&answer, 1)?;
        let told = answer.stderr.to_lowercase();
        assert!(told.contains("running") || told.contains("launch"), "{words:?}: {answer:?}");
    }
    Ok(())
}

#[test]
fn usage_errors_end_with_two() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::prepare(&host, Launch::new())?;
    for words in [&["no-such-command"][..], &["status", "nonsense"], &["attach"], &["connect"], &["status", "--wrong"]]
    {
        assert_eq!(weave.ask(words)?.code, 2, "{words:?}");
    }
    Ok(())
}

#[test]
fn attach_and_detach_print_the_addresses_on_one_line() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new())?;
    let container = host.container()?;

    let target = container.target();
    let attach = ["attach", "10.32.0.5/12", "10.40.0.5/24", &target];
    assert_eq!(weave.run(&attach)?, "10.32.0.5 10.40.0.5\n");
    assert_eq!(weave.run(&attach)?, "10.32.0.5 10.40.0.5\n", "attaching twice is attaching once");
    let shown = container.namespace().run("ip -br addr show ethwe")?;
    assert!(shown.contains("10.32.0.5/12") && shown.contains("10.40.0.5/24"), "{shown}");
    assert_eq!(weave.run(&["detach", "10.40.0.5/24", &target])?, "10.40.0.5\n");
    assert_eq!(weave.run(&["detach", &target])?, "10.32.0.5\n");
    assert!(container.namespace().run("ip link show ethwe").is_err(), "the interface is gone with its last address");
    Ok(())
}

#[test]
fn a_running_process_is_a_target() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new())?;
    let container = host.container()?;
    let mut process = container.namespace().command("sleep").arg("600").spawn()?;

    // `ip netns exec` enters the namespace just before it becomes the program.
    let target = format!("pid:{}", process.id());
    let is_inside = || Ok(std::fs::read_to_string(format!("/proc/{}/comm", process.id()))?.trim() == "sleep");
    eventually(SETTLED, "the process is inside", is_inside)?;
    let printed = weave.run(&["attach", "10.32.0.6/12", &target]);

    process.kill()?;
    process.wait()?;
    assert_eq!(printed?, "10.32.0.6\n");
    assert!(container.namespace().run("ip addr show ethwe")?.contains("10.32.0.6/12"));
    Ok(())
}

#[test]
fn an_attachment_that_cannot_be_says_why() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new().argument("--ipalloc-range").argument(""))?;
    let container = host.container()?;
    let target = container.target();

    for (words, named) in [
        (&["attach", &target][..], "address"),
        (&["attach", "10.32.0.5/12", "netns:/run/netns/no-such"], "no-such"),
        (&["attach", "10.32.0.5/12", "pid:4000000"], "4000000"),
        (&["attach", "10.32.0.5/12", "no-such-container"], "Docker"),
        (&["attach", "10.32.0.500/12", &target], "10.32.0.500"),
    ] {
        let answer = weave.ask(words)?;
        assert!([1, 2].contains(&answer.code), "{words:?}: {answer:?}");
        assert!(answer.stderr.contains(named), "{words:?}: {answer:?}");
    }
    assert_eq!(weave.ask(&["attach", &target])?.code, 1, "a lack of IPAM is no usage error");
    Ok(())
}

#[test]
fn targets_are_added_and_forgotten() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (net.host()?, net.host()?);
    let (weave, other) = (Weave::launch(&a, Launch::new())?, Weave::launch(&b, Launch::new())?);
    let address = b.address().to_string();

    weave.run(&["connect", &address])?;
    weave.wait_connection(&["->", &address, "established"], SETTLED)?;
    assert_eq!(weave.run(&["status", "targets"])?.trim(), address);

    weave.run(&["forget", &address])?;
    assert_eq!(weave.run(&["status", "targets"])?.trim(), "");
    weave.wait_connection(&[&address, "established"], SETTLED)?;
    other.run(&["status"])?;
    Ok(())
}

#[test]
fn every_status_is_readable_by_people_and_by_programs() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let weave = &scene.weaves[0];

    for part in ["peers", "connections", "paths", "targets", "endpoints"] {
        weave.run(&["status", part])?;
        let json = weave.run(&["status", part, "--json"])?;
        serde_json::from_str::<Value>(&json).with_context(|| format!("status {part} --json: {json}"))?;
    }
    serde_json::from_str::<Value>(&weave.run(&["status", "--json"])?)?;
    serde_json::from_str::<Value>(&weave.run(&["report"])?)?;
    assert_eq!(weave.run(&["peers"])?, weave.run(&["status", "peers"])?);
    let overview = weave.run(&["status"])?;
    for word in ["Version:", "Name:", "02:00:00:00:00:01", "Encryption:", "disabled", "Peers:", "Connections:"] {
        assert!(overview.contains(word), "{word:?} is missing in {overview}");
    }
    assert!(weave.run(&["status", "endpoints"])?.contains(&Ipv4Addr::new(10, 32, 0, 2).to_string()));
    assert!(weave.run(&["why", "h2"])?.contains("fastdp"), "a nickname is a name");
    assert_one_line(&weave.ask(&["why", "nobody"])?, 1)
}

#[test]
fn a_generated_key_is_a_good_password() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let silent = Weave::prepare(&host, Launch::new())?;
    let [key, other] = [silent.run(&["genkey"])?, silent.run(&["genkey"])?].map(|key| key.trim().to_owned());
    assert_ne!(key, other);
    assert!(key.len() >= 43, "256 bits of text: {key}");
    drop(silent);

    std::fs::remove_file(host.directory().join("notify"))?;
    let weave = Weave::launch(&host, Launch::new().password(&key))?;

    assert!(weave.run(&["status"])?.contains("enabled"), "{}", weave.run(&["status"])?);
    Ok(())
}

#[test]
fn the_http_address_answers_like_the_socket() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new())?;

    let by_socket = weave.run(&["status", "peers"])?;
    let mut client = weave_netns_tests::weave::client(host.namespace())?;
    let by_http = weave_netns_tests::topology::run(client.args(["status", "peers", "--http-addr", "127.0.0.1:6784"]))?;

    assert_eq!(by_socket, by_http);
    Ok(())
}

/// Failed, with one line on standard error and nothing on standard output.
fn assert_one_line(answer: &Answer, code: i32) -> Result<()> {
    assert_eq!(answer.code, code, "{answer:?}");
    assert_eq!(answer.stderr.trim_end().lines().count(), 1, "{answer:?}");
    assert_eq!(answer.stdout, "", "{answer:?}");
    Ok(())
}
