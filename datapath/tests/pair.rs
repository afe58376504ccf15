//! Two and three engines on a simulated underlay: what a pair of hosts can rely on, whatever the network does.

#[path = "pair/net.rs"]
mod net;

use std::net::SocketAddr;

use net::{A, B, C, Net, bridge_mac, by_sleeve, container_mac, frame, key, millis, peer_of, seconds, underlay};
use weave_datapath::drops::Drop;
use weave_datapath::engine::{Event, Via, Warning};
use weave_datapath::overlay::Reason;
use weave_datapath::tables::{Carrier, FastPath, Standing, Tables, Why};
use weave_mesh::name::MacAddr;

#[test]
fn neighbours_get_a_session_at_once_and_the_first_frame_arrives() {
    let mut net = Net::new(2, 1);

    net.say(A, B, "first");
    net.say(B, A, "answer");
    net.run_for(millis(20));

    assert_eq!(net.hosts[B].texts(), ["first"]);
    assert_eq!(net.hosts[A].texts(), ["answer"]);
    assert_eq!(net.hosts[A].via(B, net.now), Some(Via::Direct(underlay(B))));
    assert_eq!(net.hosts[B].via(A, net.now), Some(Via::Direct(underlay(A))));
}

#[test]
fn members_that_are_no_neighbours_get_a_session_at_first_traffic() {
    let mut net = Net::new(2, 1);
    net.publish_all(|_, tables| tables.peers.values_mut().for_each(|peer| peer.standing = Standing::Member));
    net.run_for(seconds(5));
    assert!(net.capture.is_empty());

    net.say(A, B, "first");
    net.run_for(millis(20));

    assert_eq!(net.hosts[B].texts(), ["first"]);
}

#[test]
fn a_session_nobody_uses_lapses() {
    let mut net = Net::new(2, 1);
    net.publish_all(|_, tables| tables.peers.values_mut().for_each(|peer| peer.standing = Standing::Member));
    net.say(A, B, "once");
    net.run_for(seconds(200));
    let sent = net.capture.len();

    net.run_for(seconds(600));

    assert_eq!(net.capture.len(), sent);
    assert!(net.hosts[A].path(B, net.now).session.is_none());
    assert!(matches!(net.hosts[A].events.last(), Some((_, Event::SessionDown { .. }))));
}

#[test]
fn a_session_survives_hours_of_rekeying_without_losing_a_frame() {
    let mut net = by_sleeve(2, 2);

    for second in 0..3_600 {
        net.say(A, B, &format!("{second}"));
        net.run_for(seconds(1));
    }

    let expected: Vec<_> = (0..3_600).map(|second| second.to_string()).collect();
    assert_eq!(net.hosts[B].texts(), expected);
    let handshakes = net.hosts[A].path(B, net.now).counters.handshakes;
    assert!((29..=32).contains(&handshakes), "{handshakes} handshakes in an hour");
}

#[test]
fn a_lossy_reordering_duplicating_wire_delivers_no_frame_twice() {
    let mut net = Net::new(2, 3);
    net.wire.loss_percent = 20;
    net.wire.duplicate_percent = 20;
    net.wire.jitter = millis(30);

    let mut sent = 0;
    for _ in 0..300 {
        for _ in 0..5 {
            net.say(A, B, &format!("{sent}"));
            sent += 1;
        }
        net.run_for(seconds(1));
    }

    let mut texts = net.hosts[B].texts();
    let arrived = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), arrived, "a frame was delivered twice");
    assert!(arrived > sent * 7 / 10, "{arrived} of {sent} frames arrived");
    assert!(net.hosts[B].dropped(Drop::Replayed) > 0);
}

#[test]
fn both_ends_starting_at_once_agree_on_one_session() {
    for seed in 0..20 {
        let mut net = Net::new(2, seed);
        net.wire.jitter = millis(20);
        net.wire.loss_percent = 10;

        let took = net.run_until(seconds(30), |net| {
            let carrier = |at: usize, of| net.hosts[at].path(of, net.now).carrier;
            carrier(A, B) == Carrier::Fast && carrier(B, A) == Carrier::Fast
        });

        assert!(took.is_some(), "seed {seed}: heartbeats count only under a session that is current at both ends");
    }
}

#[test]
fn a_frame_that_claims_anothers_address_is_dropped_and_counted() {
    let mut net = by_sleeve(3, 4);

    net.send(A, &[frame(MacAddr([2, 9, 9, 9, 9, 9]), container_mac(B), "unknown source")]);
    net.send(A, &[frame(container_mac(C), container_mac(B), "forged here")]);
    net.publish(A, |tables| {
        tables.macs.remove(&container_mac(C));
        tables.macs.insert(MacAddr([2, 8, 8, 8, 8, 8]), key(B));
    });
    net.send(A, &[frame(container_mac(C), container_mac(B), "forged source")]);
    net.send(A, &[frame(container_mac(B), container_mac(B), "receiver's own source")]);
    net.run_for(millis(10));

    assert_eq!(net.hosts[B].texts(), ["unknown source"]);
    assert_eq!(net.hosts[A].dropped(Drop::Reflected), 2);
    assert_eq!(net.hosts[B].dropped(Drop::ForeignSource), 1);
}

#[test]
fn unknown_unicast_and_heartbeats_of_containers_do_not_leave_the_host() {
    let mut net = by_sleeve(2, 5);
    let sent = net.capture.len();
    let mut heartbeat = frame(container_mac(A), bridge_mac(B), "not mine to send");
    heartbeat[12..14].copy_from_slice(&[0x88, 0xb5]);

    net.send(A, &[frame(container_mac(A), MacAddr([2, 9, 9, 9, 9, 9]), "to nobody"), heartbeat, vec![0; 5]]);

    assert_eq!(net.capture.len(), sent);
    let counted =
        [Drop::NoSuchStation, Drop::ReservedEthertype, Drop::MalformedFrame].map(|why| net.hosts[A].dropped(why));
    assert_eq!(counted, [1, 1, 1]);
}

#[test]
fn a_broadcast_is_copied_once_to_each_peer_that_sleeve_carries() {
    let mut net = by_sleeve(4, 6);
    net.publish(A, |tables| {
        peer_of(tables, 2).applied = Carrier::Fast;
        peer_of(tables, 3).standing = Standing::Held;
    });

    net.send(A, &[frame(container_mac(A), MacAddr::BROADCAST, "hear me")]);
    net.run_for(millis(10));

    let heard: Vec<_> = (0..4).map(|host| net.hosts[host].texts().len()).collect();
    assert_eq!(heard, [0, 1, 0, 0]);
}

#[test]
fn broadcasts_do_not_make_every_path_be_probed_as_if_it_were_in_use() {
    let mut net = by_sleeve(2, 1);
    net.run_for(seconds(20));
    let before = net.capture.len();

    for _ in 0..10 {
        net.send(A, &[frame(container_mac(A), MacAddr([0xff; 6]), "to all")]);
        net.run_for(seconds(2));
    }

    // Ten copies, and a probe with its answer from each side every four seconds.
    let sent = net.capture.len() - before;
    assert!((10..50).contains(&sent), "{sent}");
    assert_eq!(net.hosts[B].texts().len(), 10);
}

#[test]
fn a_slow_path_is_not_probed_more_often_than_a_quick_one() {
    let sent_in_a_minute = |latency| {
        let mut net = Net::new(2, 1);
        net.wire.latency = millis(latency);
        net.forbid_fast_paths();
        net.run_for(seconds(15));
        let before = net.capture.len();
        (0..12).for_each(|_| {
            net.say(A, B, "in use");
            net.run_for(seconds(5));
        });
        net.capture.len() - before
    };
    let quick = sent_in_a_minute(20);

    for latency in [100, 200, 300, 500, 800] {
        let slow = sent_in_a_minute(latency);
        assert!(slow <= quick, "{slow} datagrams a minute with {latency} ms each way, {quick} with 20 ms");
    }
}

#[test]
fn what_travels_is_sealed() {
    let mut net = by_sleeve(2, 7);

    net.say(A, B, "the secret text");
    net.run_for(millis(10));

    assert_eq!(net.hosts[B].texts(), ["the secret text"]);
    assert!(!captured(&net, "secret"));
}

fn captured(net: &Net, text: &str) -> bool {
    net.capture.iter().any(|(_, bytes)| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn with_another_password_nothing_is_delivered_and_the_operator_hears_of_it() {
    let mut net = Net::new(2, 8);
    net.set_psks(A, &[[1; 32]]);

    net.say(A, B, "hello");
    net.run_for(seconds(10));

    assert!(net.hosts[B].delivered.is_empty());
    for (host, peer) in [(A, B), (B, A)] {
        let warned = Event::Warning(Warning::WrongPassword { peer: key(peer) });
        assert_eq!(net.hosts[host].events.iter().filter(|(_, event)| *event == warned).count(), 1);
        assert!(net.hosts[host].dropped(Drop::WrongPassword) > 0);
    }
}

#[test]
fn a_password_is_rotated_without_a_gap() {
    const OLD: [u8; 32] = [7; 32];
    const NEW: [u8; 32] = [8; 32];
    let mut net = Net::new(2, 9);

    let mut said = 0;
    for (host, psks) in
        [(A, &[OLD, NEW][..]), (B, &[OLD, NEW]), (A, &[NEW, OLD]), (B, &[NEW, OLD]), (A, &[NEW]), (B, &[NEW])]
    {
        net.set_psks(host, psks);
        net.run_for(millis(50));
        net.say(A, B, "one way");
        net.say(B, A, "the other");
        said += 1;
        net.run_for(millis(50));

        assert_eq!((net.hosts[A].delivered.len(), net.hosts[B].delivered.len()), (said, said));
    }
}

#[test]
fn two_peers_that_cannot_reach_each_other_talk_through_a_third() {
    let mut net = relayed(10);

    net.say(A, C, "the secret text");
    net.say(C, A, "the secret answer");
    net.run_for(millis(300));

    assert_eq!(net.hosts[C].texts(), ["the secret text"]);
    assert_eq!(net.hosts[A].texts(), ["the secret answer"]);
    assert_eq!(net.hosts[A].via(C, net.now), Some(Via::Relay(key(B))));
    assert!(net.hosts[B].delivered.is_empty());
    assert!(!captured(&net, "secret"));
}

#[test]
fn a_straight_packet_costs_74_octets_and_a_relayed_one_122() {
    const IP_AND_UDP: usize = 28;
    for (mut net, to, cost) in [(by_sleeve(2, 10), B, 74), (relayed(10), C, 122)] {
        net.run_for(millis(500));

        net.send(A, &[frame(container_mac(A), container_mac(to), &"x".repeat(net::MTU.into()))]);

        let longest = net.capture.iter().map(|(_, bytes)| bytes.len()).max();
        assert_eq!(longest, Some(usize::from(net::MTU) + cost - IP_AND_UDP));
    }
}

/// A and C cannot reach each other; B can reach both, and the two have just started.
fn relayed(seed: u64) -> Net {
    let mut net = by_sleeve(3, seed);
    net.wire.blocked.extend([(A, C), (C, A)]);
    for (host, other) in [(A, C), (C, A)] {
        let mut tables = net.hosts[host].tables.clone();
        tables.peers.entry(key(other)).and_modify(|peer| peer.relays = vec![key(B)]);
        net.restart_with(host, tables);
    }
    net
}

#[test]
fn the_first_frame_through_a_relay_waits_no_longer_than_the_straight_try() {
    let mut net = relayed(11);

    net.say(A, C, "first");
    let took = net.run_until(seconds(5), |net| !net.hosts[C].delivered.is_empty());

    assert!(took.is_some_and(|took| took <= millis(220)), "{took:?}");
}

#[test]
fn a_relayed_pair_goes_straight_once_it_can() {
    let mut net = relayed(12);
    net.run_for(seconds(1));
    assert_eq!(net.hosts[A].via(C, net.now), Some(Via::Relay(key(B))));

    net.wire.blocked.clear();
    let took = net.run_until(seconds(10), |net| {
        matches!(net.hosts[A].via(C, net.now), Some(Via::Direct(_)))
            && matches!(net.hosts[C].via(A, net.now), Some(Via::Direct(_)))
    });

    assert!(took.is_some_and(|took| took <= seconds(6)), "{took:?}");
}

#[test]
fn a_straight_pair_that_is_cut_off_goes_on_through_a_relay() {
    for blocked in [vec![(A, C), (C, A)], vec![(A, C)], vec![(C, A)]] {
        let mut net = by_sleeve(3, 13);
        net.publish(A, |tables| peer_of(tables, C).relays = vec![key(B)]);
        net.publish(C, |tables| peer_of(tables, A).relays = vec![key(B)]);
        net.say(A, C, "straight");
        net.say(C, A, "straight");
        net.run_for(seconds(1));

        net.wire.blocked.extend(blocked.iter().copied());
        net.run_for(seconds(3));
        net.say(A, C, "relayed");
        net.say(C, A, "relayed");
        net.run_for(millis(10));

        assert_eq!(net.hosts[C].texts(), ["straight", "relayed"], "blocked {blocked:?}");
        assert_eq!(net.hosts[A].texts(), ["straight", "relayed"], "blocked {blocked:?}");
    }
}

#[test]
fn a_peer_whose_address_changes_is_followed() {
    let mut net = by_sleeve(2, 14);
    let moved = SocketAddr::from(([10, 9, 9, 9], 40_000));

    net.hosts[B].address = moved;
    net.say(B, A, "from elsewhere");
    net.run_for(millis(10));
    net.say(A, B, "followed");
    net.run_for(millis(10));

    assert_eq!(net.hosts[A].texts(), ["from elsewhere"]);
    assert_eq!(net.hosts[B].texts(), ["followed"]);
    assert_eq!(net.hosts[A].via(B, net.now), Some(Via::Direct(moved)));
}

#[test]
fn a_peer_without_a_known_address_is_reached_where_it_was_heard() {
    let mut net = Net::new(2, 15);
    net.publish(A, |tables| peer_of(tables, B).addresses.clear());
    net.run_for(millis(100));

    net.say(A, B, "found");
    net.run_for(millis(10));

    assert_eq!(net.hosts[B].texts(), ["found"]);
}

#[test]
fn after_one_side_restarted_the_session_is_back_within_a_round_trip_of_traffic() {
    let mut net = by_sleeve(2, 16);
    net.run_for(seconds(10));
    net.restart(B);
    net.publish(B, |tables| tables.peers.values_mut().for_each(|peer| peer.standing = Standing::Held));

    net.say(A, B, "lost");
    let took = net.run_until(seconds(1), |net| net.hosts[A].path(B, net.now).counters.handshakes == 2);
    net.say(A, B, "arrives");
    net.run_for(millis(10));

    assert!(took.is_some_and(|took| took <= millis(10)), "{took:?}");
    assert_eq!(net.hosts[B].texts(), ["arrives"]);
}

#[test]
fn a_restarted_peer_whose_clock_was_set_back_is_believed() {
    let mut net = by_sleeve(2, 17);
    net.run_for(seconds(3_600));

    net.restart(A);
    net.run_for(millis(100));
    net.say(A, B, "back");
    net.run_for(millis(10));

    assert_eq!(net.hosts[B].texts(), ["back"]);
    assert_eq!(net.hosts[B].dropped(Drop::ReplayedHandshake), 0);
}

#[test]
fn replayed_handshakes_and_packets_change_nothing() {
    let mut net = by_sleeve(2, 18);
    net.say(A, B, "once");
    net.run_for(seconds(30));
    let recorded: Vec<_> = net.capture.clone();
    net.run_for(millis(100));
    let handshakes = net.hosts[B].path(A, net.now).counters.handshakes;

    for (from, bytes) in recorded {
        let to = if from == A { B } else { A };
        net.inject(SocketAddr::from(([6, 6, 6, 6], 6)), to, &bytes);
    }
    net.run_for(millis(100));

    assert_eq!(net.hosts[B].texts(), ["once"]);
    assert_eq!(net.hosts[B].path(A, net.now).counters.handshakes, handshakes);
    assert_eq!(net.hosts[B].via(A, net.now), Some(Via::Direct(underlay(A))));
    assert!(net.hosts[B].dropped(Drop::ReplayedHandshake) > 0);
}

#[test]
fn a_new_peer_moves_to_the_fast_path_half_a_second_after_its_session() {
    let mut net = Net::new(2, 19);

    let took = net.run_until(seconds(5), |net| net.hosts[A].path(B, net.now).carrier == Carrier::Fast);

    assert!(took.is_some_and(|took| (millis(500)..=millis(600)).contains(&took)), "{took:?}");
    let path = net.hosts[A].path(B, net.now);
    assert_eq!((path.reason, path.since), (Reason::HeartbeatAnswered, net.now));
    let told = net.hosts[A].events.iter().any(|(_, event)| {
        matches!(event, Event::CarrierChanged { carrier: Carrier::Fast, reason: Reason::HeartbeatAnswered, .. })
    });
    assert!(told);
}

/// Both carriers work, A's path to B carries traffic.
fn on_fast_path(seed: u64) -> Net {
    let mut net = Net::new(2, seed);
    net.run_for(seconds(2));
    assert_eq!(net.hosts[A].path(B, net.now).carrier, Carrier::Fast);
    net.note_traffic(A, B);
    net.run_for(millis(500));
    net
}

#[test]
fn a_fast_path_that_is_blocked_is_left_within_a_second_and_taken_again_within_five() {
    for seed in 20..40 {
        let mut net = on_fast_path(seed);
        net.run_for(millis(37 * (seed - 20)));

        net.wire.fast_blocked.insert((A, B));
        let left = net.run_until(seconds(5), |net| net.hosts[A].path(B, net.now).carrier == Carrier::Sleeve);
        assert!(left.is_some_and(|took| took <= seconds(1)), "{left:?}");
        assert_eq!(net.hosts[A].path(B, net.now).reason, Reason::HeartbeatsLost { lost: 3 });

        net.run_for(seconds(30));
        net.wire.fast_blocked.clear();
        let back = net.run_until(seconds(10), |net| net.hosts[A].path(B, net.now).carrier == Carrier::Fast);
        assert!(back.is_some_and(|took| took <= seconds(5)), "{back:?}");
        assert_eq!(net.hosts[A].path(B, net.now).reason, Reason::Healed);
    }
}

#[test]
fn when_everything_is_lost_the_carrier_stays() {
    let mut net = on_fast_path(21);
    net.wire.blocked.extend([(A, B), (B, A)]);
    net.wire.fast_blocked.extend([(A, B), (B, A)]);

    net.run_for(seconds(600));

    assert_eq!(net.hosts[A].path(B, net.now).carrier, Carrier::Fast);
}

#[test]
fn a_carrier_adopted_from_the_kernel_stays_through_a_restart() {
    let mut net = on_fast_path(22);
    net.restart(A);
    net.publish(A, |tables| tables.peers.values_mut().for_each(|peer| peer.applied = Carrier::Fast));
    net.hosts[A].events.clear();
    let adopted = net.hosts[A].tables.clone();
    net.restart_with(A, adopted);

    net.run_for(seconds(60));

    let path = net.hosts[A].path(B, net.now);
    assert_eq!((path.carrier, path.reason), (Carrier::Fast, Reason::Adopted));
    assert!(!net.hosts[A].events.iter().any(|(_, event)| matches!(event, Event::CarrierChanged { .. })));
}

#[test]
fn an_idle_path_is_probed_on_first_use() {
    let mut net = on_fast_path(23);
    net.run_for(seconds(60));
    net.wire.fast_blocked.insert((A, B));

    net.note_traffic(A, B);
    let left = net.run_until(seconds(5), |net| net.hosts[A].path(B, net.now).carrier == Carrier::Sleeve);

    assert!(left.is_some_and(|took| took <= seconds(1)), "{left:?}");
}

#[test]
fn a_clock_that_jumps_changes_no_carrier() {
    let mut net = on_fast_path(24);

    for _ in 0..20 {
        net.run_for(millis(205));
        net.jump(seconds(5));
    }
    net.run_for(seconds(1));

    assert_eq!(net.hosts[A].path(B, net.now).carrier, Carrier::Fast);
    let warned = |event: &Event| matches!(event, Event::Warning(Warning::ClockJumped { .. }));
    assert!(net.hosts[A].events.iter().any(|(_, event)| warned(event)));
}

#[test]
fn one_percent_loss_for_an_hour_leaves_the_fast_path_alone() {
    let mut net = on_fast_path(25);
    net.wire.loss_percent = 1;
    net.wire.jitter = millis(5);

    for _ in 0..3_600 {
        net.note_traffic(A, B);
        net.run_for(seconds(1));
        assert_eq!(net.hosts[A].path(B, net.now).carrier, Carrier::Fast, "at {}", net.now);
    }
}

#[test]
fn a_rekey_changes_no_carrier() {
    let mut net = on_fast_path(26);

    for _ in 0..1_000 {
        net.note_traffic(A, B);
        net.run_for(seconds(1));
    }

    let changes = net.hosts[A].events.iter().filter(|(_, event)| matches!(event, Event::CarrierChanged { .. }));
    assert_eq!(changes.count(), 1);
    assert!(net.hosts[A].path(B, net.now).counters.handshakes >= 8);
}

#[test]
fn a_fast_path_that_is_forbidden_is_left_at_once() {
    let mut net = on_fast_path(27);

    net.publish(A, |tables| {
        tables.peers.values_mut().for_each(|peer| peer.fast = FastPath::Forbidden(Why::NotTrusted));
    });
    net.run_for(millis(1));

    let path = net.hosts[A].path(B, net.now);
    assert_eq!((path.carrier, path.reason), (Carrier::Sleeve, Reason::Forbidden(Why::NotTrusted)));
}

#[test]
fn between_other_addresses_the_fast_path_proves_itself_anew() {
    let peer_moved = |tables: &mut Tables| peer_of(tables, B).fast = FastPath::Allowed(elsewhere());
    let we_moved = |tables: &mut Tables| tables.local.addresses = vec![elsewhere().ip()];
    for moved in [&peer_moved as &dyn Fn(&mut Tables), &we_moved] {
        let mut net = on_fast_path(28);

        net.publish(A, moved);
        net.run_for(millis(1));
        let path = net.hosts[A].path(B, net.now);
        assert_eq!((path.carrier, path.reason), (Carrier::Sleeve, Reason::Moved));

        let back = net.run_until(seconds(5), |net| net.hosts[A].path(B, net.now).carrier == Carrier::Fast);
        assert!(back.is_some_and(|took| took <= seconds(1)), "{back:?}");
    }
}

#[test]
fn another_address_beside_the_old_ones_leaves_the_fast_path_alone() {
    let mut net = on_fast_path(29);

    net.publish(A, |tables| tables.local.addresses.push(elsewhere().ip()));
    net.run_for(millis(1));

    assert_eq!(net.hosts[A].path(B, net.now).carrier, Carrier::Fast);
}

fn elsewhere() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 2], 6784))
}

#[test]
fn a_peer_that_leaves_the_tables_leaves_nothing_behind() {
    let mut net = by_sleeve(2, 28);

    net.publish(A, |tables| {
        tables.peers.clear();
        tables.macs.clear();
    });
    net.run_for(seconds(10));

    assert!(net.hosts[A].engine.paths(net.now).is_empty());
    assert_eq!(net.hosts[A].engine.poll_timeout(), None);
    net.say(A, B, "to nobody");
    assert_eq!(net.hosts[A].dropped(Drop::NoSuchStation), 1);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = || {
        let mut net = Net::new(3, 29);
        net.wire.loss_percent = 10;
        net.wire.jitter = millis(10);
        net.run_for(seconds(200));
        (net.capture, net.hosts.into_iter().map(|host| host.events).collect::<Vec<_>>())
    };

    assert_eq!(history(), history());
}
