//! A plan, its steps, and what the kernel makes of them.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::sync::{Arc, Weak};
use std::thread;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use weave_datapath::guard::link_local;
use weave_datapath::linux::apply::apply;
use weave_datapath::linux::garp::Announcer;
use weave_datapath::linux::netlink::Netlink;
use weave_datapath::linux::netns::Netns;
use weave_datapath::linux::tap::Tap;
use weave_datapath::linux::veth::{self, AttachSpec};
use weave_datapath::plan::{
    Conflict, GuardedDevice, InstalledGuard, LinkKind, OverlayPort, Plan, PortFlags, PortPlan, Resolver, Step, diff,
};

use crate::lab::{bare_plan, fresh_namespace, ip, look, mac, names, on_a_host, run, subnet};

/// A plan with something in every table.
fn full_plan() -> Plan {
    let mut plan = bare_plan(1);
    for last in 10..20 {
        let carrier = if last % 2 == 0 { OverlayPort::Vxlan } else { OverlayPort::Tap };
        plan.bridge_fdb.insert(mac(last), carrier);
        // Some peers hear VXLAN at another port than we do.
        let remote = SocketAddr::new(ip(&format!("192.0.2.{last}")), if last % 3 == 0 { 7001 } else { 6784 });
        plan.vxlan_fdb.insert(mac(last), remote);
        plan.flood.insert(remote);
        plan.guard.clear_pairs.insert(remote, BTreeSet::from([subnet("192.0.2.0/24"), subnet("192.0.2.0/25")]));
        plan.neighbours.insert(ip(&format!("10.32.0.{last}")), mac(last));
        plan.neighbours.insert(ip(&format!("fd00::{last}")), mac(last));
        plan.guard.vxlan_sources.insert(ip(&format!("192.0.2.{last}")));
    }
    plan
}

fn steps(plan: &Plan) -> Vec<Step> {
    diff(&look(), plan).expect("no conflict")
}

fn make_so(plan: &Plan) {
    let steps = steps(plan);
    let failures = apply(&mut Netlink::open().expect("netlink"), &Announcer::open().expect("a socket"), &steps);
    assert!(failures.is_empty(), "{failures:?}");
}

/// Nothing is left to do, given that the guard is installed for the devices as they are.
fn assert_done(plan: &Plan) {
    let left = steps(plan);
    let [Step::InstallGuard(guard)] = left.as_slice() else { panic!("{left:?}") };
    let mut observed = look();
    let guarded =
        |chains: &String, device| GuardedDevice { index: observed.links[device].index, chains: chains.clone() };
    let devices = guard.chains.iter().map(|(device, chains)| (device.clone(), guarded(chains, device))).collect();
    observed.guard = Some(InstalledGuard { common: guard.common.clone(), devices });
    assert_eq!(diff(&observed, plan), Ok(Vec::new()));
}

#[test]
fn the_other_family_makes_the_vxlan_device_anew_and_entries_lead_there() {
    on_a_host(|| {
        let _tap = Tap::open(&names().tap).expect("tap");
        let mut plan = full_plan();
        make_so(&plan);

        let remote = SocketAddr::new(ip("2001:db8::9"), 6784);
        plan.vxlan.as_mut().expect("a device").local = Ipv6Addr::UNSPECIFIED.into();
        plan.vxlan_fdb.values_mut().for_each(|to| *to = remote);
        plan.flood = BTreeSet::from([remote]);
        make_so(&plan);

        assert_done(&plan);
        assert!(look().vxlan_fdb.values().all(|to| *to == remote));
        make_so(&full_plan());
        assert_done(&full_plan());
    });
}

#[test]
fn a_plan_applied_once_leaves_nothing_to_do() {
    on_a_host(|| {
        let _tap = Tap::open(&names().tap).expect("tap");
        let mut plan = full_plan();
        make_so(&plan);
        assert_done(&plan);

        let spec = AttachSpec {
            mtu: 1376,
            mac: Some(mac(5)),
            addresses: vec![subnet("10.32.0.5/12"), subnet("fd00::5/64")],
            resolver: Resolver::Absent,
            multicast_route: true,
        };
        let netns = fresh_namespace();
        let attached = veth::attach(&netns, &spec).expect("attach");
        let own = spec.addresses.iter().copied().collect();
        plan.ports.insert(attached.host_link.clone(), PortPlan { mac: mac(5), addresses: own });
        make_so(&plan);

        assert_done(&plan);
        let host = look().links.remove(&attached.host_link).expect("host link");
        assert_eq!((host.kind, host.mtu, host.up, host.port), (LinkKind::Veth, 1376, true, Some(PortFlags::ATTACHED)));
        let inside = netns.run(|| run("ip -6 address show ethwe")).expect("enter");
        assert!(inside.contains(&link_local(mac(5)).to_string()), "{inside}");
    });
}

#[test]
fn what_a_plan_no_longer_names_is_removed() {
    on_a_host(|| {
        let _tap = Tap::open(&names().tap).expect("tap");
        make_so(&full_plan());

        let plan = bare_plan(1);
        make_so(&plan);

        assert_done(&plan);
        let observed = look();
        assert!(observed.vxlan_fdb.is_empty() && observed.flood.is_empty() && observed.neighbours.is_empty());
    });
}

#[test]
fn a_changed_vni_makes_the_device_again_with_all_its_entries() {
    on_a_host(|| {
        let _tap = Tap::open(&names().tap).expect("tap");
        let mut plan = full_plan();
        make_so(&plan);

        plan.vxlan.as_mut().expect("fast path").vni = 78;
        make_so(&plan);

        assert_done(&plan);
        assert_eq!(look().vxlan_fdb, plan.vxlan_fdb);
        assert_eq!(look().flood, plan.flood);
    });
}

#[test]
fn without_a_fast_path_every_station_is_behind_the_tap_before_the_device_goes() {
    on_a_host(|| {
        let _tap = Tap::open(&names().tap).expect("tap");
        make_so(&full_plan());
        let mut plan = full_plan();
        plan.vxlan = None;
        plan.bridge_fdb.values_mut().for_each(|port| *port = OverlayPort::Tap);

        let order = steps(&plan);
        make_so(&plan);

        assert_eq!(order.last(), Some(&Step::DeleteLink { link: names().vxlan }));
        assert_done(&plan);
        assert!(look().bridge_fdb.values().all(|entry| entry.port != names().vxlan));
    });
}

#[test]
fn an_ipv6_underlay_carries_the_fast_path_too() {
    on_a_host(|| {
        let _tap = Tap::open(&names().tap).expect("tap");
        run("ip -6 address add 2001:db8::1/64 dev lo");
        let mut plan = bare_plan(1);
        plan.vxlan.as_mut().expect("fast path").local = ip("2001:db8::1");
        let remote = SocketAddr::new(ip("2001:db8::9"), 6784);
        plan.vxlan_fdb.insert(mac(9), remote);
        plan.flood.insert(remote);

        make_so(&plan);

        assert_done(&plan);
    });
}

#[test]
fn a_device_that_only_has_our_name_is_left_alone() {
    on_a_host(|| {
        run("ip link add weave type veth peer name other");

        let conflict = diff(&look(), &bare_plan(1)).expect_err("conflict");

        assert_eq!(conflict, Conflict { name: names().bridge, expected: "bridge" });
    });
}

/// A kernel brings up a device at once, and lets it send a moment later (its link watch): what a container said in
/// between was lost.
#[test]
fn both_ends_of_a_port_that_was_opened_can_send() {
    const PORTS: u8 = 100;
    on_a_host(|| {
        let _tap = Tap::open(&names().tap).expect("tap");
        let mut plan = bare_plan(1);
        make_so(&plan);
        // A namespace that is dropped takes its port along, some time later, from under the next plan.
        let containers: Vec<_> = (1..=PORTS).map(|_| fresh_namespace()).collect();
        let mute: usize =
            beside_others(|| (1..).zip(&containers).map(|(last, netns)| mute_ends(&mut plan, netns, last)).sum());
        assert_eq!(mute, 0, "ends of {PORTS} pairs");
    });
}

/// How many ends of a new port cannot send although its plan is applied.
fn mute_ends(plan: &mut Plan, netns: &Netns, last: u8) -> usize {
    let spec = AttachSpec {
        mtu: plan.bridge.mtu,
        mac: Some(mac(last)),
        addresses: vec![subnet(&format!("10.32.0.{last}/12"))],
        resolver: Resolver::Absent,
        multicast_route: false,
    };
    let attached = veth::attach(netns, &spec).expect("attach");
    let port = PortPlan { mac: attached.mac, addresses: spec.addresses.iter().copied().collect() };
    plan.ports.insert(attached.host_link.clone(), port);

    make_so(plan);

    let outside = is_running(attached.host_link.as_str());
    let inside = netns.run(|| is_running("ethwe")).expect("enter");
    [outside, inside].iter().filter(|runs| !**runs).count()
}

/// As the flags say, which do not make the kernel see to it.
fn is_running(link: &str) -> bool {
    let mut interfaces = getifaddrs().expect("interfaces");
    interfaces
        .any(|interface| interface.interface_name == link && interface.flags.contains(InterfaceFlags::IFF_RUNNING))
}

/// While others hold the kernel's lock for devices now and then, which its link watch needs, too.
fn beside_others<T>(work: impl FnOnce() -> T) -> T {
    let wanted = Arc::new(());
    let spin = |wanted: Weak<()>| {
        while wanted.strong_count() > 0 {
            look();
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let wanted = Arc::downgrade(&wanted);
            scope.spawn(move || spin(wanted));
        }
        // Dropped also by a panic, for which nobody would wait otherwise.
        let _wanted = wanted;
        work()
    })
}
