//! Peers of a DNS name: every address that this host resolves it to.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use weave_mesh::connector::{Destination, Target};

/// How long the system's resolver may take.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct PeerName {
    name: Target,
}

impl PeerName {
    pub(super) const fn new(name: Target) -> Self {
        Self { name }
    }

    /// # Errors
    /// When the name leads nowhere.
    pub(super) async fn resolve(&self) -> Result<BTreeSet<Target>, String> {
        // Port 0 stands for the port that all peers have unless told otherwise.
        let (host, port) = match self.name.destination(0) {
            Destination::Address(address) => return Ok(BTreeSet::from([target(address)?])),
            Destination::Name { host, port } => (host, port),
        };
        let resolving = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((host.clone(), port)));
        let addresses = resolving.await.map_err(|_| format!("no answer where {host} is within {TIMEOUT:?}"))?;
        let addresses = addresses.map_err(|error| format!("cannot resolve {host}: {error}"))?;
        addresses.map(target).collect()
    }
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
        let resolve = |name: &str| PeerName::new(name.parse().unwrap());
        let usual = resolve("localhost").resolve().await.unwrap();
        assert!(usual.contains(&"127.0.0.1".parse().unwrap()), "{usual:?}");
        let own = resolve("localhost:7000").resolve().await.unwrap();
        assert!(own.contains(&"127.0.0.1:7000".parse().unwrap()), "{own:?}");
    }

    #[tokio::test]
    async fn a_name_that_leads_nowhere_is_named() {
        let error = PeerName::new("nobody.invalid".parse().unwrap()).resolve().await.unwrap_err();
        assert!(error.contains("nobody.invalid"), "{error}");
    }
}
