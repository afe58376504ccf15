//! Which of Docker's networks a container is created on.

use std::collections::BTreeSet;

use super::Declined;
use super::json::Object;

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

impl Network {
    pub(super) fn of(body: &Object<'_>, host_config: &Object<'_>, own: &BTreeSet<String>) -> Result<Self, Declined> {
        let mode: String = host_config.read("NetworkMode")?;
        if mode == "host" {
            return Err(Declined::Host);
        }
        if let Some(container) = mode.strip_prefix("container:") {
            return Err(Declined::Shared(container.to_owned()));
        }
        // An endpoint without a mode puts a container on that network too, instead of the bridge.
        let endpoints = body.object("NetworkingConfig")?.object("EndpointsConfig")?;
        let named = std::iter::once(mode.as_str()).chain(endpoints.names());
        let others: Vec<&str> = named.filter(|name| is_made_by_user(name)).collect();
        Ok(match others.iter().find(|name| own.contains(**name)).or_else(|| others.first()) {
            Some(name) if own.contains(*name) => Self::Ours,
            Some(name) => Self::UserDefined((*name).to_owned()),
            None if mode == "none" => Self::None,
            None => Self::Bridge,
        })
    }

    /// Whether Docker's own resolver is asked before ours, and answers with this host's containers alone.
    pub(super) fn has_dockers_resolver(&self) -> bool {
        matches!(self, Self::UserDefined(_) | Self::Ours)
    }
}

/// Whether a network is none of those that every engine has.
pub fn is_made_by_user(network: &str) -> bool {
    !matches!(network, "" | "default" | "bridge" | "none")
}
