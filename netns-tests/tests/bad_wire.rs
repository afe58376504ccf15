//! Segmented sends that a card, a driver or a hypervisor spoils, and networks that lose, double and reorder.
//!
//! ```text
//!   h1 ══ eth0 (TAP, USO) ══ bad wire of the test ══ eth0 (TAP, USO) ══ h2        sleeve only
//!   └ 10.32.0.1                                                          └ 10.32.0.2
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::bad_path::BadPath;
use weave_netns_tests::probe::{TcpStreamProbe, eventually, throughout};
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::weave::Launch;
use weave_netns_tests::wire::{Bottleneck, Faults, Heading, Segmented};

/// Under traffic a fault is left within a second; the rest is for a busy machine.
const FALL_BACK: Duration = Duration::from_secs(5);
/// A healed path is tried after five seconds, and after ten if that was too soon.
const RE_ARM: Duration = Duration::from_secs(30);

/// A pair without a password.
fn pair(seed: u64) -> Result<BadPath> {
    BadPath::new(seed, &Launch::new())
}

fn wait_progress(stream: &TcpStreamProbe) -> Result<()> {
    let before = stream.received();
    eventually(SETTLED, "the stream goes on", || Ok(stream.received() > before + 500_000))?;
    Ok(())
}

/// `status paths`, `why` and the log all say that sends are plain, and why.
fn ensure_told(path: &BadPath, word: &str) -> Result<()> {
    let [one, other] = &path.scene.weaves[..] else { unreachable!("a pair") };
    let line = one.path_to(other)?;
    let why = one.run(&["why", other.name()])?;
    for text in [&line, &why] {
        ensure!(text.contains("plain sends since") && text.contains(word), "no reason: {text}");
    }
    one.wait_log("way of sending changed", SETTLED)?;
    Ok(())
}

/// A stream survives the fault, the path says that it fell back, and re-arms once the fault is gone.
fn falls_back_and_re_arms(segmented: Segmented) -> Result<()> {
    let path = pair(3)?;
    let stream = path.stream()?;
    path.wait_segmented(SETTLED)?;
    wait_progress(&stream)?;

    path.set_segmented(segmented);
    path.wait_plain(FALL_BACK)?;
    ensure_told(&path, "packets were lost or damaged")?;
    wait_progress(&stream)?;

    path.set_segmented(Segmented::Intact);
    path.wait_segmented(RE_ARM)?;
    wait_progress(&stream)?;
    stream.finish()?;
    Ok(())
}

#[test]
fn a_path_leaves_every_known_fault_of_segmented_sends_and_re_arms() -> Result<()> {
    for (words, fault) in Segmented::KNOWN {
        falls_back_and_re_arms(fault).context(words)?;
    }
    Ok(())
}

#[test]
fn a_send_that_the_kernel_refuses_falls_back_at_once_and_loses_nothing() -> Result<()> {
    let path = pair(4)?;
    let stream = path.stream()?;
    path.wait_segmented(SETTLED)?;

    path.scene.hosts[0].namespace().run("ip link set eth0 mtu 1000")?;
    path.scene.weaves[0].wait_log("the kernel refused a segmented send", FALL_BACK)?;

    wait_progress(&stream)?;
    path.wait_segmented(RE_ARM)?;
    stream.finish()?;
    Ok(())
}

#[test]
fn segmented_sends_that_the_kernel_cuts_itself_are_as_good() -> Result<()> {
    let path = pair(5)?;
    for host in &path.scene.hosts {
        host.namespace().run("ethtool -K eth0 tx-udp-segmentation off")?;
    }
    let before = path.wire.counts(Heading::There).segmented;
    let stream = path.stream()?;

    path.wait_segmented(SETTLED)?;
    wait_progress(&stream)?;

    assert_eq!(path.wire.counts(Heading::There).segmented, before);
    stream.finish()?;
    Ok(())
}

#[test]
fn loss_reordering_and_duplication_leave_streams_whole_and_double_nothing() -> Result<()> {
    let path = pair(6)?;
    path.wire.set_all_faults(Faults {
        loss_percent: 1.0,
        duplicate_percent: 5.0,
        reorder_percent: 5.0,
        held_back: Duration::from_millis(3),
        delay: Duration::from_millis(1),
        ..Faults::default()
    });

    let (stream, numbers) = (path.stream()?, path.numbers()?);
    wait_progress(&stream)?;
    throughout(Duration::from_secs(3), "no fall-back", || Ok(path.sends()?["fallen_back"] == false))?;

    let (report, numbers) = (stream.finish()?, numbers.finish()?);
    let counts = path.wire.counts(Heading::There);
    assert!(counts.doubled > 0 && counts.lost > 0, "{counts:?}");
    assert!(report.bytes > 500_000 && numbers.doubled == 0, "{report:?} {numbers:?}");
    Ok(())
}

#[test]
fn keys_that_change_in_the_middle_of_a_transfer_disturb_nothing() -> Result<()> {
    let path = BadPath::new(9, &Launch::new().argument("--rekey-interval").argument("5"))?;
    let (stream, numbers) = (path.stream()?, path.numbers()?);
    path.wait_segmented(SETTLED)?;

    throughout(Duration::from_secs(10), "segmented sends go on", || path.is_segmented())?;

    let status = path.path()?;
    assert!(status["session_age_seconds"].as_u64().is_some_and(|age| age < 8), "never rekeyed: {status}");
    assert!(stream.finish()?.longest_gap < Duration::from_secs(1));
    assert_eq!(numbers.finish()?.doubled, 0);
    Ok(())
}

#[test]
fn a_bottleneck_that_overflows_is_no_reason_to_fall_back() -> Result<()> {
    let path = pair(7)?;
    let bottleneck = Some(Bottleneck { rate: 5_000_000, queue: 100_000 });
    path.wire.set_all_faults(Faults { bottleneck, ..Faults::default() });

    let stream = path.stream()?;
    wait_progress(&stream)?;
    throughout(Duration::from_secs(5), "no fall-back", || Ok(path.sends()?["fallen_back"] == false))?;

    assert!(path.wire.counts(Heading::There).lost > 0, "the queue overflowed");
    stream.finish()?;
    Ok(())
}

#[test]
fn a_wire_that_loses_everything_for_a_while_is_no_reason_to_distrust_it() -> Result<()> {
    let path = pair(8)?;
    let stream = path.stream()?;
    path.wait_segmented(SETTLED)?;

    path.wire.set_all_faults(Faults::loss(100.0));
    throughout(Duration::from_secs(2), "no verdict", || {
        Ok(!path.sends()?["reason"].as_str().unwrap_or_default().contains("lost or damaged"))
    })?;
    path.wire.set_all_faults(Faults::default());

    path.wait_segmented(RE_ARM)?;
    wait_progress(&stream)?;
    stream.finish()?;
    Ok(())
}
