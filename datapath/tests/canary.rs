//! Engines whose segmented sends are lost or refused, while everything else passes.
//!
//! ```text
//!   A ──── trains: as one send ✂  one by one ✓ ──── B        A ──── B ──── C where A and C have no direct path
//! ```

#[allow(dead_code, reason = "shared with tests/pair.rs, which uses all of it")]
#[path = "pair/net.rs"]
mod net;

use std::time::Duration;

use net::{A, B, C, Net, by_sleeve, container_mac, frame, key, underlay};
use weave_datapath::batch::{Refusal, SendMode};
use weave_datapath::engine::{Event, Via};
use weave_datapath::sleeve::canary::Reason;
use weave_datapath::tables::Standing;

const TICK: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);

/// A container sends eight frames in one breath every few milliseconds, until `done`; how long that took.
fn stream(net: &mut Net, to: usize, limit: Duration, done: impl Fn(&Net) -> bool) -> Option<Duration> {
    let begin = net.now;
    let frames = vec![frame(container_mac(A), container_mac(to), &"text".repeat(100)); 8];
    while net.now.since(begin) < limit {
        if done(net) {
            return Some(net.now.since(begin));
        }
        net.send(A, &frames);
        net.run_for(TICK);
    }
    None
}

fn mode(net: &Net, peer: usize) -> SendMode {
    net.hosts[A].path(peer, net.now).sends.mode
}

fn is_plain(net: &Net) -> bool {
    mode(net, B) == SendMode::Plain
}

fn prove(net: &mut Net, peer: usize) {
    let taken = stream(net, peer, SECOND, |net| mode(net, peer) == SendMode::Segmented);
    assert!(taken.is_some(), "never proven: {:?}", net.hosts[A].path(peer, net.now).sends);
}

#[test]
fn sends_are_plain_until_the_first_trial_and_segmented_from_then_on() {
    let mut net = by_sleeve(2, 1);
    assert_eq!((mode(&net, B), net.segmented_sends), (SendMode::Plain, 0));

    prove(&mut net, B);
    let trials = net.segmented_sends;
    stream(&mut net, B, SECOND, |_| false);

    assert!(net.segmented_sends > trials + 150, "{}", net.segmented_sends);
    let event = Event::SendsChanged { peer: key(B), mode: SendMode::Segmented, reason: Reason::Proven };
    assert!(net.hosts[A].events.iter().any(|(_, seen)| *seen == event));
}

#[test]
fn a_path_that_swallows_segmented_sends_falls_back_within_a_second_alone_and_heals() {
    let mut net = by_sleeve(3, 1);
    prove(&mut net, B);
    prove(&mut net, C);

    net.wire.segmented_blocked = [(A, B)].into();
    let taken = stream(&mut net, B, SECOND, is_plain);
    assert!(taken.is_some_and(|taken| taken < SECOND), "{taken:?}");
    assert!(matches!(net.hosts[A].path(B, net.now).sends.reason, Reason::Bad { .. }));
    let delivered = net.hosts[B].delivered.len();
    stream(&mut net, B, SECOND, |_| false);
    assert!(net.hosts[B].delivered.len() >= delivered + 8 * 190, "plain sends arrive");
    assert_eq!(mode(&net, C), SendMode::Segmented);

    net.wire.segmented_blocked.clear();
    let healed = stream(&mut net, B, SECOND * 60, |net| mode(net, B) == SendMode::Segmented);

    assert!(healed.is_some_and(|healed| healed < SECOND * 6), "{healed:?}");
    assert_eq!(net.hosts[A].path(B, net.now).sends.reason, Reason::Healed);
}

#[test]
fn a_refused_segmented_send_has_datagrams_to_that_peer_alone_go_one_by_one_until_a_retrial() {
    let mut net = by_sleeve(3, 1);
    prove(&mut net, B);
    prove(&mut net, C);

    net.hosts[A].engine.handle_refusal(underlay(B), Refusal::Unsupported, net.now);
    assert_eq!((mode(&net, B), mode(&net, C)), (SendMode::Plain, SendMode::Segmented));
    net.run_for(SECOND * 6);
    assert_eq!((mode(&net, B), mode(&net, C)), (SendMode::Segmented, SendMode::Segmented));

    net.hosts[A].engine.handle_refusal(underlay(C), Refusal::TooLong, net.now);
    assert_eq!((mode(&net, B), mode(&net, C)), (SendMode::Segmented, SendMode::Plain));
    net.run_for(SECOND * 2);
    assert_eq!(mode(&net, C), SendMode::Segmented);
    assert_eq!(net.hosts[A].path(C, net.now).counters.sends_refused, 1);
}

#[test]
fn random_loss_at_one_in_twenty_is_no_reason_to_fall_back() {
    let mut net = by_sleeve(2, 1);
    prove(&mut net, B);
    net.wire.loss_percent = 5;

    assert_eq!(stream(&mut net, B, SECOND * 60, is_plain), None);
}

#[test]
fn trains_to_a_relay_are_proven_on_the_way_to_that_relay() {
    let mut net = by_sleeve(3, 1);
    net.wire.blocked = [(A, C), (C, A)].into();
    net.publish_all(|host, tables| {
        if host != B {
            let other = if host == A { C } else { A };
            let entry = tables.peers.get_mut(&key(other)).expect("a member");
            (entry.relays, entry.standing) = (vec![key(B)], Standing::Member);
        }
    });
    stream(&mut net, C, SECOND * 30, |net| matches!(net.hosts[A].via(C, net.now), Some(Via::Relay(_))))
        .expect("relayed");

    let taken = stream(&mut net, C, SECOND * 2, |net| mode(net, B) == SendMode::Segmented);

    assert!(taken.is_some());
    assert_eq!(mode(&net, C), SendMode::Plain);
}

#[test]
fn rekeying_under_traffic_loses_no_frame_and_no_proof() {
    let mut net = by_sleeve(2, 1);
    prove(&mut net, B);
    let (sent, delivered) = (net.segmented_sends, net.hosts[B].delivered.len());

    assert_eq!(stream(&mut net, B, SECOND * 150, is_plain), None);

    assert!(net.hosts[A].path(B, net.now).session.is_some_and(|session| session.age < SECOND * 40), "rekeyed");
    assert!(net.segmented_sends > sent + 20_000);
    assert_eq!(net.hosts[B].delivered.len() - delivered, 8 * 30_000);
}
