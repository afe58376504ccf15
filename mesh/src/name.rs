//! Names: of a peer, a mesh, an Ethernet station.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::digest;

/// An Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    pub const ZERO: Self = Self([0; 6]);
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the group bit is set: broadcast or multicast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

/// A peer's label, printed like an Ethernet address; it is also the MAC of the peer's bridge. The *identity* of a peer
/// is its [`PeerKey`](crate::identity::PeerKey), not its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerName(pub [u8; 6]);

impl PeerName {
    /// The name of a key that was given none: locally administered, unicast.
    pub fn derived_from(key: &[u8; 32]) -> Self {
        let hash = digest("weave-rs peer name", &[key]);
        let mut name = [0; 6];
        name.copy_from_slice(&hash[..6]);
        name[0] = name[0] & 0xfe | 0x02;
        Self(name)
    }

    pub const fn mac(self) -> MacAddr {
        MacAddr(self.0)
    }
}

fn write_octets(octets: [u8; 6], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [a, b, c, d, e, g] = octets;
    write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
}

/// A name that is no peer name or Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form 02:00:5e:10:00:01 (one run of zero octets may be written ::)")]
pub struct InvalidOctets(String);

/// Six colon-separated hexadecimal octets; one run of zero octets may be shortened to `::`, as Weave Net allows.
fn parse_octets(text: &str) -> Option<[u8; 6]> {
    let octets = |part: &str| -> Option<Vec<u8>> {
        if part.is_empty() {
            return Some(Vec::new());
        }
        part.split(':')
            .map(|octet| (octet.len() <= 2 && !octet.starts_with('+')).then(|| u8::from_str_radix(octet, 16).ok())?)
            .collect()
    };
    let (head, tail) = match text.split_once("::") {
        Some((head, tail)) => (octets(head)?, octets(tail)?),
        None => (octets(text).filter(|all| all.len() == 6)?, Vec::new()),
    };
    let zeros = 6usize.checked_sub(head.len() + tail.len())?;
    let all = [head, vec![0; zeros], tail].concat();
    all.try_into().ok()
}

macro_rules! octets_text {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_octets(self.0, f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_octets(self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = InvalidOctets;

            fn from_str(text: &str) -> Result<Self, InvalidOctets> {
                parse_octets(text).map(Self).ok_or_else(|| InvalidOctets(text.to_owned()))
            }
        }
    };
}

octets_text!(MacAddr);
octets_text!(PeerName);

/// Which mesh a peer belongs to: a hash of `--mesh NAME`, independent of passwords.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MeshId(pub [u8; 16]);

impl MeshId {
    pub fn of(mesh_name: &str) -> Self {
        let hash = digest("weave-rs mesh id", &[mesh_name.as_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self(id)
    }

    /// The VXLAN network identifier of this mesh, 24 bits, never zero: two meshes whose hosts inherit each other's
    /// addresses do not mix.
    pub fn vni(self) -> u32 {
        (u32::from_be_bytes([0, self.0[0], self.0[1], self.0[2]])).max(1)
    }
}

impl fmt::Display for MeshId {
    /// The first four octets, enough to tell meshes apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_shorten_one_run_of_zeros() {
        let parsed = |text: &str| text.parse::<PeerName>().map(|name| name.to_string());

        assert_eq!(parsed("::1"), Ok("00:00:00:00:00:01".to_owned()));
        assert_eq!(parsed("2::"), Ok("02:00:00:00:00:00".to_owned()));
        assert_eq!(parsed("2::a:1"), Ok("02:00:00:00:0a:01".to_owned()));
        assert_eq!(parsed("02:ab:cd:ef:00:11"), Ok("02:ab:cd:ef:00:11".to_owned()));
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_text() {
        for text in ["", "1", "1:2:3:4:5", "1:2:3:4:5:6:7", "1::2::3", "zz::1", "1:2:3:4:5:6::7", "+1::2", "002::1"] {
            let error = text.parse::<PeerName>().expect_err(text);
            assert!(error.to_string().contains(text));
        }
    }

    #[test]
    fn a_derived_name_is_a_local_unicast_address() {
        for byte in 0..=255 {
            let name = PeerName::derived_from(&[byte; 32]);
            assert_eq!(name.0[0] & 0x03, 0x02);
        }
    }
}
