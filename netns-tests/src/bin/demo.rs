//! `make demo`: three hosts find each other from one address and carry traffic over both data paths, explained as it
//! happens.
//!
//! ```text
//!        h1 192.168.48.1      h2 192.168.48.2      h3 192.168.48.3        network namespaces of this machine
//!        weave-rs ◄────────── weave-rs             weave-rs
//!            ▲─────────────────────────────────────────┘   h2 and h3 are given one address: h1's
//!        10.32.0.1            10.32.0.2            10.32.0.3             containers
//! ```

#![expect(clippy::print_stdout, reason = "to tell is what a demonstration is for")]

use std::time::Duration;

use anyhow::{Context, Result};
use weave_netns_tests::probe::{Capture, TcpStreamProbe, eventually, ping};
use weave_netns_tests::scene::Scene;
use weave_netns_tests::topology::Fault;
use weave_netns_tests::weave::{Launch, Weave};

/// How long a stream runs before its speed is told.
const STREAM: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    println!("{}", include_str!("demo.txt"));
    fast_path()?;
    sleeve()?;
    println!("\nDone. Everything this made is gone again; README.md says how to go on with real hosts.");
    Ok(())
}

/// Without a password: the kernel carries the frames.
fn fast_path() -> Result<()> {
    title("1. Three hosts, one address, no password: the kernel carries the frames");
    tell("on h1:       weave-rs launch");
    tell("on h2, h3:   weave-rs launch 192.168.48.1");
    let scene = Scene::new(3, &Launch::new())?;
    tell("on each:     weave-rs attach 10.32.0.N/12 netns:…   (a Docker container goes by its name)");
    scene.wait_known()?;
    ask(&scene.weaves[2], &["status", "peers"])?;

    tell("the first ping between two containers that never spoke:");
    ping(&scene.containers[1], scene.address(2)).context("10.32.0.2 cannot reach 10.32.0.3")?;
    println!("    10.32.0.2 -> 10.32.0.3: answered");
    scene.wait_carrier("fastdp")?;
    stream(&scene, "fast path (kernel VXLAN)")?;
    ask(&scene.weaves[1], &["status", "paths"])?;

    title("2. A firewall closes the fast path between h2 and h3, while a stream runs");
    let running = TcpStreamProbe::start(&scene.containers[1], &scene.containers[2], scene.address(2))?;
    let before = scene.weaves[1].path_to(&scene.weaves[2])?;
    scene.net.set_faults(&[Fault::UdpPortBetween(scene.hosts[1].address(), scene.hosts[2].address(), 6784)])?;
    let demoted = scene.weaves[1].wait_path(&scene.weaves[2], "sleeve", Duration::from_secs(10))?;
    println!("    before:         {before}");
    println!("    {:>4.1} s later:    {}", demoted.as_secs_f64(), scene.weaves[1].path_to(&scene.weaves[2])?);
    tell("the firewall opens again");
    scene.net.set_faults(&[])?;
    let promoted = scene.weaves[1].wait_path(&scene.weaves[2], "fastdp", Duration::from_secs(15))?;
    println!("    {:>4.1} s later:    {}", promoted.as_secs_f64(), scene.weaves[1].path_to(&scene.weaves[2])?);
    let report = running.finish()?;
    println!("    the stream went on: {} MB, longest pause {:?}", report.bytes / 1_000_000, report.longest_gap);
    Ok(())
}

/// With a password: user space seals every frame, end to end, also through a relay.
fn sleeve() -> Result<()> {
    title("3. The same with a password, and h1 and h3 cannot reach each other: h2 relays what it cannot read");
    let net = weave_netns_tests::topology::Topology::new()?;
    let hosts = (0..3).map(|_| net.host()).collect::<Result<Vec<_>>>()?;
    net.set_faults(&[Fault::Between(hosts[0].address(), hosts[2].address())])?;
    tell("on each:     weave-rs launch --password-file F [192.168.48.2]");
    let launch = Launch::new().password("a demonstration, not a secret");
    let scene = Scene::on(
        net,
        hosts,
        |number, hosts| {
            if number == 1 { launch.clone() } else { launch.clone().peer(&hosts[1]) }
        },
    )?;
    scene.wait_known()?;
    eventually(Duration::from_secs(15), "h1 reaches h3 through h2", || {
        Ok(ping(&scene.containers[0], scene.address(2)).is_ok())
    })?;
    println!("    10.32.0.1 -> 10.32.0.3: answered, by way of h2");

    let at_relay = Capture::start(scene.hosts[1].namespace(), "eth0")?;
    stream_between(&scene, 0, 2, "encrypted sleeve through the relay")?;
    let plaintext: Vec<u8> = (0..64).collect();
    let (frames, seen) = (at_relay.count(|_| true), at_relay.contains(&plaintext));
    anyhow::ensure!(!seen, "the relay saw plaintext");
    println!("    a capture on h2 holds {frames} frames of it, and not one readable byte of the stream");
    drop(at_relay);
    stream(&scene, "encrypted sleeve, direct")?;
    ask(&scene.weaves[0], &["status"])?;
    ask(&scene.weaves[0], &["status", "connections"])?;
    ask(&scene.weaves[0], &["status", "paths"])
}

fn stream(scene: &Scene, what: &str) -> Result<()> {
    stream_between(scene, 1, 2, what)
}

fn stream_between(scene: &Scene, from: usize, to: usize, what: &str) -> Result<()> {
    let probe = TcpStreamProbe::start(&scene.containers[from], &scene.containers[to], scene.address(to))?;
    std::thread::sleep(STREAM);
    let report = probe.finish()?;
    let speed = report.megabits_per_second();
    println!("    one TCP stream {} -> {}, {what}: {speed:.0} Mbit/s", scene.address(from), scene.address(to));
    Ok(())
}

/// Shows a client command and its answer.
fn ask(weave: &Weave, words: &[&str]) -> Result<()> {
    tell(&format!("on {weave}:       weave-rs {}", words.join(" ")));
    for line in weave.run(words)?.trim_matches('\n').lines() {
        println!("    {line}");
    }
    Ok(())
}

fn title(text: &str) {
    println!("\n== {text}\n");
}

fn tell(text: &str) {
    println!("  {text}");
}
