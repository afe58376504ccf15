//! Peers of a DNS name: every address that this host resolves it to, or every host of a service where it begins as those do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use weave_mesh::connector::{Destination, Target};

use super::service::Service;

/// How long the system's resolver may take.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum PeerName {
    Address(Target),
    /// Port 0 stands for the port that all peers have unless told otherwise.
    Host {
        host: String,
        port: u16,
    },
    Service(Service),
}

impl PeerName {
    pub(super) fn new(name: &Target, resolv_conf: PathBuf) -> Self {
        match name.destination(0) {
            Destination::Address(_) => Self::Address(name.clone()),
            Destination::Name { host, port: 0 } if host.starts_with('_') => {
                Self::Service(Service::new(host, resolv_conf))
            }
            Destination::Name { host, port } => Self::Host { host, port },
        }
    }

    /// # Errors
    /// When the name leads nowhere.
    pub(super) async fn resolve(&self) -> Result<BTreeSet<Target>, String> {
        match self {
            Self::Address(target) => Ok(BTreeSet::from([target.clone()])),
            Self::Host { host, port } => addresses(host, *port).await,
            Self::Service(service) => service.resolve().await,
        }
    }
}

async fn addresses(host: &str, port: u16) -> Result<BTreeSet<Target>, String> {
    let resolving = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((host, port)));
    let addresses = resolving.await.map_err(|_| format!("no answer where {host} is within {TIMEOUT:?}"))?;
    let addresses = addresses.map_err(|error| format!("cannot resolve {host}: {error}"))?;
    addresses.map(target).collect()
}

fn target(address: SocketAddr) -> Result<Target, String> {
    let text = if address.port() == 0 { address.ip().to_string() } else { address.to_string() };
    text.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_to_all_its_addresses_at_the_usual_port_or_its_own() {
        let resolve = |name: &str| PeerName::new(&name.parse().unwrap(), PathBuf::new());
        let usual = resolve("localhost").resolve().await.unwrap();
        assert!(usual.contains(&"127.0.0.1".parse().unwrap()), "{usual:?}");
        let own = resolve("localhost:7000").resolve().await.unwrap();
        assert!(own.contains(&"127.0.0.1:7000".parse().unwrap()), "{own:?}");
    }

    #[tokio::test]
    async fn a_name_that_leads_nowhere_is_named() {
        let error = PeerName::new(&"nobody.invalid".parse().unwrap(), PathBuf::new()).resolve().await.unwrap_err();
        assert!(error.contains("nobody.invalid"), "{error}");
    }
}
