//! How names are served.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use weave_mesh::dns::{InvalidName, folded};

/// The domain of containers unless told otherwise.
pub const DEFAULT_DOMAIN: &str = "weave.local.";
/// How long an answer may be kept, seconds; names come and go with containers.
pub const DEFAULT_TTL: u32 = 1;
/// The longest time to live, seconds: a day.
pub const TTL_MAX: u32 = 86_400;
/// How long each upstream server may have to answer at most.
pub const FALLBACK_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Where upstream servers are read from unless told otherwise.
pub const DEFAULT_RESOLV_CONF: &str = "/etc/resolv.conf";

const PORT: u16 = 53;

/// What `launch` was told about names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    pub domain: DnsDomain,
    /// Beside the resolver's own address; Docker's bridge when empty.
    pub listen: Vec<SocketAddr>,
    /// Seconds.
    pub ttl: u32,
    pub resolv_conf: PathBuf,
    pub fallback_timeout: Duration,
    /// Names lead to containers that Docker calls unhealthy as to others.
    pub all: bool,
}

/// The domain whose names are answered here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsDomain(String);

impl DnsDomain {
    /// In lower case, without a dot at the end.
    pub fn folded(&self) -> &str {
        &self.0
    }

    /// The part of a folded name before the domain; `None` when it does not lie in the domain.
    pub fn host<'a>(&self, folded: &'a str) -> Option<&'a str> {
        folded.strip_suffix(&self.0)?.strip_suffix('.').filter(|host| !host.is_empty())
    }
}

impl FromStr for DnsDomain {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        folded(text).map(Self)
    }
}

impl fmt::Display for DnsDomain {
    /// With a dot at the end, as it stands in DNS.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.0)
    }
}

/// Text that gives no time to wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time to wait: give seconds from 1 to {max}, such as 5", max = FALLBACK_TIMEOUT_MAX.as_secs())]
pub struct InvalidTimeout(String);

/// Seconds, with or without an `s`.
///
/// # Errors
/// When it is none, or longer than [`FALLBACK_TIMEOUT_MAX`].
pub fn parse_fallback_timeout(text: &str) -> Result<Duration, InvalidTimeout> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok().map(Duration::from_secs);
    let usable = seconds.filter(|timeout| !timeout.is_zero() && *timeout <= FALLBACK_TIMEOUT_MAX);
    usable.ok_or_else(|| InvalidTimeout(text.to_owned()))
}

/// No address at which names can be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address to serve names at: give one of this host, such as 172.17.0.1 or 127.0.0.1:5353")]
pub struct InvalidListenAddress(String);

/// `ADDRESS[:PORT]`. A reply leaves from the address that was asked, so it is a specific one.
///
/// # Errors
/// When it is none.
pub fn parse_listen_address(text: &str) -> Result<SocketAddr, InvalidListenAddress> {
    let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT)));
    let usable = address.ok().filter(|address| !address.ip().is_unspecified() && address.port() != 0);
    usable.ok_or_else(|| InvalidListenAddress(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_domain_has_a_part_before_it() {
        let domain: DnsDomain = "Weave.Local".parse().unwrap();

        assert_eq!(domain.to_string(), "weave.local.");
        assert_eq!(domain.host("web.weave.local"), Some("web"));
        assert_eq!(domain.host("a.b.weave.local"), Some("a.b"));
        for name in ["weave.local", ".weave.local", "xweave.local", "web.example.com"] {
            assert_eq!(domain.host(name), None, "{name}");
        }
    }

    #[test]
    fn names_are_served_at_specific_addresses() {
        assert_eq!(parse_listen_address("172.17.0.1"), Ok("172.17.0.1:53".parse().unwrap()));
        assert_eq!(parse_listen_address("[::1]:5353"), Ok("[::1]:5353".parse().unwrap()));
        for text in ["", "0.0.0.0", "0.0.0.0:53", "[::]:53", "127.0.0.1:0", "localhost"] {
            assert!(parse_listen_address(text).is_err(), "{text}");
        }
    }
}
