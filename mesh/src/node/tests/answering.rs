//! Whose names are answered, and for how long.

use std::net::Ipv4Addr;

use super::*;

const NAME: &str = "web.weave.local";

fn named() -> BTreeMap<EndpointId, Endpoint> {
    let mut endpoints = endpoints(1);
    endpoints.values_mut().for_each(|endpoint| endpoint.names = vec!["Web.weave.local.".into()]);
    endpoints
}

fn addresses(node: &mut Node, name: &str) -> Vec<Ipv4Addr> {
    node.names().find(name).map(|entry| entry.v4().to_vec()).unwrap_or_default()
}

/// Two nodes; the first has a container with a name, and the second knows.
fn pair() -> Pair {
    let mut pair = Pair::connected();
    let now = pair.now;
    pair.nodes[0].set_endpoints(named(), now).unwrap();
    pair.run_for(3);
    assert_eq!(addresses(&mut pair.nodes[1], NAME), [Ipv4Addr::new(10, 32, 0, 1)]);
    pair
}

fn cut(pair: &mut Pair) {
    let now = pair.now;
    for node in &mut pair.nodes {
        node.handle_closed(ConnectionId(1), CloseReason::Transport("cut".into()), now);
    }
    pair.talk();
}

/// The second node as it is after a restart at this moment, with what it has persisted.
fn restarted(pair: &Pair) -> Node {
    let stored = |output: &Output| match output {
        Output::Persist(Persist::Member(member)) => Some(member.encode()),
        _ => None,
    };
    let last = pair.outputs[1].iter().rev().find_map(stored).expect("a persisted member");
    let owner = Owner::new(2);
    let config = config_of(&owner);
    let restored = Restored { incarnation: 5_000, members: vec![last], ..Restored::default() };
    Node::new(config, owner.identity, restored, 2, pair.now, UnixTime(9_000)).unwrap()
}

#[test]
fn a_name_is_found_on_the_other_host_as_soon_as_its_set_has_arrived() {
    let mut pair = Pair::connected();
    let now = pair.now;

    pair.nodes[0].set_endpoints(named(), now).unwrap();
    pair.nodes[0].change_host_names(&[], vec![host_name("db.weave.local")], now).unwrap();
    pair.run_for(1);

    assert_eq!(addresses(&mut pair.nodes[1], NAME).len(), 1);
    assert_eq!(addresses(&mut pair.nodes[1], "db.weave.local"), [Ipv4Addr::new(192, 0, 2, 1)]);
    let now = pair.now;
    pair.nodes[0].set_endpoints(BTreeMap::new(), now).unwrap();
    pair.talk();
    assert!(addresses(&mut pair.nodes[1], NAME).is_empty(), "a dead container's name is answered");
}

fn host_name(name: &str) -> HostName {
    HostName { name: name.into(), address: [192, 0, 2, 1].into(), container: "weave:extern".into() }
}

#[test]
fn a_change_of_names_is_told_once_until_they_are_asked_for() {
    let mut pair = Pair::connected();
    let told = |pair: &Pair| pair.events(1).iter().filter(|event| **event == Event::NamesChanged).count();

    let mut before = Vec::new();
    for number in 0..3 {
        let (now, new) = (pair.now, vec![host_name(&format!("db{number}.weave.local"))]);
        pair.nodes[0].change_host_names(&before, new.clone(), now).unwrap();
        pair.run_for(1);
        before = new;
    }
    assert_eq!(told(&pair), 1);
    pair.nodes[1].names();
    let now = pair.now;
    pair.nodes[0].change_host_names(&before, Vec::new(), now).unwrap();
    pair.run_for(1);

    assert_eq!(told(&pair), 2);
}

#[test]
fn the_names_of_an_unreachable_host_are_answered_for_five_seconds() {
    let mut pair = pair();

    cut(&mut pair);
    pair.run_for(4);
    assert_eq!(addresses(&mut pair.nodes[1], NAME).len(), 1);
    pair.run_for(2);

    assert!(addresses(&mut pair.nodes[1], NAME).is_empty());
    pair.connect(2, 8);
    pair.run_for(1);
    assert_eq!(addresses(&mut pair.nodes[1], NAME).len(), 1);
}

#[test]
fn the_names_of_a_host_that_comes_back_in_time_are_answered_all_along() {
    let mut pair = pair();

    cut(&mut pair);
    pair.run_for(3);
    pair.connect(2, 8);
    pair.run_for(3);

    assert_eq!(addresses(&mut pair.nodes[1], NAME).len(), 1);
}

#[test]
fn a_goodbye_ends_the_names_of_a_host_at_once() {
    let mut pair = pair();
    let now = pair.now;

    pair.nodes[0].say_goodbye(now);
    pair.talk();

    assert!(addresses(&mut pair.nodes[1], NAME).is_empty());
}

#[test]
fn a_restart_changes_no_answer() {
    let pair = pair();

    let mut node = restarted(&pair);

    assert_eq!(addresses(&mut node, NAME).len(), 1);
    node.handle_timeout(pair.now + std::time::Duration::from_secs(5));
    assert!(addresses(&mut node, NAME).is_empty(), "a host that was not met again is answered for");
}

#[test]
fn after_a_restart_nothing_is_answered_for_hosts_that_were_dead_before() {
    let mut pair = pair();
    cut(&mut pair);
    pair.run_for(7);

    let mut node = restarted(&pair);

    assert!(addresses(&mut node, NAME).is_empty());
    assert!(node.view().peers.values().any(|peer| matches!(peer.standing, Standing::Held { .. })));
}
