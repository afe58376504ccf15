//! Values of single options, each with the text that is accepted.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use weave_mesh::card::Subnet;

use crate::shown::is_dangerous;

/// A text that an option does not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    #[error("`{0}` is no bridge name: 1 to {BRIDGE_NAME_MAX_BYTES} letters, digits, `-` or `_`")]
    Bridge(String),
    #[error("`{0}` is no mesh name: 1 to {MESH_NAME_MAX_BYTES} octets without control characters")]
    Mesh(String),
    #[error("`{0}` is no ethertype: give a number from 0x0600 to 0xffff, such as 0x88cc")]
    EtherType(String),
    #[error("`{0}` is no usable MTU: give a number from {MTU_MIN_BYTES} to {MTU_MAX_BYTES}")]
    Mtu(String),
    #[error("`{0}` is no address with a length: give ADDRESS/LENGTH, such as 10.32.0.1/12, or 10.0.0.0/8 for a subnet")]
    Subnet(String),
    #[error("`{0}` has bits set beyond its prefix length; did you mean {1}?")]
    HostBits(String, Network),
}

/// `-tap` and `-vx` are appended, and the kernel takes 15 octets.
const BRIDGE_NAME_MAX_BYTES: usize = 11;
const MESH_NAME_MAX_BYTES: usize = 253;
/// What every IPv4 host accepts. Below 1280 the overlay has no IPv6.
const MTU_MIN_BYTES: u32 = 576;
const MTU_MAX_BYTES: u32 = 65_000;

/// The name of the bridge; its overlay ports are named after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeName(String);

impl Default for BridgeName {
    fn default() -> Self {
        Self("weave".to_owned())
    }
}

impl FromStr for BridgeName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let is_allowed = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        let is_name = (1..=BRIDGE_NAME_MAX_BYTES).contains(&text.len()) && text.chars().all(is_allowed);
        if is_name { Ok(Self(text.to_owned())) } else { Err(InvalidValue::Bridge(text.to_owned())) }
    }
}

impl fmt::Display for BridgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for BridgeName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Which mesh this host joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshName(String);

impl Default for MeshName {
    fn default() -> Self {
        Self("weave".to_owned())
    }
}

impl FromStr for MeshName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let is_name = (1..=MESH_NAME_MAX_BYTES).contains(&text.len()) && !text.contains(is_dangerous);
        if is_name { Ok(Self(text.to_owned())) } else { Err(InvalidValue::Mesh(text.to_owned())) }
    }
}

impl AsRef<str> for MeshName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// An ethertype that containers may send besides IPv4, ARP and IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EtherType(pub u16);

impl FromStr for EtherType {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let number = match text.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        // Below 0x0600 the field is the length of an 802.3 frame.
        number.filter(|number| *number >= 0x0600).map(Self).ok_or_else(|| InvalidValue::EtherType(text.to_owned()))
    }
}

/// The largest packet that the overlay carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MtuBytes(u32);

impl MtuBytes {
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for MtuBytes {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let number = text.parse().ok().filter(|bytes| (MTU_MIN_BYTES..=MTU_MAX_BYTES).contains(bytes));
        number.map(Self).ok_or_else(|| InvalidValue::Mtu(text.to_owned()))
    }
}

/// How a subnet is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub Subnet);

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.address, self.0.prefix_len)
    }
}

/// `ADDRESS/LENGTH`; the address may have host bits, as a container's own address has.
///
/// # Errors
/// When `text` is of another form or the length does not fit the address.
pub fn parse_subnet(text: &str) -> Result<Subnet, InvalidValue> {
    let invalid = || InvalidValue::Subnet(text.to_owned());
    let (address, length) = text.split_once('/').ok_or_else(invalid)?;
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let prefix_len: u8 = length.parse().map_err(|_| invalid())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if prefix_len > longest { Err(invalid()) } else { Ok(Subnet { address, prefix_len }) }
}

/// A comma-separated list of networks.
///
/// # Errors
/// Names the first entry that is no network.
pub fn parse_trusted_subnets(text: &str) -> Result<Vec<Subnet>, InvalidValue> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let subnet = parse_subnet(entry)?;
            let network = subnet.network();
            if network == subnet { Ok(subnet) } else { Err(InvalidValue::HostBits(entry.to_owned(), Network(network))) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_name_leaves_room_for_its_ports() {
        assert!("weave".parse::<BridgeName>().is_ok());
        for text in ["", "twelve-bytes", "a/b", "a b"] {
            assert!(text.parse::<BridgeName>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_ethertype_is_never_a_length() {
        assert_eq!("0x88cc".parse(), Ok(EtherType(0x88cc)));
        assert_eq!("35020".parse(), Ok(EtherType(0x88cc)));
        assert!("0x05dc".parse::<EtherType>().is_err());
    }

    #[test]
    fn trusted_subnets_are_networks() {
        let parsed = parse_trusted_subnets("10.0.0.0/8, fd00::/16,0.0.0.0/0,::/0").unwrap();

        assert_eq!(parsed.len(), 4);
        let error = parse_trusted_subnets("10.1.0.0/8").unwrap_err();
        assert!(error.to_string().ends_with("did you mean 10.0.0.0/8?"));
    }

    #[test]
    fn a_length_beyond_the_address_is_refused() {
        assert!(parse_subnet("10.0.0.1/33").is_err());
        assert!(parse_subnet("fd00::1/129").is_err());
        assert!(parse_subnet("fd00::1/128").is_ok());
    }

    #[test]
    fn an_mtu_is_what_every_host_accepts() {
        assert!("575".parse::<MtuBytes>().is_err());
        assert_eq!("1376".parse::<MtuBytes>().map(MtuBytes::get), Ok(1376));
    }
}
