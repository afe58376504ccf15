//! What an operator asks us to connect to, and the address that a dial goes to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest host name of a target, octets (the limit of DNS).
const HOST_MAX_BYTES: usize = 253;

/// `host[:port]` as an operator wrote it; host is a name, an IPv4 or an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    text: String,
    host: String,
    port: Option<u16>,
}

/// A text that is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form HOST[:PORT]; write an IPv6 address with a port as [ADDRESS]:PORT")]
pub struct InvalidTarget(String);

impl Target {
    /// Where to dial; without a port of its own, at `default_port`.
    pub fn destination(&self, default_port: u16) -> Destination {
        let port = self.port.unwrap_or(default_port);
        match self.host.parse::<IpAddr>() {
            Ok(address) => Destination::Address(SocketAddr::new(address, port)),
            Err(_) => Destination::Name { host: self.host.clone(), port },
        }
    }

    /// The address of a target that names no port: any connection from there satisfies it.
    pub(super) fn portless_address(&self) -> Option<IpAddr> {
        if self.port.is_some() { None } else { self.host.parse().ok() }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let (host, port) = split(text).ok_or_else(|| InvalidTarget(text.to_owned()))?;
        Ok(Self { text: text.to_owned(), host: host.to_owned(), port })
    }
}

fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None if text.parse::<IpAddr>().is_ok() => (text, None),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    let is_named = !host.is_empty() && host.len() <= HOST_MAX_BYTES && host.chars().all(is_host);
    if !is_named && host.parse::<IpAddr>().is_err() {
        return None;
    }
    let port = match port {
        Some(digits) if digits.chars().all(|digit| digit.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0)?)
        }
        Some(_) => return None,
        None => None,
    };
    Some((host, port))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Target {
    type Error = InvalidTarget;

    fn try_from(text: String) -> Result<Self, InvalidTarget> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.text
    }
}

/// Where one dial goes. The shell resolves a name anew for every dial, so that a changed record is followed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Destination {
    Address(SocketAddr),
    Name { host: String, port: u16 },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialled(text: &str) -> String {
        text.parse::<Target>().unwrap().destination(6783).to_string()
    }

    #[test]
    fn a_target_without_a_port_is_dialled_at_our_own() {
        assert_eq!(dialled("10.0.0.1"), "10.0.0.1:6783");
        assert_eq!(dialled("host-1.example"), "host-1.example:6783");
        assert_eq!(dialled("fd00::1"), "[fd00::1]:6783");
        assert_eq!(dialled("[fd00::1]"), "[fd00::1]:6783");
    }

    #[test]
    fn a_target_with_a_port_is_dialled_there() {
        assert_eq!(dialled("10.0.0.1:7000"), "10.0.0.1:7000");
        assert_eq!(dialled("host:7000"), "host:7000");
        assert_eq!(dialled("[fd00::1]:7000"), "[fd00::1]:7000");
    }

    #[test]
    fn what_is_no_target_is_refused_with_its_text() {
        for text in
            ["", ":", "host:", ":6783", "host:0", "host:65536", "host:+1", "a b", "[fd00::1", "[host]:1", "a:b:c"]
        {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.to_string().contains(&format!("`{text}`")));
        }
    }

    #[test]
    fn a_target_keeps_the_text_that_the_operator_wrote() {
        let target: Target = "[fd00:0::1]:7000".parse().unwrap();

        assert_eq!(target.to_string(), "[fd00:0::1]:7000");
    }
}
