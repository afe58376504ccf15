use super::*;

const RELAY: Via = Via::Relay(PeerKey([9; 32]));

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn direct(port: u16) -> Via {
    Via::Direct(address(port))
}

fn lose(route: &mut Route, probes: u64, now: &mut Instant) {
    for nonce in 0..probes {
        let way = route.way().expect("in use");
        route.probe_sent(1_000 + nonce, way, *now);
        *now += Duration::from_secs(1);
        route.expire(*now);
    }
}

#[test]
fn the_way_follows_the_address_that_packets_come_from() {
    let mut route = Route::default();

    assert!(route.heard(direct(1), Instant::ZERO));
    assert!(!route.heard(direct(1), Instant::ZERO));
    assert!(route.heard(direct(2), Instant::ZERO));
    assert!(!route.heard(RELAY, Instant::ZERO));
    assert_eq!(route.way(), Some(direct(2)));
}

#[test]
fn hearing_straight_from_a_relayed_peer_does_not_yet_change_the_way() {
    let mut route = Route::default();
    route.heard(RELAY, Instant::ZERO);

    assert!(!route.heard(direct(1), Instant::ZERO));
    assert_eq!(route.others(&[], &[], Instant::ZERO), [direct(1)]);
    route.probe_sent(1, direct(1), Instant::ZERO);
    assert!(route.answered(1, direct(1), Instant::ZERO));
    assert_eq!(route.way(), Some(direct(1)));
}

#[test]
fn an_answer_by_another_kind_of_way_proves_nothing() {
    let mut route = Route::default();
    route.heard(RELAY, Instant::ZERO);
    route.probe_sent(1, direct(1), Instant::ZERO);

    assert!(!route.answered(1, RELAY, Instant::ZERO));
    assert_eq!(route.way(), Some(RELAY));
}

#[test]
fn a_failing_way_is_left_for_one_that_answers() {
    let mut now = Instant::ZERO;
    let mut route = Route::default();
    route.heard(direct(1), now);
    let relays = [PeerKey([9; 32])];

    lose(&mut route, 1, &mut now);
    assert!(route.others(&[address(2)], &relays, now).is_empty());
    lose(&mut route, 1, &mut now);
    assert_eq!(route.others(&[address(2)], &relays, now), [direct(2), RELAY]);

    route.probe_sent(1, RELAY, now);
    assert!(route.answered(1, RELAY, now));
    assert_eq!((route.way(), route.missed), (Some(RELAY), 0));
}

#[test]
fn straight_ways_are_tried_for_ever_while_a_relay_serves() {
    let mut route = Route::default();
    route.heard(RELAY, Instant::ZERO);

    for tick in 0..100 {
        let now = Instant::ZERO + DIRECT_INTERVAL * tick;
        assert_eq!(route.others(&[address(1)], &[], now), [direct(1)]);
        assert!(route.others(&[address(1)], &[], now).is_empty());
    }
}

#[test]
fn an_answer_ends_a_run_of_losses() {
    let mut now = Instant::ZERO;
    let mut route = Route::default();
    route.heard(direct(1), now);
    lose(&mut route, 3, &mut now);

    route.probe_sent(1, direct(1), now);
    assert!(!route.answered(1, direct(1), now + Duration::from_millis(7)));

    assert_eq!((route.missed, route.round_trip()), (0, Some(Duration::from_millis(7))));
}

#[test]
fn a_way_that_was_proven_is_not_left_for_an_address_heard_before() {
    let mut route = Route::default();
    route.heard(direct(1), Instant::ZERO);
    route.missed = MISSED_TO_LOOK_AROUND;
    route.probe_sent(1, direct(2), Instant::ZERO);
    assert!(route.answered(1, direct(1), Instant::ZERO));

    assert!(!route.heard(direct(1), Instant::ZERO));

    assert_eq!(route.way(), Some(direct(2)));
}

#[test]
fn a_slow_way_is_measured_by_its_late_answers() {
    let mut route = Route::default();
    route.heard(direct(1), Instant::ZERO);
    let late = Instant::ZERO + Duration::from_millis(600);
    route.probe_sent(1, direct(1), Instant::ZERO);
    route.expire(late);
    assert_eq!(route.missed, 1);

    route.answered(1, direct(1), late);
    route.probe_sent(2, direct(1), late);
    route.expire(late + Duration::from_millis(600));

    assert_eq!((route.missed, route.round_trip()), (0, Some(Duration::from_millis(600))));
}

#[test]
fn relays_take_turns() {
    let relays = [PeerKey([1; 32]), PeerKey([2; 32])];
    let mut route = Route::default();

    assert_eq!(route.next_relay(&[]), None);
    let tried: Vec<_> = (0..3).filter_map(|_| route.next_relay(&relays)).collect();
    assert!(tried[0] != tried[1] && tried[0] == tried[2]);
}
