//! The degree rule on graphs of every size: bounded, connected, repaired.

use std::sync::Arc;

use super::*;
use crate::card::Card;
use crate::connector::{self, Discovery, Earlier};
use crate::store::fixtures::{Owner, edge};
use crate::store::{Session, Set};

/// A mesh as one peer sees it: itself (number 0) and others, all reachable through edges given as pairs.
struct Mesh {
    owners: Vec<Owner>,
    topology: Topology,
    members: Members,
    connector: Connector,
    connected: BTreeSet<PeerKey>,
}

fn connector() -> Connector {
    let (discovery, default_port, connection_limit) = (Discovery::On, 6783, 0);
    Connector::new(connector::Config { discovery, default_port, connection_limit }, 1)
}

impl Mesh {
    fn new(peers: u8, edges: &[(usize, usize)]) -> Self {
        let owners: Vec<Owner> = (0..peers).map(Owner::new).collect();
        let sets: Vec<Arc<Set>> = (0..owners.len())
            .map(|peer| {
                let others = edges.iter().filter_map(|(one, other)| match peer {
                    _ if peer == *one => Some(*other),
                    _ if peer == *other => Some(*one),
                    _ => None,
                });
                owners[peer].set(1, others.map(|other| edge(&owners[other].key(), Session::Direct)))
            })
            .collect();
        let mut topology = Topology::new(Arc::clone(&sets[0]));
        sets.iter().skip(1).for_each(|set| topology.update(Arc::clone(set), None));
        let mut mesh =
            Self { owners, topology, members: Members::default(), connector: connector(), connected: BTreeSet::new() };
        for peer in 1..mesh.owners.len() {
            mesh.note(peer);
        }
        mesh.connected = edges.iter().filter(|(one, _)| *one == 0).map(|(_, other)| mesh.key(*other)).collect();
        mesh
    }

    fn note(&mut self, peer: usize) {
        let owner = &self.owners[peer];
        let card: Arc<Card> = Arc::new(owner.card.clone());
        self.members.note_card(&card, &owner.card_record(), Instant::ZERO);
        if self.topology.is_reachable(&owner.key()) {
            self.members.set_reachable(&owner.key(), Instant::ZERO);
        }
    }

    fn key(&self, peer: usize) -> PeerKey {
        self.owners[peer].key()
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            own: self.key(0),
            topology: &self.topology,
            members: &self.members,
            connector: &self.connector,
            connected: &self.connected,
            listen_port: 6783,
        }
    }

    fn contact(&self, peer: usize) -> Contact {
        Contact { key: self.key(peer), addresses: self.owners[peer].card.addresses.clone() }
    }

    /// What a review at `seconds` decides.
    fn review(&self, degree: &mut Degree, seconds: u64) -> Review {
        let now = Instant::from_micros(seconds * 1_000_000);
        degree.request_review(Instant::ZERO);
        degree.review(&self.surroundings(), now).unwrap()
    }
}

/// Everyone is connected to peer 1, and we are.
fn star(peers: usize) -> Vec<(usize, usize)> {
    std::iter::once((0, 1)).chain((2..peers).map(|peer| (1, peer))).collect()
}

#[test]
fn in_a_small_mesh_one_end_of_each_pair_dials_and_in_the_end_either_does() {
    let mesh = Mesh::new(6, &star(6));
    let early = mesh.review(&mut Degree::new(1), 1).wanted;
    let late = mesh.review(&mut Degree::new(1), 4).wanted;

    assert!(early.keys().all(|peer| dials_first(&mesh.key(0), peer)));
    assert_eq!(late.len(), 4);
    for (one, other) in [(0, 1), (2, 3), (4, 5)] {
        let (one, other) = (mesh.key(one), mesh.key(other));
        assert_ne!(dials_first(&one, &other), dials_first(&other, &one));
    }
}

#[test]
fn a_peer_without_an_address_is_dialled_where_others_see_it() {
    let mut mesh = Mesh::new(3, &star(3));
    mesh.owners[2].card.addresses.clear();
    mesh.owners[2].card.incarnation = 2;
    mesh.note(2);

    let wanted = mesh.review(&mut Degree::new(1), 4).wanted;

    let seen_at: SocketAddr = ([10, 0, 0, mesh.key(2).0[0]], 6783).into();
    assert_eq!(wanted[&mesh.key(2)], [seen_at]);
}

#[test]
fn a_large_mesh_is_thinned_and_a_slightly_smaller_one_is_not_filled_up() {
    let mut degree = Degree::new(1);

    Mesh::new(25, &star(25)).review(&mut degree, 1);
    assert_eq!(degree.shape, Shape::Thin);
    Mesh::new(16, &star(16)).review(&mut degree, 2);
    assert_eq!(degree.shape, Shape::Thin);
    Mesh::new(15, &star(15)).review(&mut degree, 3);

    assert_eq!(degree.shape, Shape::Full);
}

#[test]
fn a_thin_mesh_dials_its_neighbours_on_the_ring_first() {
    let mesh = Mesh::new(40, &star(40));

    let wanted = mesh.review(&mut Degree::new(1), 1).wanted;

    let ring: Vec<PeerKey> = mesh.topology.ring_from(mesh.key(0)).collect();
    let (next, previous) = (ring[0], ring[ring.len() - 1]);
    for neighbour in [next, previous].iter().filter(|peer| !mesh.connected.contains(peer)) {
        assert!(wanted.contains_key(neighbour));
    }
    assert!(wanted.len() <= CHOSEN_MAX);
}

#[test]
fn bounds_grow_with_the_logarithm_and_stay_below_the_cap_at_a_thousand() {
    let mut degree = Degree::new(1);
    degree.shape = Shape::Thin;

    assert_eq!(degree.bounds(30), Bounds { low: 8, goal: 10, high: 12, cap: 24 });
    assert_eq!(degree.bounds(1_000), Bounds { low: 18, goal: 20, high: 22, cap: 24 });
    assert_eq!(degree.bounds(2), Bounds { low: 6, goal: 8, high: 10, cap: 24 });
}

/// We and peer 1 have `count` connections each, to the same peers, which have few.
fn crowded(count: usize) -> Vec<(usize, usize)> {
    std::iter::once((0, 1)).chain((2..=count).flat_map(|peer| [(0, peer), (1, peer)])).collect()
}

#[test]
fn only_a_connection_that_both_ends_can_spare_is_surplus() {
    let mesh = Mesh::new(40, &crowded(30));
    let ring: Vec<PeerKey> = mesh.topology.ring_from(mesh.key(0)).collect();
    let is_ring = ring[0] == mesh.key(1) || ring[ring.len() - 1] == mesh.key(1);

    let surplus = mesh.review(&mut Degree::new(1), 1).surplus;

    assert_eq!(surplus, if is_ring { None } else { Some(mesh.key(1)) });
}

#[test]
fn a_peer_at_its_limit_names_others() {
    let mesh = Mesh::new(40, &crowded(24));
    let mut degree = Degree::new(1);

    let (first, second) = (mesh.contact(38), mesh.contact(39));
    let Admission::Refer(contacts) = degree.admit(first.clone(), &mesh.surroundings()) else { panic!() };
    assert!(!contacts.is_empty() && contacts.len() <= CONTACTS_MAX);
    assert!(contacts.iter().all(|contact| contact.key != first.key));
    let Admission::Refer(contacts) = degree.admit(second, &mesh.surroundings()) else { panic!() };

    assert!(contacts.contains(&first));
}

#[test]
fn who_has_no_connection_follows_referrals() {
    let mesh = Mesh::new(1, &[]);
    let others = Mesh::new(6, &[]);
    let mut degree = Degree::new(1);

    let contacts: Vec<Contact> = (1..6).map(|peer| others.contact(peer)).collect();
    degree.handle_referral(contacts, Instant::ZERO);
    let wanted = mesh.review(&mut degree, 0).wanted;

    assert_eq!(wanted.len(), CHOSEN_MAX);
}

#[test]
fn who_refused_is_left_alone_for_a_while() {
    let mesh = Mesh::new(3, &star(3));
    let mut degree = Degree::new(1);
    assert!(mesh.review(&mut degree, 4).wanted.contains_key(&mesh.key(2)));

    degree.avoid(mesh.key(2), Instant::from_micros(4_000_000));
    assert!(mesh.review(&mut degree, 10).wanted.is_empty());

    assert!(mesh.review(&mut degree, 40).wanted.contains_key(&mesh.key(2)));
}

#[test]
fn an_unreachable_peer_is_tried() {
    let mut mesh = Mesh::new(3, &[(0, 1)]);
    mesh.members.set_reachable(&mesh.key(2), Instant::ZERO);
    mesh.members.set_unreachable(&mesh.key(2), Instant::ZERO);

    let wanted = mesh.review(&mut Degree::new(1), 1).wanted;

    assert!(wanted.contains_key(&mesh.key(2)));
}

#[test]
fn a_forgotten_peer_is_never_chosen_whoever_names_it() {
    let mut mesh = Mesh::new(4, &star(4));
    mesh.members.set_unreachable(&mesh.key(3), Instant::ZERO);
    let address = |peer: usize| mesh.owners[peer].card.addresses[0].to_string().parse().unwrap();
    let forgotten = [address(2), address(3)];
    mesh.connector.forget(&forgotten, |_| None);
    let mut degree = Degree::new(1);
    degree.handle_referral(vec![mesh.contact(2)], Instant::ZERO);

    for seconds in [4, 10, 100] {
        assert_eq!(mesh.review(&mut degree, seconds).wanted, BTreeMap::new());
    }

    mesh.connector.connect(&forgotten[..1], Earlier::Keep, Instant::ZERO).unwrap();
    assert!(mesh.review(&mut degree, 200).wanted.contains_key(&mesh.key(2)));
}

#[test]
fn who_was_unreachable_for_long_is_tried_once_a_minute() {
    let mut mesh = Mesh::new(3, &[(0, 1)]);
    mesh.members.set_reachable(&mesh.key(2), Instant::ZERO);
    mesh.members.set_unreachable(&mesh.key(2), Instant::ZERO);
    mesh.members.expire(Instant::from_micros(3_600_000_000));
    let mut degree = Degree::new(1);

    let mut tries = 0;
    let mut now = 3_600;
    while now < 3_600 + 600 {
        if !mesh.review(&mut degree, now).wanted.is_empty() {
            tries += 1;
            // The dial fails at once.
            degree.avoid(mesh.key(2), Instant::from_micros(now * 1_000_000));
        }
        degree.review_at = None;
        now += 15;
    }

    assert!((5..=10).contains(&tries), "{tries}");
}

#[test]
fn a_crowd_of_dead_members_is_dialled_a_few_at_a_time() {
    let mut mesh = Mesh::new(1, &[]);
    for other in (1..=u8::MAX).map(Owner::new) {
        let card: Arc<Card> = Arc::new(other.card.clone());
        mesh.members.restore(&card, &other.card_record(), None, false, Instant::ZERO);
    }
    let mut degree = Degree::new(1);

    let (mut before, mut dialled) = (BTreeSet::new(), 0);
    for seconds in 1..=100 {
        let wanted: BTreeSet<PeerKey> = mesh.review(&mut degree, seconds).wanted.into_keys().collect();
        dialled += wanted.difference(&before).count();
        before = wanted;
    }

    assert!((20..=2 * CHOSEN_MAX * 10).contains(&dialled), "{dialled} in 100 s");
}

#[test]
fn at_rest_no_review_is_due() {
    let mesh = Mesh::new(3, &[(0, 1), (0, 2), (1, 2)]);
    let mut degree = Degree::new(1);

    let review = mesh.review(&mut degree, 1);

    assert_eq!(review, Review::default());
    assert_eq!(degree.poll_timeout(), None);
}
