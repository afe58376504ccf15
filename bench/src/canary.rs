//! What a path costs that spoils segmented sends: the time to leave it, the rate behind that, the time to re-arm.
//!
//! ```text
//!   h1 ── sleeve, one TCP stream ──► bad wire: spoils segmented sends in one way after the other ──► h2
//! ```

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_netns_tests::probe::{TcpStreamProbe, eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::Launch;
use weave_netns_tests::wire::{Faults, Heading, Segmented, Wire};

use crate::iperf::Server;
use crate::limits::{self, Bound, Limit};
use crate::progress;
use crate::statistics::median;

/// What goes wrong, in words and on the wire.
const FAULTS: [(&str, Segmented); 6] = [
    ("all segments dropped", Segmented::Dropped(100.0)),
    ("30 % of segments dropped", Segmented::Dropped(30.0)),
    ("wrong UDP checksums", Segmented::WrongChecksum),
    ("wrong payloads", Segmented::WrongPayload),
    ("segments reversed", Segmented::Reversed),
    ("equal tails dropped", Segmented::EqualTailLost),
];
/// Rounds of the rate that alternate between the two kinds of wire.
const ROUNDS: usize = 3;
const SECONDS: u32 = 2;
const FALL_BACK: Duration = Duration::from_secs(10);
const RE_ARM: Duration = Duration::from_secs(90);

struct Pair {
    scene: Scene,
    wire: Wire,
}

impl Pair {
    fn new(faults: Faults) -> Result<Self> {
        let net = Topology::new()?;
        let (a, b, wire) = net.bad_wire(1)?;
        wire.set_faults(Heading::There, faults);
        let launch = |number, hosts: &[_]| {
            let launch = Launch::new().argument("--no-fastdp").argument("--no-discovery").password(crate::PASSWORD);
            if number == 0 { launch } else { launch.peer(&hosts[0]) }
        };
        let scene = Scene::on(net, vec![a, b], launch)?;
        scene.wait_carrier("sleeve")?;
        Ok(Self { scene, wire })
    }

    fn is_segmented(&self) -> Result<bool> {
        let paths = self.scene.weaves[0].run(&["status", "paths", "--json"])?;
        let paths: serde_json::Value = serde_json::from_str(&paths)?;
        paths[0]["sends"]["segmented"].as_bool().context("no word on how datagrams leave")
    }

    fn stream(&self) -> Result<TcpStreamProbe> {
        let containers = &self.scene.containers;
        TcpStreamProbe::start(&containers[0], &containers[1], self.scene.address(1))
    }

    fn server(&self) -> Result<Server> {
        Server::start(self.scene.containers[1].namespace(), self.scene.address(1))
    }

    fn rate(&self, server: &Server) -> Result<f64> {
        Ok(server.measure(self.scene.containers[0].namespace(), 1, SECONDS)?.gigabits)
    }

    /// How long the path takes to leave segmented sends under a fault, and to trust them again without it.
    fn times(&self, fault: Segmented) -> Result<[Duration; 2]> {
        let stream = self.stream()?;
        eventually(RE_ARM, "sends are segmented", || self.is_segmented())?;
        self.wire.set_faults(Heading::There, Faults::segmented(fault));
        let begin = Instant::now();
        while self.is_segmented()? {
            ensure!(begin.elapsed() < FALL_BACK, "segmented sends go on under {fault:?}");
        }
        let left = begin.elapsed();
        self.wire.set_faults(Heading::There, Faults::default());
        let trusted = eventually(RE_ARM, "sends are segmented again", || self.is_segmented())?;
        stream.finish()?;
        Ok([left, trusted])
    }
}

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    progress("canary: fall-back and re-arming on a bad wire");
    let mut rows = String::new();
    let mut worst = Duration::ZERO;
    for (words, fault) in FAULTS {
        // A path of its own for each: one that failed before is tried again later and later.
        let [left, trusted] = Pair::new(Faults::default())?.times(fault).context(words)?;
        writeln!(rows, "| {words} | {:.0} | {:.1} |", left.as_secs_f64() * 1e3, trusted.as_secs_f64())?;
        worst = worst.max(left);
    }
    let [plain, fallen, segmented] = rates()?;
    let mut text = String::new();
    writeln!(
        text,
        "\n## Segmented sends on a bad wire\n\nSleeve, encrypted, over a wire in user space, under one TCP stream. Times from the \
         moment the fault is set or taken away until `status paths` says so, a client's start included.\n\n\
         | fault | fall-back ms | re-armed s |\n|---|---|---|\n{rows}"
    )?;
    writeln!(
        text,
        "\nRates, medians of {ROUNDS} rounds in turns, Gbit/s: {plain:.3} where segmented sends never worked, {fallen:.3} \
         after a fall-back in the middle, {segmented:.3} on a good wire (where super-packets also cross whole)."
    )?;
    text += &limits::table(&[
        Limit::new("slowest fall-back", Bound::AtMost(1.0), "s", Some(worst.as_secs_f64())),
        Limit::new("rate after a fall-back, of plain sends", Bound::AtLeast(0.9), "", Some(fallen / plain)),
    ]);
    Ok(text)
}

/// Plain from the start, plain after a fall-back, and segmented.
fn rates() -> Result<[f64; 3]> {
    let fault = Faults::segmented(Segmented::Dropped(100.0));
    let pairs = [Pair::new(fault)?, Pair::new(Faults::default())?, Pair::new(Faults::default())?];
    {
        let stream = pairs[1].stream()?;
        eventually(SETTLED, "sends are segmented", || pairs[1].is_segmented())?;
        pairs[1].wire.set_faults(Heading::There, fault);
        eventually(FALL_BACK, "sends are plain", || Ok(!pairs[1].is_segmented()?))?;
        stream.finish()?;
    }
    let servers = pairs.iter().map(Pair::server).collect::<Result<Vec<_>>>()?;
    let mut all = [const { Vec::new() }; 3];
    for round in 1..=ROUNDS {
        progress(&format!("canary: rates, round {round} of {ROUNDS}"));
        for ((pair, server), rates) in pairs.iter().zip(&servers).zip(&mut all) {
            rates.push(pair.rate(server)?);
        }
    }
    Ok(all.map(|rates| median(&rates)))
}
