use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wish::{NameRule, Shared};

fn policy() -> Policy {
    Policy::default()
}

fn address(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn declined(body: &Value) -> Option<Declined> {
    plan(body.to_string().as_bytes(), None, &policy()).err()
}

/// The body that the engine gets.
fn changed(body: &Value, name: Option<&str>, policy: &Policy) -> Value {
    let body = body.to_string();
    let change = plan(body.as_bytes(), name, policy).unwrap();
    serde_json::from_slice(&change.apply(&[address("10.32.0.5/12")], policy).unwrap()).unwrap()
}

#[test]
fn a_container_gets_runtime_name_resolver_hosts_and_label() {
    let body = json!({"Image": "web", "HostConfig": {"NetworkMode": "default"}});

    let changed = changed(&body, Some("/web"), &policy());

    let expected = json!({
        "Image": "web",
        "HostConfig": {
            "NetworkMode": "default",
            "Runtime": "weave-rs",
            "Dns": ["169.254.65.53"],
            "DnsSearch": ["weave.local"],
            "ExtraHosts": ["web.weave.local web:10.32.0.5"],
        },
        "Hostname": "web",
        "Domainname": "weave.local",
        "Labels": {"weave-rs.address": "10.32.0.5/12"},
    });
    assert_eq!(changed, expected);
}

#[test]
fn without_a_name_or_an_address_there_is_nothing_to_write_of_them() {
    let change = plan(b"{}", None, &policy()).unwrap();
    assert!(change.names.is_empty());

    let body = change.apply(&[], &policy()).unwrap();

    let expected = r#"{"HostConfig":{"Runtime":"weave-rs","Dns":["169.254.65.53"],"DnsSearch":["weave.local"]}}"#;
    assert_eq!(String::from_utf8(body).unwrap(), expected);
}

#[test]
fn what_is_not_ours_keeps_every_octet() {
    let body = concat!(
        r#"{ "New" : [1.0e+2,  12345678901234567890123, -0, "\u00e9\ud800"], "hostconfig":{"Memory":1e3,"Dns":null,"#,
        r#""X":{"Dns" : 1,"Dns":2}}, "Image":"a" }"#
    );

    let change = plan(body.as_bytes(), None, &policy()).unwrap();
    let changed = String::from_utf8(change.apply(&[], &policy()).unwrap()).unwrap();

    let expected = concat!(
        r#"{"New":[1.0e+2,  12345678901234567890123, -0, "\u00e9\ud800"],"hostconfig":{"Memory":1e3,"#,
        r#""Dns":["169.254.65.53"],"X":{"Dns" : 1,"Dns":2},"Runtime":"weave-rs","DnsSearch":["weave.local"]},"Image":"a"}"#
    );
    assert_eq!(changed, expected);
}

#[test]
fn the_users_own_settings_win() {
    let body = json!({
        "Hostname": "mine",
        "HostConfig": {
            "Dns": ["8.8.8.8"], "DnsSearch": ["."], "ExtraHosts": ["db:10.0.0.1"], "Runtime": "nvidia",
        },
        "Labels": {"a": "b"},
    });

    let changed = changed(&body, Some("web"), &policy());

    assert_eq!(changed["Hostname"], "mine");
    assert_eq!(changed.get("Domainname"), None);
    assert_eq!(changed["HostConfig"]["Dns"], json!(["8.8.8.8", "169.254.65.53"]));
    assert_eq!(changed["HostConfig"]["DnsSearch"], json!(["."]));
    assert_eq!(changed["HostConfig"]["ExtraHosts"], json!(["mine:10.32.0.5", "db:10.0.0.1"]));
    assert_eq!(changed["HostConfig"]["Runtime"], "nvidia");
    assert_eq!(changed["Labels"], json!({"a": "b", "weave-rs.address": "10.32.0.5/12"}));
}

#[test]
fn the_runtime_asked_for_gets_its_counterpart_or_stays() {
    let mut policy = policy();
    policy.other_runtimes.insert("nvidia".to_owned(), "weave-rs-nvidia".to_owned());

    for (asked, runtime, moment) in [
        ("", "weave-rs", Moment::BeforeFirstInstruction),
        ("runc", "weave-rs", Moment::BeforeFirstInstruction),
        ("weave-rs", "weave-rs", Moment::BeforeFirstInstruction),
        ("nvidia", "weave-rs-nvidia", Moment::BeforeFirstInstruction),
        ("kata", "kata", Moment::AfterStart),
    ] {
        let body = json!({"HostConfig": {"Runtime": asked}});
        assert_eq!(plan(body.to_string().as_bytes(), None, &policy).unwrap().moment, moment, "{asked}");
        assert_eq!(changed(&body, None, &policy)["HostConfig"]["Runtime"], runtime, "{asked}");
    }
}

#[test]
fn a_device_attaches_where_the_runtime_is_not_ours() {
    let mut policy = Policy { cdi_device: Some("weave-rs.io/net=attach".to_owned()), ..policy() };
    policy.other_runtimes.insert("nvidia".to_owned(), "weave-rs-nvidia".to_owned());
    let body = json!({"HostConfig": {"Runtime": "nvidia", "DeviceRequests": [{"Driver": "nvidia", "Count": -1}]}});

    let with_device = changed(&body, None, &policy);

    let ours = json!({"Driver": "cdi", "DeviceIDs": ["weave-rs.io/net=attach"]});
    assert_eq!(with_device["HostConfig"]["Runtime"], "nvidia");
    assert_eq!(with_device["HostConfig"]["DeviceRequests"], json!([{"Driver": "nvidia", "Count": -1}, ours]));
    assert_eq!(changed(&json!({}), None, &policy)["HostConfig"]["Runtime"], "weave-rs");
    policy.runtime = None;
    assert_eq!(changed(&json!({}), None, &policy)["HostConfig"]["DeviceRequests"], json!([ours]));
    policy.cdi_device = None;
    assert_eq!(plan(b"{}", None, &policy).unwrap().moment, Moment::AfterStart);
}

#[test]
fn containers_that_are_not_ours_are_left_alone() {
    let on = |mode: &str| json!({"HostConfig": {"NetworkMode": mode}});
    let left = |declined: wish::Declined| Some(Declined::Wish(declined));
    assert_eq!(declined(&on("host")), left(Shared::Host.into()));
    assert_eq!(declined(&on("front")), left(wish::Declined::OtherNetwork("front".to_owned())));
    assert_eq!(declined(&on("bridge")), None);
    let endpoint = json!({"NetworkingConfig": {"EndpointsConfig": {"front": {}}}});
    assert_eq!(declined(&endpoint), left(wish::Declined::OtherNetwork("front".to_owned())));
    let none = json!({"Env": ["WEAVE_CIDR=net:default", "A=1", "WEAVE_CIDR=none"]});
    assert_eq!(declined(&none), left(wish::Declined::AskedForNone));
    assert!(declined(&json!({"Env": ["WEAVE_CIDR=x"]})).is_some_and(|declined| declined.is_refusal()));
    for unreadable in ["", "[]", "{", r#"{"Env":1}"#, r#"{"HostConfig":[]}"#, "{} {}"] {
        let declined = plan(unreadable.as_bytes(), None, &policy()).unwrap_err();
        assert!(matches!(declined, Declined::Unreadable(_)) && !declined.is_refusal(), "{unreadable}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for body in [
        r#"{"HostConfig":{"NetworkMode":"host"},"hostconfig":{}}"#,
        r#"{"HostConfig":{"NetworkMode":"host","NetworkMode":"bridge"}}"#,
        r#"{"Env":["WEAVE_CIDR=none"],"ENV":[]}"#,
        r#"{"Ho\u017ftConfig":{},"HostConfig":{}}"#,
    ] {
        let declined = plan(body.as_bytes(), None, &policy()).unwrap_err();
        assert!(declined.is_refusal(), "{body}: {declined}");
    }
}

#[test]
fn a_network_of_dockers_is_joined_on_demand_and_searched_after_ours() {
    let body = json!({"Env": ["WEAVE_CIDR=net:default"], "HostConfig": {"NetworkMode": "front"}});

    let changed_body = changed(&body, None, &policy());

    assert_eq!(changed_body["HostConfig"]["DnsOptions"], json!(["ndots:1"]));
    let body = json!({"Env": ["WEAVE_CIDR="], "HostConfig": {"NetworkMode": "front", "DnsOptions": ["ndots:3"]}});
    assert_eq!(changed(&body, None, &policy())["HostConfig"]["DnsOptions"], json!(["ndots:3"]));
}

#[test]
fn our_plugin_attaches_what_is_on_its_networks() {
    let mut policy = policy();
    policy.own_networks.insert("mesh".to_owned());
    let body = json!({"HostConfig": {"NetworkMode": "mesh"}});

    assert_eq!(plan(body.to_string().as_bytes(), None, &policy).unwrap().moment, Moment::ByPlugin);
    let changed = changed(&body, None, &policy);

    assert_eq!(changed["HostConfig"].get("Runtime"), None);
    assert_eq!(changed["HostConfig"]["DnsOptions"], json!(["ndots:1"]));
}

#[test]
fn the_rules_make_the_name_unless_the_user_gave_a_host_name() {
    let rules = Rules { names: NameRule::new(None, "^aws-(.*)$", "$1").unwrap(), ..Rules::default() };
    let policy = Policy { rules, ..policy() };

    assert_eq!(changed(&json!({}), Some("aws-web"), &policy)["Hostname"], "web");
    let own = changed(&json!({"Hostname": "mine", "Domainname": "a.b"}), Some("aws-web"), &policy);
    assert_eq!((&own["Hostname"], &own["Domainname"]), (&json!("mine"), &json!("a.b")));
}

#[test]
fn a_name_of_65_octets_is_none() {
    let named = |length: usize| changed(&json!({}), Some(&"a".repeat(length)), &policy());

    assert_eq!(named(64 - ".weave.local".len())["Domainname"], "weave.local");
    let remark = |length: usize| plan(b"{}", Some(&"a".repeat(length)), &policy()).unwrap().remark.unwrap_or_default();
    assert_eq!(remark(64 - ".weave.local".len()), "");
    assert!(remark(65 - ".weave.local".len()).contains("called otherwise by itself"));
    assert!(remark(63).contains("called otherwise by itself") && remark(64).contains("no name on the network"));
    let too_long = named(65 - ".weave.local".len());
    assert_eq!(too_long.get("Hostname"), None);
    assert_eq!(too_long["HostConfig"].get("ExtraHosts"), None);
}

#[test]
fn a_container_with_the_hosts_name_keeps_it() {
    let changed = changed(&json!({"HostConfig": {"UTSMode": "host"}}), Some("web"), &policy());

    assert_eq!(changed.get("Hostname"), None);
    assert_eq!(changed["HostConfig"]["ExtraHosts"], json!(["web.weave.local web:10.32.0.5"]));
}

#[test]
fn names_resolver_and_hosts_can_be_left_to_docker() {
    let without_dns = changed(&json!({}), Some("web"), &Policy { without_dns: true, ..policy() });
    let expected = json!({
        "HostConfig": {"Runtime": "weave-rs"}, "Labels": {"weave-rs.address": "10.32.0.5/12"},
    });
    assert_eq!(without_dns, expected);
    let no_hosts = changed(&json!({}), Some("web"), &Policy { no_rewrite_hosts: true, ..policy() });
    assert_eq!(no_hosts["HostConfig"].get("ExtraHosts"), None);
    assert_eq!(no_hosts["Hostname"], "web");
}

#[test]
fn the_users_full_name_is_the_name() {
    let names = |body: Value| plan(body.to_string().as_bytes(), None, &policy()).unwrap().names;

    assert_eq!(names(json!({"Hostname": "a", "Domainname": "b.c"})), ["a.b.c", "a"]);
    assert_eq!(names(json!({"Hostname": "a.b.c"})), ["a.b.c", "a"]);
    assert_eq!(names(json!({"Hostname": "a\nb"})), Vec::<String>::new());
}

#[test]
fn a_remark_stands_beside_the_engines_own() {
    let told = |answer: &str| with_remark(answer.as_bytes(), "b").map(|text| String::from_utf8(text).unwrap());

    assert_eq!(told(r#"{"Id":"x","Warnings":["a"]}"#).as_deref(), Some(r#"{"Id":"x","Warnings":["a","b"]}"#));
    assert_eq!(told(r#"{"Warnings":null,"N":1.0}"#).as_deref(), Some(r#"{"Warnings":["b"],"N":1.0}"#));
    assert_eq!(told("[]"), None);
}

/// Any JSON, with the names that count among those of its members.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["host", "bridge", "WEAVE_CIDR=net:default", "runc"]).prop_map(Value::from),
    ];
    let known = ["HostConfig", "Env", "Labels", "Dns", "NetworkMode", "Runtime", "Hostname", "ExtraHosts", "dns"];
    let name = prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), "\\PC{0,6}"];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), name in "\\PC*") {
        let _ = plan(&bytes, Some(&name), &policy());
        let _ = with_remark(&bytes, &name);
    }

    #[test]
    fn no_variable_panics(value in "((net:|ip:)?[0-9a-f.:/]{0,20}[ \t]?){0,4}", label in "\\PC*") {
        let body = json!({
            "Env": [format!("WEAVE_CIDR={value}"), &label],
            "Labels": {"com.amazonaws.ecs.container-name": label},
            "Hostname": label,
        });
        if let Ok(change) = plan(body.to_string().as_bytes(), Some(&value), &policy()) {
            prop_assert!(change.names.iter().all(|name| !name.contains(char::is_whitespace)));
        }
    }

    #[test]
    fn a_changed_body_differs_only_where_it_must(body in anything()) {
        let text = body.to_string();
        if let Ok(change) = plan(text.as_bytes(), Some("web"), &policy())
            && let moment = change.moment
            && let Ok(bytes) = change.apply(&[address("10.32.0.5/12")], &policy())
        {
            let changed: Value = serde_json::from_slice(&bytes).unwrap();
            for (name, value) in body.as_object().unwrap() {
                if !["hostconfig", "hostname", "domainname", "labels"].contains(&name.to_lowercase().as_str()) {
                    prop_assert_eq!(&changed[name], value);
                }
            }
            prop_assert_eq!(plan(&bytes, Some("web"), &policy()).unwrap().moment, moment);
        }
    }
}
