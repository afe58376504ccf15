//! Which of Docker's networks a container is on.

use std::collections::BTreeSet;

/// A network of Docker's that goes with ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Docker's own bridge, where nothing else was asked for.
    Bridge,
    /// No other network than ours.
    None,
    /// One that somebody made, by its name or id.
    UserDefined(String),
    /// One that our plugin serves.
    Ours,
}

/// A container without a network of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shared {
    #[error("it uses the host's network")]
    Host,
    #[error("it uses the network of `{0}`")]
    Container(String),
}

impl Network {
    /// By the mode of a container, and the networks that it has endpoints on; `own` are those of our plugin, by names and ids.
    ///
    /// # Errors
    /// When it has no network of its own.
    pub fn of(mode: &str, endpoints: &[&str], own: &BTreeSet<String>) -> Result<Self, Shared> {
        if mode == "host" {
            return Err(Shared::Host);
        }
        if let Some(container) = mode.strip_prefix("container:") {
            return Err(Shared::Container(container.to_owned()));
        }
        if std::iter::once(&mode).chain(endpoints).any(|name| own.contains(*name)) {
            return Ok(Self::Ours);
        }
        // An endpoint without a mode puts a container on that network instead of the bridge; one beside the bridge's does not.
        let is_elsewhere = !endpoints.is_empty() && endpoints.iter().all(|name| is_made_by_user(name));
        let named = std::iter::once(&mode).chain(endpoints.iter().filter(|_| is_elsewhere));
        Ok(match named.copied().find(|name| is_made_by_user(name)) {
            Some(name) => Self::UserDefined(name.to_owned()),
            None if mode == "none" => Self::None,
            None => Self::Bridge,
        })
    }

    /// Whether Docker's own resolver is asked before ours, and answers with this host's containers alone.
    pub(crate) fn has_dockers_resolver(&self) -> bool {
        matches!(self, Self::UserDefined(_) | Self::Ours)
    }
}

/// Whether a network is none of those that every engine has.
fn is_made_by_user(network: &str) -> bool {
    !matches!(network, "" | "default" | "bridge" | "none")
}
