//! The keeper thread: it heals, adopts, and reports.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use weave_datapath::guard::Listing;
use weave_datapath::linux::firewall::list_guard;
use weave_datapath::linux::kernel::Event;
use weave_datapath::plan::{Crossing, Keep, LinkName, Opening, OverlayPort};
use weave_netns_tests::frame;

use crate::lab::{
    Container, EXPERIMENTAL, Host, Wire, bare_plan, eventually, ip, look, mac, names, on_a_host, run, subnet, try_run,
};

/// A host that knows one remote station on each carrier.
fn host_with_stations() -> Host {
    let mut plan = bare_plan(1);
    for (last, carrier) in [(10, OverlayPort::Vxlan), (11, OverlayPort::Tap)] {
        plan.bridge_fdb.insert(mac(last), carrier);
        let remote = SocketAddr::new(ip(&format!("192.0.2.{last}")), 6784);
        plan.vxlan_fdb.insert(mac(last), remote);
        plan.flood.insert(remote);
        plan.neighbours.insert(ip(&format!("10.32.0.{last}")), mac(last));
    }
    Host::start(plan)
}

#[test]
fn what_somebody_flushes_comes_back() {
    on_a_host(|| {
        let mut host = host_with_stations();
        host.plan.bridge.addresses.insert(subnet("10.32.0.9/12"));
        host.plan.exposed.insert(subnet("10.32.0.0/12"), Opening::of(Crossing::Masqueraded));
        let container = host.container(5, &["10.32.0.5/12"]);
        let own = &container.attached.host_link;
        let before = look();
        let guard = || {
            let text = list_guard(&names().bridge).expect("nft");
            text.map(|text| Listing::of(&text, &look().links.into_keys().collect()))
        };
        let rules = guard();

        for vandalism in [
            "bridge fdb del 02:00:00:00:00:0a dev weave-vx master",
            "bridge fdb del 02:00:00:00:00:0a dev weave-vx dst 192.0.2.10",
            "bridge fdb replace 02:00:00:00:00:0b dev weave-vx master static",
            "bridge fdb del 00:00:00:00:00:00 dev weave-vx dst 192.0.2.11",
            "ip neighbour flush dev weave nud permanent",
            "bridge link set dev weave-tap flood on isolated off neigh_suppress off",
            "ip link set weave type bridge mcast_snooping 1",
            "ip link set weave-vx mtu 1300",
            "nft flush ruleset",
            "nft flush chain netdev weave-rs-weave common",
            &format!("nft flush chain netdev weave-rs-weave {own}"),
            &format!("nft delete chain netdev weave-rs-weave {own}"),
            &format!("nft insert rule netdev weave-rs-weave {own} accept"),
            &format!("nft add chain netdev weave-rs-weave {own}-out"),
            "nft delete table inet weave-rs-weave",
            "ip link set weave-vx nomaster",
            "ip link set weave down",
            "ip address flush dev weave scope global",
            "ip address add 10.40.0.1/24 dev weave",
        ] {
            run(vandalism);
            eventually(vandalism, || (look(), guard()) == (before.clone(), rules.clone()));
        }
        host.wait_for("healing is reported", |event| matches!(event, Event::Healed { .. }).then_some(()));
    });
}

/// The chains of a port as the kernel numbers them: whatever is written anew has other numbers.
fn numbered(port: &LinkName) -> String {
    run(&format!("nft -a -s list chain netdev weave-rs-weave {port}"))
}

#[test]
fn a_port_comes_and_goes_and_nobody_touches_the_guard_of_another() {
    on_a_host(|| {
        let mut host = host_with_stations();
        let stays = host.container(5, &["10.32.0.5/12"]);
        let before = numbered(&stays.attached.host_link);

        let goes = host.container(6, &["10.32.0.6/12"]);
        assert!(numbered(&goes.attached.host_link).contains("10.32.0.6"));
        assert_eq!(numbered(&stays.attached.host_link), before);

        host.plan.ports.remove(&goes.attached.host_link);
        goes.run("ip link delete ethwe");
        host.apply();
        let guard = list_guard(&names().bridge).expect("nft").expect("tables");
        assert!(!guard.contains(goes.attached.host_link.as_str()), "{guard}");
        assert_eq!(numbered(&stays.attached.host_link), before);
        let healed = host.heard.iter().any(|event| matches!(event, Event::Healed { .. }));
        assert!(!healed, "nobody has undone anything: {:?}", host.heard);
    });
}

#[test]
fn a_port_that_somebody_opens_before_it_was_read_back_is_closed_again() {
    on_a_host(|| {
        let mut host = host_with_stations();
        let common = || run("nft -a -s list chain netdev weave-rs-weave common");
        let before = common();
        let container = host.container(6, &["10.32.0.6/12"]);
        let own = &container.attached.host_link;
        let rules = |port: &LinkName| try_run(&format!("nft -s list chain netdev weave-rs-weave {port}"));
        let wanted = rules(own);

        run(&format!("nft flush chain netdev weave-rs-weave {own}"));

        eventually("it is guarded", || rules(own) == wanted);
        run("nft add table ip of_somebody_else");
        run(&format!("nft insert rule netdev weave-rs-weave {own} accept"));
        eventually("it is guarded again", || rules(own) == wanted);
        assert_eq!(common(), before, "all of it was replaced");
    });
}

#[test]
fn removed_devices_are_made_again() {
    on_a_host(|| {
        let mut host = host_with_stations();
        let container = host.container(5, &["10.32.0.5/12"]);
        for device in ["weave-vx", "weave"] {
            run(&format!("ip link delete {device}"));

            eventually(device, || {
                let observed = look();
                observed.vxlan_fdb == host.plan.vxlan_fdb
                    && observed.flood == host.plan.flood
                    && observed.bridge_fdb.get(&mac(10)).is_some_and(|entry| entry.port == names().vxlan)
                    && observed.bridge_fdb.get(&mac(5)).is_some_and(|entry| entry.port == container.attached.host_link)
                    && observed.links.get(&names().tap).is_some_and(|link| link.port.is_some())
            });
        }
    });
}

#[test]
fn a_new_keeper_adopts_what_it_finds() {
    on_a_host(|| {
        let host = host_with_stations();
        let before = look();
        let plan = host.plan.clone();
        host.stop();

        let adopted = Host::start(plan);

        assert_eq!(look(), before);
        let healed = adopted.heard.iter().any(|event| matches!(event, Event::Healed { .. }));
        assert!(!healed, "nothing was to be healed: {:?}", adopted.heard);
    });
}

#[test]
fn a_forged_source_moves_no_station() {
    on_a_host(|| {
        let host = host_with_stations();
        run("ip link add plugged type veth peer name outside");
        run("ip link set plugged master weave up");
        run("ip link set outside up");
        let outside = Wire::on("outside");

        eventually("the port forwards and learns", || {
            outside.send(&frame::ethernet(frame::BROADCAST, mac(10).0, EXPERIMENTAL, b"forged"));
            outside.send(&frame::ethernet(frame::BROADCAST, mac(77).0, EXPERIMENTAL, b"own"));
            look().bridge_fdb.contains_key(&mac(77))
        });

        let entry = look().bridge_fdb.remove(&mac(10)).expect("entry");
        assert_eq!((entry.port, entry.keep), (names().vxlan, Keep::Sticky));
        host.stop();
    });
}

/// A new guard keeps the keeper busy, and after it the pace does.
#[test]
fn a_new_station_does_not_wait_for_the_keeper() {
    on_a_host(|| {
        let mut host = host_with_stations();
        for (last, carrier) in [(20, OverlayPort::Vxlan), (21, OverlayPort::Tap)] {
            host.plan.guard.vxlan_sources.insert(ip(&format!("192.0.2.{last}")));
            host.apply();
            host.plan.bridge_fdb.insert(mac(last), carrier);
            let remote = SocketAddr::new(ip(&format!("192.0.2.{last}")), 6784);
            host.plan.vxlan_fdb.insert(mac(last), remote);

            let asked = host.ask();
            eventually("it is programmed", || look().bridge_fdb.contains_key(&mac(last)));

            assert!(!host.has_applied(asked), "the keeper was first: this shows nothing");
            let observed = look();
            assert_eq!(observed.vxlan_fdb.get(&mac(last)), Some(&remote));
            assert_eq!(observed.bridge_fdb[&mac(last)].keep, Keep::Sticky);
            host.apply();
            assert_eq!(look().bridge_fdb, observed.bridge_fdb, "the keeper has nothing to add");
        }
    });
}

#[test]
fn stations_at_hand_plugged_ports_are_reported() {
    on_a_host(|| {
        let mut host = Host::start(bare_plan(1));
        run("ip link add plugged type veth peer name outside");
        run("ip link set plugged master weave up");
        run("ip link set outside up");
        let outside = Wire::on("outside");
        let port = "plugged".parse().expect("name");
        let learnt = Event::Learnt { mac: mac(77), port };
        eventually("the port forwards", || {
            outside.send(&frame::ethernet(frame::BROADCAST, mac(77).0, EXPERIMENTAL, b"hello"));
            look().bridge_fdb.contains_key(&mac(77))
        });
        host.wait_for("it is learnt", |event| (*event == learnt).then_some(()));

        run("ip link delete plugged");

        let port = "plugged".parse().expect("name");
        let forgotten = Event::Forgotten { mac: mac(77), port };
        host.wait_for("it is forgotten", |event| (*event == forgotten).then_some(()));
    });
}

#[test]
fn a_container_that_dies_is_reported() {
    on_a_host(|| {
        let mut host = Host::start(bare_plan(1));
        let container = host.container(5, &["10.32.0.5/12"]);
        let own = container.attached.host_link.clone();

        // As when the kernel takes a namespace down, which may be long after its last process.
        container.run("ip link delete ethwe");

        host.wait_for("its port is gone", |event| {
            matches!(event, Event::PortGone { port, .. } if *port == own).then_some(())
        });
    });
}

/// Before Linux 6.16 a guard is refused when one of its devices is gone.
#[test]
fn a_container_that_dies_meanwhile_keeps_no_plan_from_being_applied() {
    on_a_host(|| {
        let mut host = Host::start(bare_plan(1));
        let doomed: Vec<Container> =
            (10..30).map(|last| host.container(last, &[&format!("10.32.0.{last}/12")])).collect();

        std::thread::scope(|scope| {
            let dying = scope.spawn(|| doomed.iter().for_each(|container| drop(container.run("ip link delete ethwe"))));
            for source in (1..=u8::MAX).cycle().take_while(|_| !dying.is_finished()) {
                host.plan.guard.vxlan_sources = BTreeSet::from([ip(&format!("192.0.2.{source}"))]);
                // Fails the test on any failed step.
                host.apply();
            }
        });
    });
}

#[test]
fn an_address_with_another_mac_is_announced_to_the_containers() {
    on_a_host(|| {
        let mut host = Host::start(bare_plan(1));
        let container = host.container(5, &["10.32.0.5/12", "fd00::5/64"]);
        let wire = container.wire();
        let addresses = [ip("10.32.0.9"), ip("fd00::9")];
        let mut give = |last: Option<u8>| {
            for address in addresses {
                host.plan.neighbours.remove(&address);
                host.plan.neighbours.extend(last.map(|last| (address, mac(last))));
            }
            host.apply();
        };
        let [ipv4, ipv6] = ["10.32.0.9", "fd00::9"];
        let announced = |last: u8| {
            let mac = mac(last).0;
            let arp = frame::gratuitous_arp(mac, ipv4.parse().expect("address"), mac);
            let advertisement = frame::neighbour_advertisement(mac, ipv6.parse().expect("address"), mac);
            // Up to the sender; the target is the forger's own choice.
            wire.until(&[&arp[..32], &advertisement]);
        };
        give(Some(9));

        give(Some(10));
        announced(10);

        give(None);
        give(Some(11));
        announced(11);
    });
}

#[test]
fn bridged_frames_pass_the_firewall_of_docker() {
    on_a_host(|| {
        let rule = || run("iptables -S DOCKER-USER");
        let _host = Host::start(bare_plan(1));
        run("iptables -N DOCKER-USER");
        eventually("the accept is there", || rule().contains("-A DOCKER-USER -i weave -o weave"));

        run("iptables -F DOCKER-USER");

        eventually("the accept is back", || rule().contains("-A DOCKER-USER -i weave -o weave"));
        assert_eq!(rule().matches("weave-rs").count(), 1);
    });
}
