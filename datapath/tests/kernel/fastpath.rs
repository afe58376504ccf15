//! Two hosts, joined by the kernel's fast path alone.
//!
//! ```text
//!   10.32.0.5 ── [weave] ── weave-vx ── 192.0.2.1 ═══ 192.0.2.2 ── weave-vx ── [weave] ── 10.32.0.6
//! ```

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use weave_datapath::linux::netlink::Netlink;
use weave_datapath::linux::netns::Netns;
use weave_datapath::linux::observe::used_ages;
use weave_datapath::plan::OverlayPort;
use weave_netns_tests::frame;

use crate::lab::{Container, EXPERIMENTAL, Host, bare_plan, contains, fresh_namespace, ip, mac, names, run, try_run};

const UNDERLAY: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const IPV4: [&str; 2] = ["10.32.0.5", "10.32.0.6"];
const IPV6: [&str; 2] = ["fd00::5", "fd00::6"];

/// A host with one container.
struct Side {
    netns: Netns,
    host: Host,
    container: Container,
}

/// Two sides with a cable between them; all is set up but what they know of each other.
fn two_sides() -> [Side; 2] {
    let namespaces = [fresh_namespace(), fresh_namespace()];
    let far = format!("/proc/{}/fd/{}", std::process::id(), namespaces[1].as_fd().as_raw_fd());
    inside(&namespaces[0], || run(&format!("ip link add underlay type veth peer name underlay netns {far}")));
    let mut number = 0;
    namespaces.map(|netns| {
        let (host, container) = inside(&netns, || {
            run(&format!("ip address add {}/24 dev underlay", UNDERLAY[number]));
            run("ip link set underlay up");
            let mut plan = bare_plan(1 + number as u8);
            plan.guard.allow_ethertypes.insert(EXPERIMENTAL);
            let mut host = Host::start(plan);
            let addresses = [format!("{}/12", IPV4[number]), format!("{}/64", IPV6[number])];
            let container = host.container(5 + number as u8, &[&addresses[0], &addresses[1]]);
            (host, container)
        });
        number += 1;
        Side { netns, host, container }
    })
}

/// Two sides that know each other's container and are on the fast path.
fn joined() -> [Side; 2] {
    let mut sides = two_sides();
    for (number, side) in sides.iter_mut().enumerate() {
        let other = 1 - number;
        let (station, remote) = (mac(5 + other as u8), SocketAddr::new(ip(UNDERLAY[other]), 6784));
        let plan = &mut side.host.plan;
        plan.bridge_fdb.insert(station, OverlayPort::Vxlan);
        plan.vxlan_fdb.insert(station, remote);
        plan.flood.insert(remote);
        plan.neighbours.insert(ip(IPV4[other]), station);
        plan.neighbours.insert(ip(IPV6[other]), station);
        plan.guard.vxlan_sources.insert(remote.ip());
        side.host.apply();
    }
    sides
}

fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> T {
    netns.run(work).expect("enter the namespace")
}

#[test]
fn the_first_ping_is_answered_and_no_query_crosses() {
    let [one, other] = joined();
    let far = other.container.wire();

    assert!(one.container.pings(IPV4[1]), "first ping");
    assert!(one.container.pings(IPV6[1]), "first ping of IPv6");

    let [ipv4, ipv6] = [IPV4[1], IPV6[1]].map(|address| match ip(address) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    });
    let is_query = |frame: &Vec<u8>| {
        (frame[12..14] == frame::ARP.to_be_bytes() && frame[20..22] == [0, 1] && frame[38..42] == ipv4)
            || (frame[12..14] == frame::IPV6.to_be_bytes() && frame[54] == 135 && frame[62..78] == ipv6)
    };
    let queries: Vec<Vec<u8>> = far.heard().into_iter().filter(is_query).collect();
    assert_eq!(queries, Vec::<Vec<u8>>::new());
}

#[test]
fn a_broadcast_and_a_multicast_arrive_exactly_once() {
    let [one, other] = joined();
    let (near, far) = (one.container.wire(), other.container.wire());
    // Of a member who asks: with snooping on, the others would hear nothing more.
    near.send(&frame::igmp_query(mac(5).0, IPV4[0].parse().expect("address")));
    near.send(&frame::mld_query(mac(5).0, frame::link_local(mac(5).0)));
    let group = [1, 0, 0x5e, 1, 2, 3];

    for (to, text) in [(frame::BROADCAST, "to all"), (group, "to a group"), (frame::BROADCAST, "the end")] {
        near.send(&frame::ethernet(to, mac(5).0, EXPERIMENTAL, text.as_bytes()));
    }

    let frames = far.until(&[b"the end"]);
    for text in ["to all", "to a group"] {
        assert_eq!(frames.iter().filter(|frame| contains(frame, text.as_bytes())).count(), 1, "{text}");
    }
}

#[test]
fn an_unknown_station_is_not_sought_on_other_hosts() {
    let [one, other] = joined();
    let (near, far) = (one.container.wire(), other.container.wire());

    near.send(&frame::ethernet(mac(99).0, mac(5).0, EXPERIMENTAL, b"to nobody"));
    near.send(&frame::ethernet(frame::BROADCAST, mac(5).0, EXPERIMENTAL, b"the end"));

    assert!(!far.until(&[b"the end"]).iter().any(|frame| contains(frame, b"to nobody")));
}

#[test]
fn what_a_stranger_sends_to_the_fast_path_is_dropped() {
    let [one, mut other] = joined();
    other.host.plan.guard.vxlan_sources.clear();
    other.host.apply();
    assert!(!one.container.pings(IPV4[1]), "not listed, so not heard");
    let dropped = inside(&other.netns, || run("nft list chain inet weave-rs-weave fastpath"));
    assert!(!dropped.contains("packets 0 "), "the drop is counted: {dropped}");

    other.host.plan.guard.vxlan_sources.insert(ip(UNDERLAY[0]));
    other.host.apply();
    assert!(one.container.pings(IPV4[1]), "listed");
}

#[test]
fn the_guard_of_the_fast_path_outlives_the_daemon() {
    let [one, mut other] = joined();
    other.host.plan.guard.vxlan_sources.clear();
    other.host.apply();

    other.host.stop();

    assert!(!one.container.pings(IPV4[1]));
}

#[test]
fn traffic_goes_on_without_the_daemons() {
    let [one, other] = joined();

    one.host.stop();
    other.host.stop();

    assert!(one.container.pings(IPV4[1]));
}

#[test]
fn what_does_not_fit_is_answered_by_the_kernel() {
    let [one, _other] = joined();

    let (passed, output) = inside(&one.container.netns, || try_run("ping -n -c 1 -W 1 -M do -s 1400 10.32.0.6"));

    assert!(!passed && output.contains("mtu"), "{output}");
}

#[test]
fn traffic_refreshes_the_age_of_an_entry() {
    let [one, _other] = joined();
    let age = || {
        inside(&one.netns, || {
            let mut netlink = Netlink::open().expect("netlink");
            used_ages(&mut netlink, &names().vxlan).expect("ages").remove(&mac(6)).expect("entry")
        })
    };
    crate::lab::eventually("it ages", || age() > Duration::from_millis(300));

    assert!(one.container.pings(IPV4[1]));

    assert!(age() < Duration::from_millis(200), "{:?}", age());
}
