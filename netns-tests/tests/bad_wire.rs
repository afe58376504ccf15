//! Segmented sends that a card, a driver or a hypervisor spoils, and networks that lose, double and reorder.
//!
//! ```text
//!   h1 ══ eth0 (TAP, USO) ══ bad wire of the test ══ eth0 (TAP, USO) ══ h2        sleeve only
//!   └ 10.32.0.1                                                          └ 10.32.0.2
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::probe::{TcpStreamProbe, UdpStreamProbe, eventually, throughout};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::Topology;
use weave_netns_tests::weave::Launch;
use weave_netns_tests::wire::{Bottleneck, Faults, Heading, Segmented, Wire};

/// Under traffic a fault is left within a second; the rest is for a busy machine.
const FALL_BACK: Duration = Duration::from_secs(5);
/// A healed path is tried after five seconds, and after ten if that was too soon.
const RE_ARM: Duration = Duration::from_secs(30);

/// Two hosts on the wire whose daemons know each other. Fields go in this order when it is dropped.
struct Pair {
    scene: Scene,
    wire: Wire,
}

impl Pair {
    fn new(seed: u64) -> Result<Self> {
        Self::with(seed, &Launch::new())
    }

    fn with(seed: u64, launch: &Launch) -> Result<Self> {
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

    fn stream(&self) -> Result<TcpStreamProbe> {
        let Scene { containers, .. } = &self.scene;
        TcpStreamProbe::start(&containers[0], &containers[1], self.scene.address(1))
    }

    fn numbers(&self) -> Result<UdpStreamProbe> {
        let Scene { containers, .. } = &self.scene;
        UdpStreamProbe::start(&containers[0], &containers[1], self.scene.address(1))
    }

    /// How the first host sends to the second, as `status paths --json` has it.
    fn sends(&self) -> Result<serde_json::Value> {
        let paths = self.scene.weaves[0].run(&["status", "paths", "--json"])?;
        let paths: serde_json::Value = serde_json::from_str(&paths)?;
        Ok(paths[0]["sends"].clone())
    }

    fn is_segmented(&self) -> Result<bool> {
        self.sends()?["segmented"].as_bool().context("`status paths` does not say how datagrams leave")
    }

    fn wait_segmented(&self, deadline: Duration) -> Result<()> {
        eventually(deadline, "sends are segmented", || self.is_segmented())
            .with_context(|| format!("{:?}", self.sends()))?;
        Ok(())
    }

    fn wait_progress(&self, stream: &TcpStreamProbe) -> Result<()> {
        let before = stream.received();
        eventually(SETTLED, "the stream goes on", || Ok(stream.received() > before + 500_000))?;
        Ok(())
    }

    /// `status paths`, `why` and the log all say that sends are plain, and why.
    fn ensure_told(&self, word: &str) -> Result<()> {
        let [one, other] = &self.scene.weaves[..] else { unreachable!("a pair") };
        let line = one.path_to(other)?;
        let why = one.run(&["why", other.name()])?;
        for text in [&line, &why] {
            ensure!(text.contains("plain sends since") && text.contains(word), "no reason: {text}");
        }
        one.wait_log("way of sending changed", SETTLED)?;
        Ok(())
    }
}

/// A stream survives the fault, the path says that it fell back, and re-arms once the fault is gone.
fn falls_back_and_re_arms(segmented: Segmented) -> Result<()> {
    let pair = Pair::new(3)?;
    let stream = pair.stream()?;
    pair.wait_segmented(SETTLED)?;
    pair.wait_progress(&stream)?;

    pair.wire.set_faults(Heading::There, Faults::segmented(segmented));
    eventually(FALL_BACK, "sends are plain", || Ok(!pair.is_segmented()?))?;
    pair.ensure_told("packets were lost or damaged")?;
    pair.wait_progress(&stream)?;

    pair.wire.set_faults(Heading::There, Faults::default());
    pair.wait_segmented(RE_ARM)?;
    pair.wait_progress(&stream)?;
    stream.finish()?;
    Ok(())
}

#[test]
fn a_path_that_drops_segments_falls_back_and_re_arms() -> Result<()> {
    falls_back_and_re_arms(Segmented::Dropped(100.0))
}

#[test]
fn a_path_that_drops_some_segments_falls_back_and_re_arms() -> Result<()> {
    falls_back_and_re_arms(Segmented::Dropped(30.0))
}

#[test]
fn a_path_that_mangles_checksums_falls_back_and_re_arms() -> Result<()> {
    falls_back_and_re_arms(Segmented::WrongChecksum)
}

#[test]
fn a_path_that_mangles_payloads_falls_back_and_re_arms() -> Result<()> {
    falls_back_and_re_arms(Segmented::WrongPayload)
}

#[test]
fn a_path_that_reorders_segments_falls_back_and_re_arms() -> Result<()> {
    falls_back_and_re_arms(Segmented::Reversed)
}

#[test]
fn a_path_that_spoils_a_tail_as_long_as_the_rest_falls_back_and_re_arms() -> Result<()> {
    falls_back_and_re_arms(Segmented::EqualTailLost)
}

#[test]
fn a_path_that_stalls_segments_falls_back_and_re_arms() -> Result<()> {
    falls_back_and_re_arms(Segmented::Stalled(Duration::from_millis(20)))
}

#[test]
fn a_send_that_the_kernel_refuses_falls_back_at_once_and_loses_nothing() -> Result<()> {
    let pair = Pair::new(4)?;
    let stream = pair.stream()?;
    pair.wait_segmented(SETTLED)?;

    pair.scene.hosts[0].namespace().run("ip link set eth0 mtu 1000")?;
    pair.scene.weaves[0].wait_log("the kernel refused a segmented send", FALL_BACK)?;

    pair.wait_progress(&stream)?;
    pair.wait_segmented(RE_ARM)?;
    stream.finish()?;
    Ok(())
}

#[test]
fn segmented_sends_that_the_kernel_cuts_itself_are_as_good() -> Result<()> {
    let pair = Pair::new(5)?;
    for host in &pair.scene.hosts {
        host.namespace().run("ethtool -K eth0 tx-udp-segmentation off")?;
    }
    let before = pair.wire.counts(Heading::There).segmented;
    let stream = pair.stream()?;

    pair.wait_segmented(SETTLED)?;
    pair.wait_progress(&stream)?;

    assert_eq!(pair.wire.counts(Heading::There).segmented, before);
    stream.finish()?;
    Ok(())
}

#[test]
fn loss_reordering_and_duplication_leave_streams_whole_and_double_nothing() -> Result<()> {
    let pair = Pair::new(6)?;
    pair.wire.set_all_faults(Faults {
        loss_percent: 1.0,
        duplicate_percent: 5.0,
        reorder_percent: 5.0,
        held_back: Duration::from_millis(3),
        delay: Duration::from_millis(1),
        ..Faults::default()
    });

    let (stream, numbers) = (pair.stream()?, pair.numbers()?);
    pair.wait_progress(&stream)?;
    throughout(Duration::from_secs(3), "no fall-back", || Ok(pair.sends()?["fallen_back"] == false))?;

    let (report, numbers) = (stream.finish()?, numbers.finish()?);
    let counts = pair.wire.counts(Heading::There);
    assert!(counts.doubled > 0 && counts.lost > 0, "{counts:?}");
    assert!(report.bytes > 500_000 && numbers.doubled == 0, "{report:?} {numbers:?}");
    Ok(())
}

#[test]
fn keys_that_change_in_the_middle_of_a_transfer_disturb_nothing() -> Result<()> {
    let pair = Pair::with(9, &Launch::new().argument("--rekey-interval").argument("5"))?;
    let (stream, numbers) = (pair.stream()?, pair.numbers()?);
    pair.wait_segmented(SETTLED)?;

    throughout(Duration::from_secs(10), "segmented sends go on", || pair.is_segmented())?;

    let paths = pair.scene.weaves[0].run(&["status", "paths", "--json"])?;
    let paths: serde_json::Value = serde_json::from_str(&paths)?;
    assert!(paths[0]["session_age_seconds"].as_u64().is_some_and(|age| age < 8), "never rekeyed: {paths}");
    assert!(stream.finish()?.longest_gap < Duration::from_secs(1));
    assert_eq!(numbers.finish()?.doubled, 0);
    Ok(())
}

#[test]
fn a_bottleneck_that_overflows_is_no_reason_to_fall_back() -> Result<()> {
    let pair = Pair::new(7)?;
    let bottleneck = Some(Bottleneck { rate: 5_000_000, queue: 100_000 });
    pair.wire.set_all_faults(Faults { bottleneck, ..Faults::default() });

    let stream = pair.stream()?;
    pair.wait_progress(&stream)?;
    throughout(Duration::from_secs(5), "no fall-back", || Ok(pair.sends()?["fallen_back"] == false))?;

    assert!(pair.wire.counts(Heading::There).lost > 0, "the queue overflowed");
    stream.finish()?;
    Ok(())
}

#[test]
fn a_wire_that_loses_everything_for_a_while_is_no_reason_to_distrust_it() -> Result<()> {
    let pair = Pair::new(8)?;
    let stream = pair.stream()?;
    pair.wait_segmented(SETTLED)?;

    pair.wire.set_all_faults(Faults::loss(100.0));
    throughout(Duration::from_secs(2), "no verdict", || {
        Ok(!pair.sends()?["reason"].as_str().unwrap_or_default().contains("lost or damaged"))
    })?;
    pair.wire.set_all_faults(Faults::default());

    pair.wait_segmented(RE_ARM)?;
    pair.wait_progress(&stream)?;
    stream.finish()?;
    Ok(())
}
