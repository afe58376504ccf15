//! Nodes that talk without a network: what one sends the other has at once.

use super::*;
use crate::connector::ConnectionId;
use crate::identity::Scheme;
use crate::store::fixtures::Owner;
use crate::wire::Refusal;

mod addressing;
mod answering;
mod hearsay;
mod hostile;

const START: Instant = Instant::from_micros(1_000_000);

fn node_with(number: u8, wall: u64, change: impl FnOnce(&mut Config)) -> Node {
    let identity = Identity::from_secret_bytes(Scheme::Simulated, &[number; 64]);
    let mut config = config_of(&Owner::new(number));
    change(&mut config);
    Node::new(config, identity, Restored::default(), number.into(), START, UnixTime(wall)).unwrap()
}

fn config_of(owner: &Owner) -> Config {
    let card = owner.card.clone();
    Config {
        mesh: card.mesh,
        discovery: Discovery::On,
        connection_limit: 0,
        listen_port: 6783,
        targets: Vec::new(),
        name: card.name,
        nickname: card.nickname,
        bridge_mac: card.bridge_mac,
        addresses: card.addresses,
        trusted_subnets: Vec::new(),
        instance_id: String::new(),
        machine: card.machine,
        ipam: None,
    }
}

fn node(number: u8) -> Node {
    node_with(number, 1_000, |_| ())
}

/// Two nodes, one connection between them for each id used, and what each put out.
struct Pair {
    nodes: [Node; 2],
    outputs: [Vec<Output>; 2],
    now: Instant,
}

impl Pair {
    fn new(one: Node, other: Node) -> Self {
        Self { nodes: [one, other], outputs: [Vec::new(), Vec::new()], now: START }
    }

    fn connected() -> Self {
        let mut pair = Self::new(node(1), node(2));
        pair.connect(1, 7);
        pair
    }

    /// A connection as both ends see it, dialled by the first.
    fn connect(&mut self, id: u64, uid: u64) {
        let cards = [0, 1].map(|end: usize| self.nodes[end].signed_card());
        for end in [1, 0] {
            let link = Link {
                dial: (end == 0).then_some(DialId(id)),
                remote: ([10, 0, 0, 9], 6783).into(),
                card: cards[1 - end].clone(),
                uid,
            };
            self.nodes[end].handle_connected(ConnectionId(id), link, self.now);
        }
        self.talk();
    }

    /// Carries messages and closes until there are none.
    fn talk(&mut self) {
        while let Some((end, output)) =
            [0, 1].into_iter().find_map(|end: usize| Some((end, self.nodes[end].poll_output()?)))
        {
            self.outputs[end].push(output.clone());
            let other = &mut self.nodes[1 - end];
            match output {
                Output::Send { connection, message } => {
                    let message = Message::decode(&message.encode()).unwrap();
                    other.handle_message(connection, message, self.now);
                }
                Output::Close { connection, .. } => {
                    other.handle_closed(connection, CloseReason::Transport("closed".into()), self.now);
                }
                Output::AwaitRoom { connection } => self.nodes[end].handle_room(connection, self.now),
                Output::Persist(_) | Output::Dial(_) | Output::Event(_) => {}
            }
        }
    }

    fn run_for(&mut self, seconds: u64) {
        self.talk();
        let until = self.now + std::time::Duration::from_secs(seconds);
        while let Some(next) = self.nodes.iter().filter_map(Node::poll_timeout).min().filter(|next| *next <= until) {
            self.now = next.max(self.now);
            let now = self.now;
            self.nodes.iter_mut().for_each(|node| node.handle_timeout(now));
            self.talk();
        }
        self.now = until;
    }

    fn keys(&self) -> [PeerKey; 2] {
        [self.nodes[0].key(), self.nodes[1].key()]
    }

    fn see_each_other(&self) -> bool {
        let [one, other] = self.keys();
        self.nodes[0].is_reachable(&other) && self.nodes[1].is_reachable(&one)
    }

    fn closes(&self, end: usize) -> Vec<CloseReason> {
        let reason = |output: &Output| match output {
            Output::Close { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.outputs[end].iter().filter_map(reason).collect()
    }

    fn events(&self, end: usize) -> Vec<Event> {
        let event = |output: &Output| match output {
            Output::Event(event) => Some(event.clone()),
            _ => None,
        };
        self.outputs[end].iter().filter_map(event).collect()
    }
}

fn endpoints(attached: u64) -> BTreeMap<EndpointId, Endpoint> {
    let endpoint = Endpoint {
        mac: MacAddr([0x0a, 0, 0, 0, 0, 1]),
        addresses: vec![Subnet { address: [10, 32, 0, 1].into(), prefix_len: 12 }],
        container: "c".into(),
        names: Vec::new(),
        attached,
    };
    BTreeMap::from([(EndpointId(1), endpoint)])
}

#[test]
fn the_incarnation_is_persisted_before_anything_else() {
    let mut node = node_with(1, 5, |_| ());

    assert!(matches!(node.poll_output(), Some(Output::Persist(Persist::Incarnation(5)))));
}

#[test]
fn an_incarnation_grows_although_the_clock_went_back() {
    let owner = Owner::new(1);
    let restored = Restored { incarnation: 9_000, ..Restored::default() };
    let config = config_of(&owner);

    let node = Node::new(config, owner.identity, restored, 1, START, UnixTime(5)).unwrap();

    assert_eq!(node.view().card.incarnation, 9_001);
}

#[test]
fn two_nodes_that_are_connected_know_each_others_endpoints() {
    let mut pair = Pair::connected();
    let now = pair.now;
    pair.nodes[0].set_endpoints(endpoints(1), now).unwrap();
    pair.talk();

    pair.run_for(1);

    assert!(pair.see_each_other());
    let view = pair.nodes[1].view();
    assert_eq!(view.claims.macs.values().copied().collect::<Vec<_>>(), [pair.keys()[0]]);
    assert!(matches!(view.peers[&pair.keys()[0]].standing, Standing::Neighbour { .. }));
}

#[test]
fn a_change_of_the_view_is_told_once_until_it_is_asked_for() {
    let mut pair = Pair::connected();
    pair.run_for(5);

    let told = |pair: &Pair| pair.events(1).iter().filter(|event| **event == Event::ViewChanged).count();
    assert_eq!(told(&pair), 1);
    pair.nodes[1].view();
    let now = pair.now;
    pair.nodes[0].set_endpoints(endpoints(1), now).unwrap();
    pair.run_for(5);

    assert_eq!(told(&pair), 2);
}

#[test]
fn of_two_connections_the_one_with_the_lower_uid_stays_and_the_edge_does_not_blink() {
    for (first, second) in [(7, 3), (3, 7)] {
        let mut pair = Pair::new(node(1), node(2));
        pair.connect(1, first);
        pair.run_for(1);

        pair.connect(2, second);
        pair.run_for(1);

        assert_eq!(pair.nodes.each_ref().map(Node::connection_count), [1, 1]);
        assert!(pair.see_each_other());
        assert!(!pair.events(0).iter().any(|event| matches!(event, Event::PeerDown(_))));
        let kept = if second < first { ConnectionId(2) } else { ConnectionId(1) };
        assert!(pair.nodes[0].links.get(kept).is_some());
    }
}

#[test]
fn a_connection_to_oneself_is_refused_for_good() {
    let mut node = node(1);
    let link = Link { dial: None, remote: ([10, 0, 0, 1], 6783).into(), card: node.signed_card(), uid: 1 };

    node.handle_connected(ConnectionId(1), link, START);

    let outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
    let is_refusal =
        |output: &Output| matches!(output, Output::Close { reason: CloseReason::RefusedHere(Refusal::Itself), .. });
    assert!(outputs.iter().any(is_refusal));
    assert_eq!(node.connection_count(), 0);
}

#[test]
fn a_newcomer_with_our_name_is_told_both_keys() {
    let name = Owner::new(1).card.name;
    let mut pair = Pair::new(node(1), node_with(2, 1_000, |config| config.name = name));

    pair.connect(1, 7);

    let [holder, newcomer] = pair.keys();
    let refusal = Refusal::NameCollision { name, holder, newcomer };
    assert!(pair.closes(0).contains(&CloseReason::RefusedHere(refusal)));
    assert_eq!(pair.nodes[0].connection_count(), 0);
}

#[test]
fn at_the_connection_limit_nobody_is_accepted() {
    let mut pair = Pair::new(node_with(1, 1_000, |config| config.connection_limit = 1), node(2));
    pair.connect(1, 7);

    let stranger = Owner::new(3);
    let link = Link { dial: None, remote: ([10, 0, 0, 3], 6783).into(), card: stranger.signed_card(), uid: 1 };
    let now = pair.now;
    pair.nodes[0].handle_connected(ConnectionId(9), link, now);
    pair.talk();

    assert_eq!(pair.closes(0), [CloseReason::RefusedHere(Refusal::ConnectionLimit)]);
}

#[test]
fn a_card_of_another_mesh_is_not_talked_to() {
    let mut node = node(1);
    let mut stranger = Owner::new(2);
    stranger.card.mesh = MeshId::of("another");
    let link = Link { dial: None, remote: ([10, 0, 0, 2], 6783).into(), card: stranger.signed_card(), uid: 1 };

    node.handle_connected(ConnectionId(1), link, START);

    let outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
    assert!(outputs.iter().any(|output| matches!(output, Output::Close { reason: CloseReason::Protocol(_), .. })));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send { .. })));
}

#[test]
fn who_speaks_before_opening_is_closed_with_a_warning() {
    let mut node = node(1);
    let link = Link { dial: None, remote: ([10, 0, 0, 2], 6783).into(), card: Owner::new(2).signed_card(), uid: 1 };
    node.handle_connected(ConnectionId(1), link, START);

    node.handle_message(ConnectionId(1), Message::Probe, START);

    let outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(Event::Warning(Warning::BadMessage { .. })))));
    assert_eq!(node.connection_count(), 0);
}

#[test]
fn a_silent_neighbour_is_given_up_after_three_intervals_and_held() {
    let mut pair = Pair::connected();
    pair.run_for(4);
    let [mut one, other] = pair.nodes;
    let key = other.key();

    let start = pair.now;
    while one.is_reachable(&key) {
        let next = one.poll_timeout().unwrap();
        one.handle_timeout(next);
        while one.poll_output().is_some() {}
        assert!(next.since(start) <= std::time::Duration::from_secs(13));
    }

    assert!(matches!(one.view().peers[&key].standing, Standing::Held { .. }));
    assert!(one.view().peers[&key].set.is_some());
}

#[test]
fn after_a_goodbye_nothing_is_held() {
    let mut pair = Pair::connected();
    pair.run_for(1);

    let now = pair.now;
    pair.nodes[0].say_goodbye(now);
    pair.talk();
    pair.run_for(1);

    let peer = &pair.nodes[1].view().peers[&pair.keys()[0]];
    assert!(matches!(peer.standing, Standing::Gone { .. }) && peer.set.is_none());
    assert_eq!(pair.nodes[0].poll_timeout(), None);
}

#[test]
fn who_hears_of_a_later_life_of_its_own_goes_on_above_it() {
    let mut node = node_with(1, 1_000, |_| ());

    node.handle_own_version(crate::store::Version { incarnation: 5_000_000, counter: 3 }, START);

    assert_eq!(node.view().own.version().incarnation, 5_000_000 + own::JUMP);
    let persisted = std::iter::from_fn(|| node.poll_output())
        .any(|output| matches!(output, Output::Persist(Persist::Incarnation(5_001_000))));
    assert!(persisted);
}

#[test]
fn who_hears_a_twin_jump_above_it_steps_aside() {
    let mut node = node_with(1, 1_000, |_| ());

    node.handle_own_version(crate::store::Version { incarnation: 1_000 + own::JUMP, counter: 1 }, START);

    let stepped =
        std::iter::from_fn(|| node.poll_output()).any(|output| matches!(output, Output::Event(Event::IdentityTaken)));
    assert!(stepped);
    assert_eq!(node.poll_timeout(), None);
}

#[test]
fn of_two_live_daemons_with_one_key_the_later_start_steps_aside() {
    let mut pair = Pair::new(node_with(1, 1_000, |_| ()), node_with(1, 50_000, |_| ()));

    pair.connect(1, 7);

    assert!(!pair.events(0).contains(&Event::IdentityTaken));
    assert!(pair.events(1).contains(&Event::IdentityTaken));
}

#[test]
fn a_mac_claimed_by_two_goes_to_the_later_attachment_and_its_loser_warns() {
    let mut pair = Pair::connected();
    let now = pair.now;
    pair.nodes[0].set_endpoints(endpoints(1), now).unwrap();
    pair.run_for(1);
    assert_eq!(pair.nodes[1].next_attach_time(), 2);

    let now = pair.now;
    pair.nodes[1].set_endpoints(endpoints(2), now).unwrap();
    pair.run_for(1);

    let [_, winner] = pair.keys();
    for node in &pair.nodes {
        assert!(node.view().claims.macs.values().all(|owner| *owner == winner));
    }
    let warned = |end: usize| {
        pair.events(end).iter().filter(|event| matches!(event, Event::Warning(Warning::MacTaken { .. }))).count()
    };
    assert_eq!((warned(0), warned(1)), (1, 0));
}

#[test]
fn direct_sessions_are_published_on_edges() {
    let mut pair = Pair::connected();
    pair.run_for(1);
    let [one, other] = pair.keys();

    let now = pair.now;
    pair.nodes[0].set_direct_sessions(BTreeSet::from([other]), now);
    pair.run_for(2);

    let set = pair.nodes[1].set_of(&one).unwrap();
    assert_eq!(set.edge(&other).map(|edge| edge.session), Some(Session::Direct));
}

#[test]
fn endpoints_over_a_limit_are_refused_and_change_nothing() {
    let mut node = node(1);
    let mut over = endpoints(1);
    over.values_mut().for_each(|endpoint| endpoint.names = vec!["n".into(); 100]);

    let refused = node.set_endpoints(over, START);

    assert_eq!(refused, Err(EndpointsError::OverLimit { container: "c".into() }));
    assert_eq!(node.view().own.endpoints().count(), 0);
}
