//! Docker's network plugins: what an engine asks of a program that serves networks and their addresses, and what it is
//! told. Pure.
//!
//! ```text
//!   POST /NetworkDriver.Join {"EndpointID":…} ─► decode ─► Request ─► whoever serves it ─► Answer ─► {"InterfaceName":…}
//!        └ method            └ body                  └ always answered so ──────────────────┘ └ why not ─► {"Err":…}
//!
//!   network create   GetDefaultAddressSpaces, RequestPool, RequestAddress (a gateway's), CreateNetwork
//!   run, connect     RequestAddress, CreateEndpoint, Join
//!   stop, disconnect Leave, DeleteEndpoint, ReleaseAddress
//!   network rm       DeleteNetwork, ReleaseAddress (the gateway's), ReleasePool
//! ```
//!
//! The protocol is libnetwork's, version 1 of the plugin API; the order is what engine 20.10 was seen to ask in. An engine
//! asks again what was not answered, with pauses of 1, 2, 4 and 8 s: so every request may come twice.
//!
//! Invariants: what cannot be read is a sentence and no panic; an unknown method is told apart, since newer engines try some.

use serde_json::{Value, json};

pub use self::fault::Fault;
pub use self::ipam::{ADDRESS_SPACE, Pool};
pub use self::network::{Joined, Mac, Multicast, StaticRoute};

mod fault;
pub mod ipam;
pub mod network;
#[cfg(test)]
mod tests;

const IPAM: &str = "IpamDriver.";
const NETWORK: &str = "NetworkDriver.";

/// What an engine asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Ipam(ipam::Request),
    Network(network::Request),
    /// What is answered the same by everybody at any time.
    Fixed(Answer),
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// That we serve networks and addresses.
    Activated,
    /// That we keep our own books of addresses, over restarts.
    AddressCapabilities,
    /// That networks are this engine's own, and reach other hosts.
    NetworkCapabilities,
    AddressSpaces,
    Pool(Pool),
    /// With the prefix length of its pool's subnet.
    Address(crate::wish::Cidr),
    /// The MAC that we chose; none when the engine chose it.
    Endpoint(Option<Mac>),
    Joined(Joined),
    /// That there is nothing to tell of an endpoint.
    NoDetails,
    Done,
}

impl Request {
    /// What an engine asks by `POST /METHOD`.
    ///
    /// # Errors
    /// When there is no such method, or the body asks for what cannot be.
    pub fn decode(method: &str, body: &[u8]) -> Result<Self, Fault> {
        if let Some(name) = method.strip_prefix(IPAM) {
            return ipam::decode(name, body);
        }
        match method.strip_prefix(NETWORK) {
            Some(name) => network::decode(name, body),
            None if method == "Plugin.Activate" => Ok(Self::Fixed(Answer::Activated)),
            None => Err(Fault::UnknownMethod),
        }
    }
}

impl Answer {
    pub fn encode(&self) -> Value {
        match self {
            Self::Activated => json!({ "Implements": ["NetworkDriver", "IpamDriver"] }),
            Self::AddressCapabilities => json!({ "RequiresMACAddress": false, "RequiresRequestReplay": false }),
            Self::NetworkCapabilities => json!({ "Scope": "local", "ConnectivityScope": "global" }),
            Self::AddressSpaces => json!({
                "LocalDefaultAddressSpace": ADDRESS_SPACE,
                "GlobalDefaultAddressSpace": ADDRESS_SPACE,
            }),
            Self::Pool(pool) => json!({ "PoolID": pool.to_string(), "Pool": pool.subnet.to_string(), "Data": {} }),
            Self::Address(address) => json!({ "Address": address.to_string(), "Data": {} }),
            Self::Endpoint(Some(mac)) => json!({ "Interface": { "MacAddress": mac.to_string() } }),
            Self::Endpoint(None) => json!({ "Interface": {} }),
            Self::Joined(joined) => joined.encode(),
            Self::NoDetails => json!({ "Value": {} }),
            Self::Done => json!({}),
        }
    }
}

/// Why there is no answer, in the form in which the caller of this method looks for it.
pub fn refusal(method: &str, why: &str) -> Value {
    if method.starts_with(IPAM) { json!({ "Error": why }) } else { json!({ "Err": why }) }
}
