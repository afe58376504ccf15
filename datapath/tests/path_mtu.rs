//! Paths that take less than the overlay's longest frame, and say nothing about it.
//!
//! ```text
//!   A ──── at most so many octets of a datagram ──── B        A ──── C ──── B where the two have no direct path
//! ```

#[allow(dead_code, reason = "shared with tests/pair.rs, which uses all of it")]
#[path = "pair/net.rs"]
mod net;

use std::time::Duration;

use net::{A, B, C, MTU, Net, container_mac, key, millis, peer_of, seconds};
use weave_datapath::drops::Drop;
use weave_datapath::engine::Via;
use weave_datapath::ethernet;
use weave_datapath::sleeve::relay::RELAY_OVERHEAD_BYTES;
use weave_datapath::sleeve::session::OVERHEAD_BYTES;
use weave_datapath::tables::{FastPath, Standing, Why};

/// What a datagram may be on an IPv4 link with an MTU of 700.
const SMALL: usize = 700 - 28;
/// The packets that fit into it.
const SMALL_MTU: u16 = (SMALL - OVERHEAD_BYTES - ethernet::HEADER_BYTES) as u16;

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

/// An IPv4 packet from A's container to B's, with a UDP header in front of its data.
fn packet(dont_fragment: bool, bytes: usize) -> Vec<u8> {
    let mut packet = vec![0x11; bytes];
    packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 9, 0, 0, 64, 17, 0, 0, 10, 32, 0, 1, 10, 32, 0, 2]);
    packet[2..4].copy_from_slice(&(bytes as u16).to_be_bytes());
    packet[6] = if dont_fragment { 0x40 } else { 0 };
    [&container_mac(B).0[..], &container_mac(A).0, &[0x08, 0x00], &packet].concat()
}

/// A session over a small path that is known to the octet.
fn small(seed: u64) -> Net {
    let mut net = hosts(2, seed, |net| {
        net.wire.capacity.insert((A, B), SMALL);
    });
    net.run_for(seconds(1));
    assert_eq!(mtu(&net, A, B), SMALL_MTU);
    net
}

#[test]
fn a_packet_that_may_be_fragmented_arrives_in_pieces_that_fit() {
    let mut net = small(7);

    net.send(A, &[packet(false, 1_376)]);
    net.run_for(millis(50));

    let lengths: Vec<_> = net.hosts[B].delivered.iter().map(Vec::len).collect();
    assert_eq!(lengths, [14 + 620, 14 + 620, 14 + 20 + 1_376 - 20 - 1_200]);
    assert!(net.hosts[A].delivered.is_empty());
}

#[test]
fn a_packet_that_may_not_be_fragmented_tells_its_sender_what_fits() {
    let mut net = small(8);

    net.send(A, &[packet(true, usize::from(SMALL_MTU)), packet(true, usize::from(SMALL_MTU) + 1)]);
    net.run_for(millis(50));

    assert_eq!(net.hosts[B].delivered.len(), 1, "what fits arrives");
    let [answer] = &net.hosts[A].delivered[..] else { panic!("one answer") };
    assert_eq!((&answer[..6], &answer[6..12]), (&container_mac(A).0[..], &container_mac(B).0[..]));
    assert_eq!((&answer[34..36], &answer[40..42]), (&[3, 4][..], &SMALL_MTU.to_be_bytes()[..]));
    assert_eq!(net.hosts[A].dropped(Drop::TooBigTold), 1);
}

#[test]
fn senders_are_told_at_a_limited_rate() {
    let mut net = small(9);

    net.send(A, &vec![packet(true, 1_000); 250]);

    assert_eq!(net.hosts[A].dropped(Drop::TooBigTold), 100);
    assert_eq!(net.hosts[A].dropped(Drop::TooBigToldOften), 150);
}

#[test]
fn nobody_is_told_a_size_that_is_still_being_searched_for() {
    let mut net = hosts(2, 10, |net| {
        net.wire.capacity.insert((A, B), SMALL - 100);
    });
    net.run_until(seconds(1), |net| mtu(net, A, B) < MTU).expect("noticed");
    assert!(mtu(&net, A, B) < SMALL_MTU - 100, "not yet the exact size");

    net.send(A, &[packet(true, 1_376), packet(false, 1_376)]);
    net.run_for(millis(10));

    assert!(net.hosts[A].delivered.is_empty(), "told too early");
    assert!(net.hosts[B].delivered.len() >= 3, "what may be cut is cut to what surely fits");
}

#[test]
fn what_is_no_packet_is_dropped_and_counted() {
    let mut net = small(11);
    let mut frame = packet(true, 1_000);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);

    net.send(A, &[frame]);

    assert_eq!(net.hosts[A].dropped(Drop::TooBigUntold), 1);
}
