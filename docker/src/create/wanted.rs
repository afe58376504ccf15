//! The addresses that a container asks for by `WEAVE_CIDR` in its environment.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// How the variable begins.
const VARIABLE: &str = "WEAVE_CIDR=";
/// The most addresses that one container may ask for.
const WANTED_MAX: usize = 64;

/// What was asked for and cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    #[error(
        "WEAVE_CIDR: `{0}` is no address; give ADDRESS/LENGTH, ip:ADDRESS/LENGTH, net:SUBNET or net:default, or none"
    )]
    Word(String),
    #[error("WEAVE_CIDR: `none` stands alone; remove it, or the rest")]
    NoneAndMore,
    #[error("WEAVE_CIDR has more than {WANTED_MAX} addresses")]
    TooMany,
}

/// An address and the length of its subnet's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix_length: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

impl FromStr for Cidr {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, WantedError> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let address: IpAddr = address.parse().ok()?;
            let prefix_length = length.bytes().all(|digit| digit.is_ascii_digit()).then(|| length.parse().ok())??;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            (prefix_length <= longest).then_some(Self { address, prefix_length })
        });
        parsed.ok_or_else(|| WantedError::Word(text.to_owned()))
    }
}

/// A word of `WEAVE_CIDR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `ADDRESS/LENGTH` or `ip:ADDRESS/LENGTH`: this one.
    This(Cidr),
    /// `net:SUBNET`: one of the subnet.
    In(Cidr),
    /// `net:default`: one of the default subnet.
    Default,
    /// `none`: the container is not to be on the network.
    None,
}

impl FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, WantedError> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            Some(("net", "default")) => Ok(Self::Default),
            Some(("net", subnet)) => subnet.parse().map(Self::In).map_err(|_| WantedError::Word(text.to_owned())),
            Some(("ip", address)) => address.parse().map(Self::This).map_err(|_| WantedError::Word(text.to_owned())),
            Some(_) | None => text.parse().map(Self::This),
        }
    }
}

/// What an environment asks for; nothing when the variable is not in it. Of several the last counts, as in a process.
pub(super) fn in_environment(variables: &[String]) -> Result<Option<Vec<Wanted>>, WantedError> {
    let Some(value) = variables.iter().rev().find_map(|variable| variable.strip_prefix(VARIABLE)) else {
        return Ok(None);
    };
    let wanted: Vec<Wanted> = value.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    if wanted.len() > 1 && wanted.contains(&Wanted::None) {
        return Err(WantedError::NoneAndMore);
    }
    if wanted.len() > WANTED_MAX {
        return Err(WantedError::TooMany);
    }
    Ok(Some(wanted))
}
