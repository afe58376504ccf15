//! The names that containers of this host have: one by attachment, and any number by hand.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weave_mesh::dns::{InvalidName, folded};
use weave_mesh::node::HOST_NAMES_MAX;
use weave_mesh::store::{ENDPOINT_NAMES_MAX, HostName};

use crate::config::DnsDomain;
use crate::store::FileError;

/// Stands for the container of a name that belongs to none, as in the original.
pub const EXTERN: &str = "weave:extern";

/// Why a name was not given or taken away.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    #[error("this daemon serves no names; start it without --no-dns")]
    NoDns,
    #[error(transparent)]
    Invalid(#[from] InvalidName),
    #[error("container {0} has no name of its own; give one with -h NAME")]
    NoName(String),
    #[error("container {0} has no address on the network; attach it first, or give an address")]
    NoAddress(String),
    #[error("{0} names are given by hand on this host, as many as it takes; remove some first")]
    TooMany(usize),
    #[error("cannot write down the names: {0}")]
    Store(#[from] FileError),
}

/// What a container calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// Host and domain name, if it was given a domain.
    pub hostname: Option<String>,
    /// What its engine calls it.
    pub name: Option<String>,
    /// What it is called beside that on a network of its engine's.
    pub aliases: Vec<String>,
}

impl Called {
    /// Its name in `domain`: its own, if that lies there, else what its engine calls it.
    pub fn within(&self, domain: &DnsDomain) -> Option<String> {
        let is_inside = |name: &String| folded(name).is_ok_and(|folded| domain.host(&folded).is_some());
        let own = self.hostname.clone().filter(is_inside);
        own.or_else(|| self.by_engine(domain)).filter(is_inside)
    }

    /// That name, and those of its aliases: all that lead to it, each once.
    pub fn all_within(&self, domain: &DnsDomain) -> Vec<String> {
        let is_inside = |name: &String| folded(name).is_ok_and(|folded| domain.host(&folded).is_some());
        let full = |alias: &String| if is_inside(alias) { alias.clone() } else { format!("{alias}.{domain}") };
        let aliases = self.aliases.iter().map(full).filter(is_inside);
        let mut names: Vec<String> = Vec::new();
        for name in self.within(domain).into_iter().chain(aliases) {
            let is_same = |known: &String| folded(known).ok() == folded(&name).ok();
            if names.len() < ENDPOINT_NAMES_MAX && !names.iter().any(is_same) {
                names.push(name);
            }
        }
        names
    }

    fn by_engine(&self, domain: &DnsDomain) -> Option<String> {
        Some(format!("{}.{domain}", self.name.as_ref()?))
    }

    /// Why [`Self::within`] gives it none although its engine has a name for it.
    pub fn nameless(&self, domain: &DnsDomain) -> Option<Nameless> {
        if self.within(domain).is_some() {
            return None;
        }
        let flaw = folded(&self.by_engine(domain)?).err()?;
        Some(Nameless { domain: domain.clone(), flaw })
    }
}

/// What is wrong with the name that a container would have by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the container has no name in {0}: {flaw}; give it one with `weave-rs dns-add CONTAINER -h NAME.{0}`",
    domain.folded()
)]
pub struct Nameless {
    domain: DnsDomain,
    flaw: InvalidName,
}

/// Which names to take away; what is absent matches anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    pub container: Option<String>,
    pub address: Option<IpAddr>,
    /// Folded.
    pub name: Option<String>,
}

impl Pattern {
    /// # Errors
    /// When `name` is none.
    pub fn new(container: Option<String>, address: Option<IpAddr>, name: Option<&str>) -> Result<Self, InvalidName> {
        Ok(Self { container, address, name: name.map(folded).transpose()? })
    }

    pub fn matches(&self, container: &str, address: Option<IpAddr>, name: &str) -> bool {
        self.container.as_ref().is_none_or(|wanted| wanted == container)
            && self.address.is_none_or(|wanted| address == Some(wanted))
            && self.name.as_ref().is_none_or(|wanted| folded(name).is_ok_and(|folded| folded == *wanted))
    }
}

/// The names that were given by hand on this host, as they are written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNames(BTreeSet<HostName>);

/// Which names are there no more, and which are new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamesChange {
    pub gone: Vec<HostName>,
    pub new: Vec<HostName>,
}

impl HostNames {
    /// # Errors
    /// When they would be too many; nothing is changed then.
    pub fn add(&mut self, names: impl IntoIterator<Item = HostName>) -> Result<NamesChange, NameError> {
        let before = self.0.len();
        let names = names.into_iter().filter(|name| !self.0.contains(name)).collect::<BTreeSet<_>>();
        if before + names.len() > HOST_NAMES_MAX {
            return Err(NameError::TooMany(before));
        }
        self.0.extend(names.iter().cloned());
        Ok(NamesChange { new: names.into_iter().collect(), gone: Vec::new() })
    }

    pub fn remove(&mut self, pattern: &Pattern) -> NamesChange {
        let is_meant = |name: &HostName| pattern.matches(&name.container, Some(name.address), &name.name);
        let gone: Vec<HostName> = self.0.iter().filter(|name| is_meant(name)).cloned().collect();
        self.0.retain(|name| !is_meant(name));
        NamesChange { gone, new: Vec::new() }
    }

    /// They are what they were before that.
    pub fn undo(&mut self, change: NamesChange) {
        self.0.retain(|name| !change.new.contains(name));
        self.0.extend(change.gone);
    }

    pub fn iter(&self) -> impl Iterator<Item = &HostName> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(hostname: Option<&str>, name: Option<&str>) -> Option<String> {
        let (hostname, name) = (hostname.map(str::to_owned), name.map(str::to_owned));
        let called = Called { hostname, name, ..Called::default() };
        called.within(&"weave.local".parse().unwrap())
    }

    #[test]
    fn a_containers_own_name_counts_where_it_lies_in_the_domain() {
        assert_eq!(called(Some("Web.weave.local"), Some("c1")).as_deref(), Some("Web.weave.local"));
        assert_eq!(called(Some("web.example.com"), Some("c1")).as_deref(), Some("c1.weave.local."));
        assert_eq!(called(None, Some("c1")).as_deref(), Some("c1.weave.local."));
        assert_eq!(called(None, None), None);
        assert_eq!(called(None, Some("not a name")), None);
    }

    #[test]
    fn aliases_are_names_each_of_them_once() {
        let aliases = ["db", "WEB", "db.weave.local", "not a name", "other.example"].map(str::to_owned);
        let called = Called { hostname: None, name: Some("web".to_owned()), aliases: aliases.to_vec() };

        let names = called.all_within(&"weave.local".parse().unwrap());

        assert_eq!(names, ["web.weave.local.", "db.weave.local.", "other.example.weave.local."]);
        let aliases = (0..100).map(|number| format!("a{number}")).collect();
        let many = Called { aliases, ..Called::default() };
        assert_eq!(many.all_within(&"weave.local".parse().unwrap()).len(), ENDPOINT_NAMES_MAX);
    }

    #[test]
    fn a_name_that_dns_does_not_take_is_told_with_what_results() {
        let domain: DnsDomain = "weave.local".parse().unwrap();
        let nameless = |name: &str| {
            let called = Called { name: Some(name.to_owned()), ..Called::default() };
            assert_eq!(called.within(&domain).is_none(), called.nameless(&domain).is_some(), "{name}");
            called.nameless(&domain).map(|nameless| nameless.to_string())
        };

        assert_eq!(nameless(&"a".repeat(63)), None);
        let told = nameless(&"a".repeat(64)).unwrap();
        assert!(told.contains(&format!("`{}.weave.local.`", "a".repeat(64))) && told.contains("1 to 63"), "{told}");
        assert!(nameless(&"a.".repeat(125)).unwrap().contains("253"));
        assert!(nameless(&"a.".repeat(20)).is_some());
    }

    #[test]
    fn names_are_taken_away_by_container_address_and_name() {
        let name = |name: &str, last: u8, container: &str| HostName {
            name: name.to_owned(),
            address: [10, 32, 0, last].into(),
            container: container.to_owned(),
        };
        let all = [name("A.weave.local", 1, "x"), name("a.weave.local", 2, "x"), name("b.weave.local", 1, "y")];
        let left = |container: Option<&str>, last: Option<u8>, fqdn: Option<&str>| {
            let mut names = HostNames::default();
            assert_eq!(names.add(all.clone()).unwrap().new.len(), all.len());
            assert_eq!(names.add(all.clone()).unwrap(), NamesChange::default());
            let (before, address) = (names.clone(), last.map(|last| IpAddr::from([10, 32, 0, last])));
            let change = names.remove(&Pattern::new(container.map(str::to_owned), address, fqdn).unwrap());
            let left = names.iter().count();
            assert_eq!(change.gone.len() + left, all.len());
            names.undo(change);
            assert_eq!(names, before);
            left
        };

        assert_eq!(left(None, None, None), 0);
        assert_eq!(left(Some("x"), None, None), 1);
        assert_eq!(left(None, Some(1), None), 1);
        assert_eq!(left(None, None, Some("a.WEAVE.local.")), 1);
        assert_eq!(left(Some("x"), Some(2), Some("a.weave.local")), 2);
        assert_eq!(left(Some("z"), None, None), 3);
    }
}
