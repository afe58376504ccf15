//! Attaching and detaching containers.

use weave_datapath::linux::netns::Netns;
use weave_datapath::linux::veth::{AttachError, AttachSpec, attach, detach, inspect, open};
use weave_datapath::plan::{LinkKind, Resolver};

use crate::lab::{fresh_namespace, look, mac, on_a_host, run, subnet};

fn spec(addresses: &[&str]) -> AttachSpec {
    AttachSpec {
        mtu: 1376,
        mac: Some(mac(5)),
        addresses: addresses.iter().map(|text| subnet(text)).collect(),
        resolver: Resolver::Absent,
        multicast_route: true,
    }
}

fn inside(netns: &Netns, line: &str) -> String {
    netns.run(|| run(line)).expect("enter")
}

#[test]
fn an_attached_container_has_all_it_needs_and_its_port_leads_nowhere_yet() {
    on_a_host(|| {
        let netns = fresh_namespace();

        let attached = attach(&netns, &spec(&["10.32.0.5/12", "fd00::5/64"])).expect("attach");

        assert_eq!(attached.mac, mac(5));
        assert_eq!(attached.addresses, [subnet("10.32.0.5/12"), subnet("fd00::5/64")]);
        let host = look().links.remove(&attached.host_link).expect("host link");
        assert_eq!((host.kind, host.mtu, host.up, host.port), (LinkKind::Veth, 1376, false, None));
        assert!(inside(&netns, "ip -o link show ethwe").contains("mtu 1376"));
        assert!(inside(&netns, "ip route").contains("224.0.0.0/4 dev ethwe"));
        assert!(inside(&netns, "ip -4 address show ethwe").contains("brd 10.47.255.255"));
        assert_eq!(inside(&netns, "cat /proc/sys/net/ipv6/conf/ethwe/accept_ra"), "0\n");
    });
}

#[test]
fn attaching_again_changes_nothing_and_adds_what_is_new() {
    on_a_host(|| {
        let netns = fresh_namespace();
        let first = attach(&netns, &spec(&["10.32.0.5/12"])).expect("attach");
        let index = || inside(&netns, "ip -o link show ethwe").split(':').next().map(str::to_owned);
        let before = index();

        let same = attach(&netns, &AttachSpec { mac: Some(mac(6)), ..spec(&["10.32.0.5/12"]) }).expect("attach again");
        let more = attach(&netns, &spec(&["10.32.1.5/12"])).expect("attach more");

        assert_eq!(first, same);
        assert_eq!(more.addresses, [subnet("10.32.0.5/12"), subnet("10.32.1.5/12")]);
        assert_eq!(index(), before, "it is the same interface");
    });
}

#[test]
fn the_last_address_takes_the_interface_with_it() {
    on_a_host(|| {
        let netns = fresh_namespace();
        attach(&netns, &spec(&["10.32.0.5/12", "10.32.1.5/12", "fd00::5/64"])).expect("attach");

        let left =
            detach(&netns, &[subnet("10.32.0.5/12"), subnet("10.32.9.9/12")]).expect("detach one").expect("left");
        assert_eq!(left.addresses, [subnet("10.32.1.5/12"), subnet("fd00::5/64")]);
        assert_eq!(inspect(&netns).expect("inspect"), Some(left));

        assert_eq!(detach(&netns, &[]).expect("detach all"), None);
        assert_eq!(inspect(&netns).expect("inspect"), None);
        assert_eq!(detach(&netns, &[]).expect("detach again"), None);
        assert!(look().links.keys().all(|name| !name.as_str().starts_with("vethwepl")));
    });
}

#[test]
fn what_cannot_be_attached_is_refused_with_the_reason() {
    on_a_host(|| {
        let netns = fresh_namespace();
        let own = Netns::current().expect("own");
        assert!(matches!(attach(&own, &spec(&["10.32.0.5/12"])), Err(AttachError::HostNamespace)));

        for unusable in [
            "0.0.0.0/8",
            "10.32.0.0/12",
            "10.47.255.255/12",
            "224.0.0.1/4",
            "127.0.0.1/8",
            "fe80::1/64",
            "10.32.0.1/33",
        ] {
            let refused = attach(&netns, &spec(&[unusable])).expect_err(unusable);
            assert!(refused.to_string().starts_with(unusable), "{refused}");
        }

        inside(&netns, "ip link add ethwe type veth peer name other");
        assert!(matches!(attach(&netns, &spec(&["10.32.0.5/12"])), Err(AttachError::ForeignInterface)));
        assert!(look().links.keys().all(|name| !name.as_str().starts_with("vethwepl")), "nothing half-made is left");
    });
}

#[test]
fn what_is_no_namespace_is_refused_and_opens_nothing() {
    let directory = std::env::temp_dir().join(format!("weave-no-namespace-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("directory");
    let fifo = directory.join("fifo");
    run(&format!("mkfifo {}", fifo.display()));

    for path in
        [fifo.as_path(), &directory, std::path::Path::new("/dev/zero"), std::path::Path::new("/proc/self/status")]
    {
        let refused = open(path).expect_err("no namespace").to_string();
        assert!(refused.contains("is no network namespace"), "{refused}");
    }
    std::fs::remove_dir_all(directory).expect("remove");
    assert!(open("/proc/self/ns/net").is_ok());
}
