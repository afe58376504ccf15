//! What is found after what was published, and what that costs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::card::Subnet;
use crate::name::MacAddr;
use crate::store::fixtures::Owner;
use crate::store::{Content, Endpoint, EndpointId, HostName, HostNameId};

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 32, 0, last).into()
}

fn container(id: u64, names: &[&str], addresses: &[IpAddr]) -> Record {
    let endpoint = Endpoint {
        mac: MacAddr([2, 0, 0, 0, 0, id as u8]),
        addresses: addresses.iter().map(|address| Subnet { address: *address, prefix_len: 12 }).collect(),
        container: format!("container-{id}"),
        names: names.iter().map(ToString::to_string).collect(),
        attached: 1,
    };
    Record::new(Content::Endpoint(EndpointId(id), endpoint))
}

fn by_hand(id: u64, name: &str, address: IpAddr) -> Record {
    let host_name = HostName { name: name.to_owned(), address, container: "weave:extern".to_owned() };
    Record::new(Content::HostName(HostNameId(id), host_name))
}

fn found(names: &Names, name: &str) -> Option<Vec<IpAddr>> {
    let entry = names.find(name)?;
    let v6 = entry.v6().iter().copied().map(IpAddr::from);
    Some(entry.v4().iter().copied().map(IpAddr::from).chain(v6).collect())
}

#[test]
fn a_name_has_the_addresses_of_all_its_containers_on_all_hosts() {
    let mut zone = Zone::default();
    zone.put(&Owner::new(1).set(1, [container(1, &["web.weave.local"], &[v4(1), "fd00::1".parse().unwrap()])]));
    zone.put(&Owner::new(2).set(1, [container(1, &["Web.Weave.Local.", "db.weave.local"], &[v4(2)])]));

    let names = zone.snapshot();

    assert_eq!(found(&names, "web.weave.local"), Some(vec![v4(1), v4(2), "fd00::1".parse().unwrap()]));
    assert_eq!(found(&names, "db.weave.local"), Some(vec![v4(2)]));
    assert_eq!(found(&names, "nobody.weave.local"), None);
    assert_eq!(names.pointers(v4(2)), ["db.weave.local", "Web.Weave.Local"]);
    assert_eq!(names.len(), 4);
}

#[test]
fn a_name_between_names_exists_without_addresses() {
    let mut zone = Zone::default();
    zone.put(&Owner::new(1).set(1, [container(1, &["foo.sub.weave.local"], &[v4(1)])]));
    assert_eq!(found(&zone.snapshot(), "sub.weave.local"), Some(vec![]));

    zone.put(&Owner::new(1).set(2, []));

    let names = zone.snapshot();
    assert_eq!(found(&names, "sub.weave.local"), None);
    assert_eq!((names.entries_len(), names.len()), (0, 0));
}

#[test]
fn an_address_stays_while_anybody_says_it() {
    let mut zone = Zone::default();
    let both = [container(1, &["web.weave.local"], &[v4(1)]), by_hand(2, "WEB.weave.local", v4(1))];
    zone.put(&Owner::new(1).set(1, both.clone()));

    zone.put(&Owner::new(1).set(2, [both[1].clone()]));
    assert_eq!(found(&zone.snapshot(), "web.weave.local"), Some(vec![v4(1)]));
    zone.remove(&Owner::new(1).key());

    assert_eq!(found(&zone.snapshot(), "web.weave.local"), None);
    assert!(zone.snapshot().pointers(v4(1)).is_empty());
}

#[test]
fn text_that_is_no_name_is_left_out_and_harms_nothing() {
    let mut zone = Zone::default();
    let long = "a".repeat(253);
    zone.put(&Owner::new(1).set(1, [container(1, &["", ".", "a b", "x.weave.local", &long], &[v4(1)])]));

    assert_eq!(zone.snapshot().len(), 1);
    zone.remove(&Owner::new(1).key());
    assert_eq!(zone.snapshot().len(), 0);
}

#[test]
fn a_snapshot_does_not_change() {
    let mut zone = Zone::default();
    zone.put(&Owner::new(1).set(1, [by_hand(1, "a.weave.local", v4(1))]));
    let before = zone.snapshot();
    assert!(!zone.has_changes());

    zone.put(&Owner::new(1).set(2, [by_hand(1, "a.weave.local", v4(2))]));

    assert!(zone.has_changes());
    assert_eq!(found(&before, "a.weave.local"), Some(vec![v4(1)]));
    assert_eq!(found(&zone.snapshot(), "a.weave.local"), Some(vec![v4(2)]));
    assert_ne!(before.serial(), zone.snapshot().serial());
}

#[test]
fn ten_thousand_names_are_found_as_ten_are() {
    let mut zone = Zone::default();
    for host in 0..10_u8 {
        let names = (0..1_000_u64).map(|id| {
            let address = Ipv4Addr::new(10, 32 + host, (id >> 8) as u8, id as u8).into();
            by_hand(id, &format!("c{id}.host-{host}.weave.local"), address)
        });
        zone.put(&Owner::new(host).set(1, names));
    }
    let before = zone.snapshot();

    zone.put(&Owner::new(200).set(1, [by_hand(1, "one-more.weave.local", v4(1))]));

    let after = zone.snapshot();
    assert_eq!(after.len(), 10_001);
    assert_eq!(found(&after, "c999.host-9.weave.local").unwrap().len(), 1);
    // The new name, `weave.local` and `local` above it, and one address.
    assert!(after.parts_changed_since(&before) <= 4);
}

/// What one record says, if it exists: names and addresses.
type Statement = Option<(Vec<u8>, Vec<u8>)>;
type Said = Vec<Statement>;

fn said() -> impl Strategy<Value = Said> {
    let numbers = || prop::collection::vec(0..4_u8, 0..3);
    prop::collection::vec(prop::option::of((numbers(), numbers())), 4)
}

fn records(said: &Said) -> Vec<Record> {
    let record = |(id, said): (usize, &Statement)| {
        let (names, addresses) = said.as_ref()?;
        let texts: Vec<String> = names.iter().map(|name| format!("n{name}.n{}.weave.local", name / 2)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| v4(*address)).collect();
        Some(container(id as u64, &texts, &addresses))
    };
    said.iter().enumerate().filter_map(record).collect()
}

proptest! {
    /// However sets came and went, what is found is what a zone made of the last ones has.
    #[test]
    fn changes_lead_where_a_fresh_start_leads(history in prop::collection::vec((0..3_u8, prop::option::of(said())), 0..20)) {
        let mut zone = Zone::default();
        let mut last = BTreeMap::new();
        for (step, (host, said)) in history.iter().enumerate() {
            match said {
                Some(said) => {
                    let set = Owner::new(*host).set(step as u64 + 1, records(said));
                    zone.put(&set);
                    last.insert(*host, set);
                }
                None => {
                    zone.remove(&Owner::new(*host).key());
                    last.remove(host);
                }
            }
        }
        let mut fresh = Zone::default();
        last.values().for_each(|set| fresh.put(set));
        let (names, fresh) = (zone.snapshot(), fresh.snapshot());

        let everything = |names: &Names| -> BTreeSet<_> {
            names.holders().map(|holder| (holder.owner, holder.address, holder.name().to_owned(), holder.container().to_owned())).collect()
        };
        prop_assert_eq!(everything(&names), everything(&fresh));
        prop_assert_eq!((names.len(), names.entries_len()), (fresh.len(), fresh.entries_len()));
        for name in ["n0.n0", "n1.n0", "n2.n1", "n3.n1", "n0", "n1"].map(|name| format!("{name}.weave.local")) {
            prop_assert_eq!(found(&names, &name), found(&fresh, &name));
        }
        for address in 0..4 {
            prop_assert_eq!(names.pointers(v4(address)), fresh.pointers(v4(address)));
        }
    }
}

/// As many names and addresses as one set has room for: of its own each, or the same for all.
fn greedy(shared: bool) -> Arc<Set> {
    let subnet = |address| Subnet { address: Ipv4Addr::from(address).into(), prefix_len: 12 };
    let records = (0..4_096_u32).map(|id| {
        let base = if shared { 0 } else { 16 * id };
        let addresses = (0..16).map(|number| subnet(0x0a20_0000 + base + number)).collect();
        let names = (0..16).map(|number| format!("{:x}.weave.local", base + number)).collect();
        let (mac, container) = (MacAddr([2, 0, 0, 0, 0, 0]), String::new());
        let endpoint = Endpoint { mac, addresses, container, names, attached: 1 };
        Record::new(Content::Endpoint(EndpointId(id.into()), endpoint))
    });
    Owner::new(66).set(1, records)
}

#[test]
fn whoever_has_many_names_leaves_room_for_others() {
    for shared in [false, true] {
        let mut zone = Zone::default();
        let greedy = greedy(shared);
        zone.put(&greedy);
        assert!(zone.snapshot().len() <= 1 << 16);

        zone.put(&Owner::new(1).set(1, [container(1, &["web.weave.local", "1.weave.local"], &[v4(1)])]));
        assert_eq!(found(&zone.snapshot(), "web.weave.local"), Some(vec![v4(1)]));
        assert!(found(&zone.snapshot(), "1.weave.local").is_some_and(|found| found.contains(&v4(1))));

        zone.remove(&greedy.owner());
        assert_eq!(zone.snapshot().len(), 2);
    }
}
