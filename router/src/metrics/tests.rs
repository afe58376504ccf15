//! The page is read by a small parser of our own, as strict as Prometheus is.

use std::collections::BTreeSet;

use super::*;
use crate::status::text::tests::snapshot;

const DOCUMENTATION: &str = include_str!("../../../docs/status.md");

fn scrape(peers: usize) -> Scrape {
    let path = PathCounters { frames_out: 1, bytes_out: 100, ..PathCounters::default() };
    Scrape {
        snapshot: snapshot(),
        sleeve: (0..peers).map(|number| (format!("02:00:00:00:00:{number:02x}"), path)).collect(),
        fast_path: Traffic { frames_in: 3, bytes_in: 300, ..Traffic::default() },
        handshakes: 2,
        relayed: 0,
        drops: Drops::default(),
        counters: Counters::default(),
        tallies: Tallies::default(),
        names: 0,
        pending: Pending::default(),
        started: 1_795_375_205.5,
        process: Process::now(),
    }
}

fn page(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    text::encode(&mut text, &registry).unwrap();
    text
}

/// Series with their values. Fails on a line that is none, on a family without a type, and on a series given twice.
fn parse(page: &str) -> BTreeMap<String, f64> {
    let (mut types, mut series) = (BTreeMap::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
        } else if !line.starts_with("# HELP ") && line != "# EOF" {
            let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no series: {line}"));
            let name = key.split('{').next().unwrap();
            let kind = types.get(name).or_else(|| types.get(name.strip_suffix("_total")?));
            let is_counter = kind.unwrap_or_else(|| panic!("{name} has no type")) == "counter";
            assert_eq!(is_counter, name.ends_with("_total"), "{name}");
            assert!(!key.contains('{') || key.ends_with('}'), "{key}");
            assert!(series.insert(key.to_owned(), value.parse().unwrap()).is_none(), "{key} twice");
        }
    }
    assert!(page.ends_with("# EOF\n"));
    series
}

#[test]
fn the_page_is_what_prometheus_reads() {
    let series = parse(&page(scrape(2)));

    assert_eq!(series[r#"weave_connections{state="established",type="sleeve",encryption="yes"}"#], 1.0);
    assert_eq!(series[r#"weave_connections{state="pending",type="unknown",encryption=""}"#], 0.0);
    assert_eq!(series[r#"weave_frames_total{carrier="fastdp",direction="in",peer="all"}"#], 3.0);
    let sleeve = r#"weave_frame_bytes_total{carrier="sleeve",direction="out",peer="02:00:00:00:00:01"}"#;
    assert_eq!(series[sleeve], 100.0);
    assert_eq!(series[r#"weave_drops_total{reason="no_such_station"}"#], 0.0);
    assert_eq!(series[r#"weave_ips{state="local-used"}"#], 2.0);
    assert_eq!(series["weave_ipam_unreachable_count"], 1.0);
    assert_eq!(series["weave_ipam_unreachable_percentage"], 50.0);
    assert_eq!(series["process_start_time_seconds"], 1_795_375_205.5);
}

#[test]
fn a_host_that_gives_no_addresses_has_no_series_about_them() {
    let mut scrape = scrape(0);
    scrape.snapshot.ipam = None;

    assert!(parse(&page(scrape)).keys().all(|key| !key.starts_with("weave_ip") && key != "weave_max_ips"));
}

#[test]
fn every_name_is_documented() {
    let series = parse(&page(scrape(1)));
    let names: BTreeSet<_> = series.keys().map(|key| key.split('{').next().unwrap()).collect();

    for name in names {
        assert!(DOCUMENTATION.contains(&format!("`{name}`")), "docs/status.md says nothing of {name}");
    }
}

#[test]
fn a_label_cannot_break_out_of_its_quotes() {
    let mut scrape = scrape(0);
    scrape.sleeve.push(("a\"} 1\nb\\".to_owned(), PathCounters::default()));

    parse(&page(scrape));
}

#[test]
fn reasons_are_one_word_each() {
    assert_eq!(snake_case("NoSuchStation"), "no_such_station");
    assert_eq!(slug("frame is longer than the overlay's MTU"), "frame_is_longer_than_the_overlay_s_mtu");
}
