//! What engines were seen to ask, and what nobody should.

use proptest::prelude::*;

use super::ipam::Asked;
use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn ask(method: &str, body: &str) -> Result<Request, String> {
    Request::decode(method, body.as_bytes()).map_err(|fault| fault.to_string())
}

fn asked_pool(body: &str) -> Result<Asked, String> {
    match ask("IpamDriver.RequestPool", body)? {
        Request::Ipam(ipam::Request::Pool(asked)) => Ok(asked),
        other => Err(format!("{other:?}")),
    }
}

fn pool(text: &str) -> Pool {
    text.parse().unwrap()
}

fn created(options: &str, v4: &str) -> Result<Multicast, String> {
    let body = format!(r#"{{"NetworkID":"{ID}","Options":{options},"IPv4Data":{v4},"IPv6Data":[]}}"#);
    match ask("NetworkDriver.CreateNetwork", &body)? {
        Request::Network(network::Request::CreateNetwork { network, multicast }) if network == ID => Ok(multicast),
        other => Err(format!("{other:?}")),
    }
}

/// The data of a network whose addresses are ours.
const V4: &str = r#"[{"AddressSpace":"weave-rs","Pool":"10.32.0.0/12","Gateway":"10.32.0.0/12"}]"#;

#[test]
fn an_engine_learns_what_we_are() {
    let told = |method: &str| match ask(method, "") {
        Ok(Request::Fixed(answer)) => answer.encode().to_string(),
        other => format!("{other:?}"),
    };

    assert_eq!(told("Plugin.Activate"), r#"{"Implements":["NetworkDriver","IpamDriver"]}"#);
    assert_eq!(told("NetworkDriver.GetCapabilities"), r#"{"ConnectivityScope":"global","Scope":"local"}"#);
    assert!(told("IpamDriver.GetCapabilities").contains(r#""RequiresMACAddress":false"#));
    assert!(told("IpamDriver.GetDefaultAddressSpaces").contains(r#""LocalDefaultAddressSpace":"weave-rs""#));
    for method in
        ["Leave", "ProgramExternalConnectivity", "RevokeExternalConnectivity", "DiscoverNew", "DiscoverDelete"]
    {
        assert_eq!(told(&format!("NetworkDriver.{method}")), "{}", "{method}");
    }
    for method in ["NetworkDriver.AllocateNetwork", "IpamDriver.X", "VolumeDriver.Create", "", "Plugin.Activate/x"] {
        assert!(matches!(Request::decode(method, b"{}"), Err(Fault::UnknownMethod)), "{method}");
    }
}

#[test]
fn a_pool_is_any_or_this_one_or_a_part_of_it() {
    let asked = |pool: &str, part: &str, v6: bool| {
        asked_pool(&format!(
            r#"{{"AddressSpace":"weave-rs","Pool":"{pool}","SubPool":"{part}","Options":null,"V6":{v6}}}"#
        ))
    };

    assert_eq!(asked("", "", false), Ok(Asked::Any));
    assert_eq!(asked("10.40.0.0/16", "", false), Ok(Asked::This(pool("10.40.0.0/16"))));
    assert_eq!(asked("10.40.0.0/16", "10.40.1.0/24", false), Ok(Asked::This(pool("10.40.0.0/16,10.40.1.0/24"))));
    assert!(asked("10.40.0.0/16", "10.41.1.0/24", false).unwrap_err().contains("--ip-range 10.41.1.0/24"));
    assert!(asked("10.40.0.0/16", "10.0.0.0/8", false).is_err());
    assert!(asked("", "10.41.1.0/24", false).is_err());
    assert!(asked("10.40.0.1/16", "", false).unwrap_err().contains("10.40.0.1/16"));
    for refused in [asked("", "", true), asked("fd00::/64", "", false)] {
        assert!(refused.unwrap_err().contains("no IPv6"));
    }
}

#[test]
fn a_pools_id_is_all_there_is_to_know_of_it() {
    for text in ["10.32.0.0/12", "10.32.0.0/12,10.32.4.0/22", "0.0.0.0/0,10.0.0.0/8", "10.0.0.1/32"] {
        assert_eq!(pool(text).to_string(), text);
    }
    for text in ["", "10.32.0.0", "10.32.0.1/12", "10.32.0.0/12,", "10.32.0.0/12,10.64.0.0/24", "fd00::/64", "a,b"] {
        assert!(matches!(text.parse::<Pool>(), Err(Fault::NoPool(_))), "{text}");
    }
    let encoded = Answer::Pool(pool("10.32.0.0/12,10.32.4.0/22")).encode();
    assert_eq!((&encoded["PoolID"], &encoded["Pool"]), (&json!("10.32.0.0/12,10.32.4.0/22"), &json!("10.32.0.0/12")));
}

#[test]
fn an_address_is_any_or_this_one_and_a_gateways_is_nobodys() {
    let asked = |address: &str, options: &str| {
        let body = format!(r#"{{"PoolID":"10.32.0.0/12","Address":"{address}","Options":{options}}}"#);
        ask("IpamDriver.RequestAddress", &body)
    };
    let address = |wanted: Option<[u8; 4]>| {
        Request::Ipam(ipam::Request::Address { pool: pool("10.32.0.0/12"), wanted: wanted.map(Into::into) })
    };
    let gateway = r#"{"RequestAddressType":"com.docker.network.gateway"}"#;

    assert_eq!(asked("", "null"), Ok(address(None)));
    assert_eq!(asked("10.32.0.7", "{}"), Ok(address(Some([10, 32, 0, 7]))));
    let Ok(Request::Fixed(answer)) = asked("", gateway) else { panic!("a gateway needs nobody") };
    assert_eq!(answer.encode()["Address"], json!("10.32.0.0/12"));
    assert!(asked("10.32.0.1", gateway).unwrap_err().contains("--gateway"));
    assert!(asked("fd00::1", "{}").unwrap_err().contains("fd00::1"));
    let released = ask("IpamDriver.ReleaseAddress", r#"{"PoolID":"10.32.0.0/12","Address":"10.32.0.7"}"#);
    assert_eq!(released, Ok(Request::Ipam(ipam::Request::ReleaseAddress([10, 32, 0, 7].into()))));
}

#[test]
fn a_network_has_our_addresses_and_one_option() {
    let option = |value: &str| {
        created(&format!(r#"{{"com.docker.network.generic":{{"works.weave.multicast":"{value}","other":"x"}}}}"#), V4)
    };

    assert_eq!(created("null", V4), Ok(Multicast::Routed));
    assert_eq!(
        created(r#"{"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{}}"#, V4),
        Ok(Multicast::Routed)
    );
    assert_eq!([option(""), option("true")], [Ok(Multicast::Routed), Ok(Multicast::Routed)]);
    assert_eq!(option("false"), Ok(Multicast::NotRouted));
    assert!(option("maybe").unwrap_err().contains("`maybe`"));
    let unknown = created(r#"{"com.docker.network.generic":{"works.weave.mtu":"1"}}"#, V4);
    assert!(unknown.unwrap_err().contains("`works.weave.mtu`"));
    assert!(created(r#"{"com.docker.network.enable_ipv6":true}"#, V4).unwrap_err().contains("no IPv6"));
    for foreign in ["null", "[]", r#"[{"AddressSpace":"LocalDefault","Pool":"172.18.0.0/16"}]"#] {
        assert!(created("null", foreign).unwrap_err().contains("--ipam-driver"), "{foreign}");
    }
}

#[test]
fn an_endpoint_is_made_with_an_address_and_perhaps_a_mac() {
    let asked = |interface: &str| {
        let body = format!(r#"{{"NetworkID":"{ID}","EndpointID":"{ID}","Interface":{interface},"Options":{{}}}}"#);
        match ask("NetworkDriver.CreateEndpoint", &body)? {
            Request::Network(network::Request::CreateEndpoint { address, mac, .. }) => {
                Ok((address.to_string(), mac.map(|mac| mac.to_string())))
            }
            other => Err(format!("{other:?}")),
        }
    };
    let address = "10.32.0.7/12".to_owned();

    assert_eq!(asked(r#"{"Address":"10.32.0.7/12","AddressIPv6":"","MacAddress":""}"#), Ok((address.clone(), None)));
    let mac = "02:42:0a:20:00:07".to_owned();
    assert_eq!(asked(r#"{"Address":"10.32.0.7/12","MacAddress":"02:42:0A:20:00:07"}"#), Ok((address, Some(mac))));
    for bad in ["01:00:5e:00:00:01", "00:00:00:00:00:00", "2:42:0a:20:00:07", "02:42:0a:20:00", "x"] {
        let refused = asked(&format!(r#"{{"Address":"10.32.0.7/12","MacAddress":"{bad}"}}"#));
        assert!(refused.unwrap_err().contains(bad), "{bad}");
    }
    assert!(asked("null").is_err() && asked(r#"{"Address":"fd00::1/64"}"#).is_err());
    assert_eq!(Answer::Endpoint(None).encode().to_string(), r#"{"Interface":{}}"#);
}

#[test]
fn a_container_joins_by_a_device_and_its_routes() {
    let joined = Joined {
        device: "vethwepg2000000".to_owned(),
        prefix: "ethwe".to_owned(),
        routes: vec![StaticRoute("224.0.0.0/4".parse().unwrap())],
    };

    let encoded = Answer::Joined(joined).encode();

    assert_eq!(encoded["InterfaceName"], json!({ "SrcName": "vethwepg2000000", "DstPrefix": "ethwe" }));
    assert_eq!(encoded["StaticRoutes"], json!([{ "Destination": "224.0.0.0/4", "RouteType": 1 }]));
    let ids =
        format!(r#"{{"NetworkID":"{ID}","EndpointID":"{ID}","SandboxKey":"/var/run/docker/netns/1","Options":{{}}}}"#);
    let (network, endpoint, sandbox) = (ID.to_owned(), ID.to_owned(), "/var/run/docker/netns/1".to_owned());
    let asked = ask("NetworkDriver.Join", &ids);
    assert_eq!(asked, Ok(Request::Network(network::Request::Join { network, endpoint, sandbox })));
    let path = ids.replacen(ID, "../../etc", 2);
    assert!(ask("NetworkDriver.Join", &path).unwrap_err().contains("no id of Docker's"));
}

#[test]
fn each_driver_is_told_of_errors_where_it_looks_for_them() {
    assert_eq!(refusal("NetworkDriver.Join", "no").to_string(), r#"{"Err":"no"}"#);
    assert_eq!(refusal("IpamDriver.RequestPool", "no").to_string(), r#"{"Error":"no"}"#);
}

const METHODS: [&str; 8] = [
    "IpamDriver.RequestPool",
    "IpamDriver.ReleasePool",
    "IpamDriver.RequestAddress",
    "IpamDriver.ReleaseAddress",
    "NetworkDriver.CreateNetwork",
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.Join",
];

/// Requests with fields of the right names, and anything in them.
fn body() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "NetworkID",
        "EndpointID",
        "PoolID",
        "Pool",
        "SubPool",
        "V6",
        "Address",
        "Interface",
        "MacAddress",
        "Options",
        "IPv4Data",
        "IPv6Data",
        "AddressSpace",
        "com.docker.network.generic",
        "works.weave.multicast",
    ]);
    let leaf = prop_oneof![
        Just(format!("\"{ID}\"")),
        prop::sample::select(vec![
            "null",
            "true",
            "[]",
            "{}",
            "1e9",
            "\"10.32.0.0/12\"",
            "\"10.32.0.0/12,x\"",
            "\"::/0\""
        ])
        .prop_map(str::to_owned),
        "[a-z0-9/.,:]{0,12}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        let field = (name.clone(), inner.clone()).prop_map(|(name, value)| format!("\"{name}\":{value}"));
        prop_oneof![
            prop::collection::vec(field, 0..6).prop_map(|fields| format!("{{{}}}", fields.join(","))),
            prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn no_octets_panic(method in prop::sample::select(&METHODS[..]), octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::decode(method, &octets);
    }

    #[test]
    fn no_fields_panic(method in prop::sample::select(&METHODS[..]), body in body()) {
        let _ = Request::decode(method, body.as_bytes());
    }

    #[test]
    fn a_pool_that_is_read_is_written_the_same(text in "[0-9]{1,3}\\.0\\.0\\.0/[0-9]{1,2}(,[0-9]{1,3}\\.0\\.0\\.0/[0-9]{1,2})?") {
        if let Ok(pool) = text.parse::<Pool>() {
            prop_assert_eq!(pool.to_string().parse::<Pool>().unwrap(), pool);
        }
    }
}
