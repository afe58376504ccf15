//! What must hold of every weave, whatever the mesh looks like.

use std::sync::Arc;

use proptest::prelude::*;
use weave_datapath::linux::veth::Attached;
use weave_mesh::card::SignedCard;
use weave_mesh::identity::{Identity, Scheme};
use weave_mesh::name::{MeshId, PeerName};
use weave_mesh::node::Claims;
use weave_mesh::store::{Content, Draft, Record, Set, Version};
use weave_mesh::time::Instant;
use weave_mesh::verifier::Verifier;

use super::*;
use crate::attach::Container;

/// A peer as a test wants it.
#[derive(Clone, Debug)]
struct Actor {
    standing: u8,
    is_chosen: bool,
    is_programmed: bool,
    has_address: bool,
    trusts_us: bool,
    is_trusted: bool,
    stations: u8,
}

fn actor() -> impl Strategy<Value = Actor> {
    (0..4_u8, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0..3_u8).prop_map(
        |(standing, is_chosen, is_programmed, has_address, trusts_us, is_trusted, stations)| Actor {
            standing,
            is_chosen,
            is_programmed,
            has_address,
            trusts_us,
            is_trusted,
            stations,
        },
    )
}

fn setting() -> impl Strategy<Value = FastSetting> {
    prop_oneof![Just(FastSetting::Off), Just(FastSetting::Everywhere), Just(FastSetting::BetweenTrustedSubnets)]
}

fn subnet(text: &str) -> Subnet {
    crate::config::value::parse_subnet(text).unwrap()
}

fn identity(number: u8) -> Identity {
    Identity::from_secret_bytes(Scheme::Simulated, &[number; 64])
}

fn name(number: u8) -> PeerName {
    PeerName([2, 0, 0, 0, 0, number])
}

fn station(number: u8, index: u8) -> MacAddr {
    MacAddr([0x0a, 0, 0, 0, number, index])
}

fn card(number: u8) -> Card {
    Card {
        mesh: MeshId::of("weave"),
        key: identity(number).key(),
        noise_key: identity(number).noise_key(),
        knock: identity(number).knock(),
        name: name(number),
        nickname: format!("host{number}"),
        bridge_mac: name(number).mac(),
        port: 6783,
        addresses: vec![SocketAddr::new(underlay_of(number, false), 6783)],
        trusted_subnets: Vec::new(),
        instance_id: String::new(),
        machine: [0; 32],
        incarnation: 1,
    }
}

/// Trusted hosts are in 10.0.0.0/8.
fn underlay_of(number: u8, is_trusted: bool) -> IpAddr {
    if is_trusted { [10, 0, 0, number].into() } else { [192, 0, 2, number].into() }
}

fn vxlan_at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 6784)
}

fn own_set(card: &Card, signed: &SignedCard) -> Set {
    let mut draft = Draft::new(card.key);
    draft.put(Record::new(Content::Card(signed.clone()))).unwrap();
    let mut verifier = Verifier::new(Scheme::Simulated, card.mesh);
    draft.sign(Version { incarnation: 1, counter: 1 }, &identity(0), &mut verifier).unwrap()
}

fn peer_view(number: u8, actor: &Actor) -> PeerView {
    let mut card = card(number);
    card.addresses = vec![SocketAddr::new(underlay_of(number, actor.is_trusted), 6783)];
    if !actor.has_address {
        card.addresses.clear();
    }
    if actor.trusts_us {
        card.trusted_subnets = vec![subnet("10.0.0.0/8")];
    }
    let since = Instant::ZERO;
    let standing = match actor.standing {
        0 => node::Standing::Neighbour { since },
        1 => node::Standing::Member { since },
        2 => node::Standing::Held { since, until: since },
        _ => node::Standing::Gone { since },
    };
    PeerView { card: Arc::new(card), standing, set: None, address: None }
}

/// A mesh, and what this host has.
struct Stage {
    view: View,
    ledger: Ledger,
    exposure: Exposure,
    chosen: BTreeMap<PeerKey, Carrier>,
    programmed: BTreeSet<PeerKey>,
    loom: Loom,
    destinations: BTreeSet<SocketAddr>,
}

impl Stage {
    fn new(actors: &[Actor], attached: u8, fast_path: FastSetting) -> Self {
        let mut ours = card(0);
        ours.addresses = vec![SocketAddr::new(underlay_of(0, true), 6783)];
        ours.trusted_subnets = vec![subnet("10.0.0.0/8")];
        let signed = SignedCard::sign(&ours, &identity(0)).unwrap();
        let own = own_set(&ours, &signed);
        let numbered = || (1..).zip(actors);
        let mut claims = Claims::default();
        for (number, actor) in numbered() {
            let key = identity(number).key();
            claims.macs.extend((0..actor.stations).map(|index| (station(number, index), key)));
        }
        let mut ledger = Ledger::default();
        for index in 0..attached {
            // The first one's MAC is claimed by the first peer, too.
            let mac = if index == 0 { station(1, 0) } else { station(0, index) };
            let (label, netns) = (format!("c{index}"), format!("/run/netns/c{index}").into());
            let container = Container { label, netns, ..Container::default() };
            let host_link = format!("vethwepl{index}").parse().unwrap();
            let port = Attached { host_link, mac, addresses: vec![subnet("10.32.0.1/12")] };
            ledger.plan(&container, &port, None, 0);
            ledger.settle(&port);
        }
        let keys = |wanted: fn(&Actor) -> bool| {
            numbered().filter(move |(_, actor)| wanted(actor)).map(|(number, _)| identity(number).key())
        };
        Self {
            view: View {
                card: ours,
                signed_card: signed,
                own: Arc::new(own),
                peers: numbered().map(|(number, actor)| (identity(number).key(), peer_view(number, actor))).collect(),
                connections: Vec::new(),
                targets: Vec::new(),
                claims: Arc::new(claims),
                relays: Arc::default(),
            },
            ledger,
            exposure: Exposure::default(),
            chosen: keys(|actor| actor.is_chosen).map(|key| (key, Carrier::Fast)).collect(),
            programmed: keys(|actor| actor.is_programmed).collect(),
            destinations: BTreeSet::new(),
            loom: Loom {
                resolver: Resolver::Served,
                range: None,
                names: BridgeNames::of("weave").unwrap(),
                vni: 1,
                mesh_port: 6783,
                vxlan_port: 6784,
                mtu: 1376,
                fast_path,
                host: None,
                allowed_ethertypes: BTreeSet::new(),
            },
        }
    }

    fn weave(&self) -> (Tables, Plan) {
        let Self { view, ledger, exposure, chosen, programmed, loom, .. } = self;
        let (heard, destinations, members) = (&BTreeMap::new(), &self.destinations, &BTreeSet::new());
        let local = Ipv4Addr::UNSPECIFIED.into();
        weave(loom, &Strands { view, ledger, exposure, chosen, programmed, heard, local, destinations, members })
    }
}

proptest! {
    #[test]
    fn a_broadcast_reaches_every_peer_by_one_carrier(
        actors in prop::collection::vec(actor(), 0..6), attached in 0..3_u8, fast_path in setting(),
    ) {
        let stage = Stage::new(&actors, attached, fast_path);
        let (tables, plan) = stage.weave();

        for (key, entry) in &tables.peers {
            let card = &stage.view.peers[key].card;
            let is_flooded = card.addresses.first().is_some_and(|address| plan.flood.contains(&vxlan_at(address.ip())));
            if entry.applied == Carrier::Fast {
                prop_assert!(is_flooded && stage.programmed.contains(key));
                prop_assert_eq!(plan.bridge_fdb.get(&card.bridge_mac), Some(&OverlayPort::Vxlan));
            }
            // Two copies only while the kernel has yet to take a promotion.
            prop_assert!(!is_flooded || entry.applied == Carrier::Fast || !stage.programmed.contains(key));
        }
    }

    #[test]
    fn frames_go_to_vxlan_only_with_a_device_and_an_address(
        actors in prop::collection::vec(actor(), 0..6), attached in 0..3_u8, fast_path in setting(),
    ) {
        let (_, plan) = Stage::new(&actors, attached, fast_path).weave();

        for (mac, port) in &plan.bridge_fdb {
            prop_assert!(*port == OverlayPort::Tap || (plan.vxlan.is_some() && plan.vxlan_fdb.contains_key(mac)));
        }
        prop_assert!(plan.flood.is_empty() || plan.vxlan.is_some());
    }

    #[test]
    fn a_password_keeps_vxlan_between_trusted_subnets(actors in prop::collection::vec(actor(), 0..6)) {
        let (tables, plan) = Stage::new(&actors, 0, FastSetting::BetweenTrustedSubnets).weave();

        let is_trusted = |address: &IpAddr| contains(&[subnet("10.0.0.0/8")], *address);
        prop_assert!(plan.guard.vxlan_sources.iter().all(is_trusted));
        prop_assert!(plan.vxlan_fdb.values().all(|to| is_trusted(&to.ip())));
        let named: BTreeSet<SocketAddr> = plan.guard.clear_pairs.keys().copied().collect();
        prop_assert!(plan.vxlan_fdb.values().chain(&plan.flood).all(|to| named.contains(to)));
        for (number, actor) in (1..).zip(&actors) {
            if let Some(entry) = tables.peers.get(&identity(number).key()) {
                let is_pair = actor.has_address && actor.trusts_us && actor.is_trusted;
                prop_assert_eq!(entry.fast.address().is_some(), is_pair);
            }
        }
    }

    #[test]
    fn a_station_attached_here_is_never_a_remote_one(
        actors in prop::collection::vec(actor(), 0..6), attached in 0..3_u8, fast_path in setting(),
    ) {
        let (tables, plan) = Stage::new(&actors, attached, fast_path).weave();

        for port in plan.ports.values() {
            prop_assert!(!plan.bridge_fdb.contains_key(&port.mac) && !tables.macs.contains_key(&port.mac));
            prop_assert!(tables.local.macs.contains(&port.mac));
        }
    }

    #[test]
    fn nothing_is_left_of_a_peer_that_is_gone(
        actors in prop::collection::vec(actor(), 0..6), fast_path in setting(),
    ) {
        let (tables, plan) = Stage::new(&actors, 0, fast_path).weave();

        for (number, _) in (1..).zip(&actors).filter(|(_, actor)| actor.standing == 3) {
            let key = identity(number).key();
            prop_assert!(!tables.peers.contains_key(&key));
            prop_assert!(!tables.macs.values().any(|owner| *owner == key));
            prop_assert!(!plan.bridge_fdb.contains_key(&name(number).mac()));
            prop_assert!(!plan.bridge_fdb.contains_key(&station(number, 0)));
        }
    }
}

fn fast_neighbour() -> Actor {
    Actor {
        standing: 0,
        is_chosen: true,
        is_programmed: false,
        has_address: true,
        trusts_us: false,
        is_trusted: false,
        stations: 1,
    }
}

#[test]
fn a_promotion_is_in_the_plan_before_it_is_in_the_tables() {
    let mut stage = Stage::new(&[fast_neighbour()], 0, FastSetting::Everywhere);
    let key = identity(1).key();

    let (before, plan) = stage.weave();
    stage.programmed.insert(key);
    let (after, _) = stage.weave();

    assert_eq!(plan.bridge_fdb[&station(1, 0)], OverlayPort::Vxlan);
    assert_eq!(before.peers[&key].applied, Carrier::Sleeve);
    assert_eq!(after.peers[&key].applied, Carrier::Fast);
}

#[test]
fn a_demotion_is_in_both_and_keeps_the_way_for_probes() {
    let mut stage = Stage::new(&[fast_neighbour()], 0, FastSetting::Everywhere);
    let key = identity(1).key();
    stage.programmed.insert(key);
    stage.chosen.insert(key, Carrier::Sleeve);

    let (tables, plan) = stage.weave();

    assert_eq!(tables.peers[&key].applied, Carrier::Sleeve);
    assert_eq!(plan.bridge_fdb[&station(1, 0)], OverlayPort::Tap);
    assert_eq!(plan.vxlan_fdb[&station(1, 0)], vxlan_at(underlay_of(1, false)));
    assert!(plan.flood.is_empty());
}

#[test]
fn a_held_peer_keeps_its_kernel_entries() {
    let held = Actor { standing: 2, is_programmed: true, ..fast_neighbour() };
    let (tables, plan) = Stage::new(&[held], 0, FastSetting::Everywhere).weave();

    assert_eq!(tables.peers[&identity(1).key()].standing, Standing::Held);
    assert_eq!(plan.bridge_fdb[&station(1, 0)], OverlayPort::Vxlan);
}

#[test]
fn the_bridge_of_a_host_that_lost_its_identity_is_that_of_the_new_one() {
    for held in [1, 2] {
        let standing = |number| if number == held { 2 } else { 0 };
        let actors = [1, 2].map(|number| Actor { standing: standing(number), ..fast_neighbour() });
        let mut stage = Stage::new(&actors, 0, FastSetting::Off);
        for peer in stage.view.peers.values_mut() {
            peer.card = Arc::new(Card { bridge_mac: station(9, 0), ..(*peer.card).clone() });
        }

        let (tables, _) = stage.weave();

        assert_eq!(tables.macs[&station(9, 0)], identity(3 - held).key());
    }
}

#[test]
fn a_member_closes_no_port_but_the_meshs_where_it_only_says_it_is() {
    let mut stage = Stage::new(&[fast_neighbour()], 0, FastSetting::Everywhere);
    let (key, elsewhere) = (identity(1).key(), SocketAddr::from(([203, 0, 113, 1], 443)));
    let peer = stage.view.peers.get_mut(&key).unwrap();
    let mut card = (*peer.card).clone();
    card.addresses = vec![elsewhere, SocketAddr::from(([203, 0, 113, 2], 6783))];
    card.port = elsewhere.port();
    peer.card = Arc::new(card);
    let found = |heard: &[(PeerKey, SocketAddr)]| {
        members(&stage.loom, &stage.view, &heard.iter().copied().collect()).into_iter().collect::<Vec<_>>()
    };

    assert_eq!(found(&[]), [SocketAddr::from(([203, 0, 113, 2], 6783))]);
    assert!(found(&[(key, SocketAddr::from(([203, 0, 113, 1], 50_000)))]).contains(&elsewhere));
}

#[test]
fn subnets_hold_addresses_of_their_family_only() {
    let everything = [subnet("0.0.0.0/0")];

    assert!(contains(&everything, [203, 0, 113, 9].into()));
    assert!(!contains(&everything, "fd00::1".parse().unwrap()));
    assert!(contains(&[subnet("fd00::/16")], "fd00:1::1".parse().unwrap()));
    assert!(!contains(&[subnet("10.0.0.0/9")], [10, 128, 0, 1].into()));
}

#[test]
fn a_peer_hears_vxlan_above_its_own_port() {
    let mut stage = Stage::new(&[fast_neighbour()], 0, FastSetting::Everywhere);
    let peer = stage.view.peers.values_mut().next().unwrap();
    Arc::make_mut(&mut peer.card).port = 7000;

    let (tables, plan) = stage.weave();

    let to = SocketAddr::new(underlay_of(1, false), 7001);
    assert_eq!(tables.peers[&identity(1).key()].fast, FastPath::Allowed(to));
    assert_eq!((plan.vxlan_fdb[&station(1, 0)], plan.flood.first()), (to, Some(&to)));
    assert_eq!(plan.vxlan.map(|vxlan| vxlan.port), Some(6784));
}

#[test]
fn a_port_without_another_above_it_has_no_fast_path() {
    for port in [0, u16::MAX] {
        let mut stage = Stage::new(&[fast_neighbour()], 0, FastSetting::Everywhere);
        Arc::make_mut(&mut stage.view.peers.values_mut().next().unwrap().card).port = port;

        let (tables, _) = stage.weave();

        assert_eq!(tables.peers[&identity(1).key()].fast, FastPath::Forbidden(Why::NoAddress));
    }
}

#[test]
fn a_destination_stays_closed_to_other_sources_until_the_kernel_has_left_it() {
    let trusted = Actor { trusts_us: true, is_trusted: true, ..fast_neighbour() };
    let mut stage = Stage::new(&[trusted], 0, FastSetting::BetweenTrustedSubnets);
    let to = vxlan_at(underlay_of(1, true));
    let (_, plan) = stage.weave();
    assert_eq!(plan.guard.clear_pairs, BTreeMap::from([(to, BTreeSet::from([subnet("10.0.0.0/8")]))]));

    // We have moved out of what the peer trusts.
    stage.view.card.addresses = vec![SocketAddr::new(underlay_of(0, false), 6783)];
    stage.destinations.insert(to);
    let (tables, plan) = stage.weave();
    assert_eq!(tables.peers[&identity(1).key()].fast, FastPath::Forbidden(Why::NotTrusted));
    assert_eq!(plan.guard.clear_pairs, BTreeMap::from([(to, BTreeSet::new())]));
    assert!(plan.vxlan_fdb.is_empty() && plan.flood.is_empty());

    stage.destinations.clear();
    assert!(stage.weave().1.guard.clear_pairs.is_empty());
}
