use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weave_mesh::card::Subnet;

use super::*;
use crate::plan::fixture::bare_plan;
use crate::plan::{Crossing, IpVersion, Opening, Plan};

fn bridge() -> LinkName {
    "weave".parse().expect("name")
}

/// A table of iptables, and those who change it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Firewall {
    policy: &'static str,
    chains: BTreeMap<&'static str, Vec<String>>,
}

impl Firewall {
    fn new() -> Self {
        Self { policy: "ACCEPT", chains: BTreeMap::from([("FORWARD", Vec::new())]) }
    }

    fn listing(&self) -> String {
        let mut text = format!("-P FORWARD {}\n", self.policy);
        for chain in self.chains.keys().filter(|chain| **chain != "FORWARD") {
            text.push_str(&format!("-N {chain}\n"));
        }
        for (chain, rules) in &self.chains {
            rules.iter().for_each(|rule| text.push_str(&format!("-A {chain} {rule}\n")));
        }
        text
    }

    fn carry_out(&mut self, changes: &[Change]) {
        for change in changes {
            let rule = change.rule().collect::<Vec<_>>().join(" ");
            let chain = self.chains.get_mut(change.chain.name()).expect("a chain");
            match change.action {
                Action::Insert => chain.insert(0, rule),
                Action::Delete => drop(chain.remove(chain.iter().position(|listed| *listed == rule).expect("a rule"))),
            }
        }
    }

    /// Docker makes its chains one by one; the second part comes when somebody may have looked in between.
    fn docker_begins(&mut self) {
        self.policy = "DROP";
        self.chains.entry("DOCKER").or_default();
    }

    fn docker_is_up(&mut self) {
        self.docker_begins();
        self.chains.entry("DOCKER-USER").or_default();
        let forward = self.chains.entry("FORWARD").or_default();
        forward.retain(|rule| rule != "-j DOCKER-USER");
        forward.insert(0, "-j DOCKER-USER".to_owned());
    }

    /// Its order does not matter for accepts.
    fn sorted(mut self) -> Self {
        self.chains.values_mut().for_each(|rules| rules.sort());
        self
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Expose(u8),
    Hide(u8),
    DockerBegins,
    DockerIsUp,
    DockerUserFlushed,
    Look,
    Reset,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3_u8).prop_map(Event::Expose),
        (0..3_u8).prop_map(Event::Hide),
        Just(Event::DockerBegins),
        Just(Event::DockerIsUp),
        Just(Event::DockerUserFlushed),
        Just(Event::Look),
        Just(Event::Reset),
    ]
}

fn accepts(exposed: &BTreeSet<u8>) -> Vec<String> {
    let network = |number: &u8| Subnet { address: [10, 32 + number, 0, 0].into(), prefix_len: 16 };
    let exposed = exposed.iter().map(|number| (network(number), Opening::of(Crossing::AsIs))).collect();
    let accepts = Plan { exposed, ..bare_plan() }.accepts();
    accepts.into_iter().filter(|accept| accept.version == IpVersion::V4).map(|accept| accept.matching).collect()
}

fn look(firewall: &mut Firewall, exposed: &BTreeSet<u8>) {
    let wanted = accepts(exposed);
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let changes = Filter(&firewall.listing()).changes(&bridge(), &wanted);
    firewall.carry_out(&changes);
}

proptest! {
    #[test]
    fn whatever_happened_before_the_accepts_are_what_the_shortest_way_makes(
        policy in prop_oneof![Just("ACCEPT"), Just("DROP")], events in prop::collection::vec(event(), 0..20),
    ) {
        let (mut firewall, mut exposed) = (Firewall { policy, ..Firewall::new() }, BTreeSet::new());
        let (mut begun, mut up) = (false, false);
        for event in events {
            match event {
                Event::Expose(network) => drop(exposed.insert(network)),
                Event::Hide(network) => drop(exposed.remove(&network)),
                Event::DockerBegins => {
                    firewall.docker_begins();
                    begun = true;
                }
                Event::DockerIsUp => {
                    firewall.docker_is_up();
                    up = true;
                }
                Event::DockerUserFlushed => drop(firewall.chains.get_mut("DOCKER-USER").map(Vec::clear)),
                Event::Look => look(&mut firewall, &exposed),
                Event::Reset => {
                    let removals = Filter(&firewall.listing()).removals(&bridge());
                    firewall.carry_out(&removals);
                    prop_assert!(!firewall.listing().contains("weave"));
                    exposed.clear();
                }
            }
        }
        look(&mut firewall, &exposed);

        let mut shortest = Firewall { policy, ..Firewall::new() };
        if begun {
            shortest.docker_begins();
        }
        if up {
            shortest.docker_is_up();
        }
        look(&mut shortest, &exposed);
        prop_assert_eq!(firewall.sorted(), shortest.sorted());
    }

    #[test]
    fn a_second_look_changes_nothing(
        policy in prop_oneof![Just("ACCEPT"), Just("DROP")], exposed in prop::collection::btree_set(0..3_u8, 0..3),
        up in any::<bool>(),
    ) {
        let mut firewall = Firewall { policy, ..Firewall::new() };
        if up {
            firewall.docker_is_up();
        }
        look(&mut firewall, &exposed);
        let once = firewall.clone();
        look(&mut firewall, &exposed);

        prop_assert_eq!(firewall, once);
    }
}

#[test]
fn accepts_go_where_what_is_forwarded_would_be_dropped() {
    let place = |listing: &str| Filter(listing).place();

    for (listing, expected) in [
        ("-P FORWARD ACCEPT\n", None),
        ("-P FORWARD DROP\n", Some(Chain::Forward)),
        ("-P FORWARD ACCEPT\n-A FORWARD -i eth1 -j DROP\n", None),
        ("-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n", Some(Chain::Forward)),
        ("-P FORWARD ACCEPT\n-N DOCKER-USER\n", Some(Chain::DockerUser)),
        ("-P FORWARD DROP\n-N DOCKER-USER\n", Some(Chain::Forward)),
        ("-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n", Some(Chain::DockerUser)),
        ("-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DROP\n-A FORWARD -j DOCKER-USER\n", Some(Chain::Forward)),
        ("-P FORWARD ACCEPT\n-N DOCKER\n", Some(Chain::Forward)),
    ] {
        assert_eq!(place(listing), expected, "{listing}");
    }
}

#[test]
fn only_our_own_rules_for_this_bridge_are_ours() {
    let listing = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n\
        -A DOCKER-USER -i weave -o weave -m comment --comment weave-rs -j ACCEPT\n\
        -A DOCKER-USER -i other -o other -m comment --comment weave-rs -j ACCEPT\n\
        -A DOCKER-USER -d 10.32.0.0/12 ! -i weave -o weave -m comment --comment weave-rs -j ACCEPT\n\
        -A FORWARD -i weave -o weave -m comment --comment weave-rs -j ACCEPT\n\
        -A DOCKER-USER -i weave -j DROP\n\
        -A DOCKER-USER -j RETURN\n";

    let removals = Filter(listing).removals(&bridge());

    let found: Vec<_> = removals.iter().map(|change| (change.chain, change.matching.as_str())).collect();
    let back = "-d 10.32.0.0/12 ! -i weave -o weave";
    let expected =
        [(Chain::DockerUser, "-i weave -o weave"), (Chain::DockerUser, back), (Chain::Forward, "-i weave -o weave")];
    assert_eq!(found, expected);
}
