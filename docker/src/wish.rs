//! What a container asks for: whether it is to be on the network, with which addresses, and what it is called there. Pure.
//!
//! ```text
//!   network, labels, environment, name ──→ Rules::read ─┬→ Wish
//!                                                       └→ Declined: left alone, or refused
//! ```
//!
//! | network | without `WEAVE_CIDR` | with it |
//! |---|---|---|
//! | Docker's bridge, or none | an address of the default subnet | what it says |
//! | one that somebody made | left alone: Docker's own names go on working there | what it says |
//! | one of our plugin's | the plugin gives it one | what it says |
//! | the host's, another container's | left alone | left alone |
//! | none, a container of the ECS agent's own | left alone: the agent gives it an interface | left alone |
//!
//! Invariant: the proxy reads it when a container is created and the daemon at every start, and both find the same.

mod address;
mod naming;
mod network;

use std::collections::BTreeMap;

pub(crate) use self::address::in_environment;
pub use self::address::{Cidr, WANTED_MAX, Wanted, WantedError, WordError};
pub(crate) use self::naming::is_hostname;
pub use self::naming::{NameRule, NameRuleError, with_domain};
pub use self::network::{Network, Shared};

/// What holds for all containers.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub names: NameRule,
    /// Only containers with `WEAVE_CIDR` are attached.
    pub no_default_ipalloc: bool,
}

/// What is known of a container, whoever tells it.
#[derive(Clone, Debug)]
pub struct Traits<'a> {
    pub network: Network,
    pub labels: &'a BTreeMap<String, String>,
    /// What `WEAVE_CIDR` says in its environment, if it is there.
    pub cidr: Option<&'a str>,
    /// What its engine calls it.
    pub name: Option<&'a str>,
}

/// A container that is to be on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// None means any one of the default subnet.
    pub addresses: Vec<Wanted>,
    /// Without a domain. A host name in the domain that its user gave it goes before.
    pub name: Option<String>,
}

/// Why a container is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    #[error(transparent)]
    Shared(#[from] Shared),
    #[error("it is on Docker's network `{0}`, and WEAVE_CIDR is not set")]
    OtherNetwork(String),
    #[error("WEAVE_CIDR is `none`")]
    AskedForNone,
    #[error("WEAVE_CIDR is not set, and containers without it get no address here")]
    NotAskedFor,
    #[error("the ECS agent gives it an interface of its own")]
    EcsInterface,
    #[error(transparent)]
    Wanted(#[from] WantedError),
}

impl Declined {
    /// Whether it asks for what cannot be had: its user is told so, instead of the container left alone.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Wanted(_))
    }
}

impl Rules {
    /// # Errors
    /// When the container is to be left alone, or refused.
    pub fn read(&self, traits: &Traits<'_>) -> Result<Wish, Declined> {
        let addresses = address::read(traits.cidr)?;
        self.admit(traits, addresses.is_some())?;
        Ok(Wish { addresses: addresses.unwrap_or_default(), name: self.names.name(traits.labels, traits.name) })
    }

    fn admit(&self, traits: &Traits<'_>, is_asked_for: bool) -> Result<(), Declined> {
        match &traits.network {
            Network::UserDefined(name) if !is_asked_for => Err(Declined::OtherNetwork(name.clone())),
            Network::None if naming::is_internal_to_ecs(traits.labels) => Err(Declined::EcsInterface),
            Network::Bridge | Network::None if !is_asked_for && self.no_default_ipalloc => Err(Declined::NotAskedFor),
            Network::Bridge | Network::None | Network::UserDefined(_) | Network::Ours => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
