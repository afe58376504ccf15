//! IPv4 addresses in ranges: as an operator writes them, and as the ring counts them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest prefix of a subnet from which addresses are allocated: it has 4, two of them for containers.
pub const SUBNET_PREFIX_MAX: u8 = 30;

/// An address and the length of its subnet's prefix in bits, as in `10.32.0.1/12`; a subnet when all other bits are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cidr {
    address: Ipv4Addr,
    prefix_len: u8,
}

/// A text that is no address with a prefix length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form ADDRESS/LENGTH, as in 10.32.0.0/12")]
pub struct InvalidCidr(String);

impl Cidr {
    /// # Errors
    /// When `prefix_len` is over 32.
    pub fn new(address: Ipv4Addr, prefix_len: u8) -> Result<Self, InvalidCidr> {
        match prefix_len {
            0..=32 => Ok(Self { address, prefix_len }),
            _ => Err(InvalidCidr(format!("{address}/{prefix_len}"))),
        }
    }

    pub const fn address(self) -> Ipv4Addr {
        self.address
    }

    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The subnet that the address is in.
    pub fn subnet(self) -> Self {
        Self { address: self.range().first.into(), ..self }
    }

    /// Whether no bit is set behind the prefix.
    pub fn is_subnet(self) -> bool {
        self == self.subnet()
    }

    /// Every address of the subnet.
    pub fn range(self) -> Range {
        let host_bits = u32::MAX.checked_shr(u32::from(self.prefix_len)).unwrap_or(0);
        let address = u32::from(self.address);
        Range { first: address & !host_bits, last: address | host_bits }
    }

    /// The addresses that containers may have: all but those of the network and of its broadcast.
    pub fn hosts(self) -> Option<Range> {
        let Range { first, last } = self.range();
        (self.prefix_len <= SUBNET_PREFIX_MAX).then(|| Range { first: first + 1, last: last - 1 })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let parse = || {
            let (address, prefix_len) = text.split_once('/')?;
            let prefix_len = prefix_len.parse().ok().filter(|_| !prefix_len.starts_with('+'))?;
            Self::new(address.parse().ok()?, prefix_len).ok()
        };
        parse().ok_or_else(|| InvalidCidr(text.to_owned()))
    }
}

/// Addresses from `first` to `last`, both included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Range {
    pub first: u32,
    pub last: u32,
}

impl Range {
    pub const fn one(address: u32) -> Self {
        Self { first: address, last: address }
    }

    /// How many addresses it has.
    pub const fn size(self) -> u64 {
        (self.last - self.first) as u64 + 1
    }

    pub const fn contains(self, address: u32) -> bool {
        self.first <= address && address <= self.last
    }

    /// Whether every address of `other` is in it.
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    pub fn intersection(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    /// Its biggest block of at most `limit` addresses whose size is a power of two and whose first address is a multiple
    /// of that; of several the highest, as far as can be from where allocation starts.
    pub fn biggest_block(self, limit: u64) -> Option<Self> {
        let start_bits = 63_u32.checked_sub(limit.min(self.size()).leading_zeros())?;
        (0..=start_bits).rev().find_map(|bits| {
            let size = 1_u64 << bits;
            let first = ((u64::from(self.last) + 1) / size).checked_sub(1)? * size;
            let is_inside = first >= u64::from(self.first);
            // Inside a range of 32-bit addresses, both ends fit.
            is_inside.then_some(Self { first: first as u32, last: (first + size - 1) as u32 })
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", Ipv4Addr::from(self.first), Ipv4Addr::from(self.last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_subnet_knows_its_addresses() {
        let subnet = cidr("10.32.0.0/12");
        assert!(subnet.is_subnet());
        assert_eq!(subnet.range().to_string(), "10.32.0.0-10.47.255.255");
        assert_eq!(subnet.hosts().unwrap().to_string(), "10.32.0.1-10.47.255.254");
        assert_eq!(cidr("10.40.1.2/12").subnet(), subnet);
        assert!(!cidr("10.40.1.2/12").is_subnet());
        assert_eq!(cidr("0.0.0.0/0").range().size(), 1 << 32);
    }

    #[test]
    fn a_subnet_of_fewer_than_four_addresses_has_none_for_containers() {
        assert_eq!(cidr("10.0.0.0/30").hosts().unwrap().size(), 2);
        assert_eq!(cidr("10.0.0.0/31").hosts(), None);
        assert_eq!(cidr("10.0.0.0/32").hosts(), None);
    }

    #[test]
    fn what_is_no_subnet_is_refused_with_its_text() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/", "::/0"] {
            assert!(text.parse::<Cidr>().unwrap_err().to_string().contains(text));
        }
    }

    proptest! {
        #[test]
        fn the_biggest_block_is_aligned_inside_and_not_to_be_doubled(
            first in any::<u32>(), size in 1..100_000_u32, limit in 1..100_000_u64
        ) {
            let range = Range { first, last: first.saturating_add(size) };
            let block = range.biggest_block(limit).unwrap();

            prop_assert!(range.covers(block) && block.size() <= limit);
            prop_assert!(block.size().is_power_of_two() && u64::from(block.first) % block.size() == 0);
            let doubled = 2 * block.size();
            let up = u64::from(range.first).next_multiple_of(doubled);
            prop_assert!(doubled > limit || up + doubled - 1 > u64::from(range.last));
        }
    }
}
