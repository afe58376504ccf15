//! Networks, and their endpoints: the place on a network that an engine makes for a container, before there is one.
//!
//! ```text
//!   CreateEndpoint   an address, and a MAC            Join    the device that the engine moves to the container
//!   DeleteEndpoint   nobody needs them any more       Leave   it is moved back
//! ```
//!
//! An engine tells the container of an endpoint to nobody while it starts it, and its names never: whoever wants to know asks
//! the engine afterwards (`events.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{ADDRESS_SPACE, Answer, Fault};
use crate::engine::is_id;
use crate::wish::Cidr;

/// The option of a network, as the original calls it; and the beginning of all of ours.
const MULTICAST: &str = "works.weave.multicast";
const OURS: &str = "works.weave.";
/// `types.CONNECTED` of libnetwork: a route without a next hop.
const CONNECTED: u8 = 1;

/// What is asked of networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    CreateNetwork {
        network: String,
        multicast: Multicast,
    },
    DeleteNetwork {
        network: String,
    },
    /// The engine's MAC counts if it has one.
    CreateEndpoint {
        endpoint: String,
        address: Cidr,
        mac: Option<Mac>,
    },
    DeleteEndpoint {
        endpoint: String,
    },
    /// A container's sandbox is the same for all of its networks.
    Join {
        network: String,
        endpoint: String,
        sandbox: String,
    },
}

/// Whether all IPv4 multicast of a container leaves by the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Multicast {
    #[default]
    Routed,
    NotRouted,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

/// How a container gets on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The device that the engine moves to the container.
    pub device: String,
    /// What it is called there, with a number behind.
    pub prefix: String,
    /// Where packets leave by it, beside its own subnet.
    pub routes: Vec<StaticRoute>,
}

/// Packets to there leave by the device itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticRoute(pub Cidr);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    network: String,
    #[serde(default)]
    options: Option<Options>,
    #[serde(default, rename = "IPv4Data")]
    v4: Option<Vec<Data>>,
    #[serde(default, rename = "IPv6Data")]
    v6: Option<Vec<Data>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    #[serde(rename = "com.docker.network.generic")]
    generic: Option<BTreeMap<String, Value>>,
    #[serde(rename = "com.docker.network.enable_ipv6")]
    ipv6: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    #[serde(default)]
    address_space: String,
}

#[derive(Deserialize)]
struct OfNetwork {
    #[serde(rename = "NetworkID")]
    network: String,
}

#[derive(Deserialize)]
struct OfEndpoint {
    #[serde(rename = "NetworkID")]
    network: String,
    #[serde(rename = "EndpointID")]
    endpoint: String,
    #[serde(rename = "SandboxKey", default)]
    sandbox: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateEndpoint {
    #[serde(rename = "EndpointID")]
    endpoint: String,
    #[serde(default)]
    interface: Option<Interface>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Interface {
    address: String,
    #[serde(rename = "AddressIPv6")]
    address_v6: String,
    mac_address: String,
}

pub(super) fn decode(name: &str, body: &[u8]) -> Result<super::Request, Fault> {
    let request = match name {
        "GetCapabilities" => return Ok(super::Request::Fixed(Answer::NetworkCapabilities)),
        "EndpointOperInfo" => return Ok(super::Request::Fixed(Answer::NoDetails)),
        // An engine deletes the endpoint next, and with it all that there is to take back.
        "Leave" => return Ok(super::Request::Fixed(Answer::Done)),
        // The way out is Docker's own, and what other engines do is the mesh's to know.
        "ProgramExternalConnectivity" | "RevokeExternalConnectivity" | "DiscoverNew" | "DiscoverDelete" => {
            return Ok(super::Request::Fixed(Answer::Done));
        }
        "CreateNetwork" => serde_json::from_slice::<CreateNetwork>(body)?.request()?,
        "DeleteNetwork" => {
            let OfNetwork { network } = serde_json::from_slice(body)?;
            Request::DeleteNetwork { network: checked(network)? }
        }
        "CreateEndpoint" => serde_json::from_slice::<CreateEndpoint>(body)?.request()?,
        "DeleteEndpoint" => {
            let OfEndpoint { endpoint, .. } = serde_json::from_slice(body)?;
            Request::DeleteEndpoint { endpoint: checked(endpoint)? }
        }
        "Join" => {
            let OfEndpoint { network, endpoint, sandbox } = serde_json::from_slice(body)?;
            Request::Join { network: checked(network)?, endpoint: checked(endpoint)?, sandbox }
        }
        _ => return Err(Fault::UnknownMethod),
    };
    Ok(super::Request::Network(request))
}

impl CreateNetwork {
    fn request(self) -> Result<Request, Fault> {
        let options = self.options.unwrap_or_default();
        if options.ipv6 || self.v6.is_some_and(|v6| !v6.is_empty()) {
            return Err(Fault::Ipv6);
        }
        let v4 = self.v4.unwrap_or_default();
        if v4.is_empty() || v4.iter().any(|data| data.address_space != ADDRESS_SPACE) {
            return Err(Fault::ForeignAddresses);
        }
        let multicast = multicast(&options.generic.unwrap_or_default())?;
        Ok(Request::CreateNetwork { network: checked(self.network)?, multicast })
    }
}

/// What the options of a network say. Those that are not ours may mean something to others.
fn multicast(options: &BTreeMap<String, Value>) -> Result<Multicast, Fault> {
    let unknown = options.keys().find(|name| name.starts_with(OURS) && *name != MULTICAST);
    if let Some(unknown) = unknown {
        return Err(Fault::NoOption(unknown.clone()));
    }
    match options.get(MULTICAST).map(|value| value.as_str().unwrap_or("?")) {
        // Without a value it is a switch.
        None | Some("" | "true" | "1") => Ok(Multicast::Routed),
        Some("false" | "0") => Ok(Multicast::NotRouted),
        Some(other) => Err(Fault::NoSwitch(other.to_owned())),
    }
}

impl CreateEndpoint {
    fn request(self) -> Result<Request, Fault> {
        let Interface { address, address_v6, mac_address } = self.interface.unwrap_or_default();
        if !address_v6.is_empty() {
            return Err(Fault::Ipv6);
        }
        let parsed = address.parse().ok().filter(|address: &Cidr| matches!(address.address, IpAddr::V4(_)));
        let address = parsed.ok_or(Fault::NoAddress(address))?;
        let mac = (!mac_address.is_empty()).then(|| mac_address.parse()).transpose()?;
        Ok(Request::CreateEndpoint { endpoint: checked(self.endpoint)?, address, mac })
    }
}

impl Joined {
    pub(super) fn encode(&self) -> Value {
        let route = |route: &StaticRoute| json!({ "Destination": route.0.to_string(), "RouteType": CONNECTED });
        json!({
            "InterfaceName": { "SrcName": self.device, "DstPrefix": self.prefix },
            "StaticRoutes": self.routes.iter().map(route).collect::<Vec<_>>(),
            // The way out of a container that is on no other network is Docker's bridge for that purpose.
            "DisableGatewayService": false,
        })
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Fault;

    /// One station's: neither a group's nor nobody's.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let octet = |part: &str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten();
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        let octets: Option<[u8; 6]> = octets.and_then(|octets| octets.try_into().ok());
        let is_usable = |octets: &[u8; 6]| octets[0] & 1 == 0 && *octets != [0; 6];
        octets.filter(is_usable).map(Self).ok_or_else(|| Fault::NoMac(text.to_owned()))
    }
}

/// Ids go into names and books, and are what they should be.
fn checked(id: String) -> Result<String, Fault> {
    if is_id(&id) { Ok(id) } else { Err(Fault::NoId(id)) }
}
