//! One peer by itself: allocation inside what it owns.

mod death;
mod forgetting;
mod newcomer;
mod review;
mod strays;
mod theft;

use super::*;
use crate::connector::{self, ConnectionId, Connector};
use crate::members::Members;
use crate::node::Claims;
use crate::node::links::Links;
use crate::roster::Roster;
use crate::store::fixtures::{Owner as Fixture, verifier};
use crate::topology::Topology;
use crate::verifier::Verifier;

/// A peer that makes its ring alone.
struct Alone {
    place: Place,
    ipam: Ipam,
    tickets: u64,
}

/// Where a peer is that knows nobody.
struct Place {
    fixture: Fixture,
    verifier: Verifier,
    topology: Topology,
    links: Links,
    members: Members,
    connector: Connector,
    roster: Roster,
    claims: Claims,
    now: Instant,
}

impl Place {
    fn new() -> Self {
        let fixture = Fixture::new(1);
        let config = connector::Config { discovery: connector::Discovery::On, default_port: 6783, connection_limit: 0 };
        Self {
            topology: Topology::new(fixture.set(1, [])),
            verifier: verifier(),
            links: Links::default(),
            members: Members::default(),
            connector: Connector::new(config, 1),
            roster: Roster::default(),
            claims: Claims::default(),
            now: Instant::ZERO,
            fixture,
        }
    }

    fn near(&self) -> Surroundings<'_> {
        Surroundings {
            card: &self.fixture.card,
            identity: &self.fixture.identity,
            verifier: &self.verifier,
            topology: &self.topology,
            links: &self.links,
            members: &self.members,
            connector: &self.connector,
            roster: &self.roster,
            claims: &self.claims,
            now: self.now,
        }
    }
}

impl Alone {
    fn with(config: Config, restored: &Restored) -> Self {
        let place = Place::new();
        let mut ipam = Ipam::new(config, restored, 1, &place.near()).unwrap();
        ipam.resume(&[]);
        ipam.settle(&place.near());
        Self { place, ipam, tickets: 0 }
    }

    fn new(range: &str) -> Self {
        Self::with(config(range), &Restored::default())
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut Ipam, Ticket, &Surroundings<'_>) -> T) -> T {
        self.tickets += 1;
        let result = work(&mut self.ipam, Ticket(self.tickets), &self.place.near());
        self.ipam.settle(&self.place.near());
        result
    }

    fn answer(&mut self) -> Option<Result<Answer, Error>> {
        let answers = std::iter::from_fn(|| self.ipam.poll_action()).filter_map(|action| match action {
            Action::Answer(_, answer) => Some(answer),
            _ => None,
        });
        answers.last()
    }

    fn allocate(&mut self, container: &str, subnet: &str) -> Option<Result<Answer, Error>> {
        self.run(|ipam, ticket, near| ipam.allocate(ticket, container, cidr(subnet), near));
        self.answer()
    }

    fn allocated(&mut self, container: &str, subnet: &str) -> String {
        match self.allocate(container, subnet) {
            Some(Ok(Answer::Allocated(address))) => address.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self, container: &str, address: &str) -> Option<Result<Answer, Error>> {
        self.run(|ipam, ticket, near| ipam.claim(ticket, container, cidr(address), ClaimMode::Ask, near));
        self.answer()
    }

    fn release(&mut self, container: &str) -> Result<(), Error> {
        self.run(|ipam, _, near| ipam.release(container, None, near))
    }

    /// What a daemon would find on its disk.
    fn stored(&mut self) -> Restored {
        let mut restored = Restored::default();
        while let Some(action) = self.ipam.poll_action() {
            match action {
                Action::PersistRing(bytes) => restored.ring = Some(bytes),
                Action::PersistOwned(change) => restored.owned.push(change),
                _ => {}
            }
        }
        restored
    }
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn config(range: &str) -> Config {
    Config { range: cidr(range), default_subnet: cidr(range), init: Init::Consensus(Some(1)) }
}

#[test]
fn the_lowest_address_comes_first_and_the_networks_own_never() {
    let mut alone = Alone::new("10.32.0.0/12");
    assert_eq!(alone.allocated("a", "10.32.0.0/12"), "10.32.0.1/12");
    assert_eq!(alone.allocated("b", "10.32.0.0/12"), "10.32.0.2/12");
    assert_eq!(alone.allocated("b", "10.40.0.0/16"), "10.40.0.1/16");
    assert_eq!(alone.allocated("c", "10.40.0.0/30"), "10.40.0.2/30");
    assert_eq!(alone.allocate("d", "10.40.0.0/30"), None);
}

#[test]
fn a_container_has_one_address_in_a_subnet_however_often_it_asks() {
    let mut alone = Alone::new("10.32.0.0/12");
    let first = alone.allocated("a", "10.32.0.0/12");
    assert_eq!(alone.allocated("a", "10.32.0.0/12"), first);
    assert_eq!(alone.ipam.addresses("a").len(), 1);
}

#[test]
fn an_address_given_back_is_given_again() {
    let mut alone = Alone::new("10.32.0.0/12");
    let first = alone.allocated("a", "10.32.0.0/12");
    alone.allocated("b", "10.32.0.0/12");
    alone.release("a").unwrap();
    assert_eq!(alone.allocated("c", "10.32.0.0/12"), first);
    assert_eq!(alone.release("a"), Err(Error::HoldsNone { container: "a".into() }));
}

#[test]
fn whoever_waits_for_space_gets_it_when_it_is_given_back() {
    let mut alone = Alone::new("10.32.0.0/30");
    alone.allocated("a", "10.32.0.0/30");
    alone.allocated("b", "10.32.0.0/30");
    assert_eq!(alone.allocate("c", "10.32.0.0/30"), None);
    alone.release("a").unwrap();
    assert_eq!(alone.answer(), Some(Ok(Answer::Allocated(cidr("10.32.0.1/30")))));
}

#[test]
fn whoever_waits_and_gives_up_everything_is_told_so() {
    let mut alone = Alone::new("10.32.0.0/30");
    alone.allocated("a", "10.32.0.0/30");
    alone.allocated("b", "10.32.0.0/30");
    assert_eq!(alone.allocate("c", "10.32.0.0/30"), None);
    alone.release("c").unwrap();
    assert_eq!(alone.answer(), Some(Err(Error::Released { container: "c".into() })));
}

#[test]
fn an_explicit_address_is_claimed_once() {
    let mut alone = Alone::new("10.32.0.0/12");
    assert_eq!(alone.claim("a", "10.32.0.9/12"), Some(Ok(Answer::Claimed)));
    assert_eq!(alone.claim("a", "10.32.0.9/12"), Some(Ok(Answer::Claimed)));
    let held = Error::Held { address: [10, 32, 0, 9].into(), container: "a".into() };
    assert_eq!(alone.claim("b", "10.32.0.9/12"), Some(Err(held)));
    assert_eq!(alone.claim("b", "192.168.0.9/24"), Some(Ok(Answer::Claimed)), "outside the range it is noted");
}

#[test]
fn what_is_no_subnet_of_the_range_is_refused() {
    let mut alone = Alone::new("10.32.0.0/12");
    let host_bits = cidr("10.32.0.1/24");
    assert_eq!(alone.allocate("a", "10.32.0.1/24"), Some(Err(Error::HostBits(host_bits))));
    assert_eq!(alone.allocate("a", "10.32.0.0/31"), Some(Err(Error::TooSmall(cidr("10.32.0.0/31")))));
    assert!(matches!(alone.allocate("a", "10.50.0.0/24"), Some(Err(Error::OutsideRange { .. }))));
}

#[test]
fn a_restart_keeps_ring_and_addresses() {
    let mut alone = Alone::new("10.32.0.0/12");
    for container in ["a", "b", "c"] {
        alone.run(|ipam, ticket, near| ipam.allocate(ticket, container, cidr("10.32.0.0/12"), near));
    }
    alone.release("b").unwrap();
    let stored = alone.stored();

    let mut again = Alone::with(config("10.32.0.0/12"), &stored);

    assert_eq!(again.allocated("c", "10.32.0.0/12"), "10.32.0.3/12");
    assert_eq!(again.allocated("d", "10.32.0.0/12"), "10.32.0.2/12");
}

#[test]
fn a_ring_over_another_range_is_an_error_that_names_both() {
    let mut alone = Alone::new("10.32.0.0/12");
    alone.run(|ipam, ticket, near| ipam.allocate(ticket, "a", cidr("10.32.0.0/12"), near));
    let stored = alone.stored();

    let error = Ipam::new(config("10.64.0.0/12"), &stored, 1, &Place::new().near()).unwrap_err().to_string();

    assert!(error.contains("10.32.0.0-10.47.255.255") && error.contains("10.64.0.0/12"), "{error}");
}

#[test]
fn containers_found_running_keep_their_addresses_and_nothing_is_allocated_before() {
    let place = Place::new();
    let near = place.near();
    let mut ipam = Ipam::new(config("10.32.0.0/12"), &Restored::default(), 1, &near).unwrap();
    ipam.allocate(Ticket(1), "new", cidr("10.32.0.0/12"), &near);
    assert!(ipam.poll_action().is_none());

    ipam.resume(&[("old".into(), cidr("10.32.0.1/12"))]);
    ipam.settle(&near);

    let answers = std::iter::from_fn(|| ipam.poll_action()).any(|action| {
        matches!(action, Action::Answer(Ticket(1), Ok(Answer::Allocated(address))) if address == cidr("10.32.0.2/12"))
    });
    assert!(answers);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let with = |range: &str, subnet: &str, init| Config { range: cidr(range), default_subnet: cidr(subnet), init };
    let consensus = Init::Consensus(None);
    assert!(with("10.32.0.1/12", "10.32.0.0/12", consensus.clone()).check().is_err());
    assert!(with("10.32.0.0/12", "10.64.0.0/16", consensus.clone()).check().is_err());
    assert!(with("10.32.0.0/12", "10.32.0.0/12", Init::Seed(Vec::new())).check().is_err());
    assert_eq!(with("10.32.0.0/12", "10.40.0.0/16", consensus).check(), Ok(()));
}
