//! The addresses that a container asks for by `WEAVE_CIDR` in its environment, and an operator by the same words.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::Declined;

/// How the variable begins.
const VARIABLE: &str = "WEAVE_CIDR=";
/// Keeps a container off the network.
const NONE: &str = "none";
/// The most addresses that one container may ask for.
pub const WANTED_MAX: usize = 16;

/// A word that asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address: give ADDRESS/LENGTH, such as 10.32.0.1/12, or net:SUBNET or net:default for one of that subnet"
)]
pub struct WordError(String);

/// What was asked for and cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    #[error("WEAVE_CIDR: {0}; or none")]
    Word(#[from] WordError),
    #[error("WEAVE_CIDR: `{NONE}` stands alone; remove it, or the rest")]
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
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let address: IpAddr = address.parse().ok()?;
            let prefix_length = length.bytes().all(|digit| digit.is_ascii_digit()).then(|| length.parse().ok())??;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            (prefix_length <= longest).then_some(Self { address, prefix_length })
        });
        parsed.ok_or_else(|| WordError(text.to_owned()))
    }
}

/// One word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `ADDRESS/LENGTH` or `ip:ADDRESS/LENGTH`: this one.
    This(Cidr),
    /// `net:SUBNET`: one of the subnet.
    In(Cidr),
    /// `net:default`: one of the default subnet.
    Default,
}

impl FromStr for Wanted {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let whole = |_| WordError(text.to_owned());
        match text.split_once(':') {
            Some(("net", "default")) => Ok(Self::Default),
            Some(("net", subnet)) => subnet.parse().map(Self::In).map_err(whole),
            Some(("ip", address)) => address.parse().map(Self::This).map_err(whole),
            Some(_) | None => text.parse().map(Self::This),
        }
    }
}

/// What the variable says in an environment; nothing when it is not there. Of several the last counts, as in a process.
pub(crate) fn in_environment(variables: &[String]) -> Option<&str> {
    variables.iter().rev().find_map(|variable| variable.strip_prefix(VARIABLE))
}

/// What the variable asks for; nothing when it is not there.
pub(super) fn read(variable: Option<&str>) -> Result<Option<Vec<Wanted>>, Declined> {
    let Some(value) = variable else { return Ok(None) };
    let words: Vec<&str> = value.split_whitespace().take(WANTED_MAX + 1).collect();
    if words == [NONE] {
        return Err(Declined::AskedForNone);
    }
    if words.contains(&NONE) {
        return Err(WantedError::NoneAndMore.into());
    }
    if words.len() > WANTED_MAX {
        return Err(WantedError::TooMany.into());
    }
    let wanted: Result<Vec<Wanted>, WordError> = words.into_iter().map(str::parse).collect();
    Ok(Some(wanted.map_err(WantedError::from)?))
}
