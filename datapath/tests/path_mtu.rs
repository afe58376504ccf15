//! Paths that take less than the overlay's longest frame, and say nothing about it.
//!
//! ```text
//!   A ──── at most so many octets of a datagram ──── B        A ──── C ──── B where the two have no direct path
//! ```

#[allow(dead_code, reason = "shared with tests/pair.rs, which uses all of it")]
#[path = "pair/net.rs"]
mod net;

use std::time::Duration;

use net::{MTU, Net, key};
use weave_datapath::drops::Drop;
use weave_datapath::engine::Via;
use weave_datapath::ethernet;
use weave_datapath::sleeve::relay::RELAY_OVERHEAD_BYTES;
use weave_datapath::sleeve::session::OVERHEAD_BYTES;
use weave_datapath::tables::{FastPath, PeerEntry, Standing, Tables, Why};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// What a datagram may be on an IPv4 link with an MTU of 700.
const SMALL: usize = 700 - 28;
/// The packets that fit into it.
const SMALL_MTU: u16 = (SMALL - OVERHEAD_BYTES - ethernet::HEADER_BYTES) as u16;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn peer_of(tables: &mut Tables, host: usize) -> &mut PeerEntry {
    tables.peers.get_mut(&key(host)).expect("a member")
}

fn mtu(net: &Net, from: usize, to: usize) -> u16 {
    net.hosts[from].path(to, net.now).mtu
}

/// Hosts without a fast path; `prepare` is called before any datagram is sent.
fn hosts(count: usize, seed: u64, prepare: impl FnOnce(&mut Net)) -> Net {
    let mut net = Net::new(count, seed);
    prepare(&mut net);
    net.publish_all(|_, tables| {
        tables.peers.values_mut().for_each(|peer| peer.fast = FastPath::Forbidden(Why::SwitchedOff));
    });
    net
}

/// Traffic from A to B goes on while time passes; returns when `done`.
fn talk_until(net: &mut Net, limit: Duration, done: impl Fn(&Net) -> bool) -> Option<Duration> {
    let began = net.now;
    while net.now < began + limit {
        net.say(A, B, "hello");
        if net.run_until(millis(50), &done).is_some() {
            return Some(net.now - began);
        }
    }
    None
}

#[test]
fn each_direction_has_its_own_limit_soon_after_the_session() {
    let mut net = hosts(2, 1, |net| {
        net.wire.capacity.insert((A, B), SMALL);
    });

    let known = net.run_until(seconds(1), |net| mtu(net, A, B) == SMALL_MTU).expect("measured");

    assert!(known < millis(250), "after {known:?}");
    net.run_for(seconds(1));
    assert_eq!((mtu(&net, A, B), mtu(&net, B, A)), (SMALL_MTU, MTU));
}

#[test]
fn a_path_that_shrinks_and_heals_is_followed_in_time() {
    let mut net = hosts(2, 2, |_| ());
    talk_until(&mut net, seconds(5), |_| false);
    assert_eq!(mtu(&net, A, B), MTU);

    net.wire.capacity.insert((A, B), SMALL);
    let lowered = talk_until(&mut net, seconds(2), |net| mtu(net, A, B) <= SMALL_MTU).expect("lowered");
    net.wire.capacity.clear();
    let raised = talk_until(&mut net, seconds(10), |net| mtu(net, A, B) == MTU).expect("raised");

    assert!(lowered < seconds(1) && raised < seconds(4), "{lowered:?}, {raised:?}");
}

#[test]
fn a_relay_takes_48_octets_of_the_path() {
    let limit = SMALL - RELAY_OVERHEAD_BYTES - OVERHEAD_BYTES - ethernet::HEADER_BYTES;
    let mut net = hosts(3, 3, |net| {
        net.wire.blocked.extend([(A, B), (B, A)]);
        net.wire.capacity.insert((C, B), SMALL);
        net.publish(A, |tables| peer_of(tables, B).relays = vec![key(C)]);
        net.publish(B, |tables| peer_of(tables, A).relays = vec![key(C)]);
    });
    let known = talk_until(&mut net, seconds(5), |net| usize::from(mtu(net, A, B)) == limit);

    assert!(known.is_some(), "at {} instead of {limit}", mtu(&net, A, B));
    assert_eq!(net.hosts[A].via(B, net.now), Some(Via::Relay(key(C))));
    assert_eq!(mtu(&net, A, C), MTU, "the way to the relay itself takes everything");
}

#[test]
fn a_peer_with_a_smaller_overlay_gets_what_it_can_deliver() {
    let mut net = hosts(2, 4, |net| {
        net.hosts[B].mtu = 1_000;
        net.restart(B);
    });

    net.run_for(seconds(2));

    assert_eq!((mtu(&net, A, B), mtu(&net, B, A)), (1_000, 1_000));
    assert!(net.hosts[B].dropped(Drop::LongerThanOurs) > 0);
}

#[test]
fn a_path_without_traffic_is_left_alone() {
    let mut net = hosts(2, 5, |net| {
        net.publish_all(|_, tables| tables.peers.values_mut().for_each(|peer| peer.standing = Standing::Neighbour));
        net.wire.capacity.insert((A, B), SMALL);
    });
    net.run_for(seconds(3));
    net.capture.clear();

    net.run_for(seconds(60));

    let longest = net.capture.iter().map(|(_, datagram)| datagram.len()).max();
    assert!(longest.is_some_and(|longest| longest < 100), "{longest:?}");
}

#[test]
fn a_handshake_passes_the_least_link_of_ipv4() {
    let mut net = hosts(2, 6, |net| {
        net.wire.capacity.extend([((A, B), 576 - 28), ((B, A), 576 - 28)]);
    });

    net.run_for(seconds(2));

    assert_eq!((mtu(&net, A, B), mtu(&net, B, A)), (SMALL_MTU - 124, SMALL_MTU - 124));
}
