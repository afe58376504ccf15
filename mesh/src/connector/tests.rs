//! The connector under a clock of the test: when it dials, whom, and when it stops.

use super::*;

const SEED: u64 = 7;

fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

fn connector() -> Connector {
    Connector::new(Config { discovery: Discovery::On, default_port: 6783, connection_limit: 0 }, SEED)
}

fn targets(texts: &[&str]) -> Vec<Target> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn key(byte: u8) -> PeerKey {
    PeerKey([byte; 32])
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn refused() -> DialError {
    DialError::Connect("connection refused".into())
}

fn state(connector: &Connector) -> AttemptState {
    connector.attempts().next().unwrap().state
}

/// Connects to one target and returns its first dial.
fn dialling(connector: &mut Connector, target: &str) -> DialId {
    connector.connect(&targets(&[target]), Earlier::Keep, at(0)).unwrap();
    connector.poll_dial().unwrap().id
}

#[test]
fn a_target_is_dialled_at_once_and_again_after_a_delay() {
    let mut connector = connector();

    let dial = dialling(&mut connector, "10.0.0.1");
    assert_eq!(state(&connector), AttemptState::Connecting);
    connector.handle_failed(dial, &refused(), at(0));

    let retry = connector.poll_timeout().unwrap();
    assert!(retry > at(0) && retry < at(1));
    assert_eq!(state(&connector), AttemptState::Failed { retry: Some(retry) });
    assert_eq!(connector.attempts().next().unwrap().last_error, Some("connection refused"));
    connector.handle_timeout(Instant::from_micros(retry.as_micros() - 1));
    assert_eq!(connector.poll_dial(), None);
    connector.handle_timeout(retry);
    assert!(connector.poll_dial().is_some());
    assert_eq!(state(&connector), AttemptState::Retrying);
}

#[test]
fn a_connection_that_lived_a_minute_is_dialled_at_once_when_it_closes() {
    let mut connector = connector();
    let dial = dialling(&mut connector, "10.0.0.1");
    connector.handle_connected(ConnectionId(1), Some(dial), key(1), address("10.0.0.1:6783"), at(0));
    assert_eq!(state(&connector), AttemptState::Connected(ConnectionId(1)));

    connector.handle_closed(ConnectionId(1), &"reset", at(61));

    assert!(connector.poll_dial().is_some());
}

#[test]
fn a_connection_that_closed_early_counts_as_a_failure() {
    let mut connector = connector();
    let dial = dialling(&mut connector, "10.0.0.1");
    connector.handle_connected(ConnectionId(1), Some(dial), key(1), address("10.0.0.1:6783"), at(0));

    connector.handle_closed(ConnectionId(1), &"reset", at(5));

    assert_eq!(connector.poll_dial(), None);
    assert!(connector.poll_timeout().unwrap() > at(5));
}

#[test]
fn our_own_address_is_never_dialled_again_until_the_operator_says_so() {
    let mut connector = connector();
    let dial = dialling(&mut connector, "10.0.0.1");

    connector.handle_failed(dial, &DialError::Itself, at(0));

    assert_eq!(state(&connector), AttemptState::Failed { retry: None });
    assert_eq!(connector.poll_timeout(), None);
    connector.connect(&targets(&["10.0.0.1"]), Earlier::Keep, at(9)).unwrap();
    assert!(connector.poll_dial().is_some());
}

#[test]
fn a_name_collision_is_retried() {
    let mut connector = connector();
    let dial = dialling(&mut connector, "10.0.0.1");
    let name = PeerName([2, 0, 0, 0, 0, 1]);

    connector.handle_failed(dial, &DialError::NameCollision { name, holder: key(1), newcomer: key(2) }, at(0));

    assert!(connector.poll_timeout().is_some());
}

#[test]
fn connect_shortens_a_long_wait() {
    let mut connector = connector();
    let mut now = at(0);
    let mut dial = dialling(&mut connector, "10.0.0.1");
    for _ in 0..20 {
        connector.handle_failed(dial, &refused(), now);
        now = connector.poll_timeout().unwrap();
        connector.handle_timeout(now);
        dial = connector.poll_dial().unwrap().id;
    }
    connector.handle_failed(dial, &refused(), now);
    assert!(connector.poll_timeout().unwrap() - now >= Duration::from_secs(180));

    connector.connect(&targets(&["10.0.0.1"]), Earlier::Keep, now).unwrap();
    let dial = connector.poll_dial().unwrap().id;
    connector.handle_failed(dial, &refused(), now);

    assert!(connector.poll_timeout().unwrap() - now < Duration::from_secs(3));
}

#[test]
fn an_inbound_connection_satisfies_a_target_that_names_its_host_only() {
    let mut connector = connector();
    let dial = dialling(&mut connector, "10.0.0.1");
    connector.handle_failed(dial, &refused(), at(0));
    let exact = dialling(&mut connector, "10.0.0.1:7000");
    connector.handle_failed(exact, &refused(), at(0));

    connector.handle_connected(ConnectionId(1), None, key(1), address("10.0.0.1:40000"), at(0));

    let states: Vec<_> = connector.attempts().map(|attempt| attempt.state).collect();
    assert_eq!(states[0], AttemptState::Connected(ConnectionId(1)));
    assert!(matches!(states[1], AttemptState::Failed { retry: Some(_) }));
}

#[test]
fn two_targets_of_one_peer_share_its_connection() {
    let mut connector = connector();
    connector.connect(&targets(&["10.0.0.1", "host-1"]), Earlier::Keep, at(0)).unwrap();
    let (first, second) = (connector.poll_dial().unwrap().id, connector.poll_dial().unwrap().id);
    connector.handle_connected(ConnectionId(1), Some(first), key(1), address("10.0.0.1:6783"), at(0));

    connector.handle_failed(second, &DialError::Duplicate { peer: key(1) }, at(0));

    assert!(connector.attempts().all(|attempt| attempt.state == AttemptState::Connected(ConnectionId(1))));
    assert_eq!(connector.poll_timeout(), None);
}

#[test]
fn one_destination_is_not_dialled_twice_at_a_time() {
    let mut connector = connector();
    connector.connect(&targets(&["10.0.0.1", "10.0.0.1:6783"]), Earlier::Keep, at(0)).unwrap();

    let first = connector.poll_dial().unwrap().id;
    assert_eq!((connector.poll_dial(), connector.poll_timeout()), (None, None));
    connector.handle_failed(first, &refused(), at(0));

    assert!(connector.poll_dial().is_some());
}

#[test]
fn replace_and_forget_leave_connections_alone() {
    let mut connector = connector();
    let dial = dialling(&mut connector, "10.0.0.1");
    connector.handle_connected(ConnectionId(1), Some(dial), key(1), address("10.0.0.1:6783"), at(0));

    connector.connect(&targets(&["10.0.0.2"]), Earlier::Replace, at(0)).unwrap();
    connector.forget(&targets(&["10.0.0.2:6783"]), |_| None);

    assert_eq!(connector.targets().count(), 0);
    connector.handle_closed(ConnectionId(1), &"reset", at(100));
    assert_eq!(connector.poll_timeout(), None);
}

#[test]
fn a_forgotten_dial_that_succeeds_is_still_a_connection() {
    let mut connector = connector();
    let dial = dialling(&mut connector, "10.0.0.1");
    connector.forget(&targets(&["10.0.0.1"]), |_| None);
    connector.handle_connected(ConnectionId(1), Some(dial), key(1), address("10.0.0.1:6783"), at(0));

    connector.connect(&targets(&["10.0.0.1"]), Earlier::Keep, at(1)).unwrap();

    assert_eq!(state(&connector), AttemptState::Connected(ConnectionId(1)));
}

#[test]
fn forgetting_holds_against_discovery_and_over_a_restart_until_the_target_is_given_again() {
    let mut connector = connector();
    let wanted = BTreeMap::from([(key(1), vec![address("10.0.0.1:6783")])]);
    connector.set_wanted(&wanted, |_| true, at(0));
    connector.take_wishes();

    connector.forget(&targets(&["10.0.0.1"]), |_| Some(key(1)));
    assert_eq!(connector.attempts().count(), 0, "it is pursued no longer");
    let kept = connector.take_wishes().unwrap();
    assert_eq!(connector.take_wishes(), None);

    let mut connector = self::connector();
    connector.restore(kept.forgotten);
    assert!(connector.is_forgotten(&key(1), &[]) && connector.is_forgotten(&key(2), &[address("10.0.0.1:7000")]));
    connector.connect(&targets(&["10.0.0.1"]), Earlier::Keep, at(1)).unwrap();
    assert!(!connector.is_forgotten(&key(1), &[]));
}

#[test]
fn a_peer_reached_under_another_name_is_forgotten_no_longer() {
    let mut connector = connector();
    connector.forget(&targets(&["10.0.0.1"]), |_| Some(key(1)));
    let dial = dialling(&mut connector, "host1.example");

    connector.handle_connected(ConnectionId(1), Some(dial), key(1), address("10.0.0.1:6783"), at(0));

    assert_eq!(connector.forgotten().count(), 0);
    assert_eq!(connector.take_wishes().unwrap().forgotten, []);
}

#[test]
fn a_discovered_peer_is_tried_at_each_of_its_addresses_before_waiting() {
    let mut connector = connector();
    let wanted = BTreeMap::from([(key(1), vec![address("10.0.0.1:6783"), address("10.1.0.1:6783")])]);

    connector.set_wanted(&wanted, |_| true, at(0));
    let first = connector.poll_dial().unwrap();
    connector.handle_failed(first.id, &refused(), at(0));
    let second = connector.poll_dial().unwrap();
    connector.handle_failed(second.id, &refused(), at(0));

    assert_eq!(second.destination, Destination::Address(address("10.1.0.1:6783")));
    assert_eq!(connector.poll_dial(), None);
    assert!(connector.poll_timeout().unwrap() > at(0));
}

#[test]
fn a_peer_wanted_again_keeps_its_back_off() {
    let mut connector = connector();
    let wanted = BTreeMap::from([(key(1), vec![address("10.0.0.1:6783")])]);
    connector.set_wanted(&wanted, |_| true, at(0));
    let dial = connector.poll_dial().unwrap().id;
    connector.handle_failed(dial, &refused(), at(0));

    connector.set_wanted(&BTreeMap::new(), |_| true, at(0));
    assert_eq!(connector.poll_timeout(), None);
    connector.set_wanted(&wanted, |_| true, at(0));

    assert_eq!(connector.poll_dial(), None);
    assert!(connector.poll_timeout().is_some());
}

#[test]
fn a_target_rests_while_its_peer_is_reachable_and_not_wanted() {
    let mut connector = connector();
    let dial = dialling(&mut connector, "10.0.0.1");
    connector.handle_failed(dial, &DialError::Referred { peer: key(1) }, at(0));

    connector.set_wanted(&BTreeMap::new(), |peer| *peer == key(1), at(0));
    assert_eq!((state(&connector), connector.poll_timeout()), (AttemptState::Resting, None));
    connector.set_wanted(&BTreeMap::new(), |_| false, at(9));

    assert!(connector.poll_dial().is_some());
}

#[test]
fn without_discovery_only_targets_are_dialled() {
    let mut connector =
        Connector::new(Config { discovery: Discovery::Off, default_port: 6783, connection_limit: 0 }, SEED);

    connector.set_wanted(&BTreeMap::from([(key(1), vec![address("10.0.0.1:6783")])]), |_| true, at(0));

    assert_eq!(connector.poll_dial(), None);
}

#[test]
fn the_connection_limit_holds_back_dials() {
    let mut connector =
        Connector::new(Config { discovery: Discovery::On, default_port: 6783, connection_limit: 1 }, SEED);

    connector.connect(&targets(&["10.0.0.1", "10.0.0.2"]), Earlier::Keep, at(0)).unwrap();

    assert!(connector.poll_dial().is_some());
    assert_eq!(connector.poll_dial(), None);
    assert_eq!(connector.attempts().nth(1).unwrap().last_error, Some("connection limit reached (1)"));
}

#[test]
fn targets_and_dials_are_bounded() {
    let mut connector = connector();
    let texts: Vec<_> = (0..TARGETS_MAX).map(|number| format!("host-{number}")).collect();
    let many: Vec<Target> = texts.iter().map(|text| text.parse().unwrap()).collect();

    connector.connect(&many, Earlier::Keep, at(0)).unwrap();

    let mut dials: Vec<_> = std::iter::from_fn(|| connector.poll_dial()).collect();
    assert_eq!(dials.len(), DIALS_MAX);
    connector.handle_failed(dials.pop().unwrap().id, &refused(), at(0));
    assert!(connector.poll_dial().is_some());
    let error = connector.connect(&targets(&["one-more"]), Earlier::Keep, at(0)).unwrap_err();
    assert_eq!(error, TooManyTargets(TARGETS_MAX + 1));
}
