//! One record of a replicated set: what its owner says about one thing, with its hash.
//!
//! ```text
//!   Content::Card      who the owner is; exactly one in a set
//!   Content::Edge      one live connection of the owner
//!   Content::Endpoint  one container, or learnt station, on the owner's bridge
//!   Content::HostName  one name for one address, given by hand
//! ```
//!
//! A [`Record`] is immutable and shared: thousands of sets, their predecessors and the messages that carry them point
//! to one allocation. Its hash and length are computed once, when it is made or decoded.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::card::{CARD_MAX_BYTES, SignedCard, Subnet};
use crate::identity::{Hash, PeerKey, digest};
use crate::name::MacAddr;

/// How many addresses one endpoint has at most.
pub const ENDPOINT_ADDRESSES_MAX: usize = 16;
/// How many names one endpoint has at most.
pub const ENDPOINT_NAMES_MAX: usize = 16;
/// The longest name of an endpoint, octets: the limit of DNS.
pub const ENDPOINT_NAME_MAX_BYTES: usize = 253;
/// The longest container text, octets: an id has 64, a path of a namespace may have more.
pub const CONTAINER_MAX_BYTES: usize = 128;

/// What a record occupies beside its texts and lists, octets: itself, its count of owners, and its places in lists.
const RECORD_BYTES: usize = size_of::<Hashed>() + 64;
/// What a text in a list occupies beside its letters.
const TEXT_BYTES: usize = size_of::<String>() + 24;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    Inbound,
    Outbound,
}

/// Whether the two ends of an edge exchange sleeve packets without a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Session {
    Indirect,
    Direct,
}

/// One live connection of the owner; it counts while the peer publishes its end too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub peer: PeerKey,
    /// The peer's end of the TCP connection.
    pub remote: SocketAddr,
    pub direction: Direction,
    pub session: Session,
}

/// Names one endpoint among those of its owner; chosen by the owner and stable while the endpoint lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId(pub u64);

/// A station on the owner's bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub mac: MacAddr,
    pub addresses: Vec<Subnet>,
    /// The container's id or the namespace's name; empty for a station learnt on a hand-plugged port.
    pub container: String,
    pub names: Vec<String>,
    /// Lamport time of the attachment: of two owners that claim one MAC or address the later wins.
    pub attached: u64,
}

/// Names one host name among those of its owner; made of what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostNameId(pub u64);

/// A name that somebody gave an address by hand; it lasts until it is taken away or its container is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostName {
    /// As it was given.
    pub name: String,
    pub address: IpAddr,
    /// The container that it goes with; another text for a name that belongs to none.
    pub container: String,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    Card(SignedCard),
    Edge(Edge),
    Endpoint(EndpointId, Endpoint),
    HostName(HostNameId, HostName),
}

/// What a record is about; a set has one record for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RecordKey {
    Card,
    Edge(PeerKey),
    Endpoint(EndpointId),
    HostName(HostNameId),
}

impl RecordKey {
    /// Which of the 256 buckets holds the record. Keys are uniform and ids are an owner's own affair, so a few octets
    /// of either spread well enough.
    pub const fn bucket(&self) -> u8 {
        match self {
            Self::Card => 0,
            Self::Edge(peer) => peer.0[31],
            Self::Endpoint(EndpointId(id)) | Self::HostName(HostNameId(id)) => {
                let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed >> 56) as u8
            }
        }
    }
}

#[derive(Debug)]
struct Hashed {
    content: Content,
    hash: Hash,
    encoded_bytes: u32,
}

/// A record, shared.
#[derive(Clone, Debug)]
pub struct Record(Arc<Hashed>);

impl Record {
    pub fn new(content: Content) -> Self {
        // Encoding into memory cannot fail: no type here refuses to be serialised.
        let encoded = postcard::to_stdvec(&content).unwrap_or_default();
        let hash = digest("weave-rs record", &[&encoded]);
        let encoded_bytes = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
        Self(Arc::new(Hashed { content, hash, encoded_bytes }))
    }

    pub fn content(&self) -> &Content {
        &self.0.content
    }

    pub fn key(&self) -> RecordKey {
        match &self.0.content {
            Content::Card(_) => RecordKey::Card,
            Content::Edge(edge) => RecordKey::Edge(edge.peer),
            Content::Endpoint(id, _) => RecordKey::Endpoint(*id),
            Content::HostName(id, _) => RecordKey::HostName(*id),
        }
    }

    pub fn hash(&self) -> &Hash {
        &self.0.hash
    }

    pub fn encoded_bytes(&self) -> usize {
        self.0.encoded_bytes as usize
    }

    /// What it occupies here, octets: more than it is long, above all when its texts are short.
    pub fn memory(&self) -> usize {
        let texts = match &self.0.content {
            Content::Card(_) => CARD_MAX_BYTES,
            Content::Edge(_) => 0,
            Content::Endpoint(_, endpoint) => {
                let names: usize = endpoint.names.iter().map(|name| TEXT_BYTES + name.len()).sum();
                names + endpoint.container.len() + size_of_val(&endpoint.addresses[..])
            }
            Content::HostName(_, host_name) => host_name.name.len() + host_name.container.len(),
        };
        RECORD_BYTES + texts
    }

    /// Whether every list and text keeps its limit.
    pub fn is_within_limits(&self) -> bool {
        match &self.0.content {
            Content::Card(card) => card.encoded_bytes() <= CARD_MAX_BYTES,
            Content::Edge(_) => true,
            Content::Endpoint(_, endpoint) => endpoint.is_within_limits(),
            Content::HostName(_, host_name) => host_name.is_within_limits(),
        }
    }
}

impl HostName {
    pub fn id(&self) -> HostNameId {
        let address = self.address.to_string();
        let hash = digest("weave-rs host name", &[self.name.as_bytes(), address.as_bytes(), self.container.as_bytes()]);
        HostNameId(u64::from_le_bytes(std::array::from_fn(|index| hash[index])))
    }

    /// Whether both texts keep their limits.
    pub const fn is_within_limits(&self) -> bool {
        self.name.len() <= ENDPOINT_NAME_MAX_BYTES && self.container.len() <= CONTAINER_MAX_BYTES
    }
}

impl Endpoint {
    /// Whether every list and text keeps its limit.
    pub fn is_within_limits(&self) -> bool {
        self.addresses.len() <= ENDPOINT_ADDRESSES_MAX
            && self.names.len() <= ENDPOINT_NAMES_MAX
            && self.names.iter().all(|name| name.len() <= ENDPOINT_NAME_MAX_BYTES)
            && self.container.len() <= CONTAINER_MAX_BYTES
    }
}

impl PartialEq for Record {
    /// By identity, else by hash: comparing two versions of a set touches no content.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.hash == other.0.hash
    }
}

impl Eq for Record {}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.content.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Content::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn endpoint(names: usize) -> Endpoint {
        Endpoint {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            addresses: Vec::new(),
            container: "c".into(),
            names: vec!["n".into(); names],
            attached: 1,
        }
    }

    #[test]
    fn a_record_survives_its_bytes_with_its_hash() {
        let record = Record::new(Content::Endpoint(EndpointId(7), endpoint(2)));

        let bytes = postcard::to_stdvec(&record).unwrap();
        let again: Record = postcard::from_bytes(&bytes).unwrap();

        assert_eq!(again, record);
        assert_eq!(again.encoded_bytes(), bytes.len());
    }

    #[test]
    fn records_that_say_different_things_differ() {
        let one = Record::new(Content::Endpoint(EndpointId(7), endpoint(1)));
        let other = Record::new(Content::Endpoint(EndpointId(7), endpoint(2)));

        assert_ne!(one, other);
        assert_eq!(one.key(), other.key());
    }

    #[test]
    fn an_endpoint_with_too_many_names_is_over_its_limits() {
        assert!(endpoint(ENDPOINT_NAMES_MAX).is_within_limits());
        assert!(!endpoint(ENDPOINT_NAMES_MAX + 1).is_within_limits());
    }

    #[test]
    fn sequential_endpoint_ids_spread_over_the_buckets() {
        let buckets: std::collections::BTreeSet<_> =
            (0..256).map(|id| RecordKey::Endpoint(EndpointId(id)).bucket()).collect();

        assert!(buckets.len() > 128);
    }
}
