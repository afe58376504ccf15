//! Who is behind which port, and what becomes of it.

use super::*;
use crate::config::value::parse_subnet;

fn container(name: &str) -> Container {
    Container { label: name.to_owned(), netns: format!("/run/netns/{name}").into(), ..Container::default() }
}

fn subnets(addresses: &[&str]) -> Vec<Subnet> {
    addresses.iter().map(|text| parse_subnet(text).unwrap()).collect()
}

fn port(host_link: &str, addresses: &[&str]) -> Attached {
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    Attached { host_link: host_link.parse().unwrap(), mac, addresses: subnets(addresses) }
}

fn named(name: &str) -> Option<String> {
    Some(format!("{name}.weave.local"))
}

/// `a` behind one port, with an address.
fn one() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.plan(&container("a"), &port("vethwepla", &["10.32.0.1/12"]), named("a"), 7);
    ledger.settle(&port("vethwepla", &["10.32.0.1/12"]));
    ledger
}

#[test]
fn an_address_belongs_to_one_port_of_a_host() {
    let ledger = one();
    let address = subnets(&["10.32.0.1/12"]);

    assert!(ledger.admit("vethwepla", &container("a"), &address).is_ok());
    assert!(ledger.admit("vethwepla", &container("side"), &address).is_ok(), "whoever shares the namespace shares it");
    assert!(ledger.admit("vethweplb", &container("a"), &address).is_ok(), "a container that moves takes it along");
    assert_eq!(
        ledger.admit("vethweplb", &container("b"), &address).unwrap_err().to_string(),
        "10.32.0.1 is held by container a.weave.local (a) on this host; detach it there first"
    );
}

#[test]
fn no_port_gets_more_addresses_than_others_can_be_told_of() {
    let mut ledger = one();
    let many: Vec<String> = (1..=ENDPOINT_ADDRESSES_MAX).map(|last| format!("10.32.0.{last}/12")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let admitted = |ledger: &Ledger, text| ledger.admit("vethwepla", &container("a"), &subnets(&[text]));

    assert!(ledger.admit("vethwepla", &container("a"), &subnets(&many)).is_ok());
    ledger.settle(&port("vethwepla", &many));

    assert!(matches!(admitted(&ledger, "10.32.1.1/12"), Err(AttachError::TooManyAddresses)));
    assert!(admitted(&ledger, "10.32.0.1/12").is_ok(), "it has that one");
}

#[test]
fn a_plan_that_fails_leaves_what_was_there_before() {
    let mut ledger = one();
    let before = ledger.clone();
    for host_link in ["vethwepla", "vethweplb"] {
        let entry = ledger.get(host_link).cloned();
        ledger.plan(&container("b"), &port(host_link, &["10.32.0.2/12"]), named("b"), 7);
        assert_ne!(ledger, before);

        ledger.restore(host_link, entry);

        assert_eq!(ledger, before);
    }
}

#[test]
fn a_port_that_vanished_meanwhile_is_not_put_back() {
    let mut ledger = one();
    let before = ledger.get("vethwepla").cloned();
    ledger.plan(&container("a"), &port("vethwepla", &["10.32.0.2/12"]), None, 7);
    ledger.remove("vethwepla");

    ledger.restore("vethwepla", before);

    assert_eq!(ledger, Ledger::default());
}

#[test]
fn containers_that_share_a_namespace_keep_their_names_apart_and_the_port_stays_for_the_last() {
    let mut ledger = one();
    ledger.plan(&container("side"), &port("vethwepla", &["10.32.0.1/12"]), named("side"), 7);
    let names = |ledger: &Ledger| {
        let tenants = ledger.entries().flat_map(|(_, entry)| &entry.tenants);
        tenants.flat_map(|tenant| tenant.names.clone()).collect::<Vec<_>>()
    };

    assert_eq!(names(&ledger), ["a.weave.local", "side.weave.local"]);
    assert_eq!(ledger.leave("vethwepla", "a"), Left::Others);
    assert_eq!((names(&ledger), ledger.knows("a")), (vec!["side.weave.local".to_owned()], true));
    assert_eq!(ledger.pass_on("vethwepla"), Some(("side".to_owned(), subnets(&["10.32.0.1/12"]))));
    assert!(!ledger.knows("a"));
    assert_eq!(ledger.leave("vethwepla", "side"), Left::Nobody);
    assert_eq!(ledger, Ledger::default());
}

#[test]
fn at_a_start_a_port_is_found_through_any_of_its_tenants() {
    let mut ledger = one();
    ledger.plan(&container("side"), &port("vethwepla", &["10.32.0.1/12"]), named("side"), 7);
    ledger.plan(&container("b"), &port("vethweplb", &["10.32.0.2/12"]), None, 7);

    let gone = ledger.refresh(|host_link, netns| {
        netns.ends_with("side").then(|| port(host_link, &["10.32.0.1/12", "10.32.0.9/12"]))
    });

    assert_eq!(gone, ["a", "b"]);
    let entries: Vec<_> = ledger.entries().collect();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].1.holder.as_str(), entries[0].1.tenants.len()), ("a", 1));
    assert_eq!(entries[0].1.addresses, subnets(&["10.32.0.1/12", "10.32.0.9/12"]));
}

#[test]
fn a_container_is_named_as_soon_as_there_is_a_domain_and_as_it_is_called() {
    let domain = "weave.local".parse().unwrap();
    let called = |name: &str| Called { name: Some(name.to_owned()), ..Called::default() };
    let attached = |name: &str| Container { called: called(name), ..container(name) };
    let mut ledger = Ledger::default();
    ledger.plan(&attached("a"), &port("vethwepla", &["10.32.0.1/12"]), None, 0);
    ledger.adopt(&Container { provisional: true, ..container("b") }, &port("vethweplb", &["10.32.0.2/12"]));
    let names = |ledger: &Ledger| {
        let tenants = ledger.entries().flat_map(|(_, entry)| &entry.tenants);
        tenants.map(|tenant| tenant.names.first().cloned()).collect::<Vec<_>>()
    };

    ledger.name_within(&domain);
    assert_eq!(names(&ledger), [Some("a.weave.local.".to_owned()), None]);
    assert_eq!(ledger.nameless(), ["b"]);
    ledger.call(&attached("b"));
    ledger.call(&Container { called: called("c"), ..container("b") });
    ledger.name_within(&domain);
    assert_eq!(names(&ledger)[1].as_deref(), Some("b.weave.local."));
    assert!(ledger.nameless().is_empty());

    assert!(ledger.remove_names(&Pattern::new(Some("a".to_owned()), None, None).unwrap()));
    ledger.name_within(&domain);
    assert_eq!(names(&ledger)[0], None, "a name that was taken away stays away");
}

#[test]
fn a_gained_address_outranks_every_claim_known_so_far() {
    let mut ledger = one();
    ledger.plan(&container("b"), &port("vethweplb", &["10.32.0.2/12"]), None, 3);
    ledger.plan(&container("a"), &port("vethwepla", &["10.32.0.1/12"]), None, 50);

    let times: Vec<_> = ledger.entries().map(|(_, entry)| entry.attached).collect();

    assert_eq!(times, [8, 9]);
}
