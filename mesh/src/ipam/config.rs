//! What the operator chose of IPAM, checked before anything is opened.

use super::{Cidr, SHARES_MAX, StateError};
use crate::name::PeerName;

/// How the first ring comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// A majority of so many peers agrees; without a number, of the distinct peers given and ourselves.
    Consensus(Option<u32>),
    /// These peers, and all others are told the same.
    Seed(Vec<PeerName>),
    /// A majority of the machines that a cloud lists, the oldest of them among it.
    Listed,
    /// Others make it; we take no part.
    Observer,
}

/// What the operator chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `--ipalloc-range`, the same everywhere.
    pub range: Cidr,
    /// `--ipalloc-default-subnet`.
    pub default_subnet: Cidr,
    pub init: Init,
}

/// A configuration that makes no IPAM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("--ipalloc-range {0} is no subnet of 4 addresses or more")]
    Range(Cidr),
    #[error("--ipalloc-default-subnet {subnet} is no subnet of 4 addresses or more that overlaps the range {range}")]
    DefaultSubnet { subnet: Cidr, range: Cidr },
    #[error("--ipalloc-init seed= names more than {SHARES_MAX} peers, or none")]
    Seeds,
    #[error("what was stored of addresses cannot be used: {0}")]
    State(#[from] StateError),
}

impl Config {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_usable = |subnet: Cidr| subnet.is_subnet() && subnet.hosts().is_some();
        let (range, subnet) = (self.range, self.default_subnet);
        if !is_usable(range) {
            return Err(ConfigError::Range(range));
        }
        if !is_usable(subnet) || subnet.range().intersection(range.range()).is_none() {
            return Err(ConfigError::DefaultSubnet { subnet, range });
        }
        match &self.init {
            Init::Seed(seeds) if seeds.is_empty() || seeds.len() > SHARES_MAX => Err(ConfigError::Seeds),
            Init::Seed(_) | Init::Consensus(_) | Init::Listed | Init::Observer => Ok(()),
        }
    }
}
