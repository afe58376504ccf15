//! Chains of relays, and what strangers and members may try with them.
//!
//! ```text
//!   A ─── B ─── C ─── D        neighbours reach each other; nobody else does
//! ```

#[allow(dead_code, reason = "shared with tests/pair.rs, which uses all of it")]
#[path = "pair/net.rs"]
mod net;

use std::net::SocketAddr;
use std::time::Duration;

use net::{A, B, C, Net, bridge_mac, container_mac, frame, key, millis, peer_of, underlay};
use weave_datapath::batch::{DatagramBatch, Outbox};
use weave_datapath::drops::Drop;
use weave_datapath::engine::Via;
use weave_datapath::sleeve::cookie::ResponderKeys;
use weave_datapath::sleeve::packet::{Index, encode_initiation};
use weave_datapath::sleeve::relay::{Envelope, RelayId};
use weave_datapath::tables::{Carrier, FastPath, PeerEntry, Standing, Why};

const D: usize = 3;

/// The chain above: each host knows the next hop in both directions, and neighbours have sessions.
fn chain(seed: u64) -> Net {
    let mut net = Net::new(4, seed);
    net.publish_all(|host, tables| {
        for other in (0..4).filter(|other| *other != host) {
            let next_hop = if other > host { host + 1 } else { host.saturating_sub(1) };
            let entry = peer_of(tables, other);
            entry.fast = FastPath::Forbidden(Why::SwitchedOff);
            if next_hop != other {
                entry.standing = Standing::Member;
                entry.relays = vec![key(next_hop)];
            }
        }
    });
    for (one, other) in [(A, C), (A, D), (B, D)] {
        net.wire.blocked.extend([(one, other), (other, one)]);
    }
    net.run_for(millis(500));
    net
}

#[test]
fn a_frame_passes_a_chain_of_relays_sealed_from_end_to_end() {
    let mut net = chain(1);

    net.say(A, D, "the secret text");
    let took = net.run_until(millis(500), |net| !net.hosts[D].delivered.is_empty());
    net.say(D, A, "the secret answer");
    net.run_for(millis(20));

    assert!(took.is_some_and(|took| took <= millis(230)), "{took:?}");
    assert_eq!(net.hosts[D].texts(), ["the secret text"]);
    assert_eq!(net.hosts[A].texts(), ["the secret answer"]);
    assert_eq!(net.hosts[D].via(A, net.now), Some(Via::Relay(key(C))));
    assert!(!net.capture.iter().any(|(_, bytes)| bytes.windows(6).any(|window| window == b"secret")));
    assert!(net.hosts[B].path(A, net.now).counters.relayed > 0);
}

#[test]
fn a_chain_that_leads_in_circles_ends_at_the_hop_limit() {
    let mut net = chain(2);
    net.publish(C, |tables| peer_of(tables, D).relays = vec![key(A)]);
    net.publish(A, |tables| peer_of(tables, C).standing = Standing::Neighbour);
    net.publish(C, |tables| peer_of(tables, A).standing = Standing::Neighbour);
    net.wire.blocked.extend([(C, D), (D, C)]);
    net.wire.blocked.remove(&(A, C));
    net.wire.blocked.remove(&(C, A));
    net.run_for(Duration::from_secs(10));
    let before = net.capture.len();

    net.say(A, D, "into the circle");
    net.run_for(millis(250));

    let drops = [A, B, C].map(|host| net.hosts[host].dropped(Drop::HopLimit)).iter().sum::<u64>();
    assert!(drops > 0, "nobody stopped it");
    assert!(net.capture.len() - before < 100, "{} datagrams", net.capture.len() - before);
}

#[test]
fn a_relay_without_a_way_on_counts_what_it_drops() {
    let mut net = chain(3);
    net.publish(B, |tables| peer_of(tables, D).relays.clear());

    net.say(A, D, "to nowhere");
    net.run_for(Duration::from_secs(5));

    assert!(net.hosts[D].delivered.is_empty());
    assert!(net.hosts[B].dropped(Drop::RelayNoWay) > 0);
    assert!(net.hosts[A].dropped(Drop::WaitedTooLong) > 0);
}

#[test]
fn a_relay_that_becomes_known_is_used_at_once() {
    let mut net = chain(9);
    net.publish(A, |tables| peer_of(tables, D).relays.clear());
    net.say(A, D, "too early");
    net.run_for(Duration::from_secs(30));

    net.publish(A, |tables| peer_of(tables, D).relays = vec![key(B)]);
    net.say(A, D, "in time");
    let took = net.run_until(Duration::from_secs(2), |net| !net.hosts[D].delivered.is_empty());

    assert_eq!(net.hosts[D].texts(), ["in time"]);
    assert!(took.is_some_and(|took| took <= millis(230)), "{took:?}");
}

#[test]
fn an_envelope_from_outside_a_session_goes_nowhere() {
    let mut net = chain(4);
    let sent = net.capture.len();
    let envelope = Envelope { hops_left: 8, source: RelayId::of(&key(A)), destination: RelayId::of(&key(C)) };
    let mut bytes = vec![4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&envelope.encode());
    bytes.extend_from_slice(&[0; 64]);

    net.inject(SocketAddr::from(([6, 6, 6, 6], 6)), B, &bytes);

    assert_eq!(net.capture.len(), sent);
    let refused = [Drop::NoSuchSession, Drop::ForgedPacket].map(|why| net.hosts[B].dropped(why)).iter().sum::<u64>();
    assert_eq!(refused, 1);
}

#[test]
fn a_busy_host_is_reached_by_relay_with_a_cookie_for_the_relayed() {
    let mut net = chain(5);
    let PeerEntry { noise_key, knock, .. } = net.hosts[A].tables.peers[&key(C)];
    let responder = ResponderKeys::of(&noise_key, &knock);
    let mut flood = DatagramBatch::new(300, 256);
    let mut out = Outbox::new();
    while let Some(room) = flood.room() {
        let mut message = encode_initiation(Index(1), &[1; 120]);
        responder.append_macs(&mut message, None);
        room[..message.len()].copy_from_slice(&message);
        flood.push(message.len(), message.len(), SocketAddr::from(([6, 6, 6, 6], 6)));
    }

    let mut busy = |net: &mut Net| {
        net.hosts[C].engine.handle_datagrams(&mut flood, net.now, &mut out);
        out.clear();
        net.run_for(millis(1));
    };
    busy(&mut net);
    net.say(A, C, "for the busy");
    for _ in 0..300 {
        busy(&mut net);
    }

    assert_eq!(net.hosts[C].texts(), ["for the busy"]);
}

#[test]
fn a_flood_from_nowhere_gets_few_answers_and_a_peers_address_gets_its_own() {
    let mut net = chain(9);
    let PeerEntry { noise_key, knock, .. } = net.hosts[A].tables.peers[&key(B)];
    let responder = ResponderKeys::of(&noise_key, &knock);
    let mut answers = |from: &[SocketAddr]| {
        let (mut flood, mut out) = (DatagramBatch::new(from.len(), 256), Outbox::new());
        for source in from {
            let room = flood.room().expect("a slot");
            let mut message = encode_initiation(Index(1), &[1; 120]);
            responder.append_macs(&mut message, None);
            room[..message.len()].copy_from_slice(&message);
            flood.push(message.len(), message.len(), *source);
        }
        net.hosts[B].engine.handle_datagrams(&mut flood, net.now, &mut out);
        out.trains().map(|train| train.datagrams().count()).sum::<usize>()
    };
    let nobody: Vec<SocketAddr> = (0..5_000_u16).map(|port| SocketAddr::from(([6, 6, 6, 6], port))).collect();
    // Behind an address translator a peer has its address, and any port.
    let peer: Vec<SocketAddr> = (0..20).map(|port| SocketAddr::new(underlay(A).ip(), 40_000 + port)).collect();

    let (to_nobody, to_peer) = (answers(&nobody), answers(&peer));

    assert!((1..=50).contains(&to_nobody), "{to_nobody} answers to nobody");
    assert_eq!(to_peer, peer.len());
}

#[test]
fn forged_and_old_heartbeats_count_for_nothing() {
    let mut net = Net::new(2, 6);
    net.wire.fast_blocked.extend([(A, B), (B, A)]);
    net.run_for(Duration::from_secs(3));
    let beats = net.heartbeats.clone();
    assert!(!beats.is_empty());
    net.run_for(Duration::from_secs(600));

    let mut out = Outbox::new();
    for (from, mut beat) in beats {
        let to = if from == A { B } else { A };
        net.hosts[to].engine.handle_heartbeat(&beat, net.now, &mut out);
        beat[15] = 1;
        net.hosts[from].engine.handle_heartbeat(&beat, net.now, &mut out);
    }

    assert!(out.is_empty(), "a heartbeat of an old session was answered");
    assert_eq!(net.hosts[A].path(B, net.now).carrier, Carrier::Sleeve);
    assert!(net.hosts[A].dropped(Drop::ForgedHeartbeat) > 0 && net.hosts[B].dropped(Drop::ForgedHeartbeat) > 0);
}

#[test]
fn a_frame_for_a_third_host_is_not_passed_on_in_the_clear() {
    let mut net = chain(7);
    net.publish(A, |tables| {
        tables.macs.insert(container_mac(C), key(B));
    });

    net.send(A, &[frame(container_mac(A), container_mac(C), "for C, sent to B")]);
    net.run_for(millis(10));

    assert_eq!(net.hosts[B].dropped(Drop::NotForUs), 1);
    assert!(net.hosts[B].delivered.is_empty() && net.hosts[C].delivered.is_empty());
}

#[test]
fn addresses_of_bridges_are_stations_too() {
    let mut net = chain(8);

    net.send(A, &[frame(bridge_mac(A), bridge_mac(B), "host to host")]);
    net.run_for(millis(10));

    assert_eq!(net.hosts[B].texts(), ["host to host"]);
    assert_eq!(net.hosts[A].via(B, net.now), Some(Via::Direct(underlay(B))));
}
