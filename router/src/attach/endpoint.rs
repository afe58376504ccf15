//! Endpoints of Docker's networks: containers of which there is no namespace yet.
//!
//! ```text
//!   docker:7f3a…     an address that Docker was given and has said nothing more about
//!   endpoint:0123…   the same once it is an endpoint's; so is its port in the ledger, with and without a container behind
//! ```
//!
//! Neither is an id of a container: what becomes of those does not move them.

use std::fmt;
use std::path::PathBuf;

use rand_core::{OsRng, RngCore};
use weave_datapath::linux::veth::{self, Ends};

use super::Container;

const ASKED: &str = "docker:";
const ENDPOINT: &str = "endpoint:";

/// An endpoint by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The one that a label means.
    pub fn of_label(label: &str) -> Option<Self> {
        label.strip_prefix(ENDPOINT).map(Self::new)
    }

    /// Under which its address is filed.
    pub fn label(&self) -> String {
        format!("{ENDPOINT}{}", self.0)
    }

    /// What stands for its container as long as nobody knows it, in its `sandbox`: what Docker calls its namespace.
    pub fn container(&self, sandbox: impl Into<PathBuf>) -> Container {
        Container { label: self.label(), netns: sandbox.into(), ..Container::default() }
    }

    /// # Errors
    /// When its id is none of Docker's.
    pub fn ends(&self) -> Result<Ends, veth::AttachError> {
        Ends::of(&self.0)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Under which an address is filed that Docker asks for: another one each time, since one label has one address of a subnet.
pub fn asked() -> String {
    format!("{ASKED}{:016x}", OsRng.next_u64())
}

/// Whether an address is one that Docker has asked for, and no endpoint's.
pub fn is_asked(label: &str) -> bool {
    label.starts_with(ASKED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_told_from_everything_else_that_has_addresses() {
        let id = "0123456789abcdef".repeat(4);
        let endpoint = Endpoint::new(&id);

        assert_eq!(Endpoint::of_label(&endpoint.label()), Some(endpoint.clone()));
        assert!(!weave_docker::is_id(&endpoint.label()) && !is_asked(&endpoint.label()));
        for label in [id.as_str(), "netns:/run/netns/a", "weave:expose", &asked()] {
            assert_eq!(Endpoint::of_label(label), None);
        }
        assert!(is_asked(&asked()) && asked() != asked());
    }
}
