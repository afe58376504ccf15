//! What is read from a running mesh without a right to change it: metrics, status, and what is attached.
//!
//! ```text
//!   h1 ◄── GET 127.0.0.1:6782/metrics, /status, /report        h2 ── 10.32.0.2
//! ```

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use weave_netns_tests::probe::{eventually, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Namespace, Topology};
use weave_netns_tests::weave::{Launch, Weave};

/// Status code, header and body of an answer at the status address.
fn ask(host: &Namespace, method: &str, path: &str, name: &str) -> Result<(u16, String, String)> {
    host.enter(|| {
        let mut stream = TcpStream::connect("127.0.0.1:6782")?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (header, body) = answer.split_once("\r\n\r\n").context("no body")?;
        let code = header.split(' ').nth(1).context("no status")?.parse()?;
        Ok((code, header.to_owned(), body.to_owned()))
    })
}

fn scrape(host: &Namespace) -> Result<BTreeMap<String, f64>> {
    let (code, header, body) = ask(host, "GET", "/metrics", "localhost")?;
    assert_eq!(code, 200, "{body}");
    assert!(header.to_lowercase().contains("content-type: application/openmetrics-text; version=1.0.0"), "{header}");
    let series = body.lines().filter(|line| line.starts_with(|letter: char| letter.is_ascii_lowercase()));
    series
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            Ok((series.to_owned(), value.parse()?))
        })
        .collect()
}

#[test]
fn a_running_mesh_is_scraped() -> Result<()> {
    for (launch, carrier) in [(Launch::new(), "fastdp"), (Launch::new().password("correct horse battery"), "sleeve")] {
        let scene = Scene::new(2, &launch)?;
        scene.wait_carrier(carrier)?;
        let host = scene.hosts[0].namespace();
        let peer = if carrier == "fastdp" { "all" } else { scene.weaves[1].name() };
        let sent = format!("weave_frames_total{{carrier=\"{carrier}\",direction=\"out\",peer=\"{peer}\"}}");
        let before = scrape(host)?[&sent];

        for _ in 0..3 {
            scene.ping_both_ways(0, 1)?;
        }

        let series = scrape(host)?;
        assert!(series[&sent] >= before + 6.0, "{before} and {series:#?}");
        assert_eq!(series[&format!("weave_paths{{carrier=\"{carrier}\"}}")], 1.0);
        assert_eq!(series["weave_endpoints{state=\"remote\"}"], 1.0);
        assert_eq!(series["weave_peers{state=\"reachable\"}"], 2.0);
        let encryption = if carrier == "fastdp" { "" } else { "yes" };
        let established =
            format!("weave_connections{{state=\"established\",type=\"{carrier}\",encryption=\"{encryption}\"}}");
        assert_eq!(series[&established], 1.0, "{series:#?}");
        assert!(series["process_resident_memory_bytes"] > 1e6);
    }
    Ok(())
}

#[test]
fn repairs_and_lost_connections_are_counted() -> Result<()> {
    let mut scene = Scene::new(2, &Launch::new())?;
    scene.wait_carrier("fastdp")?;
    let host = scene.hosts[0].namespace();
    let before = scrape(host)?;

    host.run("ip neigh flush dev weave nud permanent")?;
    scene.weaves[1].kill()?;

    for name in ["weave_kernel_repairs_total", "weave_connection_terminations_total"] {
        eventually(SETTLED, name, || Ok(scrape(host)?[name] > before[name]))?;
    }
    Ok(())
}

#[test]
fn nothing_can_be_changed_where_status_is_read() -> Result<()> {
    let scene = Scene::new(1, &Launch::new())?;
    let host = scene.hosts[0].namespace();

    let (code, _, body) = ask(host, "GET", "/status", "localhost:6782")?;
    assert_eq!((code, body), (200, scene.weaves[0].run(&["status"])?));
    for path in ["/status/peers", "/status/endpoints", "/report", "/metrics"] {
        assert_eq!(ask(host, "GET", path, "127.0.0.1")?.0, 200, "{path}");
        assert_eq!(ask(host, "POST", path, "127.0.0.1")?.0, 405, "{path}");
    }
    for (method, path) in [
        ("POST", "/connect"),
        ("POST", "/forget"),
        ("POST", "/attach"),
        ("POST", "/expose/10.32.0.9/12"),
        ("DELETE", "/expose"),
        ("DELETE", "/peer"),
    ] {
        let (code, _, body) = ask(host, method, path, "127.0.0.1")?;
        assert!(code == 405 && body.contains("unix socket"), "{method} {path}: {code} {body}");
    }
    assert_eq!(ask(host, "GET", "/status", "rebound.example")?.0, 421);
    Ok(())
}

#[test]
fn an_empty_address_closes_the_status_listener() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new().argument("--status-addr="))?;

    assert!(ask(host.namespace(), "GET", "/status", "localhost").is_err());
    weave.run(&["status"])?;
    Ok(())
}

#[test]
fn ps_lists_the_host_and_its_containers() -> Result<()> {
    let scene = Scene::new(2, &Launch::new())?;
    scene.wait_known()?;
    let (weave, container) = (&scene.weaves[0], &scene.containers[0]);
    let mac = container.namespace().run("cat /sys/class/net/ethwe/address")?.trim().to_owned();
    let line = format!("{} {mac} 10.32.0.1/12\n", container.target());
    assert_eq!(weave.run(&["ps"])?, format!("weave:expose 02:00:00:00:00:01\n{line}"));

    weave.run(&["expose", "10.32.0.9/12"])?;

    assert_eq!(weave.run(&["ps"])?, format!("weave:expose 02:00:00:00:00:01 10.32.0.9/12\n{line}"));
    assert_eq!(weave.run(&["ps", &container.target()])?, format!("netns:/run/n {mac} 10.32.0.1/12\n"));
    assert_eq!(weave.run(&["ps", "weave:expose"])?, "weave:expose 02:00:00:00:00:01 10.32.0.9/12\n");
    let json = weave.json(&["ps"])?;
    assert_eq!(json[1]["addresses"][0], "10.32.0.1/12");
    ping_eventually(&scene.containers[1], std::net::Ipv4Addr::new(10, 32, 0, 9), SETTLED)?;
    Ok(())
}
