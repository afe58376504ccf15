//! The order of steps, and that they lead where they should: a model kernel carries them out.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::plan::fixture::{bare_plan, mac, names};
use crate::plan::{BridgeFdbEntry, BridgeNames, GuardedDevice, NeighbourEntry, PortPlan};

fn link(name: &str) -> LinkName {
    name.parse().expect("name")
}

fn remote(last: u8) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, last), 6784).into()
}

fn inner(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 32, 0, last).into()
}

fn inside(last: u8) -> Subnet {
    Subnet { address: inner(last), prefix_len: 12 }
}

/// A plan with one remote station on the fast path.
fn plan_with_station() -> Plan {
    let mut plan = bare_plan();
    plan.bridge_fdb.insert(mac(9), OverlayPort::Vxlan);
    plan.vxlan_fdb.insert(mac(9), remote(9));
    plan.flood.insert(remote(9));
    plan.neighbours.insert(inner(9), mac(9));
    plan
}

fn device(kind: LinkKind) -> ObservedLink {
    ObservedLink { index: 1, kind, mac: mac(200), mtu: 1500, up: false, port: None }
}

/// A host whose packet thread has made its TAP.
fn empty_host() -> Observed {
    Observed { links: BTreeMap::from([(names().tap, device(LinkKind::Tap))]), ..Observed::default() }
}

/// What the kernel makes of `step`.
fn carry_out(observed: &mut Observed, step: Step) {
    let changed = |observed: &mut Observed, name: &LinkName, change: &dyn Fn(&mut ObservedLink)| {
        change(observed.links.get_mut(name).unwrap_or_else(|| panic!("no device {name}")));
    };
    match step {
        Step::InstallGuard(Guard { common, chains }) => {
            let guarded = |(device, chains)| {
                let index = observed.links[&device].index;
                (device, GuardedDevice { index, chains })
            };
            observed.guard = Some(InstalledGuard { common, devices: chains.into_iter().map(guarded).collect() });
        }
        Step::GuardDevice { device, chains, .. } => {
            let index = observed.links[&device].index;
            let guard = observed.guard.as_mut().expect("the tables");
            guard.devices.insert(device, GuardedDevice { index, chains });
        }
        Step::UnguardDevice { device, .. } => {
            let guard = observed.guard.as_mut().expect("the tables");
            assert!(guard.devices.remove(&device).is_some(), "{device} has no guard");
        }
        Step::CreateBridge { name, mac } => {
            let kind = LinkKind::Bridge { snooping: false, ipv6_tuned: false };
            observed.links.insert(name, ObservedLink { mac, ..device(kind) });
        }
        Step::CreateVxlan { name, vxlan, mtu } => {
            let VxlanPlan { vni, port, local } = vxlan;
            let kind = LinkKind::Vxlan { vni, port, local: Some(local), df_set: true, learning: false };
            assert!(observed.links.insert(name, ObservedLink { mtu, ..device(kind) }).is_none(), "made twice");
        }
        Step::DeleteLink { link } => {
            observed.links.remove(&link).expect("a device");
            observed.bridge_fdb.retain(|_, entry| entry.port != link);
            if link == names().vxlan {
                observed.vxlan_fdb.clear();
                observed.flood.clear();
            }
        }
        Step::SetMac { link, mac } => changed(observed, &link, &|link| link.mac = mac),
        Step::SetMtu { link, mtu } => changed(observed, &link, &|link| link.mtu = mtu),
        Step::DisableSnooping { bridge } => changed(observed, &bridge, &|link| {
            if let LinkKind::Bridge { snooping, .. } = &mut link.kind {
                *snooping = false;
            }
        }),
        Step::TuneIpv6 { link } => changed(observed, &link, &|link| {
            if let LinkKind::Bridge { ipv6_tuned, .. } = &mut link.kind {
                *ipv6_tuned = true;
            }
        }),
        Step::Plug { link, .. } => {
            assert!(observed.guard.as_ref().is_some_and(|guard| guard.devices.contains_key(&link)), "{link} is open");
            changed(observed, &link, &|link| link.port = Some(PortFlags::ATTACHED));
        }
        Step::SetPortFlags { link, flags } => changed(observed, &link, &|link| link.port = Some(flags)),
        Step::BringUp { link } => changed(observed, &link, &|link| {
            link.up = true;
        }),
        entry => carry_out_entry(observed, entry),
    }
}

fn carry_out_entry(observed: &mut Observed, step: Step) {
    match step {
        Step::AddAddress { link, subnet } => {
            assert!(observed.links.contains_key(&link));
            assert!(observed.addresses.insert(subnet));
        }
        Step::RemoveAddress { subnet, .. } => assert!(observed.addresses.remove(&subnet)),
        Step::SetBridgeFdb { mac, port } => {
            assert!(observed.links[&port].port.is_some(), "{port} is no port");
            observed.bridge_fdb.insert(mac, BridgeFdbEntry { port, keep: Keep::Sticky });
        }
        Step::RemoveBridgeFdb { mac, port } => {
            assert_eq!(observed.bridge_fdb.remove(&mac).map(|entry| entry.port), Some(port));
        }
        Step::SetVxlanFdb { link, mac, remote } => {
            assert!(observed.links.contains_key(&link));
            observed.vxlan_fdb.insert(mac, remote);
        }
        Step::RemoveVxlanFdb { mac, remote, .. } => assert_eq!(observed.vxlan_fdb.remove(&mac), Some(remote)),
        Step::AddFlood { remote, .. } => assert!(observed.flood.insert(remote)),
        Step::RemoveFlood { remote, .. } => assert!(observed.flood.remove(&remote)),
        Step::SetNeighbour { address, mac, .. } => {
            observed.neighbours.insert(address, NeighbourEntry { mac, permanent: true });
        }
        Step::RemoveNeighbour { address, .. } => drop(observed.neighbours.remove(&address).expect("a neighbour")),
        Step::Announce { address, mac, .. } => assert_eq!(observed.neighbours[&address].mac, mac),
        step => panic!("{step:?} is no entry"),
    }
}

fn reach(observed: &mut Observed, plan: &Plan) -> Vec<Step> {
    let steps = diff(observed, plan).expect("no conflict");
    for step in steps.clone() {
        carry_out(observed, step);
    }
    assert_eq!(diff(observed, plan), Ok(Vec::new()), "steps that leave something to do");
    steps
}

fn position(steps: &[Step], wanted: &Step) -> usize {
    steps.iter().position(|step| step == wanted).unwrap_or_else(|| panic!("no {wanted:?} in {steps:#?}"))
}

#[test]
fn a_fresh_host_is_guarded_before_a_port_is_plugged_and_comes_up_last() {
    let steps = reach(&mut empty_host(), &plan_with_station());

    let BridgeNames { bridge, vxlan, tap } = names();
    let overlay = PortFlags::OVERLAY;
    let expected = [
        Step::CreateVxlan { name: vxlan.clone(), vxlan: bare_plan().vxlan.expect("fast path"), mtu: 1376 },
        install_guard(&plan_with_station(), [&vxlan, &tap]),
        Step::CreateBridge { name: bridge.clone(), mac: mac(1) },
        Step::TuneIpv6 { link: bridge.clone() },
        Step::SetMtu { link: bridge.clone(), mtu: 1376 },
        Step::BringUp { link: bridge.clone() },
        Step::Plug { link: vxlan.clone(), bridge: bridge.clone() },
        Step::SetPortFlags { link: vxlan.clone(), flags: overlay },
        Step::BringUp { link: vxlan.clone() },
        Step::SetMtu { link: tap.clone(), mtu: 1376 },
        Step::Plug { link: tap.clone(), bridge: bridge.clone() },
        Step::SetPortFlags { link: tap.clone(), flags: overlay },
        Step::BringUp { link: tap },
        Step::SetVxlanFdb { link: vxlan.clone(), mac: mac(9), remote: remote(9) },
        Step::SetBridgeFdb { mac: mac(9), port: vxlan.clone() },
        Step::AddFlood { link: vxlan, remote: remote(9) },
        Step::SetNeighbour { bridge: bridge.clone(), address: inner(9), mac: mac(9) },
        Step::Announce { bridge, address: inner(9), mac: mac(9) },
    ];
    assert_eq!(steps, expected);
}

fn install_guard<const N: usize>(plan: &Plan, devices: [&LinkName; N]) -> Step {
    let devices = devices.map(LinkName::clone).into();
    Step::InstallGuard(Guard::of(plan, &devices))
}

fn guard_device(plan: &Plan, device: &LinkName) -> Step {
    let chains = Guard::of(plan, &BTreeSet::from([device.clone()])).chains.remove(device).expect("its chains");
    Step::GuardDevice { bridge: names().bridge, device: device.clone(), chains }
}

/// A host with ports of containers, one of each number.
fn host_with_ports(numbers: &[u8]) -> (Observed, Plan) {
    let (mut observed, mut plan) = (empty_host(), bare_plan());
    for &number in numbers {
        observed.links.insert(port_name(number), device(LinkKind::Veth));
        plan.ports.insert(port_name(number), PortPlan { mac: mac(number), addresses: [inside(number)].into() });
    }
    reach(&mut observed, &plan);
    (observed, plan)
}

fn port_name(number: u8) -> LinkName {
    link(&format!("vethwepl000000{number}"))
}

/// The steps that change the guard.
fn guarding(steps: Vec<Step>) -> Vec<Step> {
    steps.into_iter().filter(|step| matches!(step, Step::InstallGuard(_)) || step.device_script().is_some()).collect()
}

#[test]
fn a_port_comes_and_goes_and_nothing_is_written_of_the_others() {
    let (mut observed, mut plan) = host_with_ports(&[5]);
    observed.links.insert(port_name(6), device(LinkKind::Veth));
    plan.ports.insert(port_name(6), PortPlan { mac: mac(6), addresses: [inside(6)].into() });

    assert_eq!(guarding(reach(&mut observed, &plan)), [guard_device(&plan, &port_name(6))]);

    observed.links.remove(&port_name(6));
    plan.ports.remove(&port_name(6));
    let unguard = Step::UnguardDevice { bridge: names().bridge, device: port_name(6) };
    observed.bridge_fdb.remove(&mac(6));
    assert_eq!(guarding(reach(&mut observed, &plan)), [unguard]);
}

#[test]
fn a_port_with_another_address_is_guarded_anew_alone() {
    let (mut observed, mut plan) = host_with_ports(&[5, 6]);
    plan.ports.get_mut(&port_name(6)).expect("port").addresses.insert(inside(7));

    assert_eq!(guarding(reach(&mut observed, &plan)), [guard_device(&plan, &port_name(6))]);
}

/// A container has died: nothing is repaired before its end is known.
#[test]
fn the_guard_of_a_device_that_is_gone_is_left_as_long_as_the_plan_names_it() {
    let (mut observed, plan) = host_with_ports(&[5]);

    observed.links.remove(&port_name(5));
    observed.bridge_fdb.remove(&mac(5));

    assert_eq!(diff(&observed, &plan), Ok(Vec::new()));
}

#[test]
fn what_all_have_in_common_is_replaced_with_all_else() {
    let (mut observed, mut plan) = host_with_ports(&[5]);
    plan.guard.vxlan_sources.insert(inner(1));

    let BridgeNames { vxlan, tap, .. } = names();
    let expected = [install_guard(&plan, [&vxlan, &tap, &port_name(5)])];
    assert_eq!(reach(&mut observed, &plan), expected);
}

#[test]
fn a_device_that_is_made_anew_is_guarded_anew() {
    let (mut observed, plan) = (empty_host(), bare_plan());
    reach(&mut observed, &plan);
    let tap = names().tap;

    observed.links.get_mut(&tap).expect("TAP").index = 7;

    assert_eq!(diff(&observed, &plan), Ok(vec![guard_device(&plan, &tap)]));
}

#[test]
fn a_port_that_is_plugged_and_not_planned_is_guarded_all_the_same() {
    let (mut observed, plan) = (empty_host(), bare_plan());
    let BridgeNames { vxlan, tap, .. } = names();
    let stray = |port| ObservedLink { port, ..device(LinkKind::Veth) };
    let (plugged, loose) = (link("vethwepl0000001"), link("vethwepl0000002"));
    observed.links.extend([(plugged.clone(), stray(Some(PortFlags::ATTACHED))), (loose, stray(None))]);

    let steps = reach(&mut observed, &plan);

    position(&steps, &install_guard(&plan, [&vxlan, &tap, &plugged]));
}

#[test]
fn a_demotion_moves_the_bridge_entry_and_keeps_the_others() {
    let mut observed = empty_host();
    let mut plan = plan_with_station();
    reach(&mut observed, &plan);

    plan.bridge_fdb.insert(mac(9), OverlayPort::Tap);
    plan.flood.clear();
    let steps = reach(&mut observed, &plan);

    let expected = [
        Step::SetBridgeFdb { mac: mac(9), port: names().tap },
        Step::RemoveFlood { link: names().vxlan, remote: remote(9) },
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_station_that_moves_is_added_before_it_is_removed() {
    let mut observed = empty_host();
    let mut plan = plan_with_station();
    reach(&mut observed, &plan);

    plan.vxlan_fdb = BTreeMap::from([(mac(9), remote(8))]);
    plan.flood = BTreeSet::from([remote(8)]);
    let steps = reach(&mut observed, &plan);

    let vxlan = names().vxlan;
    let added = position(&steps, &Step::AddFlood { link: vxlan.clone(), remote: remote(8) });
    let removed = position(&steps, &Step::RemoveFlood { link: vxlan.clone(), remote: remote(9) });
    assert!(added < removed);
    // One station has one remote: it is replaced in place.
    assert_eq!(steps[0], Step::SetVxlanFdb { link: vxlan, mac: mac(9), remote: remote(8) });
}

#[test]
fn what_an_address_is_now_is_announced_to_whoever_may_have_it_otherwise() {
    let mut observed = empty_host();
    let mut plan = plan_with_station();
    let announce = |last| Step::Announce { bridge: names().bridge, address: inner(9), mac: mac(last) };
    // A container may have asked for it while it was another's and the daemon had not heard.
    assert!(diff(&observed, &plan).expect("no conflict").contains(&announce(9)));

    observed.neighbours.insert(inner(9), NeighbourEntry { mac: mac(9), permanent: true });
    assert!(!diff(&observed, &plan).expect("no conflict").contains(&announce(9)), "nobody has it wrong");

    plan.neighbours.insert(inner(9), mac(10));
    let steps = diff(&observed, &plan).expect("no conflict");
    let told = steps.iter().position(|step| *step == announce(10)).expect("it is told");
    assert!(steps[..told].iter().any(|step| matches!(step, Step::SetNeighbour { .. })), "{steps:?}");

    // The kernel has heard the new one by itself; the containers may not have.
    observed.neighbours.insert(inner(9), NeighbourEntry { mac: mac(10), permanent: false });
    assert!(diff(&observed, &plan).expect("no conflict").contains(&announce(10)));
}

#[test]
fn an_address_of_this_host_or_its_containers_never_leads_away() {
    let mut observed = empty_host();
    let mut plan = bare_plan();
    let port = link("vethwepl0000001");
    observed.links.insert(port.clone(), device(LinkKind::Veth));
    observed.bridge_fdb.insert(mac(1), BridgeFdbEntry { port: names().bridge, keep: Keep::Own });
    plan.ports.insert(port.clone(), PortPlan { mac: mac(5), addresses: BTreeSet::new() });
    plan.bridge_fdb.extend([(mac(1), OverlayPort::Tap), (mac(5), OverlayPort::Tap)]);

    let steps = reach(&mut observed, &plan);

    let entries: Vec<&Step> = steps.iter().filter(|step| matches!(step, Step::SetBridgeFdb { .. })).collect();
    assert_eq!(entries, [&Step::SetBridgeFdb { mac: mac(5), port }]);
}

#[test]
fn what_others_put_on_their_own_ports_stays() {
    let mut observed = empty_host();
    reach(&mut observed, &bare_plan());
    let theirs = device(LinkKind::Veth);
    observed.links.insert(link("plugged"), ObservedLink { port: Some(PortFlags::OVERLAY), ..theirs });
    observed.bridge_fdb.insert(mac(77), BridgeFdbEntry { port: link("plugged"), keep: Keep::Static });
    observed.bridge_fdb.insert(mac(78), BridgeFdbEntry { port: link("plugged"), keep: Keep::Learnt });
    observed.neighbours.insert(inner(77), NeighbourEntry { mac: mac(77), permanent: false });

    assert_eq!(diff(&observed, &bare_plan()), Ok(Vec::new()));
}

#[test]
fn a_container_that_is_gone_is_no_error() {
    let mut plan = bare_plan();
    plan.ports.insert(link("vethwepl0000001"), PortPlan { mac: mac(5), addresses: BTreeSet::from([inside(5)]) });

    reach(&mut empty_host(), &plan);
}

prop_compose! {
    fn any_plan()(
        vxlan in proptest::option::of(1_u32..4),
        stations in proptest::collection::btree_map(0_u8..8, (any::<bool>(), 0_u8..4, 0_u8..8), 0..8),
        ports in proptest::collection::btree_map(0_u8..3, 4_u8..8, 0..3),
    ) -> Plan {
        let mut plan = bare_plan();
        plan.vxlan = vxlan.map(|vni| VxlanPlan { vni, port: 6784, local: Ipv4Addr::UNSPECIFIED.into() });
        for (last, (fast, peer, address)) in stations {
            let carrier = if fast && vxlan.is_some() { OverlayPort::Vxlan } else { OverlayPort::Tap };
            plan.bridge_fdb.insert(mac(last), carrier);
            plan.neighbours.insert(inner(address), mac(last));
            if vxlan.is_some() {
                plan.vxlan_fdb.insert(mac(last), remote(peer));
                plan.flood.insert(remote(peer));
            }
        }
        for (number, last) in ports {
            let port = PortPlan { mac: mac(last), addresses: BTreeSet::from([inside(last)]) };
            plan.ports.insert(link(&format!("vethwepl000000{number}")), port);
        }
        // One station is at one port.
        let mut macs = BTreeSet::new();
        plan.ports.retain(|_, port| macs.insert(port.mac));
        plan
    }
}

proptest! {
    #[test]
    fn every_plan_is_reached_from_every_other(plans in proptest::collection::vec(any_plan(), 1..5)) {
        let mut observed = empty_host();
        for number in 0..3 {
            observed.links.insert(link(&format!("vethwepl000000{number}")), device(LinkKind::Veth));
        }
        for plan in &plans {
            reach(&mut observed, plan);

            prop_assert_eq!(&observed.vxlan_fdb, &plan.vxlan_fdb);
            prop_assert_eq!(&observed.flood, &plan.flood);
            let neighbours: BTreeMap<IpAddr, MacAddr> =
                observed.neighbours.iter().map(|(address, entry)| (*address, entry.mac)).collect();
            prop_assert_eq!(&neighbours, &plan.neighbours);
        }
    }
}

#[test]
fn a_new_address_of_the_host_is_there_before_the_old_one_goes() {
    let subnet = |last: u8| Subnet { address: inner(last), prefix_len: 12 };
    let bridge = names().bridge;
    let mut observed = empty_host();
    let mut plan = bare_plan();
    plan.bridge.addresses.insert(subnet(8));
    let steps = reach(&mut observed, &plan);
    let up = position(&steps, &Step::BringUp { link: bridge.clone() });
    assert!(up < position(&steps, &Step::AddAddress { link: bridge.clone(), subnet: subnet(8) }));

    plan.bridge.addresses = BTreeSet::from([subnet(9)]);
    let steps = reach(&mut observed, &plan);

    let added = Step::AddAddress { link: bridge.clone(), subnet: subnet(9) };
    let removed = Step::RemoveAddress { link: bridge, subnet: subnet(8) };
    assert_eq!(steps, [added, removed]);
}
