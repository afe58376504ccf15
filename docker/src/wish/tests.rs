use proptest::prelude::*;

use std::collections::BTreeSet;

use super::*;

const ECS: &str = "com.amazonaws.ecs.container-name";

fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
}

fn network(mode: &str) -> Network {
    Network::of(mode, &[], &["mesh".to_owned()].into()).unwrap()
}

/// What becomes of a container that an engine calls `web`.
fn read(mode: &str, of: &[(&str, &str)], cidr: Option<&str>) -> Result<Wish, Declined> {
    let traits = Traits { network: network(mode), labels: &labels(of), cidr, name: Some("web") };
    Rules::default().read(&traits)
}

fn addresses(cidr: &str) -> Result<Vec<Wanted>, Declined> {
    read("bridge", &[], Some(cidr)).map(|wish| wish.addresses)
}

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

#[test]
fn containers_on_dockers_bridge_or_without_a_network_have_an_address() {
    for mode in ["", "default", "bridge", "none"] {
        let wish = Wish { addresses: Vec::new(), name: Some("web".to_owned()) };
        assert_eq!(read(mode, &[], None), Ok(wish), "{mode}");
    }
    assert_eq!(read("front", &[], None), Err(Declined::OtherNetwork("front".to_owned())));
    assert_eq!(read("front", &[], Some("")).map(|wish| wish.addresses), Ok(Vec::new()));
    assert!(read("mesh", &[], None).is_ok(), "our plugin's network");
}

#[test]
fn a_container_without_a_network_of_its_own_is_left_alone() {
    let of = |mode: &str| Network::of(mode, &[], &BTreeSet::new());
    assert_eq!(of("host"), Err(Shared::Host));
    assert_eq!(of("container:db"), Err(Shared::Container("db".to_owned())));
}

#[test]
fn endpoints_stand_for_the_mode_unless_the_bridge_is_among_them() {
    let own = BTreeSet::from(["mesh".to_owned()]);
    let of = |mode: &str, endpoints: &[&str]| Network::of(mode, endpoints, &own).unwrap();

    assert_eq!(of("default", &["front"]), Network::UserDefined("front".to_owned()));
    assert_eq!(of("default", &["bridge", "front"]), Network::Bridge, "`network connect` puts it on a second one");
    assert_eq!(of("front", &["front", "back"]), Network::UserDefined("front".to_owned()));
    assert_eq!(of("none", &["none"]), Network::None);
    assert_eq!(of("front", &["mesh"]), Network::Ours);
}

#[test]
fn the_environment_says_which_addresses() {
    assert_eq!(
        addresses("net:default  net:10.40.0.0/24 ip:10.32.0.1/12\t10.33.0.1/12"),
        Ok(vec![
            Wanted::Default,
            Wanted::In(cidr("10.40.0.0/24")),
            Wanted::This(cidr("10.32.0.1/12")),
            Wanted::This(cidr("10.33.0.1/12")),
        ])
    );
    assert_eq!(addresses(" "), Ok(vec![]));
    assert_eq!(addresses(" none "), Err(Declined::AskedForNone));
    assert_eq!(addresses("none net:default"), Err(WantedError::NoneAndMore.into()));
    assert_eq!(addresses(&"net:default ".repeat(WANTED_MAX)).map(|wanted| wanted.len()), Ok(WANTED_MAX));
    assert_eq!(addresses(&"net:default ".repeat(WANTED_MAX + 1)), Err(WantedError::TooMany.into()));
    for bad in ["10.32.0.1", "net:", "ip:10.32.0.1", "10.32.0.1/33", "10.32.0.1/+8", "net:none", "x"] {
        let declined = addresses(bad).unwrap_err();
        assert!(
            declined.is_refusal() && declined.to_string().starts_with(&format!("WEAVE_CIDR: `{bad}`")),
            "{declined}"
        );
    }
}

#[test]
fn of_several_variables_the_last_one_counts() {
    let environment = ["A=1", "WEAVE_CIDR=none", "WEAVE_CIDR=", "B"].map(str::to_owned);

    assert_eq!(in_environment(&environment), Some(""));
    assert_eq!(in_environment(&environment[..2]), Some("none"));
    assert_eq!(in_environment(&environment[..1]), None);
}

#[test]
fn without_an_address_by_default_only_those_that_ask_have_one() {
    let rules = Rules { no_default_ipalloc: true, ..Rules::default() };
    let read = |mode: &str, cidr| {
        rules.read(&Traits { network: network(mode), labels: &BTreeMap::new(), cidr, name: None }).err()
    };
    assert_eq!(read("bridge", None), Some(Declined::NotAskedFor));
    assert_eq!(read("none", None), Some(Declined::NotAskedFor));
    assert_eq!(read("mesh", None), None, "whoever chose the network has asked");
    assert_eq!(read("bridge", Some("")), None);
}

#[test]
fn containers_of_the_ecs_agent_itself_have_their_interface_from_it() {
    for own in ["~internal~ecs~pause", "~internal~ecs~pause-web", "~internal~ecs-emptyvolume-source"] {
        assert_eq!(read("none", &[(ECS, own)], None), Err(Declined::EcsInterface), "{own}");
        assert!(read("bridge", &[(ECS, own)], None).is_ok(), "{own}");
    }
    assert!(read("none", &[(ECS, "httpserver")], None).is_ok());
}

#[test]
fn the_name_comes_from_a_label_or_the_engine_and_is_matched_and_replaced() {
    let name = |of: &[(&str, &str)], name: Option<&str>, rule: &NameRule| rule.name(&labels(of), name);
    let plain = NameRule::default();
    let rule =
        |label: &str, expression, replacement| NameRule::new(Some(label.to_owned()), expression, replacement).unwrap();

    assert_eq!(name(&[], Some("web"), &plain).as_deref(), Some("web"));
    assert_eq!(name(&[("role", "api")], Some("web"), &rule("role", "(.*)", "$1")).as_deref(), Some("api"));
    assert_eq!(name(&[], Some("web"), &rule("role", "(.*)", "$1")).as_deref(), Some("web"));
    let numbered = rule("role", "^aws-[0-9]+-(.*)$", "my-${1}");
    assert_eq!(name(&[], Some("aws-12-web"), &numbered).as_deref(), Some("my-web"));
    assert_eq!(name(&[], Some("web"), &numbered).as_deref(), Some("web"), "what does not match stays");
    for bad in [Some("a b"), Some(""), None] {
        assert_eq!(name(&[], bad, &plain), None, "{bad:?}");
    }
    assert!(NameRule::new(None, "(", "").unwrap_err().to_string().starts_with("`(` is no regular expression"));
}

#[test]
fn containers_of_ecs_are_called_as_in_their_task() {
    let name = |label: &str| NameRule::default().name(&labels(&[(ECS, label)]), Some("ecs-task-1-httpserver-ab"));

    assert_eq!(name("httpserver").as_deref(), Some("httpserver"));
    assert_eq!(name("~internal~ecs~pause-httpserver").as_deref(), Some("httpserver"));
    assert_eq!(name("~internal~ecs~pause"), None);
    assert_eq!(name("~internal~ecs-emptyvolume-source"), None);
    let own = NameRule::new(Some("name".to_owned()), "(.*)", "$1").unwrap();
    assert_eq!(
        own.name(&labels(&[(ECS, "a"), ("name", "b")]), None).as_deref(),
        Some("b"),
        "the operator's label first"
    );
}

#[test]
fn a_host_name_has_a_domain_if_one_was_given() {
    assert_eq!(with_domain("h", "weave.local").as_deref(), Some("h.weave.local"));
    assert_eq!(with_domain("h.weave.local", "").as_deref(), Some("h.weave.local"));
    assert_eq!(with_domain("0123456789ab", ""), None);
}

proptest! {
    #[test]
    fn no_variable_and_no_label_panics(
        value in "((net:|ip:)?[0-9a-f.:/]{0,20}[ \t]?){0,4}", label in "\\PC*", mode in "\\PC{0,12}",
    ) {
        let network = Network::of(&mode, &[&label], &BTreeSet::new()).unwrap_or(Network::Bridge);
        let labels = labels(&[(ECS, &label)]);
        if let Ok(wish) = Rules::default().read(&Traits { network, labels: &labels, cidr: Some(&value), name: None }) {
            prop_assert!(wish.addresses.len() <= WANTED_MAX);
            prop_assert!(wish.name.is_none_or(|name| !name.contains(char::is_whitespace)));
        }
    }
}
